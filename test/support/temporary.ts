import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'

/** A path in a directory of its own, removed with all in it after the tests of the calling file or suite. */
export const temporary = (): ((name: string) => Promise<string>) => {
  let directory: Promise<string> | undefined
  afterAll(async () => {
    if (directory) await rm(await directory, { recursive: true, force: true })
  })
  return async name => {
    directory ??= mkdtemp(join(tmpdir(), 'liveos-test-'))
    return join(await directory, name)
  }
}

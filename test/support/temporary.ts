import { accessSync, constants, statfsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'

const MEMORY = '/dev/shm'
const ROOM = 256 << 20

/** Where files lie in memory, if that has room: containers often have 64 MiB there. */
const inMemory = (): string => {
  try {
    accessSync(MEMORY, constants.W_OK)
    const { bavail, bsize } = statfsSync(MEMORY)
    return bavail * bsize >= ROOM ? MEMORY : tmpdir()
  } catch {
    return tmpdir()
  }
}

/**
 * A path in a directory of its own, removed with all in it after the tests of the calling file or suite.
 *
 * @param memory  in memory where that can be: for tests that look at small sticks a thousand times, as no device has to be asked
 * for its name by a program each time
 */
export const temporary = ({ memory = false } = {}): ((name: string) => Promise<string>) => {
  let directory: Promise<string> | undefined
  afterAll(async () => {
    if (directory) await rm(await directory, { recursive: true, force: true })
  })
  return async name => {
    directory ??= mkdtemp(join(memory ? inMemory() : tmpdir(), 'liveos-test-'))
    return join(await directory, name)
  }
}

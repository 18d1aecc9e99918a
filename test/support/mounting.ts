import { execFile, execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { oncePerRun } from './run-folder.js'
import { type Gate, gate } from './tools.js'

const TRIES = 50
const BETWEEN_MS = 100

const pause = (ms: number): void => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

/**
 * Unmounts what a test has mounted. The kernel calls it busy while any process looks at it, if only for a moment as one that goes
 * through all mounts does: so it is asked again for some seconds. After that it is taken out of sight, so that nothing stays
 * mounted behind the tests, and the test fails.
 */
export const unmount = (place: string): void => {
  const umount = (...options: string[]): string | undefined => {
    const { status, stderr, error } = spawnSync('umount', [...options, place], {
      encoding: 'utf8',
      env: { ...process.env, LC_ALL: 'C' },
    })
    return status === 0 ? undefined : (error?.message ?? stderr.trim())
  }
  let wrong = umount()
  for (let n = 1; n < TRIES && wrong?.includes('busy'); n++) {
    pause(BETWEEN_MS)
    wrong = umount()
  }
  if (wrong === undefined) return
  const users = spawnSync('fuser', ['-vm', place], { encoding: 'utf8' }).stderr ?? ''
  umount('-l')
  throw new Error(`${wrong}\n${users}`)
}

/** Mounts by these words for as long as `use` runs. */
export const whileMounted = async <T>(
  words: readonly string[],
  at: string,
  use: (at: string) => Promise<T>,
): Promise<T> => {
  await mkdir(at, { recursive: true })
  await promisify(execFile)('mount', [...words, at])
  try {
    return await use(at)
  } finally {
    unmount(at)
  }
}

/** The gate of tests for which this computer must mount something by these words: tried once, in an empty directory. */
export const needMount = (what: string, words: (scratch: string) => readonly string[]): Gate => {
  const said = oncePerRun(`mount ${what}`, () => whyNot(words))
  // No package would help: where it can't be, another judge says what the image holds.
  return gate(said && process.env.CONFORM !== 'require' ? `this computer does not mount ${what} (${said})` : undefined)
}

/** Why it can't be mounted, or null. */
const whyNot = (words: (scratch: string) => readonly string[]): string | null => {
  const scratch = mkdtempSync(join(tmpdir(), 'liveos-mount-'))
  try {
    const given = words(scratch)
    execFileSync('mount', given, { stdio: 'pipe' })
    unmount(given.at(-1)!)
    return null
  } catch (error) {
    return String(error instanceof Error ? error.message.trim().split('\n').at(-1) : error)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

import { mkdtemp, readdir, rm, stat, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemError } from '../error.js'

/** A folder for files that are needed for a while. */
export interface TemporaryFolder {
  readonly path: string
  remove(): Promise<void>
}

/** Names end in the process that made them and six letters. */
const MADE = /^liveos-[a-z]+-(\d+)-[A-Za-z0-9]{6}$/

const isRunning = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

/** Removes what runs that were killed have left here. */
const sweep = async (): Promise<void> => {
  for (const name of await readdir(tmpdir())) {
    const pid = Number(MADE.exec(name)?.[1] ?? 0)
    if (pid === 0 || isRunning(pid)) continue
    const path = join(tmpdir(), name)
    if ((await stat(path)).uid === process.getuid?.()) await rm(path, { recursive: true, force: true })
  }
}

/**
 * Makes a folder of this run alone under TMPDIR.
 *
 * @param purpose  a word in small letters, for its name
 * @throws NOT_FOUND, READ_ONLY, NO_SPACE, IO
 */
export const openTemporary = async (purpose: string): Promise<TemporaryFolder> => {
  await sweep().catch(() => undefined)
  try {
    const path = await mkdtemp(join(tmpdir(), `liveos-${purpose}-${process.pid}-`))
    return { path, remove: () => rm(path, { recursive: true, force: true }) }
  } catch (error) {
    throw systemError(error, `making a temporary folder in ${tmpdir()} (TMPDIR names another place)`)
  }
}

/** Bytes free for temporary files; 0 where there is no folder for them. */
export const temporaryRoom = async (): Promise<number> => {
  try {
    const { bavail, bsize } = await statfs(tmpdir())
    return bavail * bsize
  } catch {
    return 0
  }
}

import { readFile } from 'node:fs/promises'
import { LiveError } from '../error.js'

/** Who is at work: the state file names it, so that no second run takes it for one that was cut short. */
export interface RunOwner {
  readonly pid: number
  /** the start of the process in ticks since the boot, and the boot: numbers of processes come again */
  readonly start: string | null
  readonly boot: string | null
}

const text = async (path: string): Promise<string | null> => {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch {
    return null
  }
}

/** Ticks at which a process started; null where it is gone or this system has no /proc. @see proc(5), stat field 22 */
const startOf = async (pid: number): Promise<string | null> => {
  const stat = await text(`/proc/${pid}/stat`)
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null
}

/** This process. */
export const thisOwner = async (): Promise<RunOwner> => ({
  pid: process.pid,
  start: await startOf(process.pid),
  boot: await text('/proc/sys/kernel/random/boot_id'),
})

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

/** @param what  such as `a refresh of LIVE`. @throws REFUSED  another process of this computer is still at it */
export const checkNotRunning = async (owner: RunOwner | null | undefined, what: string): Promise<void> => {
  if (!owner || owner.pid === process.pid || !isAlive(owner.pid)) return
  const now = await thisOwner()
  if (owner.boot !== now.boot || owner.start !== (await startOf(owner.pid))) return
  throw new LiveError('REFUSED', `${what} is running (process ${owner.pid}): wait for it, or stop it first`, {
    pid: owner.pid,
  })
}

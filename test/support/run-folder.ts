import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const mountsBelow = (folder: string): string[] =>
  readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map(line =>
      (line.split(' ')[1] ?? '').replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8))),
    )
    .filter(at => at.startsWith(`${folder}/`))
    .reverse()

const loopsBelow = (folder: string): string[] =>
  readdirSync('/sys/block')
    .filter(name => {
      try {
        return readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').startsWith(`${folder}/`)
      } catch {
        return false
      }
    })
    .map(name => `/dev/${name}`)

const clear = (folder: string): void => {
  if (process.platform === 'linux') {
    for (const at of mountsBelow(folder)) spawnSync('umount', ['-l', at])
    for (const loop of loopsBelow(folder)) spawnSync('losetup', ['-d', loop])
  }
  rmSync(folder, { recursive: true, force: true })
}

const HOUR_MS = 3_600_000

/** Folders that runs left which were killed: no process has their number, and they are older than a run can be. */
const leftBehind = (): string[] =>
  readdirSync(tmpdir())
    .filter(name => {
      const pid = /^liveos-run-(\d+)-/.exec(name)?.[1]
      if (pid === undefined || existsSync(`/proc/${pid}`)) return false
      const stats = statSync(join(tmpdir(), name), { throwIfNoEntry: false })
      return stats !== undefined && stats.uid === process.getuid?.() && Date.now() - stats.mtimeMs > HOUR_MS
    })
    .map(name => join(tmpdir(), name))

/**
 * Vitest's global setup: one folder for all temporary files of a run. Afterwards it is cleared away, with what a test that was
 * killed left mounted or attached there: a loop device that stays makes every look for loop devices start losetup.
 */
export default (): (() => void) => {
  for (const folder of leftBehind()) clear(folder)
  const folder = mkdtempSync(join(tmpdir(), `liveos-run-${process.pid}-`))
  // also for tests that go on as another user
  chmodSync(folder, 0o1777)
  process.env.TMPDIR = folder
  process.env.LIVEOS_RUN_FOLDER = folder
  return () => clear(folder)
}

/** What `find` finds, looked for once in a run: other processes of the run take it from the run's folder. */
export const oncePerRun = <T>(name: string, find: () => T): T => {
  const folder = process.env.LIVEOS_RUN_FOLDER
  if (folder === undefined) return find()
  const file = join(folder, `${name}.json`)
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as T
  } catch {
    const found = find()
    writeFileSync(`${file}.${process.pid}`, JSON.stringify(found))
    renameSync(`${file}.${process.pid}`, file)
    return found
  }
}

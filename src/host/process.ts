import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { LiveError } from '../error.js'

/** Debian's name of the package that brings each tool we call, said when it is missing. */
const PACKAGES: Readonly<Record<string, string>> = {
  mksquashfs: 'squashfs-tools',
  losetup: 'util-linux',
  blkid: 'util-linux',
  cp: 'coreutils',
  setfattr: 'attr',
  fusermount3: 'fuse3',
  mount: 'mount',
  umount: 'mount',
  systemctl: 'systemd',
}

/** Places where system tools live that a user's PATH may lack. */
const EXTRA = ['/usr/sbin', '/sbin', '/usr/local/sbin']
const known = new Map<string, Promise<string | undefined>>()

/** Full path of a program; undefined where it is not installed. */
export const findTool = (name: string): Promise<string | undefined> => {
  let found = known.get(name)
  if (!found) {
    found = search(name)
    known.set(name, found)
  }
  return found
}

const search = async (name: string): Promise<string | undefined> => {
  for (const folder of [...(process.env.PATH ?? '').split(delimiter), ...EXTRA]) {
    if (!folder) continue
    const path = join(folder, name)
    try {
      await access(path, constants.X_OK)
      return path
    } catch {}
  }
  return undefined
}

const missing = (name: string): LiveError =>
  new LiveError('NOT_FOUND', `${name} is not installed: install the package ${PACKAGES[name] ?? name}`, {
    tool: name,
    package: PACKAGES[name] ?? name,
  })

/** What a program printed. */
export interface Printed {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program to its end and gives what it printed, whatever its exit code. @throws NOT_FOUND  it is not installed */
export const runTool = async (name: string, args: readonly string[]): Promise<Printed> => {
  const path = await findTool(name)
  if (!path) throw missing(name)
  return new Promise((resolve, reject) => {
    execFile(
      path,
      [...args],
      { encoding: 'utf8', maxBuffer: 64 << 20, env: { ...process.env, LC_ALL: 'C' } },
      (error, stdout, stderr) => {
        const code = error && 'code' in error ? error.code : 0
        if (error && typeof code !== 'number')
          reject(new LiveError('IO', `${name}: ${error.message}`, { tool: name }, error))
        else resolve({ code: typeof code === 'number' ? code : 0, stdout, stderr })
      },
    )
  })
}

/** A program that is being fed. */
export interface FedProcess {
  /** waits until all is with the program, or on its way to it in a pipe. @throws IO  it has ended */
  write(bytes: Uint8Array): Promise<void>
  /** ends its input and waits for it. @throws IO  it failed */
  finish(): Promise<void>
  /** Ends it, if it still runs, and waits until it is gone. */
  kill(): Promise<void>
}

/** Starts a program that reads what it is given. @throws NOT_FOUND  it is not installed */
export const startFed = async (
  name: string,
  args: readonly string[],
  signal?: AbortSignal,
  environment: Readonly<Record<string, string>> = {},
): Promise<FedProcess> => {
  const path = await findTool(name)
  if (!path) throw missing(name)
  const child: ChildProcess = spawn(path, [...args], {
    stdio: ['pipe', 'ignore', 'pipe'],
    env: { ...process.env, LC_ALL: 'C', ...environment },
  })
  const stdin = child.stdin!
  let words = ''
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    words = (words + text).slice(-4096)
  })
  const stop = () => child.kill('SIGKILL')
  signal?.addEventListener('abort', stop)
  const ended = new Promise<void>((resolve, reject) => {
    child.on('error', error => reject(new LiveError('IO', `${name}: ${error.message}`, { tool: name }, error)))
    child.on('close', (code, killedBy) => {
      signal?.removeEventListener('abort', stop)
      if (signal?.aborted) reject(new LiveError('CANCELLED', `${name} was stopped`))
      else if (code === 0) resolve()
      else
        reject(
          new LiveError('IO', `${name} failed (${killedBy ?? `exit code ${code}`}): ${words.trim()}`, {
            tool: name,
            code: code ?? -1,
          }),
        )
    })
  })
  ended.catch(() => undefined)
  // a broken pipe is told by the exit code, with the program's own words
  stdin.on('error', () => undefined)
  return {
    async write(bytes) {
      const taken =
        !stdin.destroyed && (await new Promise<boolean>(resolve => stdin.write(bytes, error => resolve(!error))))
      if (taken) return
      await ended
      throw new LiveError('IO', `${name} ended before it had read all it was given`, { tool: name })
    },
    async finish() {
      stdin.end()
      await ended
    },
    async kill() {
      child.kill('SIGKILL')
      await ended.catch(() => undefined)
    },
  }
}

import { type ChildProcess, spawn } from 'node:child_process'
import { connect } from 'node:net'
import { join } from 'node:path'
import { LiveError } from '../error.js'
import { findTool, runTool } from './process.js'

/** Name of the monitor's socket in the folder of a machine. @see qemu docs/interop/qmp-spec.rst */
export const MONITOR = 'monitor.sock'

/** A running machine. */
export interface Machine {
  readonly pid: number
  /** when it has ended, by itself or by `stop`. @throws IO  it could not run: the emulator's own words */
  readonly ended: Promise<void>
  /** Presses the power button: the system in it may shut down. False where the machine did not listen. */
  pressPower(): Promise<boolean>
  /** Cuts the power. May be called again. */
  stop(): Promise<void>
}

const LAST_WORDS = 4096
/** until an emulator that was asked to end is killed */
const GRACE_MS = 5000
const MONITOR_MS = 2000

const gone = (child: ChildProcess, words: string): LiveError | undefined => {
  const { exitCode, signalCode } = child
  if (exitCode === 0 || signalCode === 'SIGTERM') return undefined
  const how = signalCode ?? `exit code ${exitCode ?? 'none'}`
  return new LiveError('IO', `the virtual machine failed (${how}): ${words.trim() || 'it said nothing'}`, {
    code: exitCode ?? -1,
  })
}

/** Says something to the monitor in a folder. */
const tell = (folder: string, command: string): Promise<boolean> =>
  new Promise(resolve => {
    const socket = connect(join(folder, MONITOR))
    const end = (told: boolean): void => {
      socket.destroy()
      resolve(told)
    }
    socket.setTimeout(MONITOR_MS, () => end(false))
    socket.once('error', () => end(false))
    socket.once('close', () => end(false))
    let heard = ''
    socket.setEncoding('utf8').on('data', (text: string) => {
      heard += text
      // The greeting and two answers; events may come between them.
      if ((heard.match(/"return"/g) ?? []).length >= 2) end(true)
      else if (heard.length > 1 << 16 || heard.includes('"error"')) end(false)
    })
    for (const execute of ['qmp_capabilities', command]) socket.write(`${JSON.stringify({ execute })}\n`)
  })

/**
 * What to run for a program to end with this process, even where that is killed: util-linux's setpriv, where it knows how.
 *
 * @see prctl(2), PR_SET_PDEATHSIG
 */
const bound = async (program: string, args: readonly string[]): Promise<readonly [string, readonly string[]]> => {
  const setpriv = process.platform === 'linux' ? await findTool('setpriv') : undefined
  if (setpriv === undefined || !(await runTool('setpriv', ['--help'])).stdout.includes('--pdeathsig'))
    return [program, args]
  return [setpriv, ['--pdeathsig', 'TERM', program, ...args]]
}

/**
 * Starts the emulator, with a folder as its working directory. It is in a session of its own: Ctrl-C at a terminal is for
 * the caller to answer, and must not cut the power before.
 *
 * @param console  true: its standard input and output are those of this process
 * @throws IO  it can't be started
 */
export const startMachine = async (
  qemu: string,
  args: readonly string[],
  { folder, console = false }: { readonly folder: string; readonly console?: boolean },
): Promise<Machine> => {
  const shared = console ? 'inherit' : 'ignore'
  const [program, given] = await bound(qemu, args)
  const child = spawn(program, [...given], { cwd: folder, detached: true, stdio: [shared, shared, 'pipe'] })
  let words = ''
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    words = (words + text).slice(-LAST_WORDS)
  })
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', error => reject(new LiveError('IO', `starting ${qemu}: ${error.message}`, {}, error)))
  })
  const closed = new Promise<void>(resolve => child.once('close', () => resolve()))
  const ended = closed.then(() => {
    const failure = gone(child, words)
    if (failure) throw failure
  })
  ended.catch(() => undefined)
  let stopping: Promise<void> | undefined
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM')
    const late = setTimeout(() => child.kill('SIGKILL'), GRACE_MS)
    await closed
    clearTimeout(late)
  }
  return {
    pid: child.pid!,
    ended,
    pressPower: () => tell(folder, 'system_powerdown'),
    stop: () => (stopping ??= child.exitCode === null && child.signalCode === null ? stop() : closed),
  }
}

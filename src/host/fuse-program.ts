import { spawn } from 'node:child_process'
import { setTimeout as pause } from 'node:timers/promises'
import { LiveError } from '../error.js'

const WORDS = 4096
const READY_MS = 20_000
const STEP_MS = 20

/**
 * Starts a program that mounts something by FUSE and stays in the foreground, and waits until that is mounted. It runs on when
 * this process ends. The mount is never looked into here: where its server hangs, so would this process.
 *
 * @param isMounted  tells by the table of mounts alone
 * @returns  its process
 * @throws IO  it ended, with its words, or did not mount in 20 s
 */
export const startFuseProgram = async (
  tool: string,
  args: readonly string[],
  place: string,
  isMounted: () => Promise<boolean>,
): Promise<number> => {
  const child = spawn(tool, [...args], {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, LC_ALL: 'C' },
  })
  let words = ''
  let ended = false
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    words = (words + text).slice(-WORDS)
  })
  child.once('error', error => {
    ended = true
    words += error.message
  })
  child.once('exit', () => {
    ended = true
  })
  const end = Date.now() + READY_MS
  while (!ended && !(await isMounted())) {
    if (Date.now() > end) {
      child.kill('SIGKILL')
      throw new LiveError('IO', `${tool} did not mount ${place} in ${READY_MS / 1000} s: ${words.trim()}`, {
        path: place,
      })
    }
    await pause(STEP_MS)
  }
  if (ended) throw new LiveError('IO', `${tool} can't mount ${place}: ${words.trim() || 'it ended'}`, { path: place })
  child.stderr.destroy()
  child.unref()
  return child.pid!
}

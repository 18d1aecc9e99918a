import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))
export const LIVEOS = join(ROOT, 'bin', 'liveos')

/** What a run of the program left. */
export interface Ran {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs `bin/liveos` as a process of its own, without a terminal. `watch` sees it while it runs. */
export const liveos = (args: readonly string[], watch?: (child: ChildProcess, stderr: string) => void): Promise<Ran> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [LIVEOS, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NO_COLOR: '1' },
    })
    let stdout = ''
    let stderr = ''
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
      watch?.(child, stderr)
    })
    child.on('error', reject)
    child.on('close', code => resolve({ code, stdout, stderr }))
  })

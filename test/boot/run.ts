import { spawn } from 'node:child_process'
import { tool } from '../support/tools.js'

/** Runs a program to its end and gives what it printed. Throws with its words where it fails. */
export const run = (
  name: string,
  ...words: readonly (string | { readonly input?: string; readonly env?: Readonly<Record<string, string>> })[]
): Promise<string> =>
  new Promise((resolve, reject) => {
    const args = words.filter(word => typeof word === 'string')
    const { input = '', env = {} } = words.find(word => typeof word !== 'string') ?? {}
    const child = spawn(tool(name) ?? name, args, {
      env: { ...process.env, LC_ALL: 'C', MTOOLS_SKIP_CHECK: '1', ...env },
    })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-4000)
    })
    child.on('error', reject)
    child.on('close', code => {
      if (code === 0) resolve(stdout)
      else reject(new Error(`${name} ${args.join(' ')}: exit code ${code}\n${stderr}`))
    })
    // one that reads nothing may have ended
    child.stdin.on('error', () => undefined)
    child.stdin.end(input)
  })

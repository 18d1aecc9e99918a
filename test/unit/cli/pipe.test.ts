import { spawn } from 'node:child_process'
import { expect, it } from 'vitest'
import { LIVEOS } from '../../support/cli.js'

/** Runs the program with nobody who reads its standard output, or its errors. */
const unread = (args: readonly string[], closed: 'stdout' | 'stderr') =>
  new Promise<{ code: number | null; words: string }>((resolve, reject) => {
    const child = spawn(process.execPath, [LIVEOS, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
    child[closed].destroy()
    let words = ''
    child[closed === 'stdout' ? 'stderr' : 'stdout'].setEncoding('utf8').on('data', (text: string) => {
      words += text
    })
    child.on('error', reject)
    child.on('close', code => resolve({ code, words }))
  })

it.each<[string[], 'stdout' | 'stderr', number]>([
  [['mount', '--help'], 'stdout', 0],
  [['--version'], 'stdout', 0],
  [['doctor', '/nothing/there', '--json'], 'stdout', 2],
  [['doctor', '/nothing/there'], 'stderr', 2],
])('%s with nobody who reads its %s ends without a stack trace', async (args, closed, code) => {
  const { code: ended, words } = await unread(args, closed)
  expect(words).not.toMatch(/EPIPE|at .*\.js/)
  expect(ended).toBe(code)
})

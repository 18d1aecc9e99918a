import { execFileSync } from 'node:child_process'
import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type CopyTreeOptions, type CopyTreeOutcome, copyTree } from '../../src/ops/copy-tree.js'
import { directory, file, type MockNode, mockFileSystem } from '../support/mock-filesystem.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const path = temporary()
let count = 0
const fresh = (): Promise<string> => path(`out${count++}`)
const copyTo = async (to: string, root: MockNode, options: CopyTreeOptions): Promise<CopyTreeOutcome> => {
  const running = copyTree({ from: mockFileSystem(root), paths: ['/'], to: { directory: to } }, options)
  for (;;) {
    const { value, done } = await running.next()
    if (done) return value
  }
}
const worse = ({ findings }: CopyTreeOutcome) => findings.filter(({ severity }) => severity !== 'note')

needTools('setfattr', 'getfattr').describe('extended attributes', () => {
  const xattrs = (value: Uint8Array) => ({ xattrs: [{ name: 'user.note', value }] })
  const read = (at: string): string =>
    execFileSync('getfattr', ['-R', '-h', '-d', '-e', 'hex', '--absolute-names', at], { encoding: 'utf8' })

  test('are set on more files than go into one batch, empty and binary values too', async () => {
    const to = await fresh()
    const entries = Array.from({ length: 600 }, (_, n) => {
      const node = file('', { ...xattrs(Uint8Array.of(n >> 8, n & 255, 0)), stat: { mode: 0o444 } })
      return [`f ${n}\\=\n`, node] as const
    })
    const tree = directory([...entries, ['empty', file('', xattrs(new Uint8Array(0)))]], xattrs(Buffer.from('top')))
    const outcome = await copyTo(to, tree, { xattrs: true })
    expect(worse(outcome)).toEqual([])
    const all = read(to)
    for (let n = 0; n < 600; n++) expect(all).toContain(`user.note=0x${n.toString(16).padStart(4, '0')}00\n`)
    expect(read(join(to, 'empty'))).toMatch(/user\.note(=(""|0x|0s))?\n/)
    expect(all).toContain(`user.note=0x${Buffer.from('top').toString('hex')}`)
    expect((await lstat(join(to, 'f 5\\=\n'))).mode & 0o777).toBe(0o444)
  })

  test('that the target does not take are told once, and soon not tried', async () => {
    const to = await fresh()
    const wrong = { xattrs: [{ name: 'user.', value: Buffer.from('x') }] }
    const good = file('good', xattrs(Buffer.from('y')))
    const entries = Array.from({ length: 300 }, (_, n) => [`f${n}`, file('', wrong)] as const)
    const outcome = await copyTo(to, directory([['good', good], ...entries]), { xattrs: true })
    expect(read(join(to, 'good'))).toContain('0x79')
    const found = outcome.findings.find(({ code }) => code === 'XATTRS_NOT_SET')!
    expect(found.message).toContain(': 300 (/f0, /f1, /f2, …)')
    expect(outcome.files).toBe(301)
  })
})

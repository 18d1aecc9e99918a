import { describe, expect, test } from 'vitest'
import { corrupt } from '../../../src/error.js'
import type { Finding } from '../../../src/finding.js'
import { type WalkOptions, walk } from '../../../src/fs/walk.js'
import { collect } from '../../support/collect.js'
import { directory, file, type MockNode, mockFileSystem, symlink } from '../../support/mock-filesystem.js'
import { failure } from '../../support/outcome.js'

const bad = corrupt({ device: 'mock', offset: 5, field: 'listing', expected: 1, found: 2 })
const paths = async (root: MockNode, path = '/', options: WalkOptions = {}): Promise<string[]> =>
  (await collect(walk(mockFileSystem(root), path, options))).map(found => found.path)

const tree = directory({
  b: directory({ z: file('z'), y: directory({}), link: symlink('/b') }),
  a: file('a'),
  'a.': file('a.'),
  '\u{1f600}': file('beyond the BMP'),
  '\uff00': file('below it, and after it in UTF-16'),
})

describe('walk', () => {
  test('goes depth first in the order of the medium, and follows no link', async () => {
    expect(await paths(tree)).toEqual(['/', '/b', '/b/z', '/b/y', '/b/link', '/a', '/a.', '/\u{1f600}', '/\uff00'])
  })

  test('sorts by bytes where asked', async () => {
    expect(await paths(tree, '/', { order: 'bytes' })).toEqual([
      '/',
      '/a',
      '/a.',
      '/b',
      '/b/link',
      '/b/y',
      '/b/z',
      '/\uff00',
      '/\u{1f600}',
    ])
  })

  test('starts anywhere, at a file too, and goes as deep as asked', async () => {
    expect(await paths(tree, 'b//')).toEqual(['/b', '/b/z', '/b/y', '/b/link'])
    expect(await paths(tree, '/a')).toEqual(['/a'])
    expect(await paths(tree, '/b/link')).toEqual(['/b/link'])
    expect(await paths(tree, '/', { maxDepth: 1 })).toEqual(['/', '/b', '/a', '/a.', '/\u{1f600}', '/\uff00'])
    expect(await paths(tree, '/', { maxDepth: 0 })).toEqual(['/'])
    await failure(paths(tree, '/none'), 'NOT_FOUND')
  })

  test('tells of damaged directories and goes on; without a listener it ends', async () => {
    const damaged = directory({ one: directory({}, { fails: bad }), two: directory({ f: file('') }) })
    const findings: Finding[] = []
    expect(await paths(damaged, '/', { onFinding: finding => findings.push(finding) })).toEqual([
      '/',
      '/one',
      '/two',
      '/two/f',
    ])
    expect(findings.map(({ code, where }) => [code, where])).toEqual([['WALK_CORRUPT', '/one']])
    expect(findings[0]!.message).toContain('listing at byte 5')
    await failure(paths(damaged), 'CORRUPT')
  })

  test('gives no name that leads elsewhere', async () => {
    const odd = directory([
      ['..', directory({})],
      ['.', directory({})],
      ['', file('')],
      ['a/b', file('')],
      ['nul\0', file('')],
      ['good', file('')],
    ])
    const findings: Finding[] = []
    expect(await paths(odd, '/', { onFinding: finding => findings.push(finding) })).toEqual(['/', '/good'])
    expect(findings.length).toBe(5)
  })

  test('ends in a loop and where directories have many names', async () => {
    const entries: [string, MockNode][] = []
    const loop = directory(entries)
    entries.push(['self', loop], ['f', file('')])
    const findings: Finding[] = []
    expect(await paths(loop, '/', { onFinding: finding => findings.push(finding) })).toEqual(['/', '/self', '/f'])
    expect(findings[0]!.message).toContain('met as / before')
    let node = directory({})
    for (let n = 0; n < 40; n++) node = directory({ left: node, right: node })
    // 2^40 paths
    expect((await paths(node, '/', { onFinding: () => {} })).length).toBe(81)
  })

  test('ends in a filesystem without an end', async () => {
    let inode = 1
    const endless = (): MockNode => ({
      kind: 'directory',
      stat: { inode: inode++ },
      get entries() {
        return [['d', endless()]] as const
      },
    })
    const findings: Finding[] = []
    const found = await paths(endless(), '/', { maxDepth: 20, onFinding: finding => findings.push(finding) })
    expect([found.length, findings.length]).toEqual([21, 0])
    let deep = directory({})
    for (let n = 0; n < 1100; n++) deep = directory({ d: deep })
    expect((await paths(deep, '/', { onFinding: finding => findings.push(finding) })).length).toBe(1025)
    expect(findings[0]!.message).toContain('more than 1024 directories deep')
  })

  test('stops when told to', async () => {
    const stop = new AbortController()
    const seen: string[] = []
    const walking = (async () => {
      for await (const { path } of walk(mockFileSystem(tree), '/', { signal: stop.signal, onFinding: () => {} })) {
        seen.push(path)
        stop.abort()
      }
    })()
    await failure(walking, 'CANCELLED')
    expect(seen).toEqual(['/'])
  })
})

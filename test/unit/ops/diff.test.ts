import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { sampleFacts, unpackSample } from '../../../scripts/sample.mjs'
import { diffWords, statWords } from '../../../src/cli/diff.js'
import { paint } from '../../../src/cli/words.js'
import type { Stat } from '../../../src/fs/filesystem.js'
import type { Change } from '../../../src/liveos/changes/change.js'
import { type DiffOutcome, runDiff } from '../../../src/ops/diff.js'
import { entryOf } from '../../../src/ops/diff-entry.js'
import { statOf } from '../../../src/ops/diff-stat.js'
import { deletedNames } from '../../../src/ops/diff-tar.js'
import { finished } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
const plain = paint({})

const stat = (kind: Stat['kind'], size = 0, more: Partial<Stat> = {}): Stat => ({
  kind,
  inode: 12,
  mode: 0o644,
  uid: 0,
  gid: 0,
  size,
  mtime: 1_700_000_000,
  mtimeNanoseconds: 0,
  linkCount: 1,
  ...more,
})
const change = (path: string, kind: Change['change'], more: Partial<Change> = {}): Change => ({
  path,
  change: kind,
  changed: [],
  before: kind === 'added' ? null : stat('file', 1000),
  after: kind === 'deleted' ? null : stat('file', 2000),
  changedBytes: 100,
  ...more,
})

/** As much of JSON Schema as ours uses. */
interface Schema {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly items?: Schema
  readonly required?: readonly string[]
  readonly additionalProperties?: boolean
  readonly properties?: Readonly<Record<string, Schema>>
  readonly definitions?: Readonly<Record<string, Schema>>
}

/** Where a value is not what a schema asks. */
const breaches = (value: unknown, schema: Schema, at = '$', root = schema): string[] => {
  if (schema.$ref) return breaches(value, root.definitions![schema.$ref.split('/').at(-1)!]!, at, root)
  const kind =
    value === null ? 'null' : Array.isArray(value) ? 'array' : Number.isInteger(value) ? 'integer' : typeof value
  const types = schema.type === undefined ? [] : [schema.type].flat()
  if (types.length > 0 && !types.includes(kind) && !(kind === 'integer' && types.includes('number')))
    return [`${at} is ${kind}`]
  if (schema.const !== undefined && value !== schema.const) return [`${at} is ${value}`]
  if (schema.enum && !schema.enum.includes(value)) return [`${at} is ${value}`]
  if (Array.isArray(value))
    return value.flatMap((item: unknown, n) => (schema.items ? breaches(item, schema.items, `${at}[${n}]`, root) : []))
  if (kind !== 'object') return []
  const given = value as Record<string, unknown>
  return [
    ...(schema.required ?? []).filter((key: string) => !(key in given)).map((key: string) => `${at}.${key} is missing`),
    ...Object.entries(given).flatMap(([key, item]) =>
      schema.properties?.[key]
        ? breaches(item, schema.properties[key], `${at}.${key}`, root)
        : schema.additionalProperties === false
          ? [`${at}.${key} is in no schema`]
          : [],
    ),
  ]
}
const schema = JSON.parse(readFileSync(new URL('../../../docs/schema/diff.json', import.meta.url), 'utf8')) as Schema

describe('diff of the sample stick', () => {
  it('is what the kernel says of the merged root; its JSON fits the schema', async () => {
    const stick = await unpackSample(await path('stick'))
    const output = await path('changed.tar')
    const done = await finished(runDiff({ target: stick }, { output, depth: 1 }))
    expect(breaches(JSON.parse(JSON.stringify(done)), schema)).toEqual([])
    expect(breaches({ ...done, more: 1, verb: 'stat' }, schema)).toEqual(['$.verb is stat', '$.more is in no schema'])
    expect(done.findings).toEqual([])
    const facts = (await sampleFacts()) as unknown as {
      files: { path: string; size: number; mode: string; uid: number; gid: number; links: number; mtime: number }[]
    }
    const kernel = new Map(facts.files.map(file => [file.path, file]))
    for (const { path, after } of done.changes) {
      const file = kernel.get(path)
      expect(file !== undefined, path).toBe(after !== null)
      if (!file || !after || after.kind === 'directory') continue
      const { size, mode, uid, gid, links, mtime } = file
      expect([after.size, Number(after.mode), after.uid, after.gid, after.linkCount], path).toEqual([
        size,
        Number(mode),
        uid,
        gid,
        links,
      ])
      expect(Math.floor(Date.parse(after.modified) / 1000), path).toBe(mtime)
    }
    const { totals } = done
    expect(totals).toMatchObject({ count: 49, added: 19, deleted: 21, modified: 9, renamed: 0, type: 0, attributes: 0 })
    expect(done.directories.map(({ directory }) => directory)).toEqual(['/etc', '/srv', '/usr', '/var'])
    expect(done.directories.reduce((sum, { changedBytes }) => sum + changedBytes, 0)).toBe(totals.changedBytes)
    expect(totals.changedBytes).toBeLessThanOrEqual(done.touchedBytes + 700_000)
    const words = diffWords(done, plain)
    expect(words).toContain('M /etc/hostname  12 bytes → 14 bytes')
    expect(words).toContain('M /usr/lib/libsample.so  → libsample-02.so.2 (was libsample-01.so.1)')
    expect(words).toContain('D /usr/share/doc/package-01/  directory')
    expect(words.some(line => line.startsWith(`Written to ${output}: `))).toBe(true)
    expect(statWords(done, plain)[0]).toMatch(/^\/etc +3.0 KiB {2}1 added, 3 modified$/)
  })

  it('is empty without an overlay, and with a new one, and says so', async () => {
    const stick = await unpackSample(await path('bare'))
    const none = await finished(runDiff({ target: stick, baseOnly: true }))
    expect([none.changes, none.overlay, none.findings.map(({ code }) => code)]).toEqual([[], null, ['NO_OVERLAY']])
    expect(diffWords(none, plain)[0]).toBe('Nothing was changed.')
    const empty = join(await path('empty'))
    await writeFile(empty, Buffer.alloc(1 << 20))
    const base = join(stick, 'LiveOS/squashfs.img')
    const fresh = await finished(runDiff({ base, overlay: empty }))
    expect([fresh.changes, fresh.findings.map(({ code }) => code)]).toEqual([[], ['OVERLAY_NEW']])
  })

  it('shows what an overlay holds that the kernel gave up', async () => {
    const stick = await unpackSample(await path('invalid'))
    const overlay = join(stick, 'LiveOS/overlay-LIVE-1A2B-3C4D')
    const bytes = readFileSync(overlay)
    bytes.writeUInt32LE(0, 4)
    await writeFile(overlay, bytes)
    const done = await finished(runDiff({ target: stick }, { path: '/etc' }))
    expect(done.changes.length).toBe(4)
    expect(done.findings.map(({ code, severity }) => [code, severity])).toEqual([['OVERLAY_INVALID', 'warning']])
  })
})

describe('words', () => {
  const shown = (...changes: Change[]): string[] => {
    const { totals, directories } = statOf(changes, 2)
    const done: DiffOutcome = {
      verb: 'diff',
      target: 't',
      base: 'b',
      overlay: 'o',
      path: '/',
      touchedBytes: 4096,
      changes: changes.map(entryOf),
      totals,
      directories,
      archive: null,
      findings: [],
    }
    return diffWords(done, plain).slice(0, -1)
  }
  it.each<[string, Change]>([
    ['A /new  2.0 KiB', change('/new', 'added')],
    [
      'A /l  symlink, → to',
      change('/l', 'added', { after: stat('symlink', 2), target: { before: null, after: 'to' } }),
    ],
    ['A /h  2.0 KiB, link to /first', change('/h', 'added', { linkTo: '/first' })],
    ['D /old  1000 bytes', change('/old', 'deleted')],
    ['M /m  1000 bytes → 2.0 KiB', change('/m', 'modified', { changed: ['content', 'mtime'] })],
    ['R /a → /b', change('/b', 'renamed', { from: '/a' })],
    ['M /b/x (was /a/x)  1000 bytes → 2.0 KiB', change('/b/x', 'modified', { from: '/a/x', changed: ['content'] })],
    ['T /t  file → symlink', change('/t', 'type', { after: stat('symlink') })],
    ['a /p  mtime', change('/p', 'attributes', { changed: ['mtime'] })],
    [
      'a /p  mode 0644 → 0600, owner 0:0 → 5:6, links 1 → 2',
      change('/p', 'attributes', {
        changed: ['mode', 'owner', 'mtime', 'links'],
        after: stat('file', 1000, { mode: 0o600, uid: 5, gid: 6, linkCount: 2 }),
      }),
    ],
    [
      'a /p  xattrs +user.a -user.b user.c',
      change('/p', 'attributes', {
        changed: ['xattrs'],
        xattrs: { added: ['user.a'], removed: ['user.b'], changed: ['user.c'] },
      }),
    ],
    ['A /\\x1b[31m  2.0 KiB', change('/\u001b[31m', 'added')],
  ])('%s', (line, given) => {
    expect(shown(given)).toEqual([line])
  })
})

it('names to delete are the tops of what is gone, in its old places', () => {
  const directory = { before: stat('directory') }
  expect(
    deletedNames([
      change('/a', 'deleted', directory),
      change('/a/b', 'deleted'),
      change('/ab', 'deleted'),
      change('/moved', 'renamed', { from: '/was', ...directory }),
      change('/was/file', 'deleted'),
      change('/t', 'type', { ...directory, after: stat('file') }),
      change('/t/inside', 'deleted'),
      change('/m', 'modified', { from: '/was/m' }),
      change('/n', 'added'),
    ]),
  ).toEqual(['/a', '/ab', '/was', '/t'])
})

it('sums by directory', () => {
  const { totals, directories } = statOf(
    [
      change('/x', 'added'),
      change('/usr/share/doc/a', 'modified'),
      change('/usr/share/b', 'deleted', { changedBytes: 7 }),
      change('/usr/share/c', 'added', { linkTo: '/x', changedBytes: 0 }),
    ],
    2,
  )
  expect(totals).toMatchObject({ count: 4, added: 2, modified: 1, deleted: 1, changedBytes: 207, grownBytes: 2000 })
  expect(directories.map(({ directory, count, changedBytes }) => [directory, count, changedBytes])).toEqual([
    ['/', 1, 100],
    ['/usr/share', 3, 107],
  ])
})

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { modulesBelow, resolveImport } from './support/imports.js'

/** docs/ARCHITECTURE.md: imports go to the own folder or to a lower rank. */
const RANKS: Readonly<Record<string, number>> = {
  'error.ts': 0,
  'finding.ts': 0,
  bytes: 1,
  block: 2,
  fs: 3,
  nbd: 3,
  host: 3,
  liveos: 4,
  ops: 5,
  cli: 6,
  web: 6,
  'index.ts': 7,
}
const BANNED = /^(utils?|misc|helpers?|common|types?|core|managers?|services?)$/
const MAX_LINES = 400
const FS_CONTRACT = ['fs/filesystem.ts', 'fs/name.ts']
const FRONT = ['cli', 'web']
const BEHIND_THE_FRONT = ['ops', 'error.ts']

const folderOf = (path: string): string => path.split('/')[0]!
/** fs/<format>/...: the format; fs/filesystem.ts and its like: undefined */
const formatOf = (path: string): string | undefined => (/^fs\/[^/]+\//.test(path) ? path.split('/')[1] : undefined)

/** Why one module may not import another; undefined where it may. Both are paths below src. */
const forbidden = (from: string, to: string): string | undefined => {
  if (to.startsWith('../')) return 'leaves src'
  const [here, there] = [folderOf(from), folderOf(to)]
  if (!(here in RANKS) || !(there in RANKS)) return 'a folder without a rank'
  if (here === 'fs' && there === 'fs') {
    const format = formatOf(to)
    if (format === undefined || format === formatOf(from) || from === 'fs/open.ts') return undefined
    return 'formats never import each other, and only fs/open.ts knows them'
  }
  if (here === there) return undefined
  // A mounted directory is a FileSystem too.
  if (here === 'host' && FS_CONTRACT.includes(to)) return undefined
  if (FRONT.includes(here) && !BEHIND_THE_FRONT.includes(there)) return `${here} sees only ops and error`
  return RANKS[here]! > RANKS[there]! ? undefined : 'imports go to a lower rank'
}

const mayUseFiles = (path: string): boolean =>
  // the codec reads the WebAssembly module of its own package, nothing else
  ['block/file.ts', 'block/direct.ts', 'bytes/liblzma-wasm.ts'].includes(path) ||
  ['host', 'ops', 'cli'].includes(folderOf(path))

const forbiddenBuiltin = (from: string, name: string): string | undefined => {
  if (name === 'child_process' && folderOf(from) !== 'host') return 'only src/host starts programs'
  if (/^fs(\/promises)?$/.test(name) && !mayUseFiles(from))
    return 'only block/file.ts, block/direct.ts, host, ops and cli touch files'
  return undefined
}

/** Every breach of the design's order below a src directory, one sentence each. */
const breaches = (src: string): string[] =>
  modulesBelow(src).flatMap(({ path, imports, lines }) => {
    const found: string[] = []
    if (!(folderOf(path) in RANKS)) found.push(`${path}: no rank`)
    const bad = path
      .replace(/\.ts$/, '')
      .split('/')
      .filter(part => BANNED.test(part))
    if (bad.length > 0) found.push(`${path}: banned name ${bad.join(', ')}`)
    if (lines > MAX_LINES) found.push(`${path}: ${lines} lines, at most ${MAX_LINES}`)
    for (const specifier of imports) {
      const reason = specifier.startsWith('.')
        ? forbidden(path, resolveImport(path, specifier))
        : forbiddenBuiltin(path, specifier.replace(/^node:/, ''))
      if (reason !== undefined) found.push(`${path} imports ${specifier}: ${reason}`)
    }
    return found
  })

it('src keeps the order of the design', () => {
  expect(breaches(fileURLToPath(new URL('../src', import.meta.url)))).toEqual([])
})

const withTree = (files: Readonly<Record<string, string>>, look: (src: string) => void): void => {
  const src = mkdtempSync(join(tmpdir(), 'liveos-layers-'))
  try {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(src, path)), { recursive: true })
      writeFileSync(join(src, path), text)
    }
    look(src)
  } finally {
    rmSync(src, { recursive: true, force: true })
  }
}

it('a tree in good order has no breach', () => {
  const files = {
    'error.ts': 'export const e = 1',
    'bytes/crc.ts': `import { e } from '../error.js'`,
    'block/file.ts': `import { open } from 'node:fs/promises'`,
    'block/snapshot/store.ts': `import { e } from '../../error.js'; import type { D } from '../file.js'`,
    'fs/filesystem.ts': `import type { D } from '../block/file.js'`,
    'fs/open.ts': `import { r } from './ext4/reader.js'; const fat = await import('./fat/reader.js')`,
    'fs/ext4/reader.ts': `import type { F } from '../filesystem.js'; import { l } from './layout.js'`,
    'host/disks.ts': `import { spawn } from 'node:child_process'`,
    'host/directory.ts': `import type { F } from '../fs/filesystem.js'; import { open } from 'node:fs/promises'`,
    'ops/refresh.ts': `import { l } from '../liveos/stick.js'; import { open } from 'node:fs/promises'`,
    'cli/main.ts': `import { r } from '../ops/refresh.js'; import { e } from '../error.js'; import { Command } from 'commander'`,
    'index.ts': `export { r } from './ops/refresh.js'; export type { D } from './block/file.js'`,
  }
  withTree(files, src => expect(breaches(src)).toEqual([]))
})

it.each([
  ['an import upwards', 'bytes/crc.ts', `import { f } from '../block/file.js'`],
  ['a format that the host knows', 'host/disks.ts', `import { r } from '../fs/fat/reader.js'`],
  ['an import to the side', 'host/disks.ts', `import { s } from '../nbd/server.js'`],
  ['a type-only import upwards', 'block/file.ts', `import type { S } from '../liveos/stick.js'`],
  ['a re-export upwards', 'block/file.ts', `export * from '../fs/filesystem.js'`],
  ['a dynamic import upwards', 'block/file.ts', `const x = await import('../ops/merge.js')`],
  ['a worker upwards', 'bytes/pool.ts', `new Worker(new URL('../ops/work.js', import.meta.url))`],
  ['a format that knows another', 'fs/ext4/reader.ts', `import { r } from '../fat/reader.js'`],
  ['a shared file that knows a format', 'fs/filesystem.ts', `import { r } from './fat/reader.js'`],
  ['a format that knows the host', 'fs/ext4/reader.ts', `import { d } from '../../host/disks.js'`],
  ['a command that looks below ops', 'cli/main.ts', `import { f } from '../block/file.js'`],
  ['a page that looks below ops', 'web/server.ts', `import { s } from '../liveos/stick.js'`],
  ['an import from outside', 'ops/merge.ts', `import { x } from '../../scripts/sample.mjs'`],
  ['a program started outside host', 'ops/merge.ts', `import { spawn } from 'node:child_process'`],
  ['a file touched outside its places', 'liveos/stick.ts', `import { open } from 'node:fs/promises'`],
  ['the same without the prefix', 'fs/ext4/reader.ts', `import { openSync } from 'fs'`],
  ['a banned file name', 'block/utils.ts', ''],
  ['a banned folder name', 'block/common/zero.ts', ''],
  ['a folder without a rank', 'source/file.ts', ''],
  ['a file without a rank', 'version.ts', ''],
  ['a long file', 'bytes/crc.ts', '//\n'.repeat(401)],
])('finds %s', (_title, path, text) => {
  withTree({ [path]: text }, src => expect(breaches(src)).toHaveLength(1))
})

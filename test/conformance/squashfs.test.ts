import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createFile, openFile } from '../../src/block/file.js'
import { linear } from '../../src/block/linear.js'
import { memory } from '../../src/block/memory.js'
import type { BlockEncoder } from '../../src/bytes/codec.js'
import { poolEncoder } from '../../src/bytes/encoder.js'
import { type CodecPool, openPool } from '../../src/bytes/pool.js'
import { LiveError } from '../../src/error.js'
import { batchEncoder } from '../../src/fs/squashfs/batch.js'
import { openSquashfs, type Squashfs } from '../../src/fs/squashfs/reader.js'
import { type DirectoryNode, readTree, type SquashNode } from '../../src/fs/squashfs/tree.js'
import { boundSize, settingsOf, writeSquashfs } from '../../src/fs/squashfs/writer.js'
import { findMksquashfs } from '../../src/host/mksquashfs.js'
import { deviceContract } from '../contract/device.js'
import { needKernel, runInKernel } from '../support/kernel.js'
import { bytesOf } from '../support/small-stick.js'
import { type Listing, listDirectory, listSquashfs, makeTree, PSEUDO } from '../support/squashfs-tree.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const run = promisify(execFile)
const path = temporary()
const COMPRESSORS = ['gzip', 'xz', 'zstd', 'lz4', 'lzo'] as const
const tools = needTools('mksquashfs', 'unsquashfs', 'setfattr', 'getfattr')
const SPECIAL = new Map([
  ['/disk', 'block 660 259:70000'],
  ['/null', 'character 666 1:3'],
  ['/pipe', 'fifo 644 '],
])

tools.describe('squashfs', () => {
  let tree: string
  let truth: Listing
  let pool: CodecPool
  let batch: BlockEncoder
  beforeAll(async () => {
    tree = await path('tree')
    await makeTree(tree)
    truth = await listDirectory(tree)
    pool = openPool()
    batch = batchEncoder((await findMksquashfs())!.start, availableParallelism())
  })
  afterAll(() => pool.close())

  const image = async (name: string, args: readonly string[]): Promise<string> => {
    const file = await path(name)
    await run('mksquashfs', [tree, file, '-noappend', '-no-progress', ...PSEUDO, ...args])
    return file
  }
  const opened = async <T>(file: string, use: (fs: Squashfs) => Promise<T>, pooled = false): Promise<T> => {
    const device = await openFile(file)
    try {
      return await use(await openSquashfs(device, pooled ? { decoder: { decode: pool.decode, depth: 6 } } : {}))
    } finally {
      await device.close()
    }
  }
  const extracted = async (file: string): Promise<Listing> => {
    const to = `${file}.out`
    // without root the devices can't be made: that is not what is compared here
    await run('unsquashfs', ['-no-progress', '-ignore-errors', '-d', to, file], { maxBuffer: 1 << 24 })
    for (const name of SPECIAL.keys()) await rm(join(to, name), { force: true })
    const listing = await listDirectory(to)
    await rm(to, { recursive: true })
    return listing
  }

  it.each([
    ...[...COMPRESSORS, 'lzma'].flatMap(comp => ['4K', '128K', '1M'].map(size => ['-comp', comp, '-b', size])),
    ['-comp', 'xz', '-Xbcj', 'x86,arm', '-Xdict-size', '64K'],
    ['-comp', 'gzip', '-Xcompression-level', '3', '-Xwindow-size', '10', '-Xstrategy', 'filtered,huffman_only'],
    ['-comp', 'zstd', '-Xcompression-level', '19', '-always-use-fragments'],
    ['-comp', 'lz4', '-Xhc', '-no-fragments'],
    ['-comp', 'lzo', '-Xalgorithm', 'lzo1x_1'],
    ['-noI', '-noD', '-noF', '-noX', '-no-exports'],
    ['-no-duplicates', '-no-sparse', '-noI'],
  ])('reads what mksquashfs %s %s %s %s %s %s wrote', async (...args) => {
    const file = await image(`read-${args.join('').replace(/\W/g, '')}`, args)
    const { files, special } = await opened(file, listSquashfs, true)
    expect(special).toEqual(SPECIAL)
    expect(files).toEqual(truth)
  })

  const withoutReuse = (node: SquashNode, made = new Map<SquashNode, SquashNode>()): SquashNode => {
    const known = made.get(node)
    if (known) return known
    let plain: SquashNode = node
    if (node.kind === 'directory')
      plain = {
        ...node,
        entries: node.entries.map(entry => ({ name: entry.name, node: withoutReuse(entry.node, made) })),
      }
    else if (node.kind === 'file') {
      const { reuse: _, ...rest } = node
      plain = rest
    }
    made.set(node, plain)
    return plain
  }

  const rewrite = (
    file: string,
    to: string,
    how: 'verbatim' | 'pool' | 'mksquashfs',
    change: (root: DirectoryNode) => DirectoryNode = root => root,
  ) =>
    opened(file, async fs => {
      const whole = change(await readTree(fs))
      const root = how === 'verbatim' ? whole : (withoutReuse(whole) as DirectoryNode)
      const out = await createFile(to)
      const done = await writeSquashfs(out, root, settingsOf(fs), {
        encoder: how === 'mksquashfs' ? batch : poolEncoder(pool),
      })
      await out.close()
      expect(boundSize(root, settingsOf(fs))).toBeGreaterThanOrEqual(done.size)
      expect(done.size % 4096).toBe(0)
      return done
    })

  it.each(
    COMPRESSORS.flatMap(comp =>
      ['4K', '128K', '1M'].flatMap(size =>
        (['verbatim', 'pool', 'mksquashfs'] as const).map(how => [comp, size, how] as const),
      ),
    ).filter(([comp, , how]) => comp !== 'lzo' || how !== 'pool'),
  )('writes %s in blocks of %s, %s: unsquashfs reads the same tree', async (comp, size, how) => {
    const file = await image(`write-${comp}${size}${how}`, ['-comp', comp, '-b', size])
    const done = await rewrite(file, `${file}.new`, how)
    if (how === 'verbatim') expect(done.encodedBlocks).toBe(0)
    expect(await extracted(`${file}.new`)).toEqual(truth)
    expect((await opened(`${file}.new`, listSquashfs)).special).toEqual(SPECIAL)
    await rewrite(file, `${file}.again`, how)
    expect(Buffer.compare(await readFile(`${file}.new`), await readFile(`${file}.again`))).toBe(0)
    await Promise.all([file, `${file}.new`, `${file}.again`].map(name => rm(name)))
  })

  it('keeps the flags of the source, and no table that it has not', async () => {
    const file = await image('flags', ['-noI', '-noD', '-noF', '-noX', '-no-exports', '-no-xattrs', '-no-fragments'])
    await rewrite(file, `${file}.new`, 'mksquashfs')
    const { stdout } = await run('unsquashfs', ['-s', `${file}.new`])
    for (const words of [
      'Data is uncompressed',
      'Inodes are uncompressed',
      'Xattrs are not stored',
      'Fragments are not stored',
      'Filesystem is not exportable',
    ])
      expect(stdout).toContain(words)
  })

  it('takes untouched blocks over and merges the rest: holes come and go, an equal block stays as it stands, so does the tail', async () => {
    for (const args of [['-always-use-fragments'], ['-no-fragments']]) {
      const file = await image(`mixed${args[0]}`, ['-comp', 'xz', '-b', '16K', '-no-sparse', ...args])
      const old = bytesOf(7, 300_001)
      const now = old.slice()
      now.fill(0, 2 * 16384, 3 * 16384)
      now.set(bytesOf(50, 100), 5 * 16384 + 77)
      now.set(bytesOf(51, 9), 300_001 - 9)
      const touched = new Set([2, 5, 9, Math.floor(300_001 / 16384)])
      const change = (root: DirectoryNode): DirectoryNode => ({
        ...root,
        entries: root.entries.map(entry => {
          if (Buffer.from(entry.name).toString() !== 'LiveOS' || entry.node.kind !== 'directory') return entry
          const [rootfs] = entry.node.entries
          if (rootfs?.node.kind !== 'file') throw new Error('no rootfs.img')
          const node: SquashNode = {
            ...rootfs.node,
            content: memory(now),
            reuse: { ...rootfs.node.reuse!, changed: block => touched.has(block) },
          }
          return { name: entry.name, node: { ...entry.node, entries: [{ name: rootfs.name, node }] } }
        }),
      })
      const done = await rewrite(file, `${file}.new`, 'verbatim', change)
      expect({ holes: done.holeBlocks, encoded: done.encodedBlocks }).toMatchObject({ encoded: 2 })
      const { stdout } = await run('unsquashfs', ['-cat', `${file}.new`, 'LiveOS/rootfs.img'], {
        encoding: 'buffer',
        maxBuffer: 1 << 24,
      })
      expect(Buffer.compare(stdout, now)).toBe(0)
    }
  })

  it('a file over 4 GiB, nearly all holes', async () => {
    const size = 5 * 2 ** 30 + 3
    const content = linear(
      [{ length: size - 3 }, { length: 3, device: memory(Buffer.from('end')), deviceOffset: 0 }],
      'big',
    )
    const head = { mode: 0o644, uid: 0, gid: 0, mtime: 1, xattrs: [] }
    const root: DirectoryNode = {
      kind: 'directory',
      ...head,
      mode: 0o755,
      entries: [{ name: Buffer.from('big'), node: { kind: 'file', ...head, content } }],
    }
    const to = await path('big.img')
    const out = await createFile(to)
    const settings = {
      blockSize: 1 << 20,
      compressor: { name: 'gzip', level: 1, windowBits: 15, strategies: 0 } as const,
      flags: 0,
      mkfsTime: 1,
    }
    await writeSquashfs(out, root, settings, { encoder: poolEncoder(pool) })
    await out.close()
    expect((await stat(to)).size).toBeLessThan(100_000)
    expect((await run('unsquashfs', ['-lln', to])).stdout).toContain(String(size))
    await opened(to, async fs =>
      expect(Buffer.from(await (await fs.open('/big')).read(size - 3, 3)).toString()).toBe('end'),
    )
  })

  const scratchDirectories = async () => (await readdir(tmpdir())).filter(name => name.startsWith('liveos-encode-'))
  it.each(['pool', 'mksquashfs'] as const)(
    'a full output, an unreadable source and a stop end the writing by %s at once, and leave nothing',
    async how => {
      const file = await image(`fail-${how}`, ['-comp', 'gzip', '-b', '4K'])
      const before = await scratchDirectories()
      await opened(file, async fs => {
        const root = withoutReuse(await readTree(fs)) as DirectoryNode
        const encoder = how === 'mksquashfs' ? batch : poolEncoder(pool)
        const sink = (limit: number) => ({
          name: 'sink',
          size: 0,
          read: async () => new Uint8Array(0),
          close: async () => {},
          flush: async () => {},
          write: async (offset: number, bytes: Uint8Array) => {
            if (offset + bytes.length > limit) throw new LiveError('NO_SPACE', 'the sink is full')
          },
        })
        const code = (work: Promise<unknown>) =>
          work.then(
            () => 'no error',
            (error: unknown) => (error instanceof LiveError ? error.code : String(error)),
          )
        expect(await code(writeSquashfs(sink(1000), root, settingsOf(fs), { encoder }))).toBe('NO_SPACE')
        const broken: DirectoryNode = {
          ...root,
          entries: root.entries.map(entry =>
            entry.node.kind === 'file'
              ? {
                  ...entry,
                  node: {
                    ...entry.node,
                    content: { ...entry.node.content, read: async () => Promise.reject(new LiveError('IO', 'gone')) },
                  },
                }
              : entry,
          ),
        }
        expect(await code(writeSquashfs(sink(1e9), broken, settingsOf(fs), { encoder }))).toBe('IO')
        const stop = new AbortController()
        const stopped = writeSquashfs(sink(1e9), root, settingsOf(fs), {
          encoder,
          signal: stop.signal,
          onProgress: () => stop.abort(),
        })
        expect(await code(stopped)).toBe('CANCELLED')
      })
      expect(await scratchDirectories()).toEqual(before)
    },
  )

  const SHOW = `
set -euo pipefail
mkdir -p image
for disk in $DISKS; do
  mount -t squashfs -o ro "$disk" image
  (cd image && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum)
  umount image
done
`
  needKernel().it('the real kernel mounts and reads what we write, each compressor and way', async () => {
    const disks: { path: string; readOnly: boolean }[] = []
    for (const comp of COMPRESSORS)
      for (const how of ['verbatim', 'mksquashfs', ...(comp === 'lzo' ? [] : (['pool'] as const))] as const) {
        const file = await image(`kernel-${comp}-${how}`, ['-comp', comp, '-b', how === 'pool' ? '16K' : '128K'])
        await rewrite(file, `${file}.new`, how)
        disks.push({ path: `${file}.new`, readOnly: true })
      }
    const { stdout } = await run(
      'bash',
      ['-c', 'find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum'],
      { cwd: tree },
    )
    const logs: string[] = []
    // the guest takes a handful of disks at a time
    for (let at = 0; at < disks.length; at += 7) {
      const scratch = await path(`kernel${at}`)
      await run('mkdir', [scratch])
      const { rc, log } = await runInKernel({ script: SHOW, scratch, disks: disks.slice(at, at + 7) })
      expect(rc, log).toBe(0)
      logs.push(log)
    }
    expect(logs.join('')).toBe(stdout.repeat(disks.length))
  })

  it('finds every kind of damage or reads on: flips and cuts of real images', async () => {
    const small = await path('small-tree')
    await run('bash', [
      '-c',
      `mkdir -p ${small}/d && cp ${tree}/small ${tree}/random ${tree}/nothing ${small}/ && ln -s x ${small}/d/l && setfattr -n user.a -v b ${small}/small`,
    ])
    let state = Number(process.env.SEED ?? 20261121)
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return Math.floor((state / 2 ** 32) * below)
    }
    const walk = async (bytes: Uint8Array): Promise<string> => {
      try {
        const { files } = await listSquashfs(await openSquashfs(memory(bytes, 'mutated')))
        return [...files].join('\n')
      } catch (error) {
        if (error instanceof LiveError) return error.code
        throw new Error(`seed ${process.env.SEED ?? 20261121}: ${error instanceof Error ? error.stack : String(error)}`)
      }
    }
    for (const comp of [...COMPRESSORS, 'lzma']) {
      const file = await path(`mutate-${comp}`)
      await run('mksquashfs', [small, file, '-noappend', '-no-progress', '-comp', comp, '-b', '4K'])
      const bytes = new Uint8Array(await readFile(file))
      const whole = await walk(bytes)
      const used = new DataView(bytes.buffer).getUint32(40, true)
      const inodes = new DataView(bytes.buffer).getUint32(64, true)
      for (let round = 0; round < 250; round++) {
        const copy = bytes.slice()
        const at = round < 120 ? random(96) : inodes + random(used - inodes)
        copy[at] = copy[at]! ^ (1 << random(8))
        await walk(copy)
      }
      for (let round = 0; round < 60; round++) expect(await walk(bytes.slice(0, random(used)))).not.toBe(whole)
    }
  }, 120_000)
})

if (tools.reason === undefined)
  deviceContract('a file in a squashfs', async () => {
    const bytes = bytesOf(11, 50_001)
    const dir = await path('contract')
    await mkdir(dir)
    await writeFile(join(dir, 'file'), bytes)
    await run('mksquashfs', [dir, `${dir}.img`, '-noappend', '-no-progress', '-b', '4K'])
    return { device: await (await openSquashfs(await openFile(`${dir}.img`))).open('/file'), bytes }
  })

import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { promisify } from 'node:util'
import { inflateSync } from 'node:zlib'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Device, PlacingDevice, WritableDevice } from '../../src/block/device.js'
import { createFile } from '../../src/block/file.js'
import { linear } from '../../src/block/linear.js'
import { memory } from '../../src/block/memory.js'
import type { BlockEncoder } from '../../src/bytes/codec.js'
import { poolEncoder } from '../../src/bytes/encoder.js'
import { type CodecPool, openPool } from '../../src/bytes/pool.js'
import { LiveError } from '../../src/error.js'
import { batchEncoder, type StartMksquashfs } from '../../src/fs/squashfs/batch.js'
import { FROM } from '../../src/fs/squashfs/data-writer.js'
import { FLAG } from '../../src/fs/squashfs/layout.js'
import { type DirectoryNode, type FileNode, readTree } from '../../src/fs/squashfs/tree.js'
import { type SquashSettings, settingsOf, writeSquashfs } from '../../src/fs/squashfs/writer.js'
import { findMksquashfs } from '../../src/host/mksquashfs.js'
import { needKernel, runInKernel } from '../support/kernel.js'
import { failure, sameBytes } from '../support/outcome.js'
import { random } from '../support/random.js'
import { bytesOf } from '../support/small-stick.js'
import {
  extracted,
  makeImage,
  mapFiles,
  mounted,
  needLoopMount,
  rewrite,
  WRITTEN,
  withoutReuse,
  withSquashfs,
} from '../support/squashfs-images.js'
import {
  type Listing,
  listDirectory,
  listSquashfs,
  makeSmallTree,
  makeTree,
  SPECIAL,
} from '../support/squashfs-tree.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const run = promisify(execFile)
const path = temporary()
const tools = needTools('mksquashfs', 'unsquashfs', 'setfattr', 'getfattr')
const WAYS = ['verbatim', 'pool', 'mksquashfs'] as const
type Way = (typeof WAYS)[number]
const HEAD = { mode: 0o644, uid: 0, gid: 0, mtime: 1, xattrs: [] }
const GZIP: SquashSettings = {
  blockSize: 4096,
  compressor: { name: 'gzip', level: 1, windowBits: 15, strategies: 0 },
  flags: 0,
  mkfsTime: 1,
}

const directory = (entries: Readonly<Record<string, DirectoryNode['entries'][number]['node']>>): DirectoryNode => ({
  kind: 'directory',
  ...HEAD,
  mode: 0o755,
  entries: Object.entries(entries).map(([name, node]) => ({ name: Buffer.from(name), node })),
})
const fileOf = (content: Device): FileNode => ({ kind: 'file', ...HEAD, content })

/** A device that forgets, and is full from `limit` on. */
const sink = (limit: number, write?: () => Promise<void>): WritableDevice => ({
  name: 'sink',
  size: 0,
  read: async () => new Uint8Array(0),
  close: async () => {},
  flush: async () => {},
  write: async (offset, bytes) => {
    await write?.()
    if (offset + bytes.length > limit) throw new LiveError('NO_SPACE', 'the sink is full')
  },
})

tools.describe('squashfs, written', () => {
  let tree: string
  let truth: Listing
  let small: string
  let smallTruth: Listing
  let pool: CodecPool
  let start: StartMksquashfs
  let encoders: Readonly<Record<Way, BlockEncoder>>
  beforeAll(async () => {
    tree = await path('tree')
    await makeTree(tree)
    truth = await listDirectory(tree)
    small = await path('small')
    await makeSmallTree(small)
    smallTruth = await listDirectory(small)
    pool = openPool()
    start = (await findMksquashfs())!.start
    const batch = batchEncoder(start, availableParallelism())
    encoders = { verbatim: poolEncoder(pool), pool: poolEncoder(pool), mksquashfs: batch }
  })
  afterAll(() => pool.close())

  const change = (how: Way) => (how === 'verbatim' ? undefined : withoutReuse)
  const again = (file: string, to: string, how: Way) => rewrite(file, to, encoders[how], change(how))
  // Nothing but mksquashfs compresses lzo here.
  const possible = (comp: string, how: Way): boolean => comp !== 'lzo' || how !== 'pool'

  it.each(
    WRITTEN.flatMap(comp => ['4K', '128K', '1M'].flatMap(size => WAYS.map(how => [comp, size, how] as const))).filter(
      ([comp, , how]) => possible(comp, how),
    ),
  )(
    '%s in blocks of %s, %s: unsquashfs reads the same tree, and a second writing gives the same bytes',
    async (...args) => {
      const [comp, size, how] = args
      const file = await makeImage(small, await path(args.join('-')), ['-comp', comp, '-b', size])
      const done = await again(file, `${file}.new`, how)
      if (how === 'verbatim') expect(done.encodedBlocks).toBe(0)
      else expect(done.verbatimBlocks).toBe(0)
      expect(await extracted(`${file}.new`)).toEqual(smallTruth)
      const { files, special } = await withSquashfs(`${file}.new`, listSquashfs)
      expect(files).toEqual(smallTruth)
      expect(special).toEqual(SPECIAL)
      await again(file, `${file}.again`, how)
      sameBytes(await readFile(`${file}.again`), await readFile(`${file}.new`))
    },
  )

  it.each(['pool', 'mksquashfs'] as const)('a block that %s is done with is not looked at any more', async how => {
    const { below, bytes: noise } = random()
    const given = Array.from({ length: 400 }, (_, n) => {
      const length = n % 2 ? 4096 : 1 + below(4096)
      return n % 3 ? new Uint8Array(length).fill(1 + (n % 100)) : noise(length)
    })
    const source = async function* (): AsyncGenerator<Uint8Array> {
      for (const block of given) yield block.slice()
    }
    let done = 0
    const onDone = (block: Uint8Array): void => {
      done++
      block.fill(0xee)
    }
    const settings = [GZIP.compressor, GZIP.blockSize, source(), undefined, onDone] as const
    let at = 0
    for await (const { bytes, compressed } of encoders[how](...settings))
      sameBytes(compressed ? inflateSync(bytes) : bytes, given[at++]!)
    expect(at).toBe(given.length)
    expect(done).toBeGreaterThan(given.length / 2)
  })

  it.each([
    ['stored as they are', FLAG.rawData],
    ['that do not get smaller', 0],
  ])('blocks %s take the same memory again', async (_, flags) => {
    const noise = random().bytes(4096)
    const memories = new Set<ArrayBufferLike>()
    const content: Device & PlacingDevice = {
      ...memory(new Uint8Array(0), 'noise'),
      size: 4096 * 300,
      read: async (_offset, length) => noise.slice(0, length),
      async readInto(_offset, target) {
        memories.add(target.buffer)
        target.set(noise.subarray(0, target.length))
      },
    }
    const root = directory({ noise: fileOf(content) })
    await writeSquashfs(sink(1e12), root, { ...GZIP, flags }, { encoder: encoders.pool, depth: 4 })
    expect(memories.size).toBeLessThan(40)
  })

  it.each([
    '-comp xz -b 64K -Xbcj x86,arm -Xdict-size 8K',
    '-comp gzip -Xcompression-level 3 -Xwindow-size 10 -Xstrategy filtered,huffman_only',
    '-comp zstd -Xcompression-level 3 -always-use-fragments -b 16K',
    '-comp lz4 -Xhc -no-fragments',
    '-comp lzo -Xalgorithm lzo1x_1_15',
    '-noI -noD -noF -noX -no-exports',
    '-noD -always-use-fragments -b 8K',
    '-noF -always-use-fragments -b 8K',
  ])('the whole tree as mksquashfs %s has it', async words => {
    const file = await makeImage(tree, await path(`whole${words.replace(/\W/g, '')}`), words.split(' '))
    const say = async (name: string): Promise<string> =>
      (await run('unsquashfs', ['-s', name])).stdout
        .replace(name, '')
        // Sizes, and numbers of fragments and of bytes in tables, are the writer's own.
        .replace(/^(Filesystem size|Number of fragments|\S+ table start).*$/gm, '')
    for (const how of ['verbatim', 'mksquashfs'] as const) {
      await again(file, `${file}.${how}`, how)
      expect(await extracted(`${file}.${how}`)).toEqual(truth)
      expect(await say(`${file}.${how}`)).toBe(await say(file))
    }
  })

  it('keeps the flags of the source, and no table that it has not', async () => {
    const args = ['-noI', '-noD', '-noF', '-noX', '-no-exports', '-no-xattrs', '-no-fragments']
    const file = await makeImage(tree, await path('flags'), args)
    await again(file, `${file}.new`, 'pool')
    const { stdout } = await run('unsquashfs', ['-s', `${file}.new`])
    for (const words of [
      'Data is uncompressed',
      'Inodes are uncompressed',
      'Xattrs are not stored',
      'Fragments are not stored',
      'Filesystem is not exportable',
    ])
      expect(stdout).toContain(words)
    await withSquashfs(`${file}.new`, async ({ superblock }) => {
      expect(superblock.xattr_id_table_start).toBeUndefined()
      expect(superblock.lookup_table_start).toBeUndefined()
    })
  })

  it('no xz block asks for a dictionary above that of the image', async () => {
    for (const [words, most] of [
      ['-comp xz -b 4K', 4096],
      ['-comp xz -b 128K', 131072],
      ['-comp xz -b 64K -Xdict-size 8K', 8192],
    ] as const)
      for (const how of ['pool', 'mksquashfs'] as const) {
        const file = await makeImage(small, await path(`dict-${how}${most}`), words.split(' '))
        await again(file, `${file}.new`, how)
        const bytes = await readFile(`${file}.new`)
        let blocks = 0
        for (let at = bytes.indexOf('\xfd7zXZ\0', 0, 'latin1'); at >= 0; blocks++) {
          // Stream header 12 bytes, block header: size, flags, then LZMA2 (0x21) with one byte of properties.
          const filter = bytes.indexOf(Buffer.of(0x21, 0x01), at + 14)
          expect(filter - at).toBeLessThan(32)
          const bits = bytes[filter + 2]!
          expect((2 | (bits & 1)) * 2 ** (Math.floor(bits / 2) + 11)).toBeLessThanOrEqual(most)
          at = bytes.indexOf('\xfd7zXZ\0', at + 1, 'latin1')
        }
        // the file's blocks and the tables
        expect(blocks).toBeGreaterThan(2)
      }
  })

  const NAME = '/LiveOS/rootfs.img'
  const cat = async (file: string): Promise<Uint8Array> =>
    (await run('unsquashfs', ['-cat', file, NAME.slice(1)], { encoding: 'buffer', maxBuffer: 1 << 24 })).stdout

  it.each([
    ['-always-use-fragments', 'touched'],
    ['-always-use-fragments', 'untouched'],
    ['-no-fragments', 'touched'],
    ['-no-fragments', 'untouched'],
  ])('takes untouched blocks over and merges the rest (%s, its end %s)', async (packing, end) => {
    const BLOCK = 16384
    const dir = await path(`mixed${packing}${end}`)
    await mkdir(`${dir}/LiveOS`, { recursive: true })
    const old = bytesOf(7, 300_001)
    old.fill(0, 3 * BLOCK, 5 * BLOCK)
    await writeFile(`${dir}${NAME}`, old)
    const file = await makeImage(dir, `${dir}.img`, ['-comp', 'xz', '-b', '16K', packing])
    const last = Math.floor(old.length / BLOCK)
    const now = old.slice()
    now.fill(0, 2 * BLOCK, 3 * BLOCK) // data becomes a hole
    now.set(bytesOf(49, 100), 4 * BLOCK) // a hole becomes data
    now.set(bytesOf(50, 100), 5 * BLOCK + 77) // changed; 9 is touched and stays as it was
    const touched = new Set([2, 4, 5, 9])
    if (end === 'touched') {
      touched.add(last)
      now.set(bytesOf(51, 9), old.length - 9)
    }
    let node: FileNode | undefined
    const done = await rewrite(file, `${file}.new`, encoders.mksquashfs, root =>
      mapFiles(root, plain => {
        node = {
          ...plain,
          // Bytes of untouched blocks are never asked for.
          content: { ...memory(now), read: (at, length) => readTouched(touched, BLOCK, now, at, length) },
          reuse: { ...plain.reuse!, changed: block => touched.has(block) },
        }
        return node
      }),
    )
    sameBytes(await cat(`${file}.new`), now)
    const written = done.data.files.get(node!)!
    const expected = Array.from({ length: written.from.length }, (_, block) =>
      block === 2 || block === 3 ? FROM.hole : block === 4 || block === 5 ? FROM.encoded : FROM.verbatim,
    )
    if (end === 'touched') expected[last] = FROM.encoded
    expect([...written.from]).toEqual(expected)
    expect(written.holeBytes).toBe(2 * BLOCK)
    // An end that stays in its old fragment is no block of the file.
    expect(written.from.length).toBe(packing === '-always-use-fragments' && end === 'untouched' ? last : last + 1)
    expect(done.layout.fragmentCount).toBe(packing === '-always-use-fragments' && end === 'untouched' ? 1 : 0)
  })

  it('a file that grew, and one that got shorter', async () => {
    const file = await makeImage(small, await path('sizes'), ['-comp', 'lz4', '-b', '4K', '-always-use-fragments'])
    for (const size of [50_000, 49_152, 45_056, 4095, 0, 50_002, 53_248, 70_000]) {
      const now = new Uint8Array(size)
      now.set(bytesOf(7, 50_001).subarray(0, size))
      const done = await rewrite(file, `${file}.new`, encoders.pool, root =>
        mapFiles(root, (plain, name) => (name === NAME ? { ...plain, content: memory(now) } : plain)),
      )
      sameBytes(await cat(`${file}.new`), now)
      if (size > 40_000) expect(done.verbatimBlocks).toBeGreaterThanOrEqual(11)
    }
  })

  it('an empty root, and a directory of more than 64 KiB that takes in numbers far apart', async () => {
    const out = await path('empty.img')
    const write = async (root: DirectoryNode, settings = GZIP): Promise<void> => {
      const device = await createFile(out)
      await writeSquashfs(device, root, settings, { encoder: encoders.pool })
      await device.close()
    }
    await write(directory({}))
    expect((await run('unsquashfs', ['-lls', out])).stdout.trim().split('\n').length).toBe(1)
    // One node under many names, between others: its number is far from its neighbours' in the same listing.
    const shared = fileOf(memory(Buffer.from('shared')))
    const names: Record<string, FileNode> = {}
    for (let n = 0; n < 40_000; n++)
      names[`name ${String(n).padStart(6, '0')}`] = n % 1000 === 999 ? shared : fileOf(memory(new Uint8Array(0)))
    names['a shared'] = shared
    await write(directory({ d: directory(names) }), { ...GZIP, flags: FLAG.exportable })
    const { stdout } = await run('unsquashfs', ['-lln', out], { maxBuffer: 1 << 26 })
    expect(stdout.trim().split('\n').length).toBe(40_003)
    expect((await run('unsquashfs', ['-cat', out, 'd/name 039999'])).stdout).toBe('shared')
    await withSquashfs(out, async fs => {
      expect((await fs.stat('/d/name 000999')).linkCount).toBe(41)
      expect((await fs.list('/d')).length).toBe(40_001)
    })
  })

  it('a file over 4 GiB, nearly all holes', async () => {
    const size = 5 * 2 ** 30 + 3
    const parts = [{ length: size - 3 }, { length: 3, device: memory(Buffer.from('end')), deviceOffset: 0 }]
    const to = await path('big.img')
    const out = await createFile(to)
    const settings = { ...GZIP, blockSize: 1 << 20 }
    const root = directory({ big: fileOf(linear(parts, 'big')) })
    await writeSquashfs(out, root, settings, { encoder: encoders.pool })
    await out.close()
    expect((await stat(to)).size).toBeLessThan(100_000)
    expect((await run('unsquashfs', ['-lln', to])).stdout).toContain(String(size))
    await withSquashfs(to, async fs =>
      expect(Buffer.from(await (await fs.open('/big')).read(size - 3, 3)).toString()).toBe('end'),
    )
  })

  // A temporary folder of its own: what other runs left, or are at work in, says nothing about this one.
  let own: string
  const before = process.env.TMPDIR
  beforeAll(async () => {
    own = await path('own-tmp')
    await mkdir(own)
    process.env.TMPDIR = own
  })
  afterAll(() => {
    if (before === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = before
  })
  const leftovers = () => readdir(own)
  const children = async (): Promise<number> =>
    (await run('ps', ['--ppid', String(process.pid), '-o', 'comm='])).stdout
      .split('\n')
      .filter(name => name.startsWith('mksquashfs')).length
  // Blocks that take long to compress, and far more of them than are under way at a time.
  let taken = 0
  const long = (read?: (at: number) => Promise<void>): DirectoryNode => {
    taken = 0
    const noise = random(9).bytes(1 << 20)
    const content: Device = {
      ...memory(new Uint8Array(0)),
      size: 400 << 20,
      read: async (at, length) => {
        taken += length
        await read?.(at)
        return noise.slice(0, length)
      },
    }
    return directory({ big: fileOf(content) })
  }
  const XZ: SquashSettings = {
    ...GZIP,
    blockSize: 1 << 18,
    compressor: { name: 'xz', dictionarySize: 1 << 18, filters: 0 },
  }
  const soon = async (work: Promise<unknown>, code: LiveError['code']): Promise<void> => {
    await failure(work, code)
    // A clock would tell how busy this computer is.
    expect(taken).toBeLessThan(100 << 20)
    expect(await leftovers()).toEqual([])
    expect(await children()).toBe(0)
  }

  it.each(['pool', 'mksquashfs'] as const)('a full output ends the writing by %s at once', async how => {
    const encoder = encoders[how]
    await soon(writeSquashfs(sink(0), long(), XZ, { encoder }), 'NO_SPACE')
    // An image that is taken over in part: the output is full while a batch is still being compressed.
    const file = await makeImage(small, await path(`full-${how}`), ['-b', '4K', '-comp', 'gzip', '-noD', '-noF'])
    await withSquashfs(file, async fs => {
      const root = await readTree(fs)
      const both: DirectoryNode = { ...root, entries: [...root.entries, ...long().entries] }
      await soon(writeSquashfs(sink(20_000), both, settingsOf(fs), { encoder }), 'NO_SPACE')
    })
  })

  it.each(['pool', 'mksquashfs'] as const)(
    'a source that can not be read ends the writing by %s at once',
    async how => {
      for (const place of [0, 3 << 20, 90 << 20]) {
        if (place === 90 << 20 && how === 'pool') continue
        const broken = long(async at => {
          if (at >= place) throw new LiveError('IO', 'the source is gone')
        })
        // Fast blocks, so that a second batch is begun before the source fails.
        const settings: SquashSettings = { ...XZ, compressor: { name: 'lz4', highCompression: false } }
        await soon(writeSquashfs(sink(1e12), broken, settings, { encoder: encoders[how] }), 'IO')
      }
    },
  )

  it.each(['pool', 'mksquashfs'] as const)('a stop ends the writing by %s at once', async how => {
    for (const reads of [0, 1, 5, 40]) {
      const stop = new AbortController()
      let count = 0
      const root = long(async () => {
        if (count++ === reads) stop.abort()
      })
      const { signal } = stop
      await soon(writeSquashfs(sink(1e12), root, XZ, { encoder: encoders[how], signal }), 'CANCELLED')
    }
    const signal = AbortSignal.abort()
    await soon(writeSquashfs(sink(1e12), long(), XZ, { encoder: encoders[how], signal }), 'CANCELLED')
  })

  it('nothing is still being written when it has failed', async () => {
    let underWay = 0
    const slow = sink(1e12, async () => {
      underWay++
      await new Promise(resolve => setTimeout(resolve, 200))
      underWay--
    })
    const broken = long(async at => {
      if (at >= 8 << 20) throw new LiveError('IO', 'the source is gone')
    })
    const settings: SquashSettings = { ...XZ, compressor: { name: 'lz4', highCompression: false } }
    await failure(writeSquashfs(slow, broken, settings, { encoder: encoders.pool }), 'IO')
    expect(underWay).toBe(0)
  })

  it('an encoder that fails, in the middle or at the start, ends the writing with its own words', async () => {
    for (const good of [0, 3]) {
      const failing: BlockEncoder = async function* (_compressor, _blockSize, blocks) {
        let count = 0
        for await (const bytes of blocks) {
          if (count++ === good) throw new LiveError('IO', 'a compression worker died')
          yield { bytes, compressed: false }
        }
      }
      const error = await failure(writeSquashfs(sink(1e12), long(), XZ, { encoder: failing }), 'IO')
      expect(error.message).toContain('worker died')
    }
  })

  it('holds no more of a source than it works on, also where blocks stay as they are', async () => {
    for (const flags of [FLAG.rawData | FLAG.rawFragments, 0]) {
      let read = 0
      let written = 0
      let most = 0
      const root = long(async () => {
        read += XZ.blockSize
        most = Math.max(most, read - written)
      })
      const out: WritableDevice = {
        ...sink(1e12),
        write: async (_, bytes) => {
          await new Promise(resolve => setTimeout(resolve, 1))
          written += bytes.length
        },
      }
      const settings: SquashSettings = { ...XZ, flags, compressor: { name: 'lz4', highCompression: false } }
      await writeSquashfs(out, root, settings, { encoder: encoders.pool })
      expect(most).toBeLessThan(64 << 20)
    }
  })

  needLoopMount().describe("this computer's kernel mounts", () => {
    it.each(
      WRITTEN.flatMap(comp => WAYS.map(how => [comp, how] as const)).filter(([comp, how]) => possible(comp, how)),
    )('%s written by %s, and shows the same tree', async (comp, how) => {
      for (const size of ['4K', '128K', '1M']) {
        const file = await makeImage(small, await path(`mount-${comp}${how}${size}`), ['-comp', comp, '-b', size])
        await again(file, `${file}.new`, how)
        const { files, special } = await mounted(`${file}.new`)
        expect(files).toEqual(smallTruth)
        expect(special).toEqual(SPECIAL)
      }
    })

    it.each(['-comp xz -b 64K -Xbcj x86 -Xdict-size 8K', '-comp zstd -always-use-fragments', '-noI -noD -noF -noX'])(
      'the whole tree with %s',
      async words => {
        const file = await makeImage(tree, await path(`mount${words.replace(/\W/g, '')}`), words.split(' '))
        await again(file, `${file}.new`, 'mksquashfs')
        expect((await mounted(`${file}.new`)).files).toEqual(truth)
      },
    )
  })

  const SHOW = `
set -euo pipefail
mkdir -p image
for disk in $DISKS; do
  mount -t squashfs -o ro "$disk" image
  (cd image && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum)
  umount image
done
`
  needKernel().it('a kernel of its own mounts and reads what we write with each compressor', async () => {
    const disks: { path: string; readOnly: boolean }[] = []
    for (const [comp, how, ...args] of [
      ['gzip', 'pool', '-b', '4K'],
      ['xz', 'pool', '-b', '16K'],
      ['xz', 'mksquashfs', '-b', '1M', '-Xbcj', 'x86', '-Xdict-size', '128K'],
      ['zstd', 'pool', '-b', '1M'],
      ['lz4', 'mksquashfs', '-b', '128K'],
      ['lzo', 'verbatim', '-b', '128K'],
      ['lzo', 'mksquashfs', '-b', '4K'],
    ] as const) {
      const file = await makeImage(tree, await path(`kernel-${comp}-${how}`), ['-comp', comp, ...args])
      await again(file, `${file}.new`, how)
      disks.push({ path: `${file}.new`, readOnly: true })
    }
    const count = 'find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum'
    const { stdout } = await run('bash', ['-c', count], { cwd: tree })
    const scratch = await path('kernel')
    await mkdir(scratch)
    const { rc, log } = await runInKernel({ script: SHOW, scratch, disks })
    expect(rc, log).toBe(0)
    expect(log).toBe(stdout.repeat(disks.length))
    for (const { path: name } of disks) await rm(name)
  })
})

/** Reads of touched blocks; any other read is a failure of the test. */
const readTouched = async (
  touched: ReadonlySet<number>,
  block: number,
  bytes: Uint8Array,
  offset: number,
  length: number,
): Promise<Uint8Array> => {
  for (let at = offset; at < offset + length; at += block)
    if (!touched.has(Math.floor(at / block))) throw new LiveError('IO', `block ${Math.floor(at / block)} is untouched`)
  return bytes.slice(offset, offset + length)
}

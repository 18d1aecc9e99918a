import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect } from 'vitest'
import type { Compressor, CompressorName } from '../../src/bytes/codec.js'
import { CodecError, decodeBlock, encodeBlock, loadCodec } from '../../src/bytes/codecs.js'
import { loadXz } from '../../src/bytes/xz.js'
import { loadZstd } from '../../src/bytes/zstd.js'
import { needTools, tool } from '../support/tools.js'
import { sample } from '../unit/bytes/samples.js'

const NAMES: readonly CompressorName[] = ['gzip', 'lzma', 'lzo', 'xz', 'lz4', 'zstd']
const BLOCK_SIZES = [4096, 131072, 2 ** 20]

let folder: string
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'liveos-codecs-'))
  for (const name of NAMES) await loadCodec(name)
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const run = (name: string, args: readonly string[]): Buffer =>
  execFileSync(tool(name)!, args, { maxBuffer: 2 ** 28, stdio: ['ignore', 'pipe', 'pipe'] })

/** What every compressor can make smaller: noise that comes again, between lines of text. */
const content = (length: number, seed: number): Uint8Array => {
  const bytes = sample(length, seed)
  for (let at = 0; at + 1024 <= length; at += 2048) {
    const lines = Array.from({ length: 64 }, (_, i) => `line ${at + i} of ${length}\n`).join('')
    bytes.set(Buffer.from(lines).subarray(0, 1024), at)
  }
  return bytes
}

/** An image of one file, with plain inodes, and where its blocks and their entries in the inode lie. */
interface Image {
  readonly bytes: Buffer
  readonly blockSize: number
  readonly blocks: readonly { readonly start: number; readonly entryAt: number; readonly length: number }[]
  /** offset of the inode's start_block */
  readonly startAt: number
}

/** Has mksquashfs make an image of one file. */
const build = (file: Uint8Array, blockSize: number, options: readonly string[]): Image => {
  const source = join(folder, 'source')
  const path = join(folder, 'image')
  mkdirSync(source, { recursive: true })
  writeFileSync(join(source, 'file'), file)
  rmSync(path, { force: true })
  const fixed = ['-noI', '-no-fragments', '-no-xattrs', '-no-progress', '-quiet', '-all-root']
  run('mksquashfs', [source, path, '-b', String(blockSize), ...fixed, ...options])
  const bytes = readFileSync(path)
  // struct squashfs_reg_inode, the first inode of the first metadata block, which is stored as it is
  const inode = Number(bytes.readBigUInt64LE(64)) + 2
  expect(bytes.readUInt16LE(inode)).toBe(2)
  let start = bytes.readUInt32LE(inode + 16)
  const blocks = Array.from({ length: Math.ceil(file.length / blockSize) }, (_, i) => {
    const entryAt = inode + 32 + 4 * i
    const length = bytes.readUInt32LE(entryAt)
    expect(length & 0x1000000).toBe(0)
    start += length
    return { start: start - length, entryAt, length }
  })
  return { bytes, blockSize, blocks, startAt: inode + 16 }
}

/** Puts other blocks behind the image and lets the inode name them; the tables stay where the superblock says. */
const replaceBlocks = (image: Image, blocks: readonly Uint8Array[]): Buffer => {
  const bytes = Buffer.concat([image.bytes, ...blocks])
  bytes.writeUInt32LE(image.bytes.length, image.startAt)
  for (const [i, { entryAt }] of image.blocks.entries()) bytes.writeUInt32LE(blocks[i]!.length, entryAt)
  return bytes
}

const squashfs = needTools('mksquashfs', 'unsquashfs')

/** mksquashfs's ways to make blocks; a way that this mksquashfs lacks would fail the test. */
const MAKERS: readonly [CompressorName, ...string[]][] = [
  ...NAMES.map((name): [CompressorName] => [name]),
  ['gzip', '-Xcompression-level', '1', '-Xwindow-size', '8', '-Xstrategy', 'default,huffman_only,run_length_encoded'],
  ['xz', '-Xbcj', 'x86,arm,armthumb,powerpc,sparc,ia64'],
  ['lz4', '-Xhc'],
  ['lzo', '-Xalgorithm', 'lzo1x_1'],
  ['lzo', '-Xalgorithm', 'lzo1x_1_15'],
  ['zstd', '-Xcompression-level', '22'],
]

for (const [name, ...options] of MAKERS)
  for (const blockSize of BLOCK_SIZES)
    squashfs.it(`reads mksquashfs -comp ${[name, ...options].join(' ')} -b ${blockSize}`, () => {
      const file = content(blockSize * 2.5, 3)
      const { bytes, blocks } = build(file, blockSize, ['-comp', name, ...options])
      for (const [i, { start, length }] of blocks.entries()) {
        const expected = file.subarray(i * blockSize, (i + 1) * blockSize)
        const block = bytes.subarray(start, start + length)
        expect(Buffer.compare(decodeBlock(name, block, blockSize), expected)).toBe(0)
        expect(Buffer.compare(decodeBlock(name, block, expected.length), expected)).toBe(0)
        expect(() => decodeBlock(name, block, expected.length - 1)).toThrow(CodecError)
      }
    })

/** Settings, and the options that make mksquashfs write the same ones. */
const settingsOf = (blockSize: number): readonly [Compressor, ...string[]][] => [
  [{ name: 'gzip', level: 9, windowBits: 15, strategies: 0 }],
  [{ name: 'gzip', level: 6, windowBits: 12, strategies: 31 }, '-Xcompression-level', '6'],
  [{ name: 'xz', dictionarySize: blockSize, filters: 0 }],
  [{ name: 'xz', dictionarySize: blockSize, filters: 63 }, '-Xbcj', 'x86'],
  [{ name: 'lz4', highCompression: false }],
  [{ name: 'zstd', level: 15 }],
]

for (const blockSize of BLOCK_SIZES)
  for (const [compressor, ...options] of settingsOf(blockSize))
    squashfs.it(`unsquashfs reads ${JSON.stringify(compressor)} with blocks of ${blockSize}`, () => {
      const file = content(blockSize * 2.5, 7)
      const image = build(file, blockSize, ['-comp', compressor.name, ...options])
      const ours = image.blocks.map(
        (_, i) => encodeBlock(compressor, file.subarray(i * blockSize, (i + 1) * blockSize), blockSize)!,
      )
      const path = join(folder, 'ours')
      writeFileSync(path, replaceBlocks(image, ours))
      expect(Buffer.compare(run('unsquashfs', ['-cat', path, 'file']), file)).toBe(0)
      // as small as theirs, but for another encoder's choices
      const size = (blocks: readonly { length: number }[]): number =>
        blocks.reduce((sum, { length }) => sum + length, 0)
      if (compressor.name !== 'gzip' || options.length === 0)
        expect(size(ours)).toBeLessThan(size(image.blocks) * 1.04 + 64)
    })

for (const wasmOnly of [false, true])
  needTools('xz').it(`xz agrees about size, check and dictionary (wasm only: ${wasmOnly})`, async () => {
    const codec = await loadXz({ wasmOnly })
    for (const [blockSize, dictionarySize, words] of [
      [131072, 131072, 'dict=128KiB'],
      [131072, 8192, 'dict=8KiB'],
      [2 ** 20, 2 ** 20, 'dict=1MiB'],
      [2 ** 20, 98304, 'dict=96KiB'],
    ] as const) {
      const bytes = sample(blockSize)
      const path = join(folder, 'block.xz')
      writeFileSync(path, codec.encode!({ name: 'xz', dictionarySize, filters: 0 }, bytes, blockSize)!)
      const list = run('xz', ['--list', '-vv', path]).toString()
      expect(list).toMatch(new RegExp(`--lzma2=${words}\\b`))
      expect(list).toContain('CRC32')
      expect(Buffer.compare(run('xz', ['-dc', path]), bytes)).toBe(0)
    }
  })

needTools('zstd').it('zstd reads what WebAssembly writes', async () => {
  const codec = await loadZstd({ wasm: true })
  for (const level of [1, 15, 22]) {
    const bytes = sample(300_000, level)
    const path = join(folder, 'block.zst')
    writeFileSync(path, codec.encode!({ name: 'zstd', level }, bytes, 2 ** 20)!)
    expect(Buffer.compare(run('zstd', ['-dc', path]), bytes)).toBe(0)
  }
})

import type { Compressor, CompressorName } from '../../bytes/codec.js'
import { corrupt } from '../../error.js'

/*
 * Compressor options: one metadata block, stored as it is, right behind the superblock.
 *
 *   gzip  i32 level · i16 window · i16 strategies       xz    i32 dictionary · i32 filters
 *   lzo   i32 algorithm · i32 level                     lz4   i32 version (1) · i32 flags (1: high compression)
 *   zstd  i32 level                                     lzma  none
 */

/** What mksquashfs uses when nothing is said. */
export const defaultCompressor = (name: CompressorName, blockSize: number): Compressor => {
  switch (name) {
    case 'gzip':
      return { name, level: 9, windowBits: 15, strategies: 0 }
    case 'xz':
      return { name, dictionarySize: blockSize, filters: 0 }
    case 'lzo':
      return { name, algorithm: 4, level: 8 }
    case 'lz4':
      return { name, highCompression: false }
    case 'zstd':
      return { name, level: 15 }
    case 'lzma':
      return { name }
  }
}

/** Bytes of each compressor's options; lzma has none. */
export const optionsSize = (name: CompressorName): number =>
  ({ gzip: 8, xz: 8, lzo: 8, lz4: 8, zstd: 4, lzma: 0 })[name]

/**
 * Reads the options of a compressor.
 *
 * @param offset  byte in the image where `bytes` stand, for messages
 * @throws CORRUPT  a value that mksquashfs can't have written
 * @see squashfs-tools, the `*_comp_opts` structures of each wrapper
 */
export const parseOptions = (
  name: CompressorName,
  bytes: Uint8Array,
  blockSize: number,
  device: string,
  offset: number,
): Compressor => {
  const bad = (field: string, expected: string, found: number) =>
    corrupt({ device, offset, field: `${name} ${field}`, expected, found })
  const size = optionsSize(name)
  if (bytes.length !== size) throw bad('options', `${size} bytes`, bytes.length)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const first = size === 0 ? 0 : view.getInt32(0, true)
  const inRange = (field: string, value: number, low: number, high: number): number => {
    if (value < low || value > high) throw bad(field, `${low} to ${high}`, value)
    return value
  }
  switch (name) {
    case 'gzip':
      return {
        name,
        level: inRange('level', first, 1, 9),
        windowBits: inRange('window', view.getInt16(4, true), 8, 15),
        strategies: inRange('strategies', view.getInt16(6, true), 0, 31),
      }
    case 'xz': {
      inRange('dictionary', first, 4096, Math.max(blockSize, 8192))
      // the kernel takes 2^n and 2^n + 2^(n+1), nothing else
      const top = 2 ** Math.floor(Math.log2(first))
      if (first !== top && first !== top + top / 2) throw bad('dictionary', '2^n or 2^n + 2^(n-1)', first)
      return { name, dictionarySize: first, filters: inRange('filters', view.getInt32(4, true), 0, 63) }
    }
    case 'lzo':
      return {
        name,
        algorithm: inRange('algorithm', first, 0, 4),
        level: inRange('level', view.getInt32(4, true), 0, 9),
      }
    case 'lz4':
      inRange('version', first, 1, 1)
      return { name, highCompression: (view.getInt32(4, true) & 1) !== 0 }
    case 'zstd':
      return { name, level: inRange('level', first, 1, 22) }
    case 'lzma':
      return { name }
  }
}

/** The option block of a compressor; undefined where the defaults go without saying (lz4 always says its version). */
export const encodeOptions = (compressor: Compressor, blockSize: number): Uint8Array | undefined => {
  const bytes = new Uint8Array(optionsSize(compressor.name))
  const view = new DataView(bytes.buffer)
  switch (compressor.name) {
    case 'gzip':
      view.setInt32(0, compressor.level, true)
      view.setInt16(4, compressor.windowBits, true)
      view.setInt16(6, compressor.strategies, true)
      break
    case 'xz':
      view.setInt32(0, compressor.dictionarySize, true)
      view.setInt32(4, compressor.filters, true)
      break
    case 'lzo':
      view.setInt32(0, compressor.algorithm, true)
      view.setInt32(4, compressor.level, true)
      break
    case 'lz4':
      view.setInt32(0, 1, true)
      view.setInt32(4, compressor.highCompression ? 1 : 0, true)
      return bytes
    case 'zstd':
      view.setInt32(0, compressor.level, true)
      break
    case 'lzma':
      return undefined
  }
  const plain = defaultCompressor(compressor.name, blockSize)
  return JSON.stringify(plain) === JSON.stringify(compressor) ? undefined : bytes
}

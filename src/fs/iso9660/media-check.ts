import { createHash } from 'node:crypto'
import type { Device } from '../../block/device.js'
import { APPLICATION_DATA, SECTOR } from './layout.js'
import { readVolume } from './volume.js'

/*
 * implantisomd5 writes into the primary descriptor's application data:
 *
 *   ISO MD5SUM = 32 digits;SKIPSECTORS = n;RHLISOSTATUS=0 or 1;FRAGMENT SUMS = 60 digits;FRAGMENT COUNT = n;...
 *
 * The sum is of all bytes up to the volume's size (its big-endian number) less the skipped sectors, with blanks in place
 * of the application data. Of the sum's state after the piece of 32 KiB that enters each further of count + 1 fragments,
 * the first digits of the first bytes (without leading zeros) are that fragment's sum.
 */

const FRAGMENT_DIGITS = 60
/** what isomd5sum reads at a time, on which the fragments' sums depend */
const PIECE = 32_768

/** The sums that implantisomd5 left in an image. */
export interface IsoMd5 {
  /** 32 hexadecimal digits */
  readonly md5: string
  /** sectors of 2048 bytes at the volume's end that are not summed */
  readonly skipSectors: number
  /** bytes that are summed */
  readonly size: number
  /** true where the image was made to be checked at its start (RHLISOSTATUS=1) */
  readonly supported: boolean
  /** digits for each fragment but the last; empty where there are none */
  readonly fragmentSums: readonly string[]
  /** byte offset on the device of the application data */
  readonly offset: number
}

const numberOf = (text: string, name: string): number | undefined => {
  const found = new RegExp(`${name} ?= ?(\\d{1,9});`).exec(text)
  return found ? Number(found[1]) : undefined
}

/**
 * Reads the implanted sums; undefined where there are none, or none that could be of this image.
 *
 * @throws CORRUPT, UNSUPPORTED, IO  it is no ISO 9660 image
 * @see isomd5sum src/utilities.c, parsepvd
 */
export const readIsoMd5 = async (device: Device): Promise<IsoMd5 | undefined> => {
  const { primary, primaryBytes } = await readVolume(device)
  const { offset, length } = APPLICATION_DATA
  const text = Buffer.from(primaryBytes.subarray(offset, offset + length)).toString('latin1')
  const md5 = /ISO MD5SUM = ([0-9a-f]{32})/.exec(text)?.[1]
  const skipSectors = numberOf(text, 'SKIPSECTORS')
  if (md5 === undefined || skipSectors === undefined) return undefined
  const size = (primary.volume_space_size_be - skipSectors) * SECTOR
  if (size < 0) return undefined
  const digits = /FRAGMENT SUMS = ([0-9a-f]{60})/.exec(text)?.[1] ?? ''
  const count = numberOf(text, 'FRAGMENT COUNT') ?? 0
  const each = count > 0 ? Math.floor(FRAGMENT_DIGITS / count) : 0
  return {
    md5,
    skipSectors,
    size,
    supported: /RHLISOSTATUS=1/.test(text),
    fragmentSums:
      digits === '' || each === 0
        ? []
        : Array.from({ length: count }, (_, n) => digits.slice(n * each, (n + 1) * each)),
    offset: primary.offset + offset,
  }
}

/** What checking an image against its sums found. */
export interface IsoMd5Result {
  readonly ok: boolean
  /** the implanted sum */
  readonly expected: string
  /** the sum of what is there */
  readonly found: string
  /** bytes that were summed */
  readonly checked: number
  /** bytes that should be summed and are not on the device: it was cut short */
  readonly missing: number
  /** where the damage starts, as far as the fragments tell: in these bytes, or behind all of them */
  readonly damage: { readonly offset: number; readonly length: number } | undefined
}

export interface IsoMd5Options {
  readonly signal?: AbortSignal
  /** called with the bytes done and to do */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void
}

const PIECES_AT_ONCE = 32

/**
 * Sums an image as checkisomd5 does, in memory that doesn't grow with it. Only the whole sum decides; where it is wrong,
 * the fragments tell about where.
 *
 * @throws IO
 * @throws  the signal's reason
 * @see isomd5sum src/libcheckisomd5.c
 */
export const checkIsoMd5 = async (
  device: Device,
  sums: IsoMd5,
  { signal, onProgress }: IsoMd5Options = {},
): Promise<IsoMd5Result> => {
  const hash = createHash('md5')
  const end = Math.min(sums.size, device.size)
  const fragmentSize = Math.floor(sums.size / (sums.fragmentSums.length + 1))
  let fragment = 0
  let good = 0
  let bad: number | undefined
  const step = PIECE * PIECES_AT_ONCE
  for (let offset = 0; offset < end; offset += step) {
    signal?.throwIfAborted()
    const bytes = await device.read(offset, Math.min(step, end - offset))
    blank(bytes, sums.offset - offset)
    for (let at = 0; at < bytes.length; at += PIECE) {
      const piece = bytes.subarray(at, at + PIECE)
      hash.update(piece)
      const entered = fragmentSize > 0 ? Math.floor((offset + at) / fragmentSize) : 0
      const sum = sums.fragmentSums[entered - 1]
      if (entered === fragment || sum === undefined || bad !== undefined) continue
      fragment = entered
      const digest = hash.copy().digest()
      const upTo = offset + at + piece.length
      if ([...sum].slice(0, digest.length).every((digit, n) => digest[n]!.toString(16)[0] === digit)) good = upTo
      else bad = upTo
    }
    onProgress?.(offset + bytes.length, sums.size)
  }
  const found = hash.digest('hex')
  const ok = found === sums.md5 && end === sums.size
  return {
    ok,
    expected: sums.md5,
    found,
    checked: end,
    missing: sums.size - end,
    damage: ok ? undefined : { offset: good, length: (bad ?? sums.size) - good },
  }
}

/** Puts blanks over the application data, which starts `from` bytes behind the first of these (before it where negative). */
const blank = (bytes: Uint8Array, from: number): void => {
  const end = Math.min(bytes.length, from + APPLICATION_DATA.length)
  if (end > 0 && from < bytes.length) bytes.fill(0x20, Math.max(0, from), end)
}

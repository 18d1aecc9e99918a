import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { byteReader } from '../../../src/bytes/byte-reader.js'
import { cpioMembers, parseCpioHeader } from '../../../src/bytes/cpio.js'
import { isLiveError } from '../../../src/error.js'
import { type CpioPart, cpioOf } from '../../support/cpio.js'

async function* cut(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

const listed = async (bytes: Uint8Array, chunk = 7, limit = 1000): Promise<string[]> => {
  const found: string[] = []
  for await (const member of cpioMembers(byteReader(cut(bytes, chunk), 'initrd')))
    found.push(`${Buffer.from(member.path)} ${member.kind} ${member.size} ${Buffer.from(await member.read(limit))}`)
  return found
}

const fails = async (bytes: Uint8Array): Promise<string> => {
  try {
    await listed(bytes)
  } catch (error) {
    if (isLiveError(error) && error.code === 'CORRUPT') return String(error.data.field)
    throw error
  }
  return 'nothing'
}

const PARTS: readonly CpioPart[] = [
  { path: '.', mode: 0o40755 },
  { path: './etc/a', content: 'hello' },
  { path: '/bin/sh', mode: 0o120777, content: 'dash' },
  { path: 'dev/null', mode: 0o20666 },
]

describe('cpioMembers', () => {
  it.each([1, 3, 110, 4096])('gives the members of an archive that comes in chunks of %d bytes', async chunk => {
    expect(await listed(cpioOf(...PARTS), chunk)).toEqual([
      '. directory 0 ',
      'etc/a file 5 hello',
      'bin/sh symlink 4 dash',
      'dev/null character 0 ',
    ])
  })

  it('stands behind the trailer, so that another archive can follow', async () => {
    const from = byteReader(cut(Buffer.concat([cpioOf(PARTS[1]!), Buffer.from('next')]), 5), 'initrd')
    for await (const member of cpioMembers(from)) expect(member.size).toBe(5)
    expect(Buffer.from(await from.take(4, 'rest')).toString()).toBe('next')
  })

  it('passes over what nobody reads, and gives no more than was asked for', async () => {
    expect(await listed(cpioOf({ path: 'a', content: 'abcdefgh' }, { path: 'b', content: 'x' }), 7, 3)).toEqual([
      'a file 8 abc',
      'b file 1 x',
    ])
  })

  it('checks the sum of 070702, also of content that nobody reads', async () => {
    const sum = (text: string): number => Buffer.from(text).reduce((all, byte) => all + byte, 0)
    expect(await listed(cpioOf({ path: 'a', content: 'abc', checksum: sum('abc') }))).toEqual(['a file 3 abc'])
    expect(await fails(cpioOf({ path: 'a', content: 'abc', checksum: sum('abd') }))).toBe('c_chksum')
    const from = byteReader(cut(cpioOf({ path: 'a', content: 'abc', checksum: 1 }), 9), 'initrd')
    await expect(drain(cpioMembers(from))).rejects.toThrow(/c_chksum/)
  })

  it.each([
    ['a magic of another format', [[0, '070707']], 'c_magic'],
    ['a letter among digits', [[54, '0000000g']], 'c_filesize'],
    ['a sign', [[54, '+0000001']], 'c_filesize'],
    ['a name of no bytes', [[94, '00000000']], 'c_namesize'],
    ['a name beyond PATH_MAX', [[94, '00001001']], 'c_namesize'],
    ['a content beyond the end', [[54, 'ffffffff']], 'content'],
  ] as const)('refuses %s', async (_, spoil, field) => {
    expect(await fails(cpioOf({ path: 'a', content: 'abc', spoil }))).toBe(field)
  })

  it('refuses names that lead out, and takes those that are filled up with NULs', async () => {
    expect(await fails(cpioOf({ path: 'a/../../b' }))).toBe('name')
    expect(await fails(cpioOf({ path: 'a\0b' }))).toBe('name')
    expect(await listed(cpioOf({ path: 'a\0\0\0', content: 'x' }))).toEqual(['a file 1 x'])
  })

  it('refuses an archive that is cut anywhere', async () => {
    const whole = cpioOf(...PARTS)
    // the trailer needs no padding behind its name
    for (let length = 0; length < whole.length - 3; length++)
      expect(await fails(whole.subarray(0, length)), `cut at ${length}`).not.toBe('nothing')
  })

  it('ends with a value or CORRUPT whatever the bytes are', async () => {
    const whole = cpioOf(...PARTS)
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 4 }), async changes => {
        const bytes = Buffer.from(whole)
        for (const [at, value] of changes) bytes[at] = value
        await fails(bytes)
      }),
      { numRuns: 300 },
    )
  })
})

const drain = async (all: AsyncIterable<unknown>): Promise<void> => {
  for await (const _ of all) void _
}

it('parseCpioHeader names the byte that is wrong', () => {
  expect(() => parseCpioHeader(Buffer.alloc(5), { device: 'x', base: 100 })).toThrow(/header at byte 100/)
  expect(() => parseCpioHeader(Buffer.from('070701'.padEnd(110, 'z')), { device: 'x', base: 100 })).toThrow(
    /c_ino at byte 106/,
  )
})

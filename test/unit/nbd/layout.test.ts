import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isLiveError } from '../../../src/error.js'
import {
  encodeExportName,
  encodeGreeting,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeInfoRequest,
  encodeMetaContext,
  encodeMetaRequest,
  encodeOption,
  encodeOptionReply,
  parseGreeting,
  parseInfoRequest,
  parseMetaRequest,
  parseOption,
  parseOptionReply,
  parseText,
} from '../../../src/nbd/option-layout.js'
import {
  encodeDataChunk,
  encodeErrorChunk,
  encodeHoleChunk,
  encodeNoneChunk,
  encodeRequest,
  encodeSimpleReply,
  encodeStatusChunk,
  parseRequest,
} from '../../../src/nbd/request-layout.js'
import { hex } from '../../support/nbd-peer.js'

// Bytes as the protocol's document draws them, written out by hand.
describe('bytes of the handshake', () => {
  it('greets as fixed newstyle without zeroes', () => {
    expect(encodeGreeting()).toEqual(hex('4e42444d41474943 49484156454f5054 0003'))
    expect(parseGreeting(hex('4e42444d41474943 49484156454f5054 0001'))).toBe(1)
  })

  it('knows the old style by its magic and refuses it', () => {
    expect(() => parseGreeting(hex('4e42444d41474943 0000420281861253 0000'))).toThrow('IHAVEOPT')
    expect(() => parseGreeting(hex('4e42444d41474944 49484156454f5054 0003'))).toThrow('NBDMAGIC')
  })

  it('options and their replies', () => {
    expect(encodeOption(7, hex('aabb'))).toEqual(hex('49484156454f5054 00000007 00000002 aabb'))
    expect(parseOption(hex('49484156454f5054 00000006 00010000'))).toEqual({ option: 6, length: 65536 })
    expect(() => parseOption(hex('49484156454f5055 00000006 00000000'))).toThrow('option magic')
    expect(encodeOptionReply(3, 2, hex('01'))).toEqual(hex('0003e889045565a9 00000003 00000002 00000001 01'))
    expect(parseOptionReply(hex('0003e889045565a9 00000003 80000001 00000000'))).toEqual({
      option: 3,
      type: 2 ** 31 + 1,
      length: 0,
    })
  })

  it('what an export is', () => {
    expect(encodeInfoExport(2 ** 40 + 512, 0x103)).toEqual(hex('0000 0000010000000200 0103'))
    expect(encodeInfoBlockSize(1, 4096, 32 << 20)).toEqual(hex('0003 00000001 00001000 02000000'))
    expect(encodeExportName(512, 3, true)).toEqual(hex('0000000000000200 0003'))
    expect(encodeExportName(512, 3, false)).toHaveLength(134)
    expect(encodeMetaContext(1, 'base:allocation')).toEqual(
      Buffer.concat([hex('00000001'), Buffer.from('base:allocation')]),
    )
  })

  it('requests for information', () => {
    expect(parseInfoRequest(hex('00000002 6162 0002 0000 0003'))).toEqual({ name: 'ab', wanted: [0, 3] })
    expect(encodeInfoRequest('ab', [0, 3])).toEqual(hex('00000002 6162 0002 0000 0003'))
    for (const bad of [
      '',
      '00000000',
      '00000003 6162 0000',
      'ffffffff 6162 0000',
      '00000002 6162 0002 0000',
      '00000002 6162 0000 00',
      '00000001 ff 0000',
    ])
      expect(parseInfoRequest(hex(bad)), bad).toBeUndefined()
  })

  it('requests for contexts', () => {
    expect(parseMetaRequest(hex('00000000 00000001 00000002 613a'))).toEqual({ name: '', queries: ['a:'] })
    expect(encodeMetaRequest('', ['a:'])).toEqual(hex('00000000 00000001 00000002 613a'))
    for (const bad of [
      '',
      '00000000',
      '00000000 ffffffff',
      '00000000 00000001 00000003 613a',
      '00000000 00000001 00000001 613a',
      '00000000 00000001 00000001 ff',
    ])
      expect(parseMetaRequest(hex(bad)), bad).toBeUndefined()
  })

  it('names are UTF-8 of bounded length', () => {
    expect(parseText(hex('c3a4'))).toBe('ä')
    expect(parseText(hex('c3'))).toBeUndefined()
    expect(parseText(Buffer.alloc(4096, 'a'))).toHaveLength(4096)
    expect(parseText(Buffer.alloc(4097, 'a'))).toBeUndefined()
  })
})

describe('bytes of the transmission', () => {
  it('requests', () => {
    const bytes = hex('25609513 0004 0007 0102030405060708 0000000100000200 00001000')
    const request = { flags: 4, type: 7, cookie: 0x0102030405060708n, offset: 2 ** 32 + 512, length: 4096 }
    expect(parseRequest(bytes)).toEqual(request)
    expect(encodeRequest(request)).toEqual(bytes)
    expect(() => parseRequest(hex('25609514 0000 0000 0000000000000000 0000000000000000 00000000'))).toThrow(
      'request magic',
    )
  })

  it('an offset past all that a number can count stays past everything', () => {
    const bytes = hex('25609513 0000 0000 0000000000000001 ffffffffffffffff ffffffff')
    expect(parseRequest(bytes).offset).toBeGreaterThan(Number.MAX_SAFE_INTEGER)
  })

  it('replies', () => {
    const cookie = 0x1122334455667788n
    const head = (flags: string, type: string, length: string) => `668e33ef ${flags} ${type} 1122334455667788 ${length}`
    expect(encodeSimpleReply(cookie, 28)).toEqual(hex('67446698 0000001c 1122334455667788'))
    expect(encodeNoneChunk(cookie)).toEqual(hex(head('0001', '0000', '00000000')))
    expect(encodeDataChunk(cookie, 512, 4096, false)).toEqual(
      hex(`${head('0000', '0001', '00001008')} 0000000000000200`),
    )
    expect(encodeHoleChunk(cookie, 512, 4096, true)).toEqual(
      hex(`${head('0001', '0002', '0000000c')} 0000000000000200 00001000`),
    )
    const extents = [
      { length: 4096, flags: 0 },
      { length: 512, flags: 3 },
    ]
    expect(encodeStatusChunk(cookie, 1, extents)).toEqual(
      hex(`${head('0001', '0005', '00000014')} 00000001 00001000 00000000 00000200 00000003`),
    )
    expect(encodeErrorChunk(cookie, 5, 'no')).toEqual(hex(`${head('0001', '8001', '00000008')} 00000005 0002 6e6f`))
  })

  it('long words of an error are cut', () => {
    const chunk = encodeErrorChunk(1n, 5, 'x'.repeat(10_000))
    expect(chunk.readUInt32BE(16)).toBe(6 + 4096)
    expect(chunk).toHaveLength(20 + 6 + 4096)
  })
})

const orOurs = (work: () => unknown): void => {
  try {
    work()
  } catch (error) {
    if (!isLiveError(error)) throw error
  }
}

describe('any bytes', () => {
  it('are a value, nothing or an error of ours', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
        orOurs(() => parseInfoRequest(bytes))
        orOurs(() => parseMetaRequest(bytes))
        orOurs(() => parseText(bytes))
        const whole = Buffer.concat([bytes, Buffer.alloc(28)])
        orOurs(() => parseRequest(whole))
        orOurs(() => parseOption(whole))
        orOurs(() => parseGreeting(whole))
      }),
      { numRuns: 500 },
    )
  })

  it('what is encoded is parsed again', () => {
    const name = fc.string({ unit: 'grapheme', maxLength: 40 })
    fc.assert(
      fc.property(
        name,
        fc.array(fc.nat(65535), { maxLength: 8 }),
        fc.array(name, { maxLength: 8 }),
        (of, wanted, queries) => {
          expect(parseInfoRequest(encodeInfoRequest(of, wanted))).toEqual({ name: of, wanted })
          expect(parseMetaRequest(encodeMetaRequest(of, queries))).toEqual({ name: of, queries })
        },
      ),
    )
  })
})

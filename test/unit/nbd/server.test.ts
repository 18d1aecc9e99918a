import { stat } from 'node:fs/promises'
import { afterEach, describe, expect, it } from 'vitest'
import type { Device, SparseDevice, WritableDevice } from '../../../src/block/device.js'
import { linear } from '../../../src/block/linear.js'
import { memory } from '../../../src/block/memory.js'
import { LiveError } from '../../../src/error.js'
import type { Export } from '../../../src/nbd/export.js'
import { type NbdServer, openServer, type ServerOptions, uriOf } from '../../../src/nbd/server.js'
import {
  chosen,
  hex,
  option,
  optionReplies,
  type Peer,
  peer,
  reply,
  request,
  text,
  u16,
  u32,
} from '../../support/nbd-peer.js'
import { random } from '../../support/random.js'
import { temporary } from '../../support/temporary.js'

const at = temporary()
const READ = 0
const WRITE = 1
const DISC = 2
const FLUSH = 3
const TRIM = 4
const CACHE = 5
const ZEROES = 6
const STATUS = 7
const [EPERM, EIO, EINVAL, ENOSPC] = [1, 5, 22, 28]

const servers: NbdServer[] = []
const peers: Peer[] = []
let made = 0

const served = async (
  exports: readonly Export[],
  options: Partial<ServerOptions> = {},
): Promise<{ server: NbdServer; path: string }> => {
  const path = await at(`s${made++}.sock`)
  const server = await openServer(exports, { place: { path }, ...options })
  servers.push(server)
  return { server, path }
}

const client = async (path: string, how?: { structured?: boolean; allocation?: boolean }) => {
  const all = await chosen(path, how)
  peers.push(all.client)
  return all
}

const raw = async (path: string): Promise<Peer> => {
  const one = await peer(path)
  peers.push(one)
  return one
}

afterEach(async () => {
  for (const one of peers.splice(0)) one.close()
  for (const server of servers.splice(0)) await server.close()
})

const counted = (length: number): Uint8Array => Uint8Array.from({ length }, (_, n) => (n * 7 + (n >> 8)) & 0xff)

/** 8 KiB of data, 64 KiB of hole, 4 KiB of data. */
const holed = (): SparseDevice =>
  linear(
    [
      { device: memory(counted(8192)), length: 8192 },
      { length: 65536 },
      { device: memory(counted(4096)), length: 4096 },
    ],
    'holed',
  )

const readOnly = (device: Device): Device => ({
  name: device.name,
  size: device.size,
  read: device.read,
  close: device.close,
})

describe('the handshake', () => {
  it('goes as the document says', async () => {
    const { path } = await served([{ device: readOnly(memory(counted(1000))), description: 'some bytes' }])
    const one = await raw(path)
    expect(await one.take(18)).toEqual(hex('4e42444d41474943 49484156454f5054 0003'))
    one.send(u32(3), option(6, text(''), u16(3), u16(1), u16(2), u16(3)))
    const info = await optionReplies(one)
    expect(info.map(({ type }) => type)).toEqual([3, 3, 3, 3, 1])
    // HAS_FLAGS, READ_ONLY, SEND_FLUSH, CAN_MULTI_CONN, SEND_CACHE
    expect(info[0]!.data).toEqual(hex('0000 00000000000003e8 0507'))
    expect(info[1]!.data).toEqual(hex('0003 00000001 00001000 02000000'))
    expect(info[2]!.data).toEqual(hex('0001'))
    expect(info[3]!.data).toEqual(Buffer.concat([hex('0002'), Buffer.from('some bytes')]))
  })

  it('an export that can be written has FUA, and DF comes with structured replies', async () => {
    const { path } = await served([{ device: memory(new Uint8Array(512)) }])
    expect((await client(path, { structured: false })).flags).toBe(0x56d)
    expect((await client(path)).flags).toBe(0x5ed)
    const kept = await served([{ device: memory(new Uint8Array(512)), readOnly: true }])
    expect((await client(kept.path)).flags).toBe(0x587)
  })

  it('the old way of choosing an export', async () => {
    const { path } = await served([{ name: 'a', device: memory(counted(600)) }])
    const one = await raw(path)
    await one.take(18)
    one.send(u32(1), option(1, Buffer.from('a')))
    expect(await one.take(134)).toEqual(Buffer.concat([hex('0000000000000258 056d'), Buffer.alloc(124)]))
    one.send(request(READ, 9, 100, 10))
    expect(await reply(one, 10)).toEqual({
      kind: 'simple',
      error: 0,
      cookie: 9n,
      data: Buffer.from(counted(600).subarray(100, 110)),
    })
    const other = await raw(path)
    await other.take(18)
    other.send(u32(3), option(1, Buffer.from('b')))
    expect(await other.rest()).toHaveLength(0)
  })

  it('lists exports and contexts, and goes on after what it refuses', async () => {
    const { path } = await served([
      { name: 'one', device: memory(new Uint8Array(1)) },
      { name: 'zwei ü', device: memory(new Uint8Array(2)) },
    ])
    const one = await raw(path)
    await one.take(18)
    const ask = async (...bytes: Buffer[]) => {
      one.send(...bytes)
      return optionReplies(one)
    }
    expect(await ask(u32(3), option(3))).toEqual([
      { type: 2, data: text('one') },
      { type: 2, data: text('zwei ü') },
      { type: 1, data: Buffer.alloc(0) },
    ])
    const types = async (...bytes: Buffer[]) =>
      (await ask(...bytes)).map(({ type }) => (type >= 2 ** 31 ? -(type - 2 ** 31) : type))
    expect(await types(option(3, hex('00')))).toEqual([-3])
    expect(await types(option(5))).toEqual([-1])
    expect(await types(option(11))).toEqual([-1])
    expect(await types(option(4711, Buffer.alloc(60_000)))).toEqual([-1])
    expect(await types(option(7, text('three'), u16(0)))).toEqual([-6])
    expect(await types(option(6, text('one'), u16(9)))).toEqual([-3])
    // contexts need structured replies
    expect(await types(option(9, text('one'), u32(0)))).toEqual([-3])
    expect(await types(option(8, hex('00')))).toEqual([-3])
    expect(await types(option(8))).toEqual([1])
    expect(await types(option(9, text('one'), u32(0)))).toEqual([4, 1])
    expect(await types(option(9, text('one'), u32(1), text('base:')))).toEqual([4, 1])
    expect(await types(option(9, text('one'), u32(1), text('qemu:')))).toEqual([1])
    expect(await types(option(10, text('one'), u32(1), text('base:')))).toEqual([1])
    expect(await types(option(10, text('none'), u32(1), text('base:allocation')))).toEqual([-6])
    expect(await ask(option(10, text('one'), u32(2), text('x:y'), text('base:allocation')))).toEqual([
      { type: 4, data: Buffer.concat([u32(1), Buffer.from('base:allocation')]) },
      { type: 1, data: Buffer.alloc(0) },
    ])
    expect(await types(option(2))).toEqual([1])
    expect(await one.rest()).toHaveLength(0)
  })

  it('a context is for the export that it was asked of', async () => {
    const exports = ['a', ''].map(name => ({ name, device: memory(new Uint8Array(4096)) }))
    const { path } = await served(exports)
    const one = await raw(path)
    await one.take(18)
    one.send(u32(3), option(8), option(10, text('a'), u32(1), text('base:allocation')), option(7, text(''), u16(0)))
    for (let n = 0; n < 3; n++) await optionReplies(one)
    one.send(request(STATUS, 1, 0, 4096))
    expect(await reply(one)).toMatchObject({ kind: 'chunk', type: 0x8001 })
  })

  it('without TLS there is nothing where TLS is asked for', async () => {
    const { cert, key } = await import('../../support/nbd-tls.js').then(({ identity }) => identity(at))
    const { path } = await served([{ device: memory(new Uint8Array(512)) }], { tls: { cert, key } })
    const one = await raw(path)
    await one.take(18)
    one.send(u32(3), option(3), option(7, text(''), u16(0)), option(8))
    for (let n = 0; n < 3; n++) expect((await optionReplies(one))[0]!.type).toBe(2 ** 31 + 5)
    one.send(option(1, Buffer.alloc(0)))
    expect(await one.rest()).toHaveLength(0)
    // said in plain text behind STARTTLS: nobody knows by whom
    const other = await raw(path)
    await other.take(18)
    other.send(u32(3), option(5), option(7, text(''), u16(0)))
    expect(await other.rest()).toHaveLength(0)
  })
})

describe('requests', () => {
  it('structured reads tell holes, and DF has one piece', async () => {
    const { path } = await served([{ device: holed() }])
    const { client: one, size } = await client(path)
    expect(size).toBe(77824)
    one.send(request(READ, 1, 100, 77000))
    const first = await reply(one)
    expect(first).toMatchObject({ kind: 'chunk', type: 1, done: false, cookie: 1n })
    expect(first.data).toEqual(Buffer.concat([hex('0000000000000064'), counted(8192).subarray(100)]))
    expect(await reply(one)).toMatchObject({ type: 2, done: false, data: hex('0000000000002000 00010000') })
    const last = await reply(one)
    expect(last).toMatchObject({ type: 1, done: true })
    expect(last.data).toEqual(Buffer.concat([hex('0000000000012000'), counted(4096).subarray(0, 3372)]))
    one.send(request(READ, 2, 8192, 65536))
    expect(await reply(one)).toMatchObject({ type: 2, done: true, data: hex('0000000000002000 00010000') })
    one.send(request(READ, 3, 8000, 1000, 4))
    const whole = await reply(one)
    expect(whole).toMatchObject({ type: 1, done: true })
    expect(whole.data.subarray(8)).toEqual(Buffer.concat([counted(8192).subarray(8000), Buffer.alloc(808)]))
    one.send(request(READ, 4, 5, 0))
    expect(await reply(one)).toMatchObject({ type: 0, done: true, cookie: 4n })
  })

  it('data between holes are the right ones, wherever the read begins', async () => {
    const device = linear(
      [
        { length: 8192 },
        { device: memory(counted(512)), length: 512 },
        { length: 4096 },
        { length: 100, device: memory(counted(100)) },
        { length: 4095 },
        { length: 1, device: memory(counted(1)) },
      ],
      'holes',
    )
    const { path } = await served([{ device }])
    const { client: one } = await client(path)
    for (const [offset, length] of [
      [0, device.size],
      [1, device.size - 2],
      [8191, 4700],
      [8200, 4096 + 512],
      [12_000, 4000],
    ] as const) {
      one.send(request(READ, 1, offset, length))
      const whole = Buffer.alloc(length, 0xee)
      for (let done = false; !done; ) {
        const told = await reply(one)
        if (told.kind !== 'chunk') throw new Error('a simple reply')
        const from = Number(told.data.readBigUInt64BE(0)) - offset
        if (told.type === 1) told.data.copy(whole, from, 8)
        else whole.fill(0, from, from + told.data.readUInt32BE(8))
        expect(told.type === 2 ? told.data.readUInt32BE(8) : 4096).toBeGreaterThanOrEqual(4096)
        done = told.done
      }
      expect(whole).toEqual(Buffer.from(await device.read(offset, length)))
    }
  })

  it('block status, all of it or one extent', async () => {
    const { path } = await served([{ device: holed() }])
    const { client: one } = await client(path)
    one.send(request(STATUS, 1, 4096, 70000))
    expect(await reply(one)).toMatchObject({
      type: 5,
      done: true,
      data: hex('00000001 00001000 00000000 00010000 00000003 00000170 00000000'),
    })
    one.send(request(STATUS, 2, 4096, 70000, 8))
    expect(await reply(one)).toMatchObject({ type: 5, data: hex('00000001 00001000 00000000') })
    one.send(request(STATUS, 3, 0, 0))
    expect((await reply(one)).data.subarray(0, 4)).toEqual(u32(EINVAL))
  })

  it('block status has borders at sectors only: what is in a sector with data is data', async () => {
    const data = (length: number) => ({ device: memory(counted(length)), length })
    const { path } = await served([
      { device: linear([data(700), { length: 2000 }, data(1000), { length: 300 }, data(96), { length: 4000 }], 'odd') },
    ])
    const { client: one, size } = await client(path)
    expect(size).toBe(8096)
    one.send(request(STATUS, 1, 0, size))
    // holes at 700 to 2700, 3700 to 4000 and 4096 to 8096
    expect((await reply(one)).data).toEqual(
      hex('00000001 00000400 00000000 00000600 00000003 00000600 00000000 00000fa0 00000003'),
    )
    one.send(request(STATUS, 1, 800, 900))
    expect((await reply(one)).data).toEqual(hex('00000001 00000384 00000003'))
  })

  it('writes, flushes and FUA reach the device in that order', async () => {
    const log: string[] = []
    const store = memory(new Uint8Array(4096))
    const device: WritableDevice = {
      ...store,
      async write(offset, bytes) {
        log.push(`write ${offset}+${bytes.length}`)
        await store.write(offset, bytes)
      },
      async flush() {
        log.push('flush')
      },
    }
    const { path } = await served([{ device }])
    const { client: one } = await client(path, { structured: false })
    one.send(request(WRITE, 1, 10, 3), Buffer.from('abc'))
    expect(await reply(one)).toMatchObject({ error: 0, cookie: 1n })
    one.send(request(FLUSH, 2, 0, 0))
    expect(await reply(one)).toMatchObject({ error: 0, cookie: 2n })
    one.send(request(WRITE, 3, 13, 2, 1), Buffer.from('de'))
    expect(await reply(one)).toMatchObject({ error: 0, cookie: 3n })
    one.send(request(WRITE, 4, 4096, 0))
    expect(await reply(one)).toMatchObject({ error: 0, cookie: 4n })
    expect(log).toEqual(['write 10+3', 'flush', 'write 13+2', 'flush'])
    expect(Buffer.from(await store.read(10, 5)).toString()).toBe('abcde')
    one.send(request(CACHE, 5, 0, 4096), request(DISC, 6, 0, 0))
    expect(await reply(one)).toMatchObject({ error: 0, cookie: 5n })
    expect(await one.rest()).toHaveLength(0)
  })

  it.each([
    ['write zeroes', ZEROES, 2],
    ['trim', TRIM, 0],
  ] as const)('%s makes zeros, and writes none where there are some', async (_name, type, flags) => {
    const MIB = 1 << 20
    const log: string[] = []
    const bytes = counted(3 * MIB)
    bytes.fill(0, MIB, MIB + 8192)
    const store = memory(bytes.slice())
    const device: WritableDevice = {
      ...store,
      async write(offset, content) {
        log.push(`${offset}+${content.length}`)
        await store.write(offset, content)
      },
      async flush() {
        log.push('flush')
      },
    }
    const { path } = await served([{ device }])
    const { client: one } = await client(path, { structured: false })
    one.send(request(type, 1, 1000, 2 * MIB, flags | 1))
    expect(await reply(one)).toMatchObject({ error: 0, cookie: 1n })
    expect(log).toEqual([`1000+${MIB - 1000}`, `${MIB + 8192}+${MIB - 8192}`, `${2 * MIB}+1000`, 'flush'])
    bytes.fill(0, 1000, 1000 + 2 * MIB)
    expect(Buffer.compare(await store.read(0, 3 * MIB), bytes)).toBe(0)
    one.send(request(type, 2, 0, 0))
    expect(await reply(one)).toMatchObject({ error: 0, cookie: 2n })
    const kept = await served([{ device: store, readOnly: true }])
    const { client: other } = await client(kept.path, { structured: false })
    other.send(request(type, 3, 0, 512))
    expect(await reply(other)).toMatchObject({ error: EPERM, cookie: 3n })
  })

  it('errors have the numbers of the protocol, and words where there is room for them', async () => {
    const store = memory(new Uint8Array(4096))
    const failures: unknown[] = []
    const device: WritableDevice = {
      ...store,
      async read(offset, length) {
        if (offset === 512) throw new LiveError('IO', 'bad sector')
        return store.read(offset, length)
      },
      async write(offset) {
        throw new LiveError(offset === 0 ? 'NO_SPACE' : 'READ_ONLY', 'no')
      },
    }
    const { path } = await served([{ device }], { onFailure: error => failures.push(error) })
    const { client: one } = await client(path, { structured: false })
    const error = async (...bytes: Buffer[]) => {
      one.send(...bytes)
      const told = await reply(one)
      return told.kind === 'simple' ? told.error : undefined
    }
    expect(await error(request(READ, 1, 512, 512))).toBe(EIO)
    expect(await error(request(READ, 1, 4096, 1))).toBe(EINVAL)
    expect(await error(request(READ, 1, 0xffff_ffff_ffff_ffffn, 512))).toBe(EINVAL)
    expect(await error(request(READ, 1, 0, 0xffff_ffff))).toBe(EINVAL)
    expect(await error(request(READ, 1, 0, 512, 4))).toBe(EINVAL)
    expect(await error(request(READ, 1, 0, 512, 0x100))).toBe(EINVAL)
    expect(await error(request(STATUS, 1, 0, 512))).toBe(EINVAL)
    expect(await error(request(ZEROES, 1, 4000, 97))).toBe(ENOSPC)
    expect(await error(request(TRIM, 1, 4000, 97))).toBe(EINVAL)
    // FAST_ZERO was not offered
    expect(await error(request(ZEROES, 1, 0, 512, 16))).toBe(EINVAL)
    expect(await error(request(99, 1, 0, 0))).toBe(EINVAL)
    expect(await error(request(WRITE, 1, 4000, 97), Buffer.alloc(97))).toBe(ENOSPC)
    expect(await error(request(WRITE, 1, 0, 1), hex('00'))).toBe(ENOSPC)
    expect(await error(request(WRITE, 1, 1, 1), hex('00'))).toBe(EPERM)
    expect(await error(request(READ, 1, 0, 1))).toBe(0)
    expect(failures.map(String)).toEqual(['LiveError: bad sector', 'LiveError: no'])
    const { client: other } = await client(path)
    other.send(request(READ, 7, 512, 512))
    const told = await reply(other)
    expect(told).toMatchObject({ kind: 'chunk', type: 0x8001, done: true, cookie: 7n })
    expect(told.data).toEqual(Buffer.concat([u32(EIO), u16(10), Buffer.from('bad sector')]))
  })

  it('a read-only export passes over what is written to it', async () => {
    const { path } = await served([{ device: memory(counted(4096)), readOnly: true }])
    const { client: one } = await client(path, { structured: false })
    one.send(request(WRITE, 1, 0, 200_000), Buffer.alloc(200_000), request(READ, 2, 0, 4))
    expect(await reply(one)).toMatchObject({ error: EPERM, cookie: 1n })
    expect(await reply(one, 4)).toMatchObject({ error: 0, cookie: 2n, data: Buffer.from(counted(4)) })
  })

  it('requests that come in any pieces are the same requests', async () => {
    const device = memory(counted(100_000))
    const { path } = await served([{ device }])
    const { client: one } = await client(path, { structured: false })
    const all = Buffer.concat([
      request(WRITE, 1, 50, 5),
      Buffer.from('hello'),
      request(READ, 2, 50, 5),
      request(WRITE, 3, 60, 3),
      Buffer.from('you'),
    ])
    for (const byte of all) {
      one.socket.write(Buffer.from([byte]))
      await new Promise(resolve => setImmediate(resolve))
    }
    expect(await reply(one)).toMatchObject({ cookie: 1n })
    expect(await reply(one, 5)).toMatchObject({ cookie: 2n, data: Buffer.from('hello') })
    expect(await reply(one)).toMatchObject({ cookie: 3n })
    expect(Buffer.from(await device.read(60, 3)).toString()).toBe('you')
  })
})

describe('memory that is used again', () => {
  const SIZE = 64 << 20
  const pattern = (offset: number, target: Uint8Array): void => {
    const words = new DataView(target.buffer, target.byteOffset, target.byteLength)
    for (let at = 0; at + 4 <= target.length; at += 4) words.setUint32(at, offset + at)
  }
  /** Each four bytes tell their own offset. Reads end in any order, those that begin in the last MiB with an error. */
  const device = (told: { most: number; places: Set<ArrayBufferLike> }) => {
    let reading = 0
    return {
      name: 'pattern',
      size: SIZE,
      read: async (offset: number, length: number) => {
        if (offset >= SIZE - (1 << 20)) throw new LiveError('IO', 'a bad spot')
        const bytes = new Uint8Array(length)
        pattern(offset, bytes)
        return bytes
      },
      readInto: async (offset: number, target: Uint8Array) => {
        told.places.add(target.buffer)
        reading += target.length
        told.most = Math.max(told.most, reading)
        await new Promise(resolve => setTimeout(resolve, (offset >> 14) % 5))
        reading -= target.length
        if (offset >= SIZE - (1 << 20)) {
          target.fill(0xff)
          throw new LiveError('IO', 'a bad spot')
        }
        pattern(offset, target)
      },
      close: async () => undefined,
    }
  }

  it('never holds the bytes of another answer, though the client is slow and some reads fail', async () => {
    const told = { most: 0, places: new Set<ArrayBufferLike>() }
    const { path } = await served([{ device: device(told) }])
    const { client: one } = await client(path, { structured: false })
    const { seed, below } = random()
    const wanted = Array.from({ length: 120 }, (_, n) => {
      const length = n % 7 === 0 ? below(1 << 16) * 4 : n % 11 === 0 ? 300_000 : 1 << 18
      const offset = n % 5 === 0 ? SIZE - (1 << 19) : below((SIZE - (2 << 20)) / 4) * 4
      return { offset, length }
    })
    one.socket.pause()
    for (const [n, { offset, length }] of wanted.entries()) one.send(request(READ, n, offset, length))
    const expected = (n: number): Buffer => {
      const bytes = Buffer.alloc(wanted[n]!.length)
      pattern(wanted[n]!.offset, bytes)
      return bytes
    }
    await expect.poll(() => told.places.size).toBeGreaterThan(10)
    one.socket.resume()
    for (const _ of wanted) {
      const head = await one.take(16)
      const n = Number(head.readBigUInt64BE(8))
      const fails = n % 5 === 0 && wanted[n]!.length > 0
      expect(head.readUInt32BE(4), `seed ${seed}, read ${n}`).toBe(fails ? EIO : 0)
      if (!fails) expect((await one.take(wanted[n]!.length)).equals(expected(n)), `seed ${seed}, read ${n}`).toBe(true)
    }
    // 4 MiB in slots of 256 KiB
    expect(told.places.size).toBeLessThanOrEqual(16)
    expect(told.most).toBeLessThanOrEqual(4 << 20)
  })
})

describe('the life of a server', () => {
  it('counts clients, and says goodbye to them', async () => {
    const counts: number[] = []
    const { server, path } = await served([{ device: memory(new Uint8Array(512)) }], { onClients: n => counts.push(n) })
    const looker = await raw(path)
    await looker.take(18)
    const { client: one } = await client(path)
    const { client: two } = await client(path)
    expect(server.clients).toBe(2)
    one.send(request(DISC, 1, 0, 0))
    await one.rest()
    await expect.poll(() => server.clients).toBe(1)
    await server.close()
    expect(await two.rest()).toHaveLength(0)
    await looker.rest()
    expect(counts).toEqual([1, 2, 1, 0])
    await expect(peer(path)).rejects.toThrow()
    await expect(stat(path)).rejects.toThrow()
  })

  it('close answers what was asked, then flushes', async () => {
    const log: string[] = []
    let release: () => void = () => undefined
    const slow = new Promise<void>(resolve => {
      release = resolve
    })
    const store = memory(new Uint8Array(512))
    const device: WritableDevice = {
      ...store,
      async write(offset, bytes) {
        log.push('begun')
        await slow
        await store.write(offset, bytes)
        log.push('written')
      },
      async flush() {
        log.push('flush')
      },
    }
    const { server, path } = await served([{ device }])
    const { client: one } = await client(path)
    one.send(request(WRITE, 1, 0, 1), hex('07'))
    await expect.poll(() => log).toEqual(['begun'])
    const closed = server.close()
    release()
    expect(await reply(one)).toMatchObject({ type: 0, cookie: 1n })
    await closed
    expect(log).toEqual(['begun', 'written', 'flush'])
  })

  it('refuses a place that is taken', async () => {
    const { path } = await served([{ device: memory(new Uint8Array(1)) }])
    await expect(openServer([], { place: { path } })).rejects.toMatchObject({ code: 'REFUSED' })
    await expect(openServer([], { place: { path: '/nonexistent/x' } })).rejects.toBeInstanceOf(LiveError)
  })

  it('serves by TCP on a port that is free', async () => {
    const { server } = await served([{ device: memory(counted(64)) }], { place: { host: '127.0.0.1', port: 0 } })
    expect(server.uri).toMatch(/^nbd:\/\/127\.0\.0\.1:\d+\/$/)
    const one = (await chosen(server.place as { host: string; port: number })).client
    one.send(request(READ, 1, 0, 64))
    expect((await reply(one)).data.subarray(8)).toEqual(Buffer.from(counted(64)))
    one.close()
  })

  it('names its exports as clients do', () => {
    expect(uriOf({ path: '/tmp/a b/s?.sock' }, 'x y')).toBe('nbd+unix:///x%20y?socket=/tmp/a%20b/s%3F.sock')
    expect(uriOf({ host: '::1', port: 10809 }, '', true)).toBe('nbds://[::1]:10809/')
  })
})

import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import type { Device, WritableDevice } from '../../../src/block/device.js'
import { memory } from '../../../src/block/memory.js'
import { budget } from '../../../src/nbd/budget.js'
import { type NbdServer, openServer, type ServerOptions } from '../../../src/nbd/server.js'
import {
  chosen,
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
const MIB = 1 << 20
const [READ, WRITE, DISC] = [0, 1, 2]

const servers: NbdServer[] = []
const peers: Peer[] = []
let made = 0

const served = async (
  device: Device,
  options: Partial<ServerOptions> = {},
  preferredBlockSize?: number,
): Promise<{ server: NbdServer; path: string }> => {
  const path = await at(`h${made++}.sock`)
  const server = await openServer([{ device, preferredBlockSize }], { place: { path }, ...options })
  servers.push(server)
  return { server, path }
}

const known = (one: Peer): Peer => {
  peers.push(one)
  return one
}

afterEach(async () => {
  for (const one of peers.splice(0)) one.close()
  for (const server of servers.splice(0)) await server.close()
})

const pause = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))

/** A large device without content that notes what is read of it and not yet given back. */
const counting = (size: number): Device & { reads: number; bytes: number } => {
  const device = {
    name: 'counting',
    size,
    reads: 0,
    bytes: 0,
    async read(_offset: number, length: number) {
      device.reads++
      device.bytes += length
      return new Uint8Array(length)
    },
    async close() {},
  }
  return device
}

describe('clients that mean harm', () => {
  it.each([
    [4, undefined],
    [16, 1 << 20],
  ])('one that asks and never reads is read from no more: %i MiB, blocks of %s', async (most, preferredBlockSize) => {
    const device = counting(2 ** 40)
    const { path } = await served(device, {}, preferredBlockSize)
    const { client } = await chosen(path, { structured: false })
    known(client).socket.pause()
    let sent = 0
    for (let n = 0; n < 4000; n++) if (client.socket.write(request(READ, n, n * MIB, MIB))) sent++
    // 4 GiB are asked for; so much may be under way, and what one socket's buffers hold has left the budget
    await expect.poll(() => device.bytes).toBeGreaterThanOrEqual((most / 2) * MIB)
    await pause(300)
    const { bytes } = device
    expect(bytes).toBeLessThanOrEqual((most + 4) * MIB)
    await pause(200)
    expect(device.bytes).toBe(bytes)
    expect(sent).toBeGreaterThan(0)
    // another client has what it wants meanwhile
    const { client: other } = await chosen(path, { structured: false })
    known(other).send(request(READ, 1, 0, 512))
    expect(await reply(other, 512)).toMatchObject({ error: 0 })
    // and once the first one reads, it gets all it asked for
    client.socket.resume()
    for (let n = 0; n < 30; n++) expect((await reply(client, MIB)).data).toHaveLength(MIB)
  })

  it('small requests without end are bounded in number', async () => {
    const device: Device & { open: number; most: number } = {
      name: 'stuck',
      size: 4096,
      open: 0,
      most: 0,
      read() {
        device.open++
        device.most = Math.max(device.most, device.open)
        return new Promise(() => undefined)
      },
      async close() {},
    }
    const { path } = await served(device, { closeTimeout: 50 })
    const { client } = await chosen(path, { structured: false })
    known(client)
    for (let n = 0; n < 5000; n++) client.socket.write(request(READ, n, 0, 1))
    await expect.poll(() => device.most).toBe(128)
    await pause(200)
    expect(device.most).toBe(128)
  })

  it('options without end and without a reader fill no memory', async () => {
    const { path } = await served(memory(new Uint8Array(512)))
    const one = known(await peer(path))
    one.socket.pause()
    one.send(u32(3))
    let held = false
    for (let n = 0; n < 200 && !held; n++) {
      held = !one.socket.write(Buffer.concat(Array.from({ length: 1000 }, () => option(3))))
      await pause(1)
    }
    await pause(100)
    // the server stopped reading them: they wait on this side
    expect(one.socket.writableLength).toBeGreaterThan(0)
  })

  it.each([
    ['a wrong flag word', Buffer.concat([u32(0xff), option(3)])],
    ['no fixed newstyle', Buffer.concat([u32(0), option(3)])],
    ['a wrong magic of an option', Buffer.concat([u32(3), Buffer.alloc(16, 7)])],
    ['an option of 4 GiB', Buffer.concat([u32(3), option(7).subarray(0, 12), u32(0xffffffff)])],
  ])('%s ends the connection', async (_what, bytes) => {
    const failures: unknown[] = []
    const { path } = await served(memory(new Uint8Array(512)), { onFailure: error => failures.push(error) })
    const one = known(await peer(path))
    await one.take(18)
    one.send(bytes)
    expect(await one.rest()).toHaveLength(0)
    expect(failures).toHaveLength(1)
  })

  it.each([
    ['a wrong magic of a request', Buffer.alloc(28, 1)],
    ['a write of 4 GiB', request(WRITE, 1, 0, 0xffffffff)],
    ['a write of a byte more than fits in a request', request(WRITE, 1, 0, 32 * MIB + 1)],
  ])('%s ends the connection, also while answers wait for a reader', async (_what, bytes) => {
    const { server, path } = await served(counting(2 ** 40), { onFailure: () => undefined })
    const { client } = await chosen(path, { structured: false })
    known(client).socket.pause()
    client.send(...Array.from({ length: 3 }, (_, n) => request(READ, n, 0, MIB)), bytes)
    await expect.poll(() => server.clients).toBe(0)
  })

  it('half a request, half a write and a client that vanishes end nothing but themselves', async () => {
    const store = memory(new Uint8Array(4096))
    const { server, path } = await served(store)
    for (const bytes of [
      request(READ, 1, 0, 1).subarray(0, 13),
      Buffer.concat([request(WRITE, 1, 0, 100), Buffer.alloc(99, 1)]),
    ]) {
      const { client } = await chosen(path)
      client.send(bytes)
      await pause(20)
      client.close()
    }
    const { client } = await chosen(path)
    client.socket.end(request(WRITE, 1, 0, 100))
    expect((await client.rest()).length).toBe(0)
    await expect.poll(() => server.clients).toBe(0)
    expect(await store.read(0, 100)).toEqual(new Uint8Array(100))
    const { client: good } = await chosen(path)
    known(good).send(request(READ, 1, 0, 8))
    expect(await reply(good)).toMatchObject({ done: true })
  })

  it('a slow handshake is ended, one that has chosen an export is not', async () => {
    const { path } = await served(memory(new Uint8Array(512)), { handshakeTimeout: 150 })
    const quick = known((await chosen(path)).client)
    const silent = known(await peer(path))
    const slow = known(await peer(path))
    slow.send(u32(3))
    const drip = setInterval(() => slow.socket.write(option(3).subarray(0, 1)), 20)
    // without an end these two would wait for ever
    await silent.rest()
    await slow.rest()
    clearInterval(drip)
    quick.send(request(READ, 1, 0, 512))
    expect(await reply(quick)).toMatchObject({ done: true })
  })

  it('more connections than there may be are turned away', async () => {
    const { path } = await served(memory(new Uint8Array(512)), { maxConnections: 2 })
    known((await chosen(path)).client)
    known((await chosen(path)).client)
    expect(await known(await peer(path)).rest()).toHaveLength(0)
    peers[0]!.send(request(DISC, 1, 0, 0))
    await peers[0]!.rest()
    await expect
      .poll(
        async () =>
          (
            await known(await peer(path))
              .take(18)
              .catch(() => Buffer.alloc(0))
          ).length,
      )
      .toBe(18)
  })

  it('any bytes at any time leave a server that serves', async () => {
    const device = memory(new Uint8Array(65536))
    const { path } = await served(device, { onFailure: () => undefined })
    const { seed, below, bytes } = random()
    for (let n = 0; n < 60; n++) {
      const one = n % 2 === 0 ? await peer(path) : (await chosen(path)).client
      if (n % 2 === 0) await one.take(18)
      const start = n % 4 === 0 ? [u32(3), option(below(12), Buffer.from(bytes(below(40))))] : []
      const good = n % 4 === 1 ? [request(READ, 1, below(70000), below(70000), below(16))] : []
      one.socket.write(Buffer.concat([...start, ...good, bytes(below(200))]))
      await pause(2)
      one.close()
    }
    const { client } = await chosen(path)
    known(client).send(request(READ, 1, 0, 65536))
    expect(await reply(client), `seed ${seed}`).toMatchObject({ done: true })
  })
})

describe('many requests at once', () => {
  it('overlap no other and end as one after the other would', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            write: fc.boolean(),
            // own places of 1000 bytes: what overlaps is the client's to order
            length: fc.integer({ min: 1, max: 1000 }),
            delay: fc.nat(3),
          }),
          { minLength: 1, maxLength: 60 },
        ),
        fc.boolean(),
        async (jobs, structured) => {
          const store = memory(new Uint8Array(60_000))
          const slow: WritableDevice = {
            ...store,
            async read(offset, length) {
              await pause(jobs[Math.floor(offset / 1000)]!.delay)
              return store.read(offset, length)
            },
            async write(offset, bytes) {
              await pause(jobs[Math.floor(offset / 1000)]!.delay)
              await store.write(offset, bytes)
            },
          }
          const { path } = await served(slow)
          const { client } = await chosen(path, { structured })
          client.send(
            ...jobs.flatMap(({ write, length }, n) =>
              write
                ? [request(WRITE, n, n * 1000, length), Buffer.alloc(length, n + 1)]
                : [request(READ, n, n * 1000, length)],
            ),
          )
          const seen = new Set<bigint>()
          if (structured)
            for (const _ of jobs) {
              const told = await reply(client)
              expect(told).toMatchObject({ done: true })
              seen.add(told.cookie)
            }
          else {
            // the length of an answer is known by its cookie only
            for (const _ of jobs) {
              const head = await client.take(16)
              const cookie = head.readBigUInt64BE(8)
              const { write, length } = jobs[Number(cookie)]!
              if (!write) expect(await client.take(length)).toEqual(Buffer.alloc(length))
              seen.add(cookie)
            }
          }
          expect(seen.size).toBe(jobs.length)
          for (const [n, { write, length }] of jobs.entries())
            if (write) expect(await store.read(n * 1000, length)).toEqual(new Uint8Array(length).fill(n + 1))
          client.close()
          await servers.pop()!.close()
        },
      ),
      { numRuns: 25 },
    )
  })
})

describe('a budget', () => {
  it('lets the next in as room comes, and one that is larger than all when nothing else is there', async () => {
    const log: string[] = []
    const under = budget(100, 3)
    await under.take(60)
    await under.take(40)
    const third = under.take(1).then(() => log.push('third'))
    await pause(1)
    expect(log).toEqual([])
    under.give(60)
    await third
    const large = under.take(500).then(() => log.push('large'))
    under.give(40)
    await pause(1)
    expect(log).toEqual(['third'])
    under.give(1)
    await large
    expect(log).toEqual(['third', 'large'])
    const idle = under.idle().then(() => log.push('idle'))
    under.give(500)
    await idle
  })

  it('is bounded in number too', async () => {
    const under = budget(100, 2)
    await under.take(1)
    await under.take(1)
    let in3 = false
    const third = under.take(1).then(() => {
      in3 = true
    })
    await pause(1)
    expect(in3).toBe(false)
    under.give(1)
    await third
  })
})

it('options that are refused leave the way open', async () => {
  const { path } = await served(memory(new Uint8Array(512)))
  const one = known(await peer(path))
  await one.take(18)
  one.send(u32(3))
  for (let n = 0; n < 300; n++) {
    one.send(option(7, text(`x${n}`), u16(0)))
    expect((await optionReplies(one))[0]!.type).toBe(2 ** 31 + 6)
  }
})

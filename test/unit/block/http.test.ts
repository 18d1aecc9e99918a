import { afterEach, describe, expect, test } from 'vitest'
import { type HttpDevice, type HttpOptions, openHttp } from '../../../src/block/http.js'
import { deviceContract } from '../../contract/device.js'
import { type FileServer, type Served, serveFile } from '../../support/http-server.js'
import { failure, sameBytes } from '../../support/outcome.js'
import { random } from '../../support/random.js'

const content = random(21).bytes(1_000_003)
/** The answer was given. */
const taken = (_done: unknown): true => true
const fast = { connectMs: 2000, idleMs: 300, backoffMs: 5, attempts: 3 }
const KIB = 1024

deviceContract('a file on a server', async () => ({
  device: await openHttp((await serveFile({ bytes: content, etag: '"1"' })).url),
  bytes: content,
}))
deviceContract('an empty file on a server', async () => ({
  device: await openHttp((await serveFile({ bytes: new Uint8Array(0) })).url),
  bytes: new Uint8Array(0),
}))
deviceContract('a file on a server that cuts every answer', async () => ({
  device: await openHttp((await serveFile({ bytes: content, cutAfter: 90_000 })).url, { timing: fast }),
  bytes: content,
}))

const opened: HttpDevice[] = []
afterEach(async () => {
  for (const device of opened.splice(0)) await device.close()
})
const open = async (served: Served, options: HttpOptions = {}): Promise<{ device: HttpDevice; server: FileServer }> => {
  const server = await serveFile(served)
  const device = await openHttp(server.url, { timing: fast, ...options })
  opened.push(device)
  return { device, server }
}
const refused = async (served: Served, code: Parameters<typeof failure>[1], options: HttpOptions = {}) => {
  const server = await serveFile(served)
  return { server, error: await failure(openHttp(server.url, { timing: fast, ...options }), code) }
}

describe('what a read costs', () => {
  test('opening and the first pages are one request', async () => {
    const { device, server } = await open({ bytes: content })
    expect([device.size, device.requests, device.bytesFetched]).toEqual([content.length, 1, 64 * KIB])
    sameBytes(await device.read(100, 60_000), content.subarray(100, 60_100))
    expect(server.asked).toEqual(['bytes=0-65535'])
  })

  test('a small file is there at once', async () => {
    const { device } = await open({ bytes: content.subarray(0, 1000) })
    sameBytes(await device.read(0, 1000), content.subarray(0, 1000))
    expect([device.requests, device.bytesFetched]).toEqual([1, 1000])
  })

  test('random reads fetch their page and nothing more', async () => {
    const { device } = await open({ bytes: content })
    for (const page of [9, 3, 13, 6, 11]) await device.read(page * 64 * KIB + 5, 10)
    expect([device.requests, device.bytesFetched]).toEqual([6, 6 * 64 * KIB])
    for (const page of [9, 3, 13, 6, 11]) await device.read(page * 64 * KIB, 64 * KIB)
    expect(device.requests).toBe(6)
  })

  test('pages side by side are one range, also around one that is there', async () => {
    const { device, server } = await open({ bytes: content })
    await device.read(4 * 64 * KIB, 1)
    await device.read(2 * 64 * KIB + 7, 5 * 64 * KIB)
    expect(server.asked.slice(1).sort()).toEqual(['bytes=131072-262143', 'bytes=262144-327679', 'bytes=327680-524287'])
  })

  test('readers of one page share one request', async () => {
    const { device } = await open({ bytes: content })
    await Promise.all(Array.from({ length: 50 }, (_, n) => device.read(300_000 + n, 100)))
    expect(device.requests).toBe(2)
  })

  test('reading in sequence takes few requests, and ever longer ones', async () => {
    const bytes = random(5).bytes(24 << 20)
    const { device, server } = await open({ bytes })
    for (let at = 0; at < bytes.length; at += 32 * KIB) {
      const part = await device.read(at, 32 * KIB)
      if (at % (1 << 20) === 0) sameBytes(part, bytes.subarray(at, at + part.length))
    }
    expect(device.bytesFetched).toBe(bytes.length)
    expect(device.requests).toBeLessThan(25)
    const longest = Math.max(
      ...server.asked.map(range => {
        const [from, last] = range.slice(6).split('-').map(Number)
        return last! - from! + 1
      }),
    )
    expect(longest).toBeGreaterThan(1 << 20)
    expect(longest).toBeLessThanOrEqual(4 << 20)
  })

  test('who stops has fetched at most about twice what was read', async () => {
    const bytes = random(6).bytes(8 << 20)
    const { device } = await open({ bytes })
    for (let at = 1 << 20; at < 3 << 20; at += 10_000) await device.read(at, 10_000)
    expect(device.bytesFetched).toBeLessThan(2 * (2 << 20) + 3 * 64 * KIB)
  })

  test('small reads about one place are no sequence', async () => {
    const { device } = await open({ bytes: content })
    for (let n = 0; n < 500; n++) await device.read(500_000 + ((n * 37) % 20_000), 200)
    expect(device.requests).toBeLessThanOrEqual(3)
  })

  test('two readers in sequence are both followed', async () => {
    const bytes = random(7).bytes(16 << 20)
    const { device } = await open({ bytes })
    for (let at = 0; at < 4 << 20; at += 64 * KIB) {
      await device.read(at, 64 * KIB)
      await device.read((10 << 20) + at, 64 * KIB)
    }
    expect(device.requests).toBeLessThan(30)
  })

  test('one long read is made of long ranges, and 16 MiB are kept at most', async () => {
    const bytes = random(8).bytes(40 << 20)
    const { device } = await open({ bytes })
    sameBytes(await device.read(0, bytes.length), bytes)
    expect(device.requests).toBe(11)
    await device.read(0, 100)
    expect(device.requests).toBe(12)
    await device.read(bytes.length - (15 << 20), 15 << 20)
    expect(device.requests).toBe(12)
  })

  test('connections are kept', async () => {
    const { device, server } = await open({ bytes: content })
    for (const page of [9, 3, 13, 6, 11]) await device.read(page * 64 * KIB, 10)
    expect(server.connections).toBe(1)
  })
})

describe('servers that do not do', () => {
  test.each([
    ['ranges', { ranges: false }, 'server without ranges', 'download it first'],
    [
      'the size',
      {
        before: (_request: unknown, response: import('node:http').ServerResponse) => {
          response.writeHead(206, { 'content-range': 'bytes 0-65535/*' })
          response.end(content.subarray(0, 65_536))
          return true
        },
      },
      'server that does not tell the size',
      'download it first',
    ],
    ['plain bytes', { headers: { 'content-encoding': 'gzip' } }, 'compressed answer of a server', 'gzip'],
  ])('%s are UNSUPPORTED', async (_title, faults, feature, words) => {
    const { error } = await refused({ bytes: content, ...faults }, 'UNSUPPORTED')
    expect(error.data.feature).toBe(feature)
    expect(error.message).toContain(words)
  })

  test.each([
    [404, 'NOT_FOUND', 'no such file'],
    [410, 'NOT_FOUND', 'no such file'],
    [401, 'IO', 'wants a name and password'],
    [403, 'IO', 'does not give this file'],
    [407, 'IO', 'proxy'],
    [418, 'IO', 'status 418'],
    [503, 'IO', 'status 503'],
  ] as const)('status %d is %s', async (status, code, words) => {
    const { error, server } = await refused(
      { bytes: content, before: (_request, response) => taken(response.writeHead(status).end('no')) },
      code,
    )
    expect(error.data.status).toBe(status)
    expect(error.message).toContain(words)
    expect(server.requests.length).toBe(status === 503 ? 3 : 1)
  })

  test('a busy server is asked again, when it says so', async () => {
    const served: Served = { bytes: content }
    served.before = (_request, response, count) =>
      count === 1 && taken(response.writeHead(503, { 'retry-after': '0' }).end())
    const { device } = await open(served)
    expect(device.requests).toBe(2)
  })

  test('nobody there, and no server of that name', async () => {
    const server = await serveFile({ bytes: content })
    await server.close()
    const error = await failure(openHttp(server.url, { timing: fast }), 'IO')
    expect(error.message).toMatch(/nothing answers there: .*ECONNREFUSED/)
    const nameless = await failure(openHttp('http://liveos-no-such-host.invalid/x', { timing: fast }), 'IO')
    expect(nameless.message).toContain('no server of that name is found: check the address')
  })

  test.each(['ftp://host/x', 'file:///etc/passwd', '/etc/passwd', 'http://', 'https://user:secret@:99999/'])(
    '%s is no address for it',
    async url => {
      const error = await failure(openHttp(url), 'USAGE')
      expect(JSON.stringify(error)).not.toContain('secret')
    },
  )
})

describe('answers that are wrong', () => {
  const later = (wrong: Served['before']): Served => ({
    bytes: content,
    before: (request, response, count) => count > 1 && wrong!(request, response, count),
  })
  test.each<[string, Record<string, string>, number, string]>([
    ['another range', { 'content-range': 'bytes 0-65535/1000003' }, 65_536, 'bytes 0 to 65536'],
    ['a shorter range', { 'content-range': 'bytes 131072-131073/1000003' }, 2, 'bytes 131072 to 131074'],
    ['no range', {}, 65_536, 'no Content-Range'],
    ['many ranges', { 'content-type': 'multipart/byteranges; boundary=x' }, 65_536, 'multipart'],
    ['a range that ends before it starts', { 'content-range': 'bytes 131072-5/1000003' }, 65_536, 'bytes 131072-5'],
    ['a range past 2^53', { 'content-range': 'bytes 131072-99999999999999999/*' }, 65_536, '99999999999999999'],
    ['another length', { 'content-range': 'bytes 131072-196607/1000003', 'content-length': '3' }, 3, '3 bytes'],
    ['too few bytes', { 'content-range': 'bytes 131072-196607/1000003' }, 65_530, 'sends 65530'],
    ['too many bytes', { 'content-range': 'bytes 131072-196607/1000003' }, 65_540, 'sends more'],
  ])('%s is IO', async (_title, headers, length, words) => {
    const { device } = await open(
      later((_request, response) => {
        response.writeHead(206, headers)
        response.end(content.subarray(0, length))
        return true
      }),
    )
    const error = await failure(device.read(131_072, 10), 'IO')
    expect(error.message).toContain(words)
    expect(device.requests).toBe(2)
  })

  test('a compressed part is UNSUPPORTED', async () => {
    const served: Served = { bytes: content }
    const { device } = await open(served)
    served.headers = { 'content-encoding': 'br' }
    await failure(device.read(131_072, 10), 'UNSUPPORTED')
  })

  test('a first answer that is not the first bytes is IO', async () => {
    for (const range of ['bytes 1-65536/1000003', 'bytes 0-65534/1000003', 'x'])
      await refused(
        {
          bytes: content,
          before: (_, response) => taken(response.writeHead(206, { 'content-range': range }).end('x')),
        },
        'IO',
      )
  })

  test('a size past 2^53 is none', async () => {
    await refused(
      {
        bytes: content,
        before: (_, response) =>
          taken(response.writeHead(206, { 'content-range': 'bytes 0-65535/9007199254740993' }).end('x')),
      },
      'IO',
    )
  })

  test('no HTTP at all is IO', async () => {
    await refused({ bytes: content, before: request => taken(request.socket.end('what?\r\n\r\n')) }, 'IO')
  })
})

describe('files that change', () => {
  const date = (seconds: number): string => new Date(seconds * 1000).toUTCString()
  test.each<[string, Partial<Served>, Partial<Served>]>([
    ['the strong ETag', { etag: '"1"' }, { etag: '"2"' }],
    ['the weak ETag', { etag: 'W/"1"' }, { etag: 'W/"2"' }],
    ['the ETag of a server without If-Range', { etag: '"1"', ifRange: false }, { etag: '"2"' }],
    ['the date', { lastModified: date(1e9) }, { lastModified: date(1e9 + 1) }],
    ['the size alone', {}, { bytes: content.subarray(0, 999_999) }],
    ['the size, to less than what is asked for', {}, { bytes: content.subarray(0, 100) }],
  ])('%s tells it', async (_title, before, after) => {
    const served: Served = { bytes: content, ...before }
    const { device } = await open(served)
    await device.read(200_000, 10)
    Object.assign(served, after)
    const error = await failure(device.read(500_000, 10), 'IO')
    expect(error.message).toContain('the file on the server changed while it was read')
  })

  test('in the middle of a range that was cut', async () => {
    const served: Served = { bytes: content, etag: '"1"', cutAfter: 100_000 }
    const { device, server } = await open(served)
    // the second of the two parts comes from the new file
    served.before = (_request, response, count) => {
      if (count === 2) response.on('close', () => (served.etag = '"2"'))
      return undefined
    }
    const error = await failure(device.read(131_072, 500_000), 'IO')
    expect(error.message).toContain('changed')
    expect(server.requests.at(-1)!.headers['if-range']).toBe('"1"')
  })

  test('a server that takes no If-Range is asked without, and versions are compared', async () => {
    const { device, server } = await open({ bytes: content, etag: '"1"', ifRange: false })
    const reads = [200_000, 400_000, 600_000].map(at => device.read(at, 10))
    for (const [n, bytes] of (await Promise.all(reads)).entries())
      sameBytes(bytes, content.subarray(200_000 * (n + 1), 200_000 * (n + 1) + 10))
    expect(server.requests.at(-1)!.headers['if-range']).toBeUndefined()
  })

  test('a weak ETag is not sent, the date is', async () => {
    const { device, server } = await open({ bytes: content, etag: 'W/"1"', lastModified: date(1e9) })
    await device.read(200_000, 10)
    expect(server.requests.at(-1)!.headers['if-range']).toBe(date(1e9))
  })
})

describe('connections that break', () => {
  test('are taken up where they broke', async () => {
    const served: Served = { bytes: content }
    const { device, server } = await open(served)
    served.cutAfter = 200_000
    sameBytes(await device.read(131_072, 600_000), content.subarray(131_072, 731_072))
    // three cuts; how many bytes of each came through is the system's affair
    expect(server.asked.length).toBeGreaterThanOrEqual(4)
    expect(new Set(server.asked).size).toBe(server.asked.length)
  })

  test('are given up after some attempts that bring nothing', async () => {
    const served: Served = { bytes: content }
    const { device, server } = await open(served)
    served.before = request => taken(request.socket.destroy())
    await failure(device.read(131_072, 10), 'IO')
    expect(server.requests.length).toBe(1 + fast.attempts)
    served.before = () => undefined
    sameBytes(await device.read(131_072, 10), content.subarray(131_072, 131_082))
  })

  test('are given up in any case when each attempt brings a byte', async () => {
    const served: Served = { bytes: content }
    const { device, server } = await open(served)
    served.cutAfter = 1
    await failure(device.read(131_072, 10), 'IO')
    expect(server.requests.length).toBeLessThanOrEqual(33)
  })

  test('a server that says nothing, before or in the middle, is not waited for', async () => {
    const served: Served = { bytes: content }
    const { device } = await open(served)
    served.before = () => true
    const error = await failure(device.read(131_072, 10), 'IO')
    expect(error.message).toContain('sent nothing for 0.3 s')
    served.before = (request, response) => {
      if (!request.headers.range?.startsWith('bytes=131072-')) return true
      response.writeHead(206, { 'content-range': 'bytes 131072-196607/1000003', 'content-length': 65_536 })
      response.write('begin')
      return true
    }
    expect((await failure(device.read(131_072, 10), 'IO')).data.errno).toBe('ETIMEDOUT')
  })

  test('a slow server is waited for while it sends', async () => {
    const served: Served = { bytes: content }
    const { device } = await open(served)
    served.before = (_request, response) => {
      response.writeHead(206, { 'content-range': 'bytes 131072-196607/1000003', 'content-length': 65_536 })
      let at = 131_072
      const timer = setInterval(() => {
        response.write(content.subarray(at, at + 8192))
        at += 8192
        if (at === 196_608) {
          clearInterval(timer)
          response.end()
        }
      }, 100)
      return true
    }
    sameBytes(await device.read(131_072, 65_536), content.subarray(131_072, 196_608))
  })

  test('the signal ends reads, waits and what comes later', async () => {
    const stop = new AbortController()
    const served: Served = { bytes: content }
    const { device } = await open(served, {
      signal: stop.signal,
      timing: { ...fast, idleMs: 60_000, backoffMs: 60_000 },
    })
    served.before = (request, _response, count) => taken(count === 2 && request.socket.destroy())
    const reading = [device.read(131_072, 10), device.read(500_000, 10)].map(read => failure(read, 'CANCELLED'))
    setTimeout(() => stop.abort(), 50)
    await Promise.all(reading)
    await failure(device.read(0, 10), 'CANCELLED')
    await failure(openHttp((await serveFile(served)).url, { signal: stop.signal }), 'CANCELLED')
  })

  test('closing ends reads', async () => {
    const served: Served = { bytes: content }
    const { device } = await open(served)
    served.before = () => true
    const reading = failure(device.read(131_072, 10), 'IO')
    await device.close()
    expect((await reading).message).toContain('was closed')
  })
})

describe('redirects', () => {
  const to = (target: () => string, status = 302): Served => ({
    bytes: content,
    before: (_request, response) => taken(response.writeHead(status, { location: target() }).end()),
  })

  test('are followed, once for all reads', async () => {
    const mirror = await serveFile({ bytes: content })
    const { device } = await open(to(() => mirror.url, 301))
    expect(device.requests).toBe(2)
    sameBytes(await device.read(500_000, 10), content.subarray(500_000, 500_010))
    expect([device.requests, mirror.requests.length]).toEqual([3, 2])
  })

  test('relative ones too; not without end, and not to nowhere', async () => {
    const { device } = await open({
      bytes: content,
      before: (request, response) =>
        request.url === '/image.iso' && taken(response.writeHead(307, { location: 'other?x=1' }).end()),
    })
    sameBytes(await device.read(0, 5), content.subarray(0, 5))
    const loop = await refused(
      to(() => '/image.iso'),
      'IO',
    )
    expect([loop.server.requests.length, loop.error.message]).toEqual([11, expect.stringContaining('loop')])
    for (const target of ['ftp://x/y', 'http://[', ''])
      await refused(
        to(() => target),
        'IO',
      )
    await refused({ bytes: content, before: (_, response) => taken(response.writeHead(302).end()) }, 'IO')
  })

  test('an address that expired is asked for anew', async () => {
    let key = 1
    const mirror = await serveFile({
      bytes: content,
      before: (request, response) => request.url !== `/?key=${key}` && taken(response.writeHead(403).end()),
    })
    const { device } = await open(to(() => `http://127.0.0.1:${mirror.port}/?key=${key}`))
    key++
    sameBytes(await device.read(500_000, 10), content.subarray(500_000, 500_010))
    key = 0
    mirror.close()
  })

  test('name and password go to their server and to no other, and are never shown', async () => {
    const mirror = await serveFile({ bytes: content })
    const server = await serveFile({
      bytes: content,
      before: (request, response) =>
        request.url === '/go' && taken(response.writeHead(302, { location: mirror.url }).end()),
    })
    const wanted = `Basic ${Buffer.from('user:s3cret word').toString('base64')}`
    const url = `http://user:s3cret%20word@127.0.0.1:${server.port}`
    const device = await openHttp(`${url}/image.iso?token=t0ken#part`)
    opened.push(device)
    expect(server.requests[0]!.headers.authorization).toBe(wanted)
    expect(server.requests[0]!.url).toBe('/image.iso?token=t0ken')
    expect(device.name).toBe(`http://127.0.0.1:${server.port}/image.iso?…`)
    opened.push(await openHttp(`${url}/go`))
    expect(mirror.requests[0]!.headers.authorization).toBeUndefined()
    server.close()
    const error = await failure(openHttp(`${url}/image.iso?token=t0ken`, { timing: fast }), 'IO')
    expect(JSON.stringify(error) + error.stack + String(error.cause)).not.toMatch(/s3cret|t0ken|user/)
  })
})

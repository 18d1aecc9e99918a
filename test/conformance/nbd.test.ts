import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, expect, it } from 'vitest'
import type { Device, WritableDevice } from '../../src/block/device.js'
import { createFile, openFile, openWritableFile } from '../../src/block/file.js'
import { linear } from '../../src/block/linear.js'
import { memory } from '../../src/block/memory.js'
import { openWritableSnapshot } from '../../src/block/snapshot/writable.js'
import { type NbdServer, openServer, type ServerOptions } from '../../src/nbd/server.js'
import { identity } from '../support/nbd-tls.js'
import { sameBytes } from '../support/outcome.js'
import { random } from '../support/random.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const run = promisify(execFile)
const at = temporary()
const MIB = 1 << 20
const open: (() => Promise<void>)[] = []
let made = 0

afterEach(async () => {
  for (const close of open.splice(0)) await close()
})

const served = async (
  device: Device | WritableDevice,
  options: Partial<ServerOptions> & { readOnly?: boolean } = {},
): Promise<NbdServer> => {
  const { readOnly = false, ...rest } = options
  const path = await at(`c${made++}.sock`)
  const server = await openServer([{ device, readOnly, description: 'a view', preferredBlockSize: 131072 }], {
    place: { path },
    ...rest,
  })
  open.push(() => server.close())
  return server
}

/** 6 MiB with holes of several sizes, and what is in it. */
const holed = (): { device: Device; bytes: Buffer; dataBytes: number } => {
  const { bytes: some } = random(7)
  const parts = [MIB, -2 * MIB, 65536, -4096, 65536, -MIB, 100_000, -8192, 1_000_000, -300_000, 512].map(length =>
    length > 0 ? some(length) : -length,
  )
  const device = linear(
    parts.map(part =>
      typeof part === 'number' ? { length: part } : { length: part.length, device: memory(part, 'part') },
    ),
    'holed',
  )
  const bytes = Buffer.concat(parts.map(part => (typeof part === 'number' ? Buffer.alloc(part) : part)))
  return {
    device,
    bytes,
    dataBytes: parts.reduce<number>((sum, part) => sum + (typeof part === 'number' ? 0 : part.length), 0),
  }
}

interface NbdExport {
  readonly 'export-name': string
  readonly 'export-size': number
  readonly description?: string
  readonly [flag: string]: unknown
}

const libnbd = needTools('nbdinfo', 'nbdcopy')
const qemu = needTools('qemu-img', 'qemu-io')
const tls = needTools('nbdcopy', 'qemu-img', 'openssl')

libnbd.describe('libnbd', () => {
  it('reads what an export is', async () => {
    const { device, bytes } = holed()
    const info = async (uri: string) =>
      JSON.parse((await run('nbdinfo', ['--json', uri])).stdout) as {
        protocol: string
        structured: boolean
        exports: NbdExport[]
      }
    const { uri } = await served(device)
    const { protocol, structured, exports } = await info(uri)
    expect({ protocol, structured }).toEqual({ protocol: 'newstyle-fixed', structured: true })
    expect(exports[0]).toMatchObject({
      'export-name': '',
      'export-size': bytes.length,
      contexts: ['base:allocation'],
      is_read_only: true,
      can_df: true,
      can_multi_conn: true,
      can_trim: false,
      can_zero: false,
      block_size_minimum: 1,
      block_size_preferred: 131072,
      block_size_maximum: 32 * MIB,
    })
    const writable = await info((await served(memory(new Uint8Array(4096)))).uri)
    expect(writable.exports[0]).toMatchObject({
      is_read_only: false,
      can_flush: true,
      can_fua: true,
      can_multi_conn: true,
    })
    const { stdout } = await run('nbdinfo', ['--list', '--json', uri])
    expect((JSON.parse(stdout) as { exports: NbdExport[] }).exports[0]).toMatchObject({
      'export-name': '',
      description: 'a view',
    })
  })

  it('sees the holes where they are', async () => {
    const { device } = holed()
    const { uri } = await served(device)
    const map = JSON.parse((await run('nbdinfo', ['--map', '--json', uri])).stdout) as {
      offset: number
      length: number
      type: number
    }[]
    const expected: { offset: number; length: number; type: number }[] = []
    const add = (to: number, type: number): void => {
      const from = expected.reduce((sum, { length }) => sum + length, 0)
      expected.push({ offset: from, length: to - from, type })
    }
    // borders are told in sectors, and what a hole loses is data
    let offset = 0
    for (const length of [MIB, -2 * MIB, 65536, -4096, 65536, -MIB, 100_000, -8192, 1_000_000, -300_000, 512]) {
      if (length < 0) {
        add(Math.ceil(offset / 512) * 512, 0)
        add(Math.floor((offset - length) / 512) * 512, 3)
      }
      offset += Math.abs(length)
    }
    add(offset, 0)
    expect(map.map(({ offset, length, type }) => ({ offset, length, type }))).toEqual(expected)
  })

  it.each([
    ['--connections=1'],
    ['--connections=4'],
    ['--connections=8', '--requests=128'],
    ['--synchronous'],
    ['--request-size=4096'],
  ])('copies all bytes, and holes as holes: nbdcopy %s', async (...how) => {
    const { device, bytes, dataBytes } = holed()
    const { uri } = await served(device)
    const copy = await at(`copy${made++}`)
    await run('nbdcopy', [...how, uri, copy])
    sameBytes(await readFile(copy), bytes)
    const { blocks } = await stat(copy)
    expect(blocks * 512).toBeLessThan(dataBytes + 128 * 1024)
  })

  it('writes by several connections at once into an overlay, and all of it is there', async () => {
    const origin = memory(random(3).bytes(8 * MIB), 'origin')
    const store = await createFile(await at('store.cow'))
    await store.truncate(12 * MIB)
    const overlay = await openWritableSnapshot(origin, store)
    const { uri } = await served(overlay)
    open.push(() => store.close())
    const source = await at('source')
    const bytes = randomBytes(8 * MIB)
    await writeFile(source, bytes)
    await run('nbdcopy', ['--flush', '--connections=4', source, uri])
    sameBytes(await overlay.read(0, 8 * MIB), bytes)
    expect(overlay.store.exceptions.count).toBe(2048)
    const back = await at('back')
    await run('nbdcopy', [uri, back])
    sameBytes(await readFile(back), bytes)
  })

  it('a full overlay is no space to it', async () => {
    const store = await createFile(await at('small.cow'))
    await store.truncate(MIB)
    const overlay = await openWritableSnapshot(memory(new Uint8Array(4 * MIB)), store)
    const { uri } = await served(overlay)
    open.push(() => store.close())
    const source = await at('large')
    await writeFile(source, randomBytes(4 * MIB))
    await expect(run('nbdcopy', [source, uri])).rejects.toThrow('No space left on device')
  })
})

qemu.describe('qemu', () => {
  it('converts, maps and compares', async () => {
    const { device, bytes } = holed()
    const { uri } = await served(device)
    const copy = await at('qemu.img')
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', uri, copy])
    // it rounds up to sectors
    sameBytes((await readFile(copy)).subarray(0, bytes.length), bytes)
    await truncate(copy, bytes.length)
    await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', copy, uri]).catch(async () => {
      // an image that is no multiple of a sector is longer for qemu; its zeros are no difference
      await truncate(copy, Math.ceil(bytes.length / 512) * 512)
      await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', copy, uri])
    })
    const map = JSON.parse((await run('qemu-img', ['map', '--output=json', '-f', 'raw', uri])).stdout) as {
      start: number
      length: number
      zero: boolean
    }[]
    expect(map[0]).toMatchObject({ start: 0, length: MIB, zero: false })
    expect(map[1]).toMatchObject({ start: MIB, length: 2 * MIB, zero: true })
    const info = JSON.parse((await run('qemu-img', ['info', '--output=json', '-f', 'raw', uri])).stdout) as Record<
      string,
      unknown
    >
    expect(info['virtual-size']).toBe(Math.ceil(bytes.length / 512) * 512)
  })

  it('finds a difference where there is one', async () => {
    const bytes = random(5).bytes(MIB)
    const other = new Uint8Array(bytes)
    other[700_000]! ^= 1
    const [{ uri: a }, { uri: b }] = [await served(memory(bytes)), await served(memory(other))]
    const compared = run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', a, b])
    await expect(compared).rejects.toMatchObject({
      code: 1,
      stdout: expect.stringContaining('mismatch at offset 699904'),
    })
  })

  it('writes, reads and flushes, aligned and not', async () => {
    const path = await at('io.img')
    await writeFile(path, Buffer.alloc(MIB, 0x11))
    const file = await openWritableFile(path)
    const { uri } = await served(file)
    open.push(() => file.close())
    const commands = [
      'write -P 0x22 4096 8192',
      'write -f -P 0x33 100001 777',
      'write -z 500000 1000',
      'flush',
      'read -P 0x11 0 4096',
      'read -P 0x22 4096 8192',
      'read -P 0x33 100001 777',
      'read -P 0 500000 1000',
      'aio_write -P 0x44 600000 30000',
      'aio_write -P 0x55 700000 30000',
      'aio_flush',
      'read -P 0x44 600000 30000',
      'read -P 0x55 700000 30000',
    ]
    const { stdout } = await run('qemu-io', ['-f', 'raw', ...commands.flatMap(line => ['-c', line]), uri])
    expect(stdout).not.toMatch(/fail|error/i)
    const expected = Buffer.alloc(MIB, 0x11)
    expected.fill(0x22, 4096, 12288)
    expected.fill(0x33, 100001, 100778)
    expected.fill(0, 500000, 501000)
    expected.fill(0x44, 600000, 630000)
    expected.fill(0x55, 700000, 730000)
    sameBytes(await readFile(path), expected)
  })

  it('is told that a read-only export is one', async () => {
    const { uri } = await served(memory(new Uint8Array(MIB)), { readOnly: true })
    const { stdout, stderr } = await run('qemu-io', ['-f', 'raw', '-r', '-c', 'read -P 0 0 1M', uri])
    expect(stdout + stderr).toContain('read 1048576/1048576')
    await expect(run('qemu-io', ['-f', 'raw', '-c', 'write 0 512', uri])).rejects.toThrow()
  })
})

tls.describe('TLS', () => {
  it('libnbd and qemu read through it, and not without', async () => {
    const { ca: _, paths, ...own } = await identity(at)
    const device = await openFile(paths.ca)
    const bytes = await readFile(paths.ca)
    const server = await served(device, { tls: own, place: { host: '127.0.0.1', port: 0 } })
    const { port } = server.place as { port: number }
    const folder = dirname(paths.ca)
    expect(server.uri).toBe(`nbds://127.0.0.1:${port}/`)
    const copy = await at('tls.copy')
    await run('nbdcopy', [`nbds://localhost:${port}/?tls-certificates=${folder}`, copy])
    sameBytes(await readFile(copy), bytes)
    await run('qemu-img', [
      ...['convert', '--object', `tls-creds-x509,id=t,endpoint=client,dir=${folder}`, '--image-opts'],
      ...[`driver=nbd,host=127.0.0.1,port=${port},tls-creds=t`, '-O', 'raw', copy],
    ])
    sameBytes((await readFile(copy)).subarray(0, bytes.length), bytes)
    await expect(run('nbdinfo', [`nbd://localhost:${port}/`])).rejects.toThrow()
    await device.close()
  })

  it('who has no certificate of the authority is not let in where one is wanted', async () => {
    const { paths, ...own } = await identity(at)
    const server = await served(memory(new Uint8Array(512)), { tls: own, place: { host: '127.0.0.1', port: 0 } })
    const { port } = server.place as { port: number }
    const folder = dirname(paths.ca)
    const without = `nbds://localhost:${port}/?tls-certificates=${folder}`
    await expect(run('nbdinfo', ['--size', without])).rejects.toThrow()
    // the server's own will do as a client's: the authority is the same
    const mine = await at('client/x')
    await mkdir(dirname(mine), { recursive: true })
    for (const [from, to] of [
      [paths.ca, 'ca-cert.pem'],
      [paths.cert, 'client-cert.pem'],
      [paths.key, 'client-key.pem'],
    ] as const)
      await writeFile(`${dirname(mine)}/${to}`, await readFile(from))
    const { stdout } = await run('nbdinfo', ['--size', `nbds://localhost:${port}/?tls-certificates=${dirname(mine)}`])
    expect(stdout.trim()).toBe('512')
  })
})

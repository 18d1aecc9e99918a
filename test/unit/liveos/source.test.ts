import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { openSource } from '../../../src/liveos/source.js'
import { serveFile } from '../../support/http-server.js'
import { failure } from '../../support/outcome.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
let at: (name: string) => string

/** An MBR with these partitions: type, first sector, sectors. */
const mbr = (size: number, records: readonly (readonly [number, number, number])[]): Buffer => {
  const bytes = Buffer.alloc(size)
  for (const [n, [type, start, length]] of records.entries()) {
    bytes[446 + n * 16 + 4] = type
    bytes.writeUInt32LE(start, 446 + n * 16 + 8)
    bytes.writeUInt32LE(length, 446 + n * 16 + 12)
  }
  bytes.writeUInt16LE(0xaa55, 510)
  return bytes
}

beforeAll(async () => {
  const first = await path('disk.img')
  at = name => join(dirname(first), name)
  const disk = mbr(1 << 20, [
    [0x0c, 64, 64],
    [0x82, 128, 128],
    [0x83, 0x7000_0000, 8],
    [0x05, 512, 512],
  ])
  disk.write('hsqs', 64 * 512, 'latin1')
  disk.write('SWAPSPACE2', 128 * 512 + 4086, 'latin1')
  await writeFile(first, disk)
  await writeFile(at('empty'), '')
  await writeFile(at('tiny'), 'x')
  await mkdir(at('directory/LiveOS'), { recursive: true })
  await mkdir(at('plain'))
})

describe('openSource', () => {
  it('partitions with what they hold, why one can’t be read, and none behind the end', async () => {
    const source = await openSource(at('disk.img'))
    expect(source).toMatchObject({ kind: 'image', table: { scheme: 'mbr' }, tableFailure: undefined })
    expect(
      source.volumes.map(({ partition, type, fs, failure: why }) => [partition?.number, type, !!fs, why?.code]),
    ).toEqual([
      // a mark and nothing behind it
      [1, 'squashfs', false, expect.any(String)],
      [2, 'swap', false, 'UNSUPPORTED'],
      [4, undefined, false, undefined],
    ])
    expect(source.table!.findings.map(({ code }) => code)).toContain('PARTITION_BEYOND_END')
    await source.close()
  })

  it('nothing that is known, nothing at all', async () => {
    for (const name of ['empty', 'tiny']) {
      const { volumes, close } = await openSource(at(name))
      expect(volumes).toMatchObject([{ type: undefined, fs: undefined, failure: undefined }])
      await close()
    }
  })

  it('a directory', async () => {
    const source = await openSource(at('directory'))
    expect(source).toMatchObject({ kind: 'directory', device: undefined, table: undefined })
    expect((await source.volumes[0]!.fs!.list('/')).map(({ name }) => name)).toEqual(['LiveOS'])
    await source.close()
  })

  it('an address, by the same ranges', async () => {
    const server = await serveFile({ bytes: mbr(1 << 20, [[0x0c, 64, 64]]) })
    const source = await openSource(server.url)
    expect(source).toMatchObject({ kind: 'url', table: { scheme: 'mbr' } })
    await source.close()
    await server.close()
    await failure(openSource(server.url), 'IO')
  })

  it.each([
    ['disk.img/etc', 'disk.img:/etc'],
    ['disk.img/etc/passwd', 'disk.img:/etc/passwd'],
    ['disk.img:etc', 'disk.img:/etc'],
    ['disk.img:/etc', 'disk.img:/etc'],
    ['directory:home', 'directory:/home'],
    ['directory/home', 'directory:/home'],
  ])('%s is told how to be written', async (name, words) => {
    const { message } = await failure(openSource(at(name)), 'NOT_FOUND')
    expect(message).toMatch(new RegExp(`is written .*/${words}$`))
  })

  it.each(['none', 'plain/x', 'none/x', 'plain/no:where'])('%s is only missing', async name => {
    expect((await failure(openSource(at(name)), 'NOT_FOUND')).message).toBe(`there is no ${at(name)}`)
  })

  it('what is neither file nor directory', async () => {
    expect((await failure(openSource('/dev/null'), 'USAGE')).message).toContain('neither a directory nor a file')
  })
})

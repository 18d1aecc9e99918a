import { execFileSync } from 'node:child_process'
import { mkdir, open, readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { bisectSize } from '../../../src/block/bisect.js'
import { extentsOf, isSparse } from '../../../src/block/device.js'
import { createFile, openFile, openWritableFile } from '../../../src/block/file.js'
import { deviceContract, writableDeviceContract } from '../../contract/device.js'
import { collect } from '../../support/collect.js'
import { failure, sameBytes } from '../../support/outcome.js'
import { random } from '../../support/random.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
const content = random(7).bytes(70_001)
let made = 0
const written = async (bytes = content): Promise<string> => {
  const file = await path(`file${made++}`)
  await writeFile(file, bytes)
  return file
}

deviceContract('file', async () => ({ device: await openFile(await written()), bytes: content }))
deviceContract('empty file', async () => ({
  device: await openFile(await written(new Uint8Array(0))),
  bytes: new Uint8Array(0),
}))
deviceContract('file of one hole', async () => {
  const file = await written(new Uint8Array(0))
  await truncate(file, 100_000)
  return { device: await openFile(file), bytes: new Uint8Array(100_000) }
})
deviceContract('growing file', async () => {
  const device = await createFile(await path('grown'))
  await device.truncate(5000)
  await device.write(8000, content)
  return { device, bytes: Buffer.concat([new Uint8Array(8000), content]) }
})
writableDeviceContract('writable file', async () => ({
  device: await openWritableFile(await written()),
  bytes: content,
}))
writableDeviceContract('growing file', async () => {
  const device = await createFile(await path(`growing${made++}`))
  await device.write(0, content)
  return { device, bytes: content }
})

describe('openFile', () => {
  test('is named after its path, or as asked', async () => {
    const file = await written()
    const plain = await openFile(file)
    const named = await openFile(file, { name: 'overlay of sdb1' })
    expect([plain.name, plain.path, named.name]).toEqual([file, file, 'overlay of sdb1'])
    await plain.close()
    await named.close()
  })

  test('refuses what holds no bytes at offsets', async () => {
    const directory = await path('directory')
    await mkdir(directory)
    expect((await failure(openFile(directory), 'USAGE')).message).toContain('directory')
    await failure(openFile('/dev/null'), 'USAGE')
    const pipe = await path('pipe')
    execFileSync('mkfifo', [pipe])
    await failure(openFile(pipe), 'USAGE')
    const error = await failure(openFile(await path('missing')), 'NOT_FOUND')
    expect(error.message).toContain('missing')
  })

  test('gives IO, not short data, where the file has become shorter', async () => {
    const file = await written()
    const device = await openFile(file)
    await truncate(file, 30_000)
    const error = await failure(device.read(29_000, 2000), 'IO')
    expect(error.message).toContain(file)
    expect(error.message).toContain('30000')
    sameBytes(await device.read(29_000, 1000), content.subarray(29_000, 30_000))
    await device.close()
  })

  test('names the path when the system fails', async () => {
    const file = await written()
    const device = await openFile(file)
    await device.close()
    const error = await failure(device.read(0, 1), 'IO')
    expect(error.message).toContain(file)
  })

  test('knows a sparse file from a full one', async () => {
    const file = await written(new Uint8Array(0))
    await truncate(file, 1 << 20)
    const hole = await openFile(file)
    // Where the filesystem tells nothing, all is data, and that is right too.
    const kind = hole.hasHoles ? 'hole' : 'data'
    expect(await collect(extentsOf(hole))).toEqual([{ offset: 0, length: 1 << 20, kind }])
    await hole.close()
    const handle = await open(file, 'r+')
    await handle.write(content, 0, 4096, 500_000)
    await handle.sync()
    await handle.close()
    const sparse = await openFile(file)
    expect(await collect(extentsOf(sparse))).toEqual([{ offset: 0, length: 1 << 20, kind: 'data' }])
    if (kind === 'hole') {
      expect(sparse.hasHoles).toBe(true)
      expect(sparse.allocated).toBeGreaterThanOrEqual(4096)
    }
    await sparse.close()
    const full = await openFile(await written())
    expect(full.hasHoles).toBe(false)
    await full.close()
  })

  test('knows the size of a block device', async context => {
    for (const name of await readdir('/sys/class/block').catch(() => [])) {
      const sectors = Number(await readFile(`/sys/class/block/${name}/size`, 'utf8').catch(() => '0'))
      const device = sectors > 0 ? await openFile(`/dev/${name}`).catch(() => undefined) : undefined
      if (!device) continue
      expect(device.size).toBe(sectors * 512)
      expect(device.hasHoles).toBe(false)
      // The way of systems without /sys must come to the same end.
      const byReading = await bisectSize(async offset => {
        const handle = await open(device.path)
        const { bytesRead } = await handle.read(Buffer.alloc(1), 0, 1, offset).finally(() => handle.close())
        return bytesRead > 0
      })
      expect(byReading).toBe(device.size)
      expect((await device.read(device.size - 512, 512)).length).toBe(512)
      await device.close()
      return
    }
    context.skip('no block device here that may be read')
  })

  test('keeps its file open while it is in use', async () => {
    const device = await openFile(await written())
    for (let round = 0; round < 20; round++) {
      // Enough garbage to make a collection likely; a handle that nobody held would be closed by it.
      for (let index = 0; index < 200; index++) new Uint8Array(100_000)
      expect((await device.read(round, 1))[0]).toBe(content[round])
    }
    await device.close()
  })
})

describe('openWritableFile', () => {
  test('has a fixed size and says so', async () => {
    const device = await openWritableFile(await written())
    await failure(device.write(70_000, new Uint8Array(2)), 'OUT_OF_RANGE')
    // Written at any time, so what was a hole when it was opened says nothing.
    expect(isSparse(device)).toBe(false)
    await device.close()
  })

  test('does not make files', async () => {
    await failure(openWritableFile(await path('not there')), 'NOT_FOUND')
  })
})

describe('createFile', () => {
  test('grows as it is written, and reads zero in between', async () => {
    const file = await createFile(await path('grows'))
    expect(file.size).toBe(0)
    await file.write(10_000, content.subarray(0, 10))
    expect(file.size).toBe(10_010)
    sameBytes(await file.read(0, 10_000), new Uint8Array(10_000))
    await file.truncate(20_000)
    expect(file.size).toBe(20_000)
    await file.truncate(10_005)
    await failure(file.read(10_000, 6), 'OUT_OF_RANGE')
    await file.flush()
    await file.close()
    expect((await readFile(file.path)).length).toBe(10_005)
  })

  test('keeps its size right when written concurrently', async () => {
    const file = await createFile(await path('concurrent'))
    await Promise.all(
      Array.from({ length: 50 }, (_, index) =>
        file.write(index * 1000, content.subarray(index * 1000, (index + 1) * 1000)),
      ),
    )
    expect(file.size).toBe(50_000)
    sameBytes(await file.read(0, 50_000), content.subarray(0, 50_000))
    await file.close()
  })

  test('empties what is there, unless it must be new', async () => {
    const there = await written()
    expect((await failure(createFile(there, { exclusive: true }), 'REFUSED')).message).toContain(there)
    const file = await createFile(there)
    expect(file.size).toBe(0)
    await file.close()
    await failure(createFile('/dev/null'), 'USAGE')
    await failure(createFile(await path('no directory/file')), 'NOT_FOUND')
  })

  test('sets the permissions asked for', async () => {
    const file = await createFile(await path('private'), { mode: 0o600, exclusive: true })
    await file.close()
    const handle = await open(file.path)
    expect((await handle.stat()).mode & 0o777).toBe(0o600)
    await handle.close()
  })
})

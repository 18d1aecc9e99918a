import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { expect } from 'vitest'
import { memory } from '../../src/block/memory.js'
import { snapshot } from '../../src/block/snapshot/snapshot.js'
import { runDoctor } from '../../src/ops/doctor.js'
import { withExportedFile } from '../../src/ops/exported-root.js'
import { kernelFixture } from '../support/kernel-fixtures.js'
import { failure } from '../support/outcome.js'
import { changesBetween } from '../support/overlay-stack.js'
import { fileHash, layPair, type Pair, recovered, viewHash } from '../support/recovering.js'
import { finished } from '../support/small-stick.js'
import { storeOf } from '../support/store-writer.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const { it, describe } = needTools('e2fsck', 'nbdfuse', 'fusermount3')
const path = temporary()
const sh = promisify(execFile)

const pairOf = async (name: string, folder: string): Promise<Pair> => {
  const fixture = kernelFixture(name)
  return layPair(await path(folder), await fixture.image('origin.img'), await fixture.image('cow.img'))
}

// The same input gives the same repair, to the byte.
const repairedAt = async <T>(run: () => Promise<T>): Promise<T> => {
  const before = process.env.E2FSCK_TIME
  process.env.E2FSCK_TIME = '1700000000'
  try {
    return await run()
  } finally {
    if (before === undefined) delete process.env.E2FSCK_TIME
    else process.env.E2FSCK_TIME = before
  }
}

describe('e2fsck on an export of the root', () => {
  it('repairs what it does on a copy, and as much of the overlay is written', async () => {
    const [exported, copied] = [await pairOf('fs-ext4-invalid', 'export'), await pairOf('fs-ext4-invalid', 'copy')]
    const size = 12 << 20
    const byExport = await repairedAt(() => recovered(exported, { fsckOn: 'export', size }))
    const byCopy = await repairedAt(() => recovered(copied, { fsckOn: 'copy', size }))
    expect(byExport.fsck).toMatchObject({ on: 'export', code: 1 })
    expect(byCopy.fsck).toMatchObject({ on: 'copy', code: 1 })
    expect(byExport.fsck!.changedBytes).toBe(byCopy.fsck!.changedBytes)
    expect(await viewHash(exported)).toBe(await viewHash(copied))
    expect(await fileHash(exported.overlay)).toBe(await fileHash(copied.overlay))
  })

  it('is stopped with all that serves it, and nothing of the stick has changed', async () => {
    const pair = await pairOf('fs-ext4-invalid', 'stopped')
    const before = await fileHash(pair.overlay)
    const controller = new AbortController()
    const description = {
      input: pair.input,
      layer: 'root',
      salvage: {},
      throwAway: true,
    } as const
    let seen = ''
    const error = await failure(
      withExportedFile(
        description,
        async file => {
          seen = file.path
          controller.abort()
          const { checkExt4Image } = await import('../../src/host/fsck.js')
          return checkExt4Image(file.path, controller.signal)
        },
        controller.signal,
      ),
      'CANCELLED',
    )
    expect(error.code).toBe('CANCELLED')
    expect(seen).toContain('nbd')
    expect(await readFile('/proc/self/mountinfo', 'utf8')).not.toContain(seen.replace(/\/nbd$/, ''))
    expect(await fileHash(pair.overlay)).toBe(before)
  })

  it('holes that a program punches into the file, and ranges that it zeroes, are zeros', async () => {
    const pair = await pairOf('fs-ext4', 'punched')
    const done = await withExportedFile(
      { input: pair.input, layer: 'root', throwAway: true },
      async ({ path: file }) => {
        const words = async (command: string): Promise<string> => (await sh('sh', ['-c', command])).stdout.trim()
        const nonZero = `dd if=${file} bs=4096 skip=1 count=64 iflag=direct status=none | tr -d '\\0' | wc -c`
        const before = Number(await words(nonZero))
        await words(`fallocate -p -o 4096 -l 65536 ${file}`)
        await words(`fallocate -z -o 69632 -l 196608 ${file}`)
        return { before, after: Number(await words(nonZero)) }
      },
    )
    expect(done!.value.before).toBeGreaterThan(0)
    expect(done!.value.after).toBe(0)
  })

  it('is what doctor asks by itself, and without it only its own look is left', async () => {
    const pair = await pairOf('fs-ext4', 'doctor')
    const before = await fileHash(pair.overlay)
    const asked = await finished(runDoctor(pair.input))
    expect(asked.fsck).toMatchObject({ program: 'e2fsck', code: 0 })
    expect((await finished(runDoctor(pair.input, { fsck: false }))).fsck).toBeNull()
    // a link count that is wrong, which none of our own looks tells
    const base = await readFile(pair.base)
    const blockSize = 1024 << new DataView(base.buffer, base.byteOffset + 1024).getUint32(24, true)
    const group = new DataView(base.buffer, base.byteOffset + Math.max(2048, blockSize))
    const table = group.getUint32(8, true) * blockSize
    const inodeSize = new DataView(base.buffer, base.byteOffset + 1024).getUint16(88, true)
    const spoilt = new Uint8Array(base)
    spoilt[table + inodeSize + 26]! ^= 0x40
    await writeFile(pair.overlay, storeOf(changesBetween(new Uint8Array(base), spoilt, 4096), 8, 64))
    const found = await finished(runDoctor(pair.input))
    expect(found.fsck?.code).toBeGreaterThanOrEqual(4)
    const told = found.findings.find(({ code }) => code === 'FSCK_ERRORS')
    expect(told?.message).toMatch(/: Inode 2 passes checks, but checksum does not match/)
    expect(told?.message).not.toMatch(/Pass \d|e2fsck \d|\? no/)
    expect(found.remedies).toEqual([{ verb: 'recover' }])
    expect(await fileHash(pair.overlay)).not.toBe(before)
  })
})

const xfs = needTools('xfs_repair', 'nbdfuse', 'fusermount3')
xfs.describe('an XFS root', () => {
  const laid = async (folder: string): Promise<Pair> => {
    const pair = await pairOf('fs-xfs', folder)
    const cow = await readFile(pair.overlay)
    cow[4] = 0
    await writeFile(pair.overlay, cow)
    return pair
  }

  for (const fsckOn of ['export', 'copy'] as const)
    xfs.it(`comes back with its log clean: xfs_repair on ${fsckOn === 'export' ? 'an' : 'a'} ${fsckOn}`, async () => {
      const pair = await laid(`xfs-${fsckOn}`)
      const done = await recovered(pair, { fsckOn })
      expect(done).toMatchObject({ changed: true, clearedInvalid: true, fsck: { program: 'xfs_repair', on: fsckOn } })
      expect(await viewHash(pair)).toBe(kernelFixture('fs-xfs').facts.merged_sha256)
    })

  xfs.it('whose log has to be replayed is refused, and by --drop-log it goes', async () => {
    const pair = await laid('xfs-dirty')
    const root = await dirtied(pair)
    const before = await fileHash(pair.overlay)
    const looked = await finished(runDoctor(pair.input))
    expect(looked.findings.map(({ code }) => code)).not.toContain('FSCK_ERRORS')
    expect(looked.findings.find(({ code }) => code === 'XFS_LOG_DIRTY')).toMatchObject({
      severity: 'warning',
      remedy: expect.stringMatching(/--no-fsck', then boot the stick once.*--drop-log' throws them away/),
    })
    expect(looked.remedies).toEqual([])
    const error = await failure(recovered(pair), 'REFUSED')
    expect(error.message).toMatch(/log.*--no-fsck.*--drop-log/)
    expect(await fileHash(pair.overlay)).toBe(before)
    const done = await recovered(pair, { dropLog: true })
    expect(done).toMatchObject({ changed: true, fsck: { program: 'xfs_repair' } })
    expect(root).toBeGreaterThan(0)
    // it is clean now: another run has nothing to throw away
    expect(await recovered(pair)).toMatchObject({ changed: false })
  })
})

/**
 * Makes the log of the XFS one that was not ended: the unmount record, its last, is taken away.
 *
 * @returns  offset of that record in the root
 */
const dirtied = async ({ base, overlay }: Pair): Promise<number> => {
  const [origin, cow] = [new Uint8Array(await readFile(base)), new Uint8Array(await readFile(overlay))]
  cow[4] = 1
  const view = await snapshot(memory(origin), memory(cow))
  const root = await view.read(0, view.size)
  const fields = new DataView(root.buffer)
  const [blockSize, logStart, logBlocks] = [fields.getUint32(4), Number(fields.getBigUint64(48)), fields.getUint32(96)]
  const [agBlocks, agLog] = [fields.getUint32(84), fields.getUint8(124)]
  const at = (Math.floor(logStart / 2 ** agLog) * agBlocks + (logStart % 2 ** agLog)) * blockSize
  let last = 0
  for (let offset = at; offset < at + logBlocks * blockSize; offset += 512)
    if (fields.getUint32(offset) === 0xfeedbabe && fields.getUint32(offset + 4) > 0) last = Math.max(last, offset)
  const dirty = root.slice()
  // flags of its first operation header: an unmount record no more
  const flags = last + 512 + 9
  if ((dirty[flags]! & 0x20) === 0) throw new Error(`no unmount record at ${last}`)
  dirty[flags]! &= ~0x20
  await writeFile(overlay, storeOf(changesBetween(origin, dirty, 4096), 8, 256))
  const bytes = new Uint8Array(await readFile(overlay))
  bytes[4] = 0
  await writeFile(overlay, bytes)
  return last
}

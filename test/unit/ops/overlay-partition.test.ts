import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, readlink, rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeEach, describe, expect, it } from 'vitest'
import { lockFile } from '../../../src/host/file-lock.js'
import { parsePartitionName, storePartitions } from '../../../src/liveos/overlay-place.js'
import { findTarget, type TargetInput } from '../../../src/liveos/target.js'
import { planCompact, runCompact } from '../../../src/ops/compact.js'
import { compactStateName, findCompact } from '../../../src/ops/compact-state.js'
import { runDoctor } from '../../../src/ops/doctor.js'
import { planGrow } from '../../../src/ops/grow.js'
import { planMergeInPlace, runMergeInPlace } from '../../../src/ops/merge-in-place.js'
import { planRecover } from '../../../src/ops/recover.js'
import { runRecover } from '../../../src/ops/recover-run.js'
import { planReset, runReset } from '../../../src/ops/reset.js'
import { findPersistent } from '../../../src/ops/serve-view.js'
import { readStatus } from '../../../src/ops/status.js'
import { planTable } from '../../../src/ops/table.js'
import { planUndo, runUndo } from '../../../src/ops/undo.js'
import { beginChange } from '../../../src/ops/undo-journal.js'
import { failure } from '../../support/outcome.js'
import { type Laid, splitImage, writePartitions } from '../../support/partitioned.js'
import { bytesOf, CHUNK, finished, sha256, viewOf } from '../../support/small-stick.js'
import { storeOf } from '../../support/store-writer.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
let count = 0

const ROOT = bytesOf(1, 64 * CHUNK)
const CHANGES = [3, 7, 8, 40].map(oldChunk => ({ oldChunk, content: bytesOf(100 + oldChunk, CHUNK) }))
const MERGED = ROOT.slice()
for (const { oldChunk, content } of CHANGES) MERGED.set(content, oldChunk * CHUNK)
const SIZE = 2 << 20

/** A store as large as its partition. */
const storeBytes = (change: (bytes: Uint8Array) => void = () => {}): Uint8Array => {
  const bytes = new Uint8Array(SIZE)
  bytes.set(storeOf(CHANGES, 8, SIZE / CHUNK - 2 - CHANGES.length))
  change(bytes)
  return bytes
}
const invalid = (bytes: Uint8Array): void => void bytes.fill(0, 4, 8)

interface Disk {
  readonly dir: string
  readonly image: string
  readonly part: Laid
  readonly input: { base: string; overlay: string }
  /** bytes that no verb may touch */
  readonly rest: string
}

const disk = async (change?: (bytes: Uint8Array) => void, behind = 0): Promise<Disk> => {
  const dir = await path(`disk${count++}`)
  const image = join(dir, 'stick.img')
  await mkdir(dir)
  const other = bytesOf(9, 1 << 20)
  const laid = await writePartitions(image, [other, other, storeBytes(change)], behind)
  const base = join(dir, 'rootfs.img')
  await writeFile(base, ROOT)
  const rest = sha256((await splitImage(image, laid[2]!)).rest)
  return { dir, image, part: laid[2]!, input: { base, overlay: `${image}:3` }, rest }
}

const partNow = async ({ image, part }: Disk): Promise<Uint8Array> => (await splitImage(image, part)).part
const restNow = async ({ image, part }: Disk): Promise<string> => sha256((await splitImage(image, part)).rest)

describe('a partition as it is named', () => {
  it.each([
    ['stick.img:3', { disk: 'stick.img', number: 3 }],
    ['/dev/sdb:12', { disk: '/dev/sdb', number: 12 }],
    ['a:b:3', { disk: 'a:b', number: 3 }],
    ['stick.img', undefined],
    ['stick.img:', undefined],
    [':3', undefined],
    ['stick.img:0', undefined],
    ['stick.img:03', undefined],
    ['stick.img:/3', undefined],
    ['stick.img:99999', undefined],
  ])('%s', (text, expected) => expect(parsePartitionName(text)).toEqual(expected))

  it('is told of where there is none, with those there are', async () => {
    const { dir, image } = await disk()
    const named = (overlay: string) => findTarget({ base: join(dir, 'rootfs.img'), overlay })
    expect((await failure(named(`${image}:4`), 'NOT_FOUND')).message).toContain('has no partition 4: there are 1, 2, 3')
    expect((await failure(named(`${join(dir, 'rootfs.img')}:1`), 'NOT_FOUND')).message).toContain('has no partitions')
    await failure(named(`${join(dir, 'nothing')}:3`), 'NOT_FOUND')
    await failure(named(`${dir}:3`), 'USAGE')
    expect((await failure(named(image), 'USAGE')).message).toContain(`--overlay ${image}:3`)
    // begins with zeros, as an overlay does that was never used, and holds none
    const none = await disk(bytes => void bytes.fill(0))
    const whole = failure(findTarget({ base: none.input.base, overlay: none.image }), 'USAGE')
    expect((await whole).message).toContain('is a disk with partitions, and no overlay itself')
  })

  it('a file of that very name is the file', async () => {
    const { image, input } = await disk()
    await writeFile(`${image}:3`, storeOf([], 8, 20))
    expect((await findTarget(input)).overlay?.facts.kind).toBe('file')
  })

  it('that the table puts past the end of the image is as long as the image has it', async () => {
    const one = await disk()
    const bytes = await readFile(one.image)
    await writeFile(one.image, bytes.subarray(0, one.part.start + SIZE / 2))
    expect((await findTarget(one.input)).overlay?.facts.size).toBe(SIZE / 2)
    await writeFile(one.image, bytes.subarray(0, one.part.start))
    await failure(findTarget(one.input), 'NOT_FOUND')
  })
})

describe('what reads', () => {
  let one: Disk
  beforeEach(async () => {
    one = await disk()
  })

  it('status, usage and the merged view are those of the same store in a file', async () => {
    const file = join(one.dir, 'overlay.img')
    await writeFile(file, storeBytes())
    const beside = { ...one.input, overlay: file }
    const numbers = async (input: TargetInput) => {
      const { overlay } = await readStatus(input)
      return { ...overlay, path: null }
    }
    expect(await numbers(one.input)).toEqual(await numbers(beside))
    expect((await readStatus(one.input)).overlay).toMatchObject({ path: one.input.overlay, size: SIZE, exceptions: 4 })
    expect(await viewOf(one.input)).toBe(sha256(MERGED))
  })

  it('doctor: an invalid one, with a remedy that can be typed', async () => {
    one = await disk(invalid)
    const found = await finished(runDoctor(one.input, { fsck: false }))
    expect(found.overlay).toMatchObject({ path: one.input.overlay, damage: 'invalid', exceptions: 4 })
    const remedy = found.findings.find(({ code }) => code === 'OVERLAY_INVALID')?.remedy
    expect(remedy).toBe(`liveos recover --base ${one.input.base} --overlay ${one.input.overlay}`)
  })

  it('a table for the kernel attaches the partition', async () => {
    const { script } = await planTable(one.input)
    expect(script).toMatch(new RegExp(`losetup.*--offset[ =]${one.part.start}\\b.*${one.image}`))
  })
})

describe('recover', () => {
  it('takes an invalid one back, keeps its journal beside the image, and undo brings each byte back', async () => {
    const one = await disk(invalid)
    const before = sha256(await partNow(one))
    const target = await findTarget(one.input)
    const plan = await planRecover(target, { fsck: false })
    expect(plan).toMatchObject({ damage: 'invalid', clearsInvalid: true, size: { before: SIZE, after: SIZE } })
    const done = await finished(runRecover(target, plan))
    expect(done).toMatchObject({ changed: true, undo: 'stick.img.partition3.undo' })
    expect((await readdir(one.dir)).filter(name => name.endsWith('.undo'))).toEqual(['stick.img.partition3.undo'])
    expect(await viewOf(one.input)).toBe(sha256(MERGED))
    expect(await restNow(one)).toBe(one.rest)
    const again = await findTarget(one.input)
    await finished(runUndo(again, await planUndo(again)))
    expect(sha256(await partNow(one))).toBe(before)
    expect(await restNow(one)).toBe(one.rest)
    expect((await readdir(one.dir)).filter(name => name.endsWith('.undo'))).toEqual([])
  })

  it('says that it is a partition where it has no room, and takes no size', async () => {
    const chunks = SIZE / CHUNK
    const full = Array.from({ length: chunks - 4 }, (_, n) => n)
    const one = await disk(bytes =>
      bytes.set(
        storeOf(
          full.map(oldChunk => ({ oldChunk, content: new Uint8Array(CHUNK) })),
          8,
          0,
        ).subarray(0, SIZE),
      ),
    )
    await writeFile(one.input.base, new Uint8Array(chunks * CHUNK))
    const target = await findTarget(one.input)
    const plan = await planRecover(target, { fsck: false })
    const found = plan.findings.find(({ code }) => code === 'NO_ROOM_TO_GROW')
    expect(plan.size.after).toBe(null)
    expect(found?.remedy).toContain(`liveos grow --base ${one.input.base} --overlay ${one.image}:3 --size +512M`)
    expect((await failure(planRecover(target, { fsck: false, size: 2 * SIZE }), 'USAGE')).message).toMatch(/partition/)
  })

  it('refuses where the image has changed since the plan', async () => {
    const one = await disk(invalid)
    const target = await findTarget(one.input)
    const plan = await planRecover(target, { fsck: false })
    const bytes = await readFile(one.image)
    bytes[one.part.start + 3 * CHUNK]! ^= 1
    await writeFile(`${one.image}.other`, bytes)
    await rename(`${one.image}.other`, one.image)
    await failure(finished(runRecover(target, plan)), 'REFUSED')
  })
})

describe('a link', () => {
  it('to the image: the way back lies beside the image, and is found by either name', async () => {
    const one = await disk(invalid)
    const links = await path(`links${count++}`)
    await mkdir(links)
    await symlink(one.image, join(links, 'link.img'))
    const target = await findTarget({ ...one.input, overlay: `${join(links, 'link.img')}:3` })
    const done = await finished(runRecover(target, await planRecover(target, { fsck: false })))
    expect(done.undo).toBe('stick.img.partition3.undo')
    expect(await readdir(links)).toEqual(['link.img'])
    const again = await findTarget(one.input)
    await finished(runUndo(again, await planUndo(again)))
    expect(sha256(await partNow(one))).toBe(sha256(storeBytes(invalid)))
  })

  it('to an image with a reset that was cut short: its partition is found by either name', async () => {
    const one = await disk(bytes => void bytes.fill(0, 0, 512))
    await writeFile(join(one.dir, 'stick.img.partition3.reset'), storeBytes().subarray(0, 65536))
    const links = await path(`links${count++}`)
    await mkdir(links)
    await symlink(one.image, join(links, 'link.img'))
    const [found, byLink] = [await storePartitions(one.image), await storePartitions(join(links, 'link.img'))]
    expect(found.map(({ partition }) => partition)).toEqual([3])
    expect(byLink).toEqual(found)
  })

  it('to an overlay in a file: compacted, it is still a link to it', async () => {
    const one = await disk()
    const [file, link] = [join(one.dir, 'overlay.img'), join(one.dir, 'link')]
    await writeFile(file, storeBytes())
    await symlink('overlay.img', link)
    const input = { base: one.input.base, overlay: link }
    expect(await findCompact(input)).toMatchObject({ overlay: undefined })
    await writeFile(join(one.dir, compactStateName('overlay.img')), 'x')
    expect(await findCompact(input)).toMatchObject({ overlay: 'overlay.img' })
    await finished(runCompact(input, await planCompact(input, { size: 1 << 20 })))
    expect(await readlink(link)).toBe('overlay.img')
    expect((await readFile(file)).length).toBe(1 << 20)
    expect(await viewOf(input)).toBe(sha256(MERGED))
  })
})

describe('reset', () => {
  it('empties the partition and nothing else', async () => {
    const one = await disk()
    const target = await findTarget(one.input)
    const done = await finished(runReset(target, await planReset(target)))
    expect(done).toMatchObject({ overlay: one.input.overlay, clearedBytes: 65536 })
    expect(await viewOf(one.input)).toBe(sha256(ROOT))
    expect(await restNow(one)).toBe(one.rest)
    expect((await readdir(one.dir)).sort()).toEqual(['rootfs.img', 'stick.img'])
  })

  it('not a partition that holds something else', async () => {
    const one = await disk()
    const target = await findTarget({ ...one.input, overlay: `${one.image}:1` })
    await failure(planReset(target), 'REFUSED')
  })
})

describe('verbs that change files', () => {
  it('grow says by which command its partition gets the size', async () => {
    const one = await disk(undefined, 8 << 20)
    const told = async (size: Parameters<typeof planGrow>[1]['size']): Promise<string> =>
      (await failure(planGrow(one.input, { size }), 'REFUSED')).message
    expect(await told({ by: 4 << 20 })).toContain(`echo ', 6144KiB' | sfdisk -N 3 ${one.image}`)
    expect(await told({ by: 4 << 20 })).not.toContain('truncate')
    expect(await told(64 << 20)).toContain(`truncate -s +${(64 << 20) - SIZE - (7 << 20)} ${one.image} && echo`)
    expect(await told(CHUNK)).toMatch(/holds more than/)
    const first = { ...one.input, overlay: `${one.image}:1` }
    await writePartitions(one.image, [storeBytes(), bytesOf(2, 1 << 20)])
    expect((await failure(planGrow(first, { size: 64 << 20 }), 'REFUSED')).message).toContain(
      '0 bytes behind it are free',
    )
  })

  it('compact says how a copy is compacted', async () => {
    const one = await disk()
    const { data } = await failure(planCompact(one.input), 'REFUSED')
    expect(data.commands).toEqual([
      `dd if=${one.image} of=overlay-copy.img bs=1M iflag=skip_bytes,count_bytes skip=${one.part.start} count=${SIZE}`,
      `liveos compact --base ${one.input.base} --overlay overlay-copy.img --yes`,
      `dd if=overlay-copy.img of=${one.image} bs=1M oflag=seek_bytes seek=${one.part.start} conv=notrunc,fsync`,
    ])
  })

  it('merge in place empties it', async () => {
    const one = await disk()
    await finished(runMergeInPlace(one.input, await planMergeInPlace('merge', one.input)))
    expect(sha256(new Uint8Array(await readFile(one.input.base)))).toBe(sha256(MERGED))
    expect((await readStatus(one.input)).overlay.exceptions).toBe(0)
    expect(await restNow(one)).toBe(one.rest)
  })

  it('what was cut short there has the others refuse, and is told by doctor', async () => {
    const one = await disk()
    const { overlay } = await findTarget(one.input)
    const { file, close } = await beginChange(overlay!.folder, overlay!.name, { verb: 'recover' })
    await file.write(file.size - 100, new Uint8Array(100).fill(1))
    await close()
    for (const plan of [
      () => planGrow(one.input, { size: 64 << 20 }),
      () => findPersistent(one.input),
      () => planMergeInPlace('merge', one.input),
    ])
      expect((await failure(plan(), 'REFUSED')).message).toMatch(/liveos recover/)
    const found = await finished(runDoctor(one.input, { fsck: false }))
    expect(found.findings.map(({ code }) => code)).toContain('CHANGE_INTERRUPTED')
    const target = await findTarget(one.input)
    await finished(runUndo(target, await planUndo(target)))
    expect(sha256(await partNow(one))).toBe(sha256(storeBytes()))
  })

  it('two runs at once: the image is locked', async () => {
    const one = await disk(invalid)
    const target = await findTarget(one.input)
    const plan = await planRecover(target, { fsck: false })
    const lock = await lockFile(one.image)
    try {
      await failure(finished(runRecover(target, plan)), 'REFUSED')
    } finally {
      await lock.release()
    }
  })
})

const rootOnly = describe.skipIf(process.getuid?.() !== 0)

rootOnly('a block device', () => {
  const run = promisify(execFile)
  const attached = async (image: string): Promise<string | undefined> =>
    (await run('losetup', ['-f', '--show', image]).catch(() => undefined))?.stdout.trim()

  it('a partition of it, or all of it: the way back lies beside the base, as /dev lasts no longer than the computer is on', async context => {
    const one = await disk(invalid)
    const whole = join(one.dir, 'whole.img')
    await writeFile(whole, storeBytes(invalid))
    const devices = [await attached(one.image), await attached(whole)]
    try {
      if (!devices[0] || !devices[1]) return context.skip('no loop device can be had here')
      for (const overlay of [`${devices[0]}:3`, devices[1]]) {
        const input = { base: one.input.base, overlay }
        const target = await findTarget(input)
        expect(target.overlay?.facts).toMatchObject({ kind: 'other', size: SIZE })
        const done = await finished(runRecover(target, await planRecover(target, { fsck: false })))
        expect(await readdir(one.dir)).toContain(done.undo)
        expect(await viewOf(input)).toBe(sha256(MERGED))
        const told = (await failure(planGrow(input, { size: 64 << 20 }), 'REFUSED')).message
        expect(told).toMatch(/the overlay to a larger partition|with dd/)
        // a disk is no file that could be made longer
        expect(told).not.toMatch(/truncate|what follows/)
        const again = await findTarget(input)
        await finished(runUndo(again, await planUndo(again)))
        expect((await readStatus(input)).overlay.state).toBe('invalid')
        const last = await findTarget(input)
        await finished(runReset(last, await planReset(last)))
        expect(await viewOf(input)).toBe(sha256(ROOT))
      }
      expect(await restNow(one)).toBe(one.rest)
      // both on disks: nothing lasting lies beside either
      const bare = await findTarget({ base: devices[1], overlay: `${devices[0]}:3` })
      expect((await failure(planReset(bare), 'REFUSED')).message).toContain('dd if=')
    } finally {
      for (const device of devices) if (device) await run('losetup', ['-d', device])
    }
  })
})

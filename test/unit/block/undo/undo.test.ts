import { expect, it } from 'vitest'
import { createFile, type GrowingFile, openGrowingFile } from '../../../../src/block/file.js'
import { applyUndo } from '../../../../src/block/undo/apply.js'
import { comparedWith, readUndoJournal } from '../../../../src/block/undo/journal.js'
import { type Hold, mergeRanges, UNDO_HEADER_SIZE } from '../../../../src/block/undo/layout.js'
import { openUndoRecorder } from '../../../../src/block/undo/recorder.js'
import { failure, sameBytes } from '../../../support/outcome.js'
import { random } from '../../../support/random.js'
import { temporary } from '../../../support/temporary.js'

const path = temporary()
const HOLD: Hold = { offset: 4, during: new Uint8Array(4), after: new Uint8Array([1, 0, 0, 0]) }

const fileOf = async (name: string, bytes: Uint8Array): Promise<GrowingFile> => {
  const file = await createFile(await path(name))
  await file.write(0, bytes)
  return file
}
const contentOf = (file: GrowingFile): Promise<Uint8Array> => file.read(0, file.size)

it('gives back every byte and the old size after any writes, shrinking and growing', async () => {
  const { seed, below, bytes } = random()
  for (let round = 0; round < 25; round++) {
    const before = bytes(1 + below(60_000))
    const target = await fileOf(`target-${round}`, before)
    const journal = await createFile(await path(`journal-${round}`))
    const recorder = await openUndoRecorder(target, journal, { about: { round } })
    const model = { bytes: before.slice() }
    for (let n = 0; n < 12; n++) {
      if (below(5) === 0) {
        const size = below(80_000)
        await recorder.truncate(size)
        const next = new Uint8Array(size)
        next.set(model.bytes.subarray(0, size))
        model.bytes = next
        continue
      }
      const data = bytes(1 + below(9000))
      const offset = below(model.bytes.length + 5000)
      const next = new Uint8Array(Math.max(model.bytes.length, offset + data.length))
      next.set(model.bytes)
      next.set(data, offset)
      model.bytes = next
      await recorder.write(offset, data)
    }
    sameBytes(await contentOf(target), model.bytes)
    if (round % 2) await recorder.finish()
    const found = await readUndoJournal(journal)
    expect({ phase: found?.header.phase, about: found?.about }, `seed ${seed}`).toEqual({
      phase: round % 2 ? 'finished' : 'recording',
      about: { round },
    })
    await applyUndo(target, journal)
    sameBytes(await contentOf(target), before)
    // and again, as after a cut
    await applyUndo(target, journal)
    sameBytes(await contentOf(target), before)
    await Promise.all([target.close(), journal.close()])
  }
})

it('saves a page once, and flushes once for ranges that were protected together', async () => {
  const target = await fileOf('once', new Uint8Array(40_960).fill(7))
  const journal = await createFile(await path('once.undo'))
  let flushes = 0
  const counted: GrowingFile = Object.defineProperties({} as GrowingFile, {
    ...Object.getOwnPropertyDescriptors(journal),
    flush: {
      value: async () => {
        flushes++
        await journal.flush()
      },
    },
  })
  const recorder = await openUndoRecorder(target, counted, { about: 1 })
  expect(flushes).toBe(1)
  await recorder.protect([0, 8192, 20_480].map(offset => ({ offset, length: 10 })))
  expect(flushes).toBe(1)
  await Promise.all([0, 8192, 20_480].map(offset => recorder.write(offset, new Uint8Array(10))))
  await recorder.write(1, new Uint8Array(4000))
  expect({ flushes, saved: recorder.savedBytes }).toEqual({ flushes: 2, saved: 3 * 4096 })
  await Promise.all([target.close(), journal.close()])
})

it('held bytes are set first, let go last, and given back last', async () => {
  const before = new Uint8Array(20_000).fill(9)
  before.set([1, 0, 0, 0], 4)
  const target = await fileOf('held', before)
  const journal = await createFile(await path('held.undo'))
  const recorder = await openUndoRecorder(target, journal, { about: 'x', hold: HOLD })
  await recorder.hold()
  await recorder.write(5000, new Uint8Array(100))
  expect([...(await target.read(4, 4))]).toEqual([0, 0, 0, 0])
  const left = async () => comparedWith(target, (await readUndoJournal(journal))!)
  await recorder.finish()
  expect([...(await target.read(4, 4))]).toEqual([1, 0, 0, 0])
  expect(await left()).toBe('as left')
  await target.write(4, HOLD.during)
  expect(await left()).toBe('held')
  await target.write(4, new Uint8Array([2, 0, 0, 0]))
  expect(await left()).toBe('changed')
  await target.write(4, HOLD.after)
  await target.write(5050, new Uint8Array([3]))
  expect(await left()).toBe('changed')
  await target.write(5050, new Uint8Array([0]))
  expect(await left()).toBe('as left')
  // nobody watches this page
  await target.write(19_000, new Uint8Array([3]))
  expect(await left()).toBe('as left')
  await applyUndo(target, journal)
  before[19_000] = 3
  sameBytes(await contentOf(target), before)
  await Promise.all([target.close(), journal.close()])
})

it('a watched range tells of a write that no saved page saw', async () => {
  const target = await fileOf('watched', new Uint8Array(20_000))
  const journal = await createFile(await path('watched.undo'))
  const recorder = await openUndoRecorder(target, journal, { about: 'x' })
  await recorder.write(0, new Uint8Array([1]))
  await recorder.finish([{ offset: 19_000, length: 100 }])
  await target.write(19_050, new Uint8Array([1]))
  expect(await comparedWith(target, (await readUndoJournal(journal))!)).toBe('changed')
  await Promise.all([target.close(), journal.close()])
})

it('a torn end is left out; damage before what was flushed is told', async () => {
  const before = random(5).bytes(40_000)
  const target = await fileOf('torn', before)
  const journal = await createFile(await path('torn.undo'))
  const recorder = await openUndoRecorder(target, journal, { about: 'x' })
  for (const offset of [0, 10_000, 20_000, 30_000]) await recorder.write(offset, new Uint8Array(10))
  const whole = await contentOf(journal)
  const record = 512 + 4096
  const read = async (change: (bytes: Uint8Array) => Uint8Array) => {
    const copy = await fileOf('torn.copy', change(whole.slice()))
    try {
      return (await readUndoJournal(copy))?.saved.length
    } finally {
      await copy.close()
    }
  }
  expect(await read(bytes => bytes)).toBe(4)
  expect(await read(bytes => bytes.subarray(0, bytes.length - 1))).toBe(3)
  expect(await read(bytes => bytes.fill(0, bytes.length - 512))).toBe(3)
  expect(await read(bytes => bytes.subarray(0, UNDO_HEADER_SIZE + 100))).toBe(0)
  expect(await read(bytes => bytes.subarray(0, 4000))).toBe(undefined)
  expect(await read(bytes => bytes.subarray(0, UNDO_HEADER_SIZE).fill(0x5a))).toBe(undefined)
  for (const at of [8, 100, UNDO_HEADER_SIZE + 8, UNDO_HEADER_SIZE + 600, UNDO_HEADER_SIZE + record + 512 + 7, 520])
    await failure(
      read(bytes => {
        bytes[at]! ^= 0x10
        return bytes
      }),
      'CORRUPT',
    )
  await Promise.all([target.close(), journal.close()])
})

it('any flipped bit gives the same pages, fewer at the end, or an error', async () => {
  const { seed, below, bytes } = random()
  const target = await fileOf('flips', bytes(30_000))
  const journal = await createFile(await path('flips.undo'))
  const recorder = await openUndoRecorder(target, journal, { about: { a: 1 }, hold: HOLD })
  await recorder.hold()
  await recorder.write(9000, bytes(5000))
  await recorder.finish([{ offset: 0, length: 30_000 }])
  const whole = await contentOf(journal)
  const good = await readUndoJournal(journal)
  for (let n = 0; n < 300; n++) {
    const changed = whole.slice()
    changed[below(changed.length)]! ^= 1 << below(8)
    const copy = await fileOf('flips.copy', changed)
    const found = await readUndoJournal(copy).catch((error: unknown) => error)
    if (!(found instanceof Error)) expect(found, `seed ${seed}`).toEqual(good)
    await copy.close()
  }
  await Promise.all([target.close(), journal.close()])
})

it('a journal that fails once takes nothing more, and the target stays as it is', async () => {
  const target = await fileOf('fails', new Uint8Array(20_000).fill(5))
  const journal = await createFile(await path('fails.undo'))
  let fail = false
  const failing: GrowingFile = Object.defineProperties({} as GrowingFile, {
    ...Object.getOwnPropertyDescriptors(journal),
    flush: {
      value: async () => {
        if (fail) throw Object.assign(new Error('no'), { code: 'EIO' })
      },
    },
  })
  const recorder = await openUndoRecorder(target, failing, { about: 'x' })
  fail = true
  await expect(recorder.write(0, new Uint8Array(10))).rejects.toThrow('no')
  fail = false
  await expect(recorder.write(0, new Uint8Array(10))).rejects.toThrow('no')
  sameBytes(await contentOf(target), new Uint8Array(20_000).fill(5))
  await Promise.all([target.close(), journal.close()])
})

it('ranges are put together', () => {
  const range = (offset: number, length: number) => ({ offset, length })
  expect(mergeRanges([range(10, 5), range(0, 3), range(3, 2), range(12, 1), range(40, 10)], 45)).toEqual([
    range(0, 5),
    range(10, 5),
    range(40, 5),
  ])
})

it('opens a file again', async () => {
  const file = await fileOf('again', new Uint8Array(5))
  await file.close()
  const again = await openGrowingFile(await path('again'))
  expect(again.size).toBe(5)
  await again.close()
})

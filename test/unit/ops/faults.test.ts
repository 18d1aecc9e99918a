import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { LiveError } from '../../../src/error.js'
import { openSquashfs } from '../../../src/fs/squashfs/reader.js'
import { type Folder, openFolder } from '../../../src/host/folder.js'
import { findTarget } from '../../../src/liveos/target.js'
import { type MergeOptions, planMerge, runMerge } from '../../../src/ops/merge.js'
import { planRefresh, type RefreshOptions } from '../../../src/ops/refresh.js'
import { runRefresh } from '../../../src/ops/refresh-run.js'
import { type Fault, faultyDevice } from '../../support/faulty-device.js'
import { contentOf, recordingFolder, type Step } from '../../support/power-cut.js'
import { BLOCK, CHUNK, finished, sha256, smallStick, viewOf } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'
import { needTools } from '../../support/tools.js'

const path = temporary({ memory: true })
const { it: judged } = needTools('mksquashfs')
let count = 0

const fresh = async (options?: Parameters<typeof smallStick>[1]) => {
  const dir = await path(`stick${count++}`)
  const stick = await smallStick(join(dir, 'stick'), { packed: false, ...options })
  const stage = join(dir, 'stage')
  await mkdir(stage)
  return { ...stick, stage, live: join(stick.path, 'LiveOS'), input: { target: stick.path } }
}

const state = async (...folders: string[]): Promise<string> => {
  const files: string[] = []
  for (const folder of folders)
    for (const [name, bytes] of await contentOf(folder)) files.push(`${name} ${sha256(bytes)}`)
  return files.join('\n')
}

const METHODS = [
  { name: 'beside', raw: false, staged: false },
  { name: 'raw base', raw: true, staged: false },
  { name: 'staged', raw: false, staged: true },
] as const

const isWriting = ({ kind }: Step): boolean => kind !== 'unlink' && kind !== 'rename' && kind !== 'sync'

describe.concurrent('a refresh that fails or is stopped at any step', () => {
  for (const { name, raw, staged } of METHODS) {
    judged(`${name}: no space at any step`, async () => {
      const stick = await fresh({ raw })
      const { live, stage, input } = stick
      const options: RefreshOptions = staged ? { stage } : {}
      const before = await state(live, stage)
      const said = new Set<string>()
      for (let stop = 0; ; stop++) {
        const log: Step[] = []
        let fired = false
        // from this step on nothing can be written, as on a stick that stays full
        const wrapFolder = (folder: Folder) =>
          recordingFolder(folder, 0, 'posix', log, {}, step => {
            if (log.length < stop || !isWriting(step)) return
            fired = true
            throw new LiveError('NO_SPACE', 'no space left')
          })
        const result = await finished(runRefresh(input, await planRefresh(input, options), { wrapFolder })).catch(
          (error: unknown) => error,
        )
        if (!fired) {
          expect(result).toMatchObject({ overlayReset: true })
          break
        }
        expect(result, `step ${stop}`).toMatchObject({ code: 'NO_SPACE' })
        const { message } = result as LiveError
        if (message.includes('this run has changed nothing on the stick')) {
          said.add('unchanged')
          expect(await state(live, stage), `step ${stop}`).toBe(before)
          continue
        }
        if (message.includes("can't boot")) {
          said.add('restore')
          // room is there again: the old base comes back
          await finished(runRefresh(input, await planRefresh(input, { restore: true })))
          expect(await state(live, stage), `step ${stop}`).toBe(before)
          continue
        }
        said.add(message.includes('run refresh again to finish') ? 'finish' : message)
        await finished(runRefresh(input, await planRefresh(input, {})))
        expect(await viewOf(input)).toBe(sha256(stick.merged))
        expect((await readdir(live)).length + (await readdir(stage)).length, `step ${stop}`).toBe(2)
        break
      }
      expect([...said].sort()).toEqual(staged ? ['finish', 'restore', 'unchanged'] : ['finish', 'unchanged'])
    })

    judged(`${name}: stopped at any step`, async () => {
      const stick = await fresh({ raw })
      const { live, stage, input } = stick
      const options: RefreshOptions = staged ? { stage } : {}
      const before = await state(live, stage)
      let stopped = 0
      for (let stop = 0; ; stop++) {
        const log: Step[] = []
        const abort = new AbortController()
        const wrapFolder = (folder: Folder) =>
          recordingFolder(folder, 0, 'posix', log, {}, () => {
            if (log.length === stop) abort.abort()
          })
        const plan = await planRefresh(input, options)
        const result = await finished(runRefresh(input, plan, { wrapFolder, signal: abort.signal })).catch(
          (error: unknown) => error,
        )
        // what comes after the check is not stopped any more
        if (!(result instanceof LiveError)) {
          expect(result).toMatchObject({ overlayReset: true })
          expect(await viewOf(input)).toBe(sha256(stick.merged))
          break
        }
        expect(result.code, `step ${stop}: ${result.message}`).toBe('CANCELLED')
        stopped++
        if (result.message.includes('this run has changed nothing on the stick')) {
          expect(await state(live, stage), `step ${stop}`).toBe(before)
          continue
        }
        expect(staged && result.message).toContain('--restore')
        await finished(runRefresh(input, await planRefresh(input, { restore: true })))
        expect(await state(live, stage), `step ${stop}`).toBe(before)
      }
      expect(stopped).toBeGreaterThan(5)
    })
  }

  const MERGES: readonly Omit<MergeOptions, 'output'>[] = [{ format: 'raw' }, { format: 'squashfs', comp: 'gzip' }]
  for (const merge of MERGES)
    judged(`merge to ${merge.format}: no space, or stopped, leaves no file`, async () => {
      const { live, input, stage } = await fresh()
      const before = await state(live)
      const target = await findTarget(input)
      const output = join(stage, 'merged')
      let stops = 0
      for (const code of ['NO_SPACE', 'CANCELLED'] as const)
        for (let stop = 0; ; stop++) {
          const log: Step[] = []
          const abort = new AbortController()
          let fired = false
          const wrapFolder = (folder: Folder) =>
            recordingFolder(folder, 0, 'posix', log, {}, step => {
              if (log.length !== stop || step.kind === 'unlink') return
              fired = true
              if (code === 'NO_SPACE') throw new LiveError('NO_SPACE', 'no space left')
              abort.abort()
            })
          const plan = await planMerge(target, { ...merge, output })
          const result = await finished(runMerge(target, plan, { wrapFolder, signal: abort.signal })).catch(
            (error: unknown) => error,
          )
          if (!fired || !(result instanceof LiveError)) {
            expect(result).toMatchObject({ verb: 'merge' })
            expect(await readdir(stage)).toEqual(['merged'])
            await rm(output)
            break
          }
          expect(result.code, `step ${stop}`).toBe(code)
          expect(await readdir(stage), `step ${stop}`).toEqual([])
          stops++
          if (stop > 50) throw new Error('no end')
        }
      expect(stops).toBeGreaterThan(6)
      expect(await state(live)).toBe(before)
    })
})

/** A folder in which a part of one file can't be read. */
const badSpot = (folder: Folder, name: string, faults: readonly Fault[]): Folder => ({
  ...folder,
  open: async other => {
    const file = await folder.open(other)
    return other === name ? { ...file, ...faultyDevice(file, faults) } : file
  },
})

describe('a spot of the old base that can’t be read', () => {
  for (const raw of [false, true])
    judged(
      `${raw ? 'raw base' : 'squashfs'}: stops the refresh with its place, unless the overlay covers all of it`,
      async () => {
        const chunks = BLOCK / CHUNK
        const covered = Array.from({ length: chunks }, (_, n) => 5 * chunks + n)
        const outcomeOf = async (changed: readonly number[]) => {
          const stick = await fresh({ raw, changed })
          const { live, input } = stick
          const name = raw ? 'rootfs.img' : 'squashfs.img'
          const folder = await openFolder(live)
          const image = await folder.open(name)
          const at = raw
            ? { offset: 5 * BLOCK, size: BLOCK }
            : (await (await openSquashfs(image)).open('/LiveOS/rootfs.img')).stored(5)!
          await image.close()
          const faults = [{ from: at.offset, to: at.offset + at.size }]
          const before = await state(live)
          const plan = await planRefresh(input, {})
          const wrapFolder = (real: Folder) => badSpot(real, name, faults)
          const result = await finished(runRefresh(input, plan, { wrapFolder })).catch((error: unknown) => error)
          return {
            result,
            unchanged: (await state(live)) === before,
            view: (await viewOf(input)) === sha256(stick.merged),
            at,
          }
        }
        for (const changed of [[1], [1, 5 * chunks], covered.slice(1)]) {
          const { result, unchanged, at } = await outcomeOf(changed)
          expect(result).toMatchObject({ code: 'IO', data: { errno: 'EIO', offset: expect.any(Number) } })
          const { offset, length } = (result as LiveError).data as { offset: number; length: number }
          expect(offset < at.offset + at.size && offset + length > at.offset).toBe(true)
          expect((result as LiveError).message).toMatch(
            /injected EIO at \d+ .*this run has changed nothing on the stick/,
          )
          expect(unchanged).toBe(true)
        }
        const { result, view } = await outcomeOf(covered)
        expect(result).toMatchObject({ overlayReset: true })
        expect(view).toBe(true)
      },
    )
})

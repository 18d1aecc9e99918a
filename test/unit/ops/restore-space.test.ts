import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { restorePlanWords } from '../../../src/cli/backup.js'
import { paint } from '../../../src/cli/words.js'
import { LiveError } from '../../../src/error.js'
import type { Folder } from '../../../src/host/folder.js'
import { planBackup, runBackup } from '../../../src/ops/backup.js'
import { planRestore, runRestore } from '../../../src/ops/restore.js'
import { type Kind, recordingFolder, type Step } from '../../support/power-cut.js'
import { bytesOf, finished, OVERLAY, sha256, smallStick } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'

const path = temporary({ memory: true })
const CONFIG = 'label one\n  kernel vmlinuz\n  append root=live:LABEL=LIVE rd.live.image\n'
let stick: string
let live: string
let file: string
let names: readonly string[]

beforeAll(async () => {
  stick = await path('stick')
  await smallStick(stick, { raw: true })
  live = join(stick, 'LiveOS')
  await mkdir(join(stick, 'syslinux'))
  await writeFile(join(stick, 'syslinux/syslinux.cfg'), CONFIG)
  await writeFile(join(live, 'home.img'), bytesOf(4, 9000))
  file = `${stick}.tar.zst`
  names = [join(live, OVERLAY), join(live, 'home.img'), join(stick, 'syslinux/syslinux.cfg')]
  await finished(runBackup({ target: stick }, await planBackup({ target: stick }, file)))
})

const spoil = async (): Promise<void> => {
  for (const [n, name] of names.entries()) await writeFile(name, `what is there before, ${n}`)
}
const hashes = (): Promise<string[]> => Promise.all(names.map(async name => sha256(await readFile(name))))
const left = async (): Promise<string[]> => (await readdir(live)).filter(name => /\.(new|old|state)$/.test(name))

/** Restores onto a stick that has no room from some step on. @returns whether it came to that step */
const restore = async (kind: Kind, log: Step[], full: (step: Step) => boolean): Promise<unknown> => {
  const wrapFolder = (folder: Folder): Folder =>
    recordingFolder(folder, folder.path === live ? 0 : 1, kind, log, {}, step => {
      const takes = step.kind === 'write' || step.kind === 'create' || step.kind === 'truncate' || step.kind === 'flush'
      if (takes && full(step)) throw new LiveError('NO_SPACE', 'the stick is full')
    })
  const plan = await planRestore({ target: stick }, file)
  return finished(runRestore({ target: stick }, file, plan, { wrapFolder })).catch((error: unknown) => error)
}

describe.each(['posix', 'fat'] as const)('%s: a stick that is full at any step of a restore', kind => {
  it('has its old files whole until all new ones are verified, and nothing is left of those', async () => {
    await spoil()
    const old = await hashes()
    const whole: Step[] = []
    await restore(kind, whole, () => false)
    const fresh = await hashes()
    expect(fresh).not.toEqual(old)
    const swapped = whole.findIndex(({ kind: what }) => what === 'rename' || what === 'link')
    expect(swapped).toBeGreaterThan(5)
    let stops = 0
    for (let stop = 0; ; stop += kind === 'posix' ? 1 : 3) {
      await spoil()
      const log: Step[] = []
      let taken = 0
      let isFull = false
      const result = await restore(kind, log, () => (isFull ||= taken++ === stop))
      if (!isFull) break
      stops++
      expect(result, `step ${stop}`).toMatchObject({ code: 'NO_SPACE' })
      if (!log.some(({ kind: what }) => what === 'rename' || what === 'link')) {
        expect(await hashes(), `step ${stop}`).toEqual(old)
        if (!/run the same restore again/.test((result as LiveError).message))
          expect(await left(), `step ${stop}`).toEqual([])
      }
      await restore(kind, [], () => false)
      expect(await hashes(), `step ${stop}`).toEqual(fresh)
      expect(await left()).toEqual([])
    }
    expect(stops).toBeGreaterThan(kind === 'posix' ? 8 : 3)
  })
})

it('the plan says in numbers what it takes beside the old files, before anything is written', async () => {
  await spoil()
  const plan = await planRestore({ target: stick }, file)
  const bytes = plan.files.reduce((sum, { size }) => sum + size, 0)
  expect(plan.space!.neededBytes).toBeGreaterThanOrEqual(bytes)
  const words = restorePlanWords(plan, paint({ isTTY: false } as never)).join('\n')
  expect(words).toMatch(/space +[\d.]+ [KM]iB are needed beside the old files, [\d.]+ \w+ are free/)
  expect(await left()).toEqual([])
})

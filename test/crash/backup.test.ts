import { mkdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openFile } from '../../src/block/file.js'
import { isLiveError, LiveError } from '../../src/error.js'
import type { Folder } from '../../src/host/folder.js'
import { type BackupOutcome, planBackup, runBackup } from '../../src/ops/backup.js'
import { verifyBackup } from '../../src/ops/backup-write.js'
import {
  afterKill,
  type Faults,
  KINDS,
  type Kind,
  layOut,
  powerCuts,
  recordingFolder,
  type Step,
} from '../support/power-cut.js'
import { random } from '../support/random.js'
import { finished, smallStick } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'

const path = temporary({ memory: true })
let count = 0

const { seed, below } = random()

/** A stick whose content is more than one checkpoint apart, and what a whole backup of it does. */
const record = async (kind: Kind, faults: Faults = {}) => {
  const dir = await path(`backup${count++}`)
  const [stick, out] = [join(dir, 'stick'), join(dir, 'out')]
  await smallStick(stick, { raw: true })
  // no zeros, so that all of it is content; and quickly compressed
  const home = Buffer.alloc(2_200_000)
  for (let n = 0; n < home.length; n += 1000) home.fill(1 + (n % 255), n, n + 1000)
  await writeFile(join(stick, 'LiveOS/home.img'), home)
  await mkdir(out)
  const file = join(out, 'b.tar.zst')
  const run = async (log: Step[], before?: (step: Step) => void): Promise<BackupOutcome> => {
    const wrapFolder = (folder: Folder) => recordingFolder(folder, 0, kind, log, faults, before)
    return finished(runBackup({ target: stick }, await planBackup({ target: stick }, file), { wrapFolder }))
  }
  const log: Step[] = []
  const done = await run(log)
  return { kind, out, file, log, run, size: done.size }
}
type Recorded = Awaited<ReturnType<typeof record>>

/** What is wrong with the file; undefined where it is whole and right. */
const look = async (file: string): Promise<string | undefined> => {
  const device = await openFile(file)
  try {
    return (await verifyBackup(device, () => {}, undefined)) ? 'a checksum is wrong' : undefined
  } catch (error) {
    return String(error)
  } finally {
    await device.close()
  }
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )

/** Cuts a backup at each step, and gives what is wrong with the media. */
const judge = async ({ kind, out, file, log, run, size }: Recorded, most = 3, from = 0) => {
  const wrong: string[] = []
  let [states, resumed] = [0, 0]
  for (const medium of powerCuts([new Map()], log, kind, seed)) {
    if (medium.cut < from) continue
    states++
    await layOut(out, medium.folders[0]!)
    const what = `cut after ${medium.cut} steps`
    if (await exists(file)) {
      const found = await look(file)
      if (found) wrong.push(`${what}: ${found}`)
      // its name is there, so the run was at its end; on FAT the other name may be there too
      const again = await run([]).then(
        () => 'it was written once more',
        (error: unknown) => (isLiveError(error) && error.code === 'REFUSED' ? undefined : String(error)),
      )
      if (again) wrong.push(`${what}: ${again}`)
    } else {
      const done = await run([]).catch(String)
      if (typeof done === 'string') wrong.push(`${what}: second run: ${done}`)
      else {
        if (done.resumedBytes > 0) resumed++
        const found = await look(file)
        // one that starts again says another time of itself
        if (found) wrong.push(`${what}: ${found}`)
        else if (done.resumedBytes > 0 && done.size !== size) wrong.push(`${what}: ${done.size} bytes`)
        if (await exists(`${file}.part`)) wrong.push(`${what}: the part is left`)
      }
    }
    if (wrong.length >= most) break
  }
  return { wrong, states, resumed }
}

describe.each(KINDS)(`%s: a power cut at any step of a backup (seed ${seed})`, kind => {
  it('leaves no file or a whole one, and a second run goes on', async () => {
    const recorded = await record(kind)
    const { wrong, states, resumed } = await judge(recorded)
    console.log(
      `${kind}: ${recorded.log.length} steps, ${states} states, ${resumed} of them gone on with, seed ${seed}`,
    )
    expect(wrong).toEqual([])
    expect(states).toBeGreaterThan(20)
    expect(resumed).toBeGreaterThan(3)
  })

  it('a run that was killed is gone on with', async () => {
    const { log, out, run, size } = await record(kind)
    const end = log.findLastIndex(step => step.kind === 'write')
    await layOut(out, afterKill([new Map()], log.slice(0, end), kind).folders[0]!)
    const done = await run([])
    expect([done.size, done.resumedBytes > 0]).toEqual([size, true])
  })

  it.each(['NO_SPACE', 'IO'] as const)('%s at any step: what is written stays, and is gone on with', async code => {
    const recorded = await record(kind)
    for (let stop = 0; ; stop++) {
      await layOut(recorded.out, { files: new Map(), shared: [] })
      let taken = 0
      let fired = false
      const before = (): void => {
        if (taken++ < stop) return
        fired = true
        throw new LiveError(code, 'the disk gives up')
      }
      const result: unknown = await recorded.run([], before).catch((error: unknown) => error)
      if (!fired) break
      expect(result, `step ${stop}`).toMatchObject({ code })
      if (await exists(recorded.file)) continue
      await recorded.run([])
      expect(await look(recorded.file)).toBeUndefined()
    }
  })
})

describe('the test can fail', () => {
  it('nothing is flushed', async () => {
    const recorded = await record('posix', { noFlush: true })
    expect((await judge(recorded, 1, recorded.log.length)).wrong.length).toBeGreaterThan(0)
  })

  it('the file has its name before all of it is written', async () => {
    const recorded = await record('posix')
    const rename = recorded.log.findIndex(step => step.kind === 'rename')
    const write = recorded.log.findIndex(step => step.kind === 'write')
    const renamed = recorded.log
      .filter((_, index) => index !== rename)
      .flatMap(step => (step === recorded.log[write] ? [step, recorded.log[rename]!] : [step]))
      .map((step, index) => ('name' in step && index > write + 1 ? { ...step, name: 'b.tar.zst' } : step))
    expect((await judge({ ...recorded, log: renamed as Step[] }, 1)).wrong.length).toBeGreaterThan(0)
  })
})

it('a part with bytes turned over ends in a right backup all the same', async () => {
  const { log, out, run, file } = await record('posix')
  const end = log.findLastIndex(step => step.kind === 'write')
  const { files } = afterKill([new Map()], log.slice(0, end), 'posix').folders[0]!
  const [[name, bytes]] = files as unknown as [[string, Uint8Array]]
  for (let round = 0; round < 12; round++) {
    const spoilt = bytes.slice()
    for (let n = 0; n < 1 + below(4); n++) spoilt[below(spoilt.length)]! ^= 1 << below(8)
    await layOut(out, { files: new Map([[name, spoilt]]), shared: [] })
    await run([])
    expect(await look(file), `seed ${seed}`).toBeUndefined()
  }
})

import { truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { recoverPlanWords } from '../../../src/cli/recover.js'
import { statusWords } from '../../../src/cli/status.js'
import { runDoctor } from '../../../src/ops/doctor.js'
import { planRecover } from '../../../src/ops/recover.js'
import { runRecover } from '../../../src/ops/recover-run.js'
import { planReset, runReset } from '../../../src/ops/reset.js'
import { readStatus } from '../../../src/ops/status.js'
import { findTarget } from '../../../src/ops/target.js'
import { finished, OVERLAY, smallStick } from '../../support/small-stick.js'
import { storeOf } from '../../support/store-writer.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
let count = 0
/** A stick with an overlay of single sectors as chunks, of which the first 100 of the root are changed. */
const stickOf = async (chunkSectors = 1, changes = 100) => {
  const stick = await smallStick(await path(`stick${count++}`), { raw: true })
  const overlay = join(stick.path, 'LiveOS', OVERLAY)
  const bytes = storeOf(
    Array.from({ length: changes }, (_, oldChunk) => ({
      oldChunk,
      content: new Uint8Array(chunkSectors * 512).fill(oldChunk),
    })),
    chunkSectors,
    40,
  )
  await writeFile(overlay, bytes)
  return { overlay, bytes, input: { target: stick.path } }
}
const plain = { bold: String, good: String, warn: String, bad: String, faint: String }

it('an overlay that was cut off where its list went on lost at least what can be counted', async () => {
  // chunk 60 holds exception 57; the lists are chunks 1, 34 and 67
  const { overlay, input } = await stickOf()
  await truncate(overlay, 60 * 512)
  const found = await runDoctorOf(input)
  expect(found.find(({ code }) => code === 'OVERLAY_TRUNCATED')?.message).toContain(
    "57 changes can be had back, at least 7 entries follow that can't",
  )
  const target = await findTarget(input)
  const plan = await planRecover(target, { fsck: false })
  expect(plan.list).toMatchObject({ kept: 57, lost: 7, atLeast: true })
  expect(plan.lost[0]).toContain('at least 7 changed chunks')
  expect(recoverPlanWords(plan, plain, 'liveos undo stick').join('\n')).toContain(
    "at least 7 changed chunks can't be had back",
  )
  expect((await finished(runRecover(target, plan))).list).toMatchObject({ kept: 57, lost: 7, atLeast: true })
})

it('one that was cut off right behind a full list lost nobody knows how many', async () => {
  const { overlay, input } = await stickOf()
  await truncate(overlay, 34 * 512)
  const found = await runDoctorOf(input)
  expect(found.find(({ code }) => code === 'OVERLAY_TRUNCATED')?.message).toContain('nobody knows how many')
  const plan = await planRecover(await findTarget(input), { fsck: false })
  expect(plan.list).toMatchObject({ kept: 32, lost: 0, atLeast: true })
  expect(recoverPlanWords(plan, plain, 'liveos undo stick').join('\n')).toContain('nobody knows how many')
})

it('one whose list ended before the cut lost what is counted', async () => {
  const { overlay, input } = await stickOf(1, 60)
  await truncate(overlay, 60 * 512)
  const plan = await planRecover(await findTarget(input), { fsck: false })
  expect(plan.list).toMatchObject({ kept: 57, lost: 3, atLeast: false })
  expect(plan.lost[0]).toMatch(/^3 changed chunks/)
})

it.each([1, 8, 128])(
  'status tells the list behind a header that was cleared, chunks of %i sectors',
  async chunkSectors => {
    const { overlay, bytes, input } = await stickOf(chunkSectors, chunkSectors === 128 ? 3 : 50)
    await writeFile(overlay, bytes.fill(0, 0, 512))
    const status = await readStatus(input)
    expect(status).toMatchObject({ level: 'critical', overlay: { state: 'new' } })
    const finding = status.findings.find(({ code }) => code === 'OVERLAY_HEADER')!
    expect(finding.message).toContain(`${chunkSectors === 128 ? 3 : 50} changes`)
    expect(finding.remedy).toContain(`--chunk ${chunkSectors}'`)
    expect(statusWords(status, plain).join('\n')).toContain('new to a boot, but it holds changes')
    const target = await findTarget(input)
    await finished(runReset(target, await planReset(target)))
    expect(await readStatus(input)).toMatchObject({ level: 'ok', findings: [] })
  },
)

it('status of a new overlay full of old data, but without a list, is as it was', async () => {
  const { overlay, bytes, input } = await stickOf(8, 50)
  await writeFile(overlay, bytes.fill(0, 0, 65536))
  expect(await readStatus(input)).toMatchObject({ level: 'ok', findings: [], overlay: { state: 'new' } })
})

const runDoctorOf = async (input: { target: string }) => (await finished(runDoctor(input, { fsck: false }))).findings

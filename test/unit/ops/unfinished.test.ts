import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openFolder } from '../../../src/host/folder.js'
import { findTarget, type WritableTarget } from '../../../src/liveos/target.js'
import { planCompact, runCompact } from '../../../src/ops/compact.js'
import { runDoctor } from '../../../src/ops/doctor.js'
import { planGrow, runGrow } from '../../../src/ops/grow.js'
import { planMergeInPlace, runMergeInPlace } from '../../../src/ops/merge-in-place.js'
import { planRecover } from '../../../src/ops/recover.js'
import { planRefresh } from '../../../src/ops/refresh.js'
import { runRefresh } from '../../../src/ops/refresh-run.js'
import { planReset, runReset } from '../../../src/ops/reset.js'
import { createRestoreState, RESTORE_STATE, type RestoreStep } from '../../../src/ops/restore-state.js'
import { findPersistent } from '../../../src/ops/serve-view.js'
import { readStatus } from '../../../src/ops/status.js'
import { planUndo } from '../../../src/ops/undo.js'
import { beginChange } from '../../../src/ops/undo-journal.js'
import { failure } from '../../support/outcome.js'
import { CHUNK, finished, OVERLAY, smallStick } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'

const path = temporary({ memory: true })
let count = 0
const fresh = async (): Promise<{ live: string; input: { target: string } }> => {
  const { path: target } = await smallStick(await path(`stick${count++}`), { raw: true })
  return { live: join(target, 'LiveOS'), input: { target } }
}

/** A change of the overlay under a journal; finished, or as a cut leaves it. The last bytes of the file are nobody's. */
const change = async (live: string, end: 'finished' | 'cut'): Promise<void> => {
  const { file, finish, close } = await beginChange(await openFolder(live), OVERLAY, { verb: 'recover' })
  await file.write(file.size - 100, new Uint8Array(100).fill(1))
  if (end === 'finished') await finish()
  await close()
}

/** What a verb that was cut short left, and what has to be said then. */
const LEFT: Record<string, readonly [(live: string) => Promise<void>, RegExp]> = {
  refresh: [live => writeFile(join(live, 'rootfs.img.refresh'), 'x'), /liveos refresh/],
  reset: [live => writeFile(join(live, `${OVERLAY}.reset`), 'x'), /liveos reset/],
  compact: [live => writeFile(join(live, 'compact-overlay-OTHER.state'), 'x'), /liveos compact/],
  recover: [live => change(live, 'cut'), /liveos (recover|undo)/],
  restore: [live => writeFile(join(live, RESTORE_STATE), 'x'), /liveos restore/],
}

const on = (plan: (target: WritableTarget) => Promise<unknown>) => async (input: { target: string }) =>
  plan(await findTarget(input))
/** Verbs with the leftovers that they end themselves. */
const PLANS: Record<string, readonly [(input: { target: string }) => Promise<unknown>, readonly string[]]> = {
  grow: [input => planGrow(input, { size: 1 << 20 }), []],
  compact: [input => planCompact(input, {}), ['compact']],
  'refresh --in-place': [input => planMergeInPlace('refresh', input), []],
  'serve for writing': [findPersistent, []],
  recover: [on(target => planRecover(target, { fsck: false })), ['recover']],
  undo: [on(planUndo), ['recover']],
  reset: [on(planReset), ['reset', 'recover']],
  refresh: [input => planRefresh(input, {}), ['refresh', 'reset']],
}

describe.each(Object.entries(LEFT))('where a %s was cut short', (left, [leave, sentence]) => {
  it.each(Object.entries(PLANS).filter(([, [, own]]) => !own.includes(left)))(
    '%s refuses, and says what to run',
    async (verb, [plan]) => {
      const { live, input } = await fresh()
      if (verb === 'undo') await change(live, 'finished')
      await leave(live)
      expect((await failure(plan(input), 'REFUSED')).message).toMatch(sentence)
    },
  )
})

const RUNS: Record<
  string,
  (input: { target: string }) => Promise<{ plan: { findings: readonly { code: string }[] } }>
> = {
  grow: async input => {
    const plan = await planGrow(input, { size: 1 << 20 })
    await finished(runGrow(input, plan))
    return { plan }
  },
  compact: async input => {
    const plan = await planCompact(input, { size: 300 * CHUNK })
    await finished(runCompact(input, plan))
    return { plan }
  },
  'refresh --in-place': async input => {
    const plan = await planMergeInPlace('refresh', input)
    await finished(runMergeInPlace(input, plan))
    return { plan }
  },
  reset: async input => {
    const target = await findTarget(input)
    const plan = await planReset(target)
    await finished(runReset(target, plan))
    return { plan }
  },
  refresh: async input => {
    const plan = await planRefresh(input, {})
    await finished(runRefresh(input, plan))
    return { plan }
  },
}

describe('after a recovery that is finished', () => {
  it.each(Object.entries(RUNS))('%s says that its undo ends, and takes the journal away', async (_verb, run) => {
    const { live, input } = await fresh()
    expect((await run((await fresh()).input)).plan.findings.map(({ code }) => code)).not.toContain('UNDO_ENDS')
    await change(live, 'finished')
    expect(await readdir(live)).toContain(`${OVERLAY}.undo`)
    expect((await run(input)).plan.findings.map(({ code }) => code)).toContain('UNDO_ENDS')
    expect(await readdir(live)).toEqual([OVERLAY, 'rootfs.img'])
  })
})

describe('a restore that was cut short', () => {
  const left = async (step: RestoreStep | 'unreadable') => {
    const { live, input } = await fresh()
    if (step === 'unreadable') await writeFile(join(live, RESTORE_STATE), 'x')
    else
      await createRestoreState(await openFolder(live), {
        step,
        index: 0,
        owner: { pid: 1, start: null, boot: 'another' },
        archive: { path: "/kept/my stick's.tar.zst", mark: 'aa' },
        files: [{ folder: '', name: OVERLAY, size: 1, sha256: 'bb' }],
      })
    return input
  }

  it.each([
    ['unreadable', /before it wrote anything/, (at: string) => `'liveos restore ${at} FILE' begins again`],
    ['writing', /the old ones are all there/, (at: string) => `liveos restore ${at} '/kept/my stick'\\''s.tar.zst'`],
    ['naming', /some are new/, (at: string) => `liveos restore ${at} '/kept/my stick'\\''s.tar.zst'`],
  ] as const)('%s: doctor and status tell it, with what to run', async (step, words, command) => {
    const input = await left(step)
    const doctor = await finished(runDoctor(input, { fsck: false }))
    const found = doctor.findings.find(({ code }) => code === 'RESTORE_INTERRUPTED')
    expect(found).toMatchObject({ severity: 'error', message: expect.stringMatching(words) })
    expect(found!.remedy).toContain(command(input.target))
    expect(found!.remedy!.includes('--abandon')).toBe(step !== 'naming')
    const status = await readStatus(input)
    expect(status.findings.find(({ code }) => code === 'RESTORE_INTERRUPTED')).toEqual({
      ...found,
      severity: 'warning',
    })
  })

  it('by another version of liveos: doctor and status tell it and go on', async () => {
    const { live, input } = await fresh()
    const step = JSON.stringify({ liveos: 'restore', version: 99 }).padEnd(512)
    await writeFile(join(live, RESTORE_STATE), `${step}{}`)
    const told = { code: 'RESTORE_INTERRUPTED', message: expect.stringMatching(/another version of liveos \(99\)/) }
    const doctor = await finished(runDoctor(input, { fsck: false }))
    expect(doctor.findings).toContainEqual(expect.objectContaining({ ...told, severity: 'error' }))
    expect((await readStatus(input)).findings).toContainEqual(expect.objectContaining({ ...told, severity: 'warning' }))
  })
})

import { expect, it } from 'vitest'
import { checkupWords } from '../../../src/cli/doctor.js'
import { recoverOutcomeWords } from '../../../src/cli/recover.js'
import { paint } from '../../../src/cli/words.js'
import type { Checkup } from '../../../src/ops/doctor.js'
import type { RecoverOutcome } from '../../../src/ops/recover-run.js'

const plain = paint({})

const CHECKUP: Checkup = {
  verb: 'doctor',
  target: 'stick\u001b[31m',
  health: 'findings',
  base: { path: 'squashfs.img', kind: 'squashfs' },
  overlay: { path: 'overlay', size: 4096, damage: 'invalid', exceptions: 3, percent: null },
  rootType: 'ext4',
  fsck: null,
  bootFixes: [],
  findings: [{ code: 'OVERLAY_INVALID', severity: 'error', where: 'overlay', message: 'marked invalid' }],
  remedies: [{ verb: 'recover' }],
}

it('the first line of doctor shows what a name is made of, whatever the health', () => {
  for (const health of ['healthy', 'findings', 'unreadable'] as const) {
    const [first] = checkupWords({ ...CHECKUP, health }, plain, 'liveos doctor x --fix')
    expect(first).toMatch(/^stick\\x1b\[31m: /)
  }
})

it('the last line is what to type', () => {
  expect(checkupWords(CHECKUP, plain, 'liveos doctor x --fix').at(-1)).toBe(
    'To mend it (recover): liveos doctor x --fix',
  )
})

it('an overlay that a cut change holds is not called invalid', () => {
  const overlay = (found: Checkup) => checkupWords(found, plain, '').find(line => line.startsWith('overlay'))
  expect(overlay(CHECKUP)).toContain('4.0 KiB: invalid, 3')
  const cut = { code: 'CHANGE_INTERRUPTED', severity: 'error', where: 'overlay', message: 'cut' } as const
  expect(overlay({ ...CHECKUP, findings: [cut] })).toContain('held by a change that was cut short, 3')
})

it('a base of which some can be read is damaged; one of which nothing can is not readable', () => {
  const unreadable = { ...CHECKUP, health: 'unreadable' } as const
  expect(checkupWords(unreadable, plain, '')[0]).toContain('is damaged')
  expect(checkupWords({ ...unreadable, base: null }, plain, '')[0]).toContain('can’t be read')
})

it('lost bytes of nobody knows what are told as that', () => {
  const done: RecoverOutcome = {
    verb: 'recover',
    overlay: 'overlay',
    changed: true,
    clearedInvalid: false,
    list: {
      kept: 1,
      lost: 2,
      tear: null,
      content: { files: [], others: [{ role: 'unknown', bytes: 8192 }], unknown: null },
    },
    size: { before: 4096, after: 4096 },
    fsck: null,
    readBack: null,
    undo: null,
    findings: [],
  } as unknown as RecoverOutcome
  const words = recoverOutcomeWords(done, plain, 'liveos undo stick')
  expect(words).toContain("  8.0 KiB of what can't be told")
})

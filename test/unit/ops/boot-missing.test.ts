import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { entryPlanWords } from '../../../src/cli/boot-plan.js'
import { paint } from '../../../src/cli/words.js'
import { bootPlans } from '../../../src/ops/boot-plan.js'
import { runDoctor } from '../../../src/ops/doctor.js'
import { finished, smallStick } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
const MENU = `default linux
label linux
  menu label Start
  kernel /syslinux/vmlinuz
  append initrd=/syslinux/initrd.img root=live:LABEL=LIVE rd.live.image
`

it('a boot whose kernel or initrd has gone fails, and doctor says so', async () => {
  const { path: target } = await smallStick(await path('gone'), { raw: true })
  await mkdir(join(target, 'syslinux'))
  await writeFile(join(target, 'syslinux/syslinux.cfg'), MENU)
  await writeFile(join(target, 'syslinux/initrd.img'), 'x')
  const told = async () => {
    const [plan] = (await bootPlans({ target })).plans
    const { findings } = await finished(runDoctor({ target }, { fsck: false }))
    return { plan: plan!, found: findings.filter(({ code }) => code === 'BOOT_FILES_MISSING') }
  }
  const without = await told()
  expect(without.plan).toMatchObject({ missing: ['/syslinux/vmlinuz'], plan: { outcome: 'fails' } })
  const words = entryPlanWords(without.plan, paint({}))
  expect(words[1]).toBe('This boot fails: /syslinux/vmlinuz is not there.')
  expect(words.join('\n')).not.toMatch(/^(kept|lost)/m)
  expect(without.found).toMatchObject([{ severity: 'error', remedy: expect.stringContaining('copy the boot files') }])
  expect(without.found[0]!.message).toContain('/syslinux/vmlinuz is not there')

  await writeFile(join(target, 'syslinux/vmlinuz'), 'x')
  const there = await told()
  expect(there.plan.missing).toEqual([])
  expect(there.plan.plan.outcome).not.toBe('fails')
  expect(there.found).toEqual([])
})

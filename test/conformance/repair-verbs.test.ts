import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { unpackSample } from '../../scripts/sample.mjs'
import { liveos } from '../support/cli.js'
import { sha256 } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const { it } = needTools('e2fsck')
const path = temporary()
const OVERLAY = 'overlay-LIVE-1A2B-3C4D'
const FILES = ['home.img', OVERLAY, 'squashfs.img']

/** The sample stick as the kernel leaves it when it gives its overlay up. */
const invalid = async (name: string) => {
  const dir = await unpackSample(await path(name))
  const overlay = join(dir, 'LiveOS', OVERLAY)
  const bytes = await readFile(overlay)
  bytes[4] = 0
  await writeFile(overlay, bytes)
  const names = async () => (await readdir(join(dir, 'LiveOS'))).sort()
  return { dir, overlay, names, hash: async () => sha256(await readFile(overlay)), before: sha256(bytes) }
}
const json = (text: string) => JSON.parse(text)

it('an invalid overlay: doctor tells it, recover brings it back, undo takes that back; words, JSON, exit codes', async () => {
  const { dir, names, hash, before } = await invalid('whole')
  const told = await liveos(['doctor', dir, '--no-fsck'])
  expect(told.code).toBe(1)
  expect(told.stdout).toContain('invalid')
  expect(told.stdout).toContain(`liveos recover ${dir}`)
  const checkup = json((await liveos(['doctor', dir, '--no-fsck', '--json'])).stdout)
  expect(checkup).toMatchObject({ verb: 'doctor', health: 'findings', remedies: [{ verb: 'recover' }], fsck: null })
  const asked = await liveos(['recover', dir])
  expect(asked).toMatchObject({ code: 4, stdout: '' })
  expect(asked.stderr).toContain('--yes')
  const plan = json((await liveos(['recover', dir, '--dry-run', '--json'])).stdout)
  expect(plan).toMatchObject({ verb: 'recover', damage: 'invalid', clearsInvalid: true, list: { kept: 3343, lost: 0 } })
  expect(await hash()).toBe(before)
  const done = await liveos(['recover', dir, '--yes'])
  expect(done.code).toBe(0)
  expect(done.stdout).toMatch(/in order again.*on the medium/)
  expect(done.stdout).toContain('liveos undo')
  expect(await names()).toEqual([...FILES, `${OVERLAY}.undo`].sort())
  const again = await liveos(['recover', dir, '--yes', '--json'])
  expect(json(again.stdout)).toMatchObject({ verb: 'recover', changed: false })
  const back = json((await liveos(['undo', dir, '--dry-run', '--json'])).stdout)
  expect(back).toMatchObject({ verb: 'undo', of: 'recover', cut: false })
  expect((await liveos(['undo', dir])).code).toBe(4)
  expect((await liveos(['undo', dir, '--yes'])).code).toBe(0)
  expect(await hash()).toBe(before)
  expect(await names()).toEqual(FILES)
  const nothing = await liveos(['undo', dir, '--yes', '--json'])
  expect(nothing.code).toBe(2)
  expect(json(nothing.stdout).error.code).toBe('NOT_FOUND')
})

it('doctor --fix shows the plan of what it runs, and runs it; then nothing but the fill is left to say', async () => {
  const { dir, hash, before } = await invalid('fixed')
  const dry = await liveos(['doctor', dir, '--no-fsck', '--fix', '--dry-run'])
  expect(dry.code).toBe(1)
  expect(dry.stdout).toContain('Plan: recover the overlay')
  expect(await hash()).toBe(before)
  expect((await liveos(['doctor', dir, '--no-fsck', '--fix'])).code).toBe(4)
  expect((await liveos(['doctor', dir, '--fix', '--json'])).code).toBe(2)
  const fixed = await liveos(['doctor', dir, '--no-fsck', '--fix', '--yes'])
  // it is still 82 % full
  expect(fixed.code).toBe(1)
  expect(fixed.stdout).toContain('clean, 3343 changed chunks')
  const { findings } = json((await liveos(['doctor', dir, '--no-fsck', '--json'])).stdout)
  const codes = findings.map(({ code }: { code: string }) => code)
  expect(codes).toEqual(expect.arrayContaining(['OVERLAY_FILLING', 'UNDO_KEPT']))
  expect(codes).not.toContain('OVERLAY_INVALID')
})

it('a base that can’t be read: exit code 3', async () => {
  const { dir } = await invalid('unreadable')
  await writeFile(join(dir, 'LiveOS/squashfs.img'), 'hsqs and no more')
  const told = await liveos(['doctor', dir])
  expect(told.code).toBe(3)
  expect(told.stdout).toContain('can’t be read')
})

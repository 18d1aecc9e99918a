import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { runDoctor } from '../../src/ops/doctor.js'
import { runUsage } from '../../src/ops/usage.js'
import { LIVEOS } from '../support/cli.js'
import { run } from '../support/ext4-images.js'
import { needExt4Mount } from '../support/ext4-mount.js'
import { breaches, readSchema } from '../support/json-schema.js'
import { finished } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'

const { it, reason } = needExt4Mount('mksquashfs', 'mknod', 'setpriv', 'getfattr')
const path = temporary()
/** What the folder of this run of the tests lies in. */
const RUNS = dirname(tmpdir())
const NOBODY = 65_534
const OVERLAY = 'overlay-LIVE-1A2B-3C4D'

/** A mounted stick, as far as a directory is one: a flat root, a changed file, a new one and a deleted one. */
const makeStick = async (at: string): Promise<string> => {
  const low = join(at, 'low')
  for (const folder of ['etc', 'home/user', 'proc', 'usr', 'var/log']) mkdirSync(join(low, folder), { recursive: true })
  writeFileSync(join(low, 'etc/conf'), 'as it came')
  writeFileSync(join(low, 'etc/os-release'), 'NAME=Base\nID=fedora\n')
  writeFileSync(join(low, 'home/user/old'), 'old')
  const live = join(at, 'stick/LiveOS')
  for (const folder of ['etc', 'home/user', 'var/log']) mkdirSync(join(live, OVERLAY, folder), { recursive: true })
  mkdirSync(join(live, 'ovlwork'))
  await run('mksquashfs', [low, join(live, 'squashfs.img'), '-quiet', '-no-progress', '-comp', 'gzip'])
  writeFileSync(join(live, OVERLAY, 'etc/conf'), 'changed')
  writeFileSync(join(live, OVERLAY, 'home/user/new'), Buffer.alloc(50_000, 'n'))
  writeFileSync(join(live, OVERLAY, 'var/log/messages'), Buffer.alloc(300_000, 'm'))
  execFileSync('mknod', [join(live, OVERLAY, 'home/user/old'), 'c', '0', '0'])
  // another user looks too: the folders of a run are its owner's only
  for (let folder = at; folder !== RUNS; folder = dirname(folder)) chmodSync(folder, 0o755)
  return join(at, 'stick')
}

/** Runs the command, as another user where one is told. */
const shown = (args: readonly string[], uid?: number): { code: number; text: string } => {
  const words = [process.execPath, LIVEOS, ...args]
  const whole = uid === undefined ? words : ['setpriv', `--reuid=${uid}`, '--clear-groups', ...words]
  try {
    return { code: 0, text: execFileSync(whole[0]!, whole.slice(1), { encoding: 'utf8', stdio: 'pipe' }) }
  } catch (error) {
    const { status, stdout, stderr } = error as { status: number; stdout: string; stderr: string }
    return { code: status, text: stdout + stderr }
  }
}

it('usage tells what the files of an OverlayFS take, and keeps to the schema', async () => {
  const found = await finished(runUsage({ target: await makeStick(await path('usage')) }))
  expect(breaches(JSON.parse(JSON.stringify(found)), readSchema('usage.json'))).toEqual([])
  expect(found.overlay).toMatchObject({ chunkSize: null, chunks: null, deletions: 1 })
  expect(found.files.map(({ path: name }) => name).slice(0, 2)).toEqual(['/var/log/messages', '/home/user/new'])
  expect(found.allocatedBytes).toBeGreaterThanOrEqual(350_000)
  expect(found.categories.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(found.allocatedBytes)
})

it('doctor looks at its names, and says so', async () => {
  const stick = await makeStick(await path('doctor'))
  const { findings } = await finished(runDoctor({ target: stick }))
  expect(findings.find(({ code }) => code === 'OVERLAY_WHOLE_FILES')?.message).toContain('3 with data, and 1 deleted')
})

/** A checkout in a closed home is none of another user's. */
const mayRun = reason === undefined && shown(['--version'], NOBODY).code === 0

test.skipIf(!mayRun)('who may not read its marks is told that something may be shown wrongly', async () => {
  const stick = await makeStick(await path('marks'))
  const ours = shown(['ls', `${stick}:/home/user`])
  expect(ours).toEqual({ code: 0, text: 'new\n' })
  const theirs = shown(['ls', `${stick}:/home/user`], NOBODY)
  expect(theirs.code).toBe(1)
  expect(theirs.text).toMatch(/^new$/m)
  expect(theirs.text).toContain('root')
  expect(shown(['cat', `${stick}:/etc/conf`])).toEqual({ code: 0, text: 'changed' })
  expect(shown(['cat', '--base-only', `${stick}:/etc/conf`])).toEqual({ code: 0, text: 'as it came' })
})

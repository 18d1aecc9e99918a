import { execFile, spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { expect } from 'vitest'
import { sampleFacts, unpackSample } from '../../scripts/sample.mjs'
import { openFile } from '../../src/block/file.js'
import { statusLine } from '../../src/block/snapshot/status.js'
import { readStore } from '../../src/block/snapshot/store.js'
import { liveos } from '../support/cli.js'
import { sha256, viewOf } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const { it } = needTools('unsquashfs', 'e2fsck')
const path = temporary()
const run = promisify(execFile)
let count = 0

/** The sample stick with its root uncompressed, as unsquashfs gives it, under the overlay that the kernel wrote. */
const rawStick = async () => {
  const stick = await unpackSample(await path(`stick${count++}`))
  const base = join(stick, 'LiveOS/rootfs.img')
  const overlay = join(stick, 'LiveOS/overlay-LIVE-1A2B-3C4D')
  const child = spawn('unsquashfs', ['-cat', join(stick, 'LiveOS/squashfs.img'), 'LiveOS/rootfs.img'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await pipeline(child.stdout, createWriteStream(base))
  await rm(join(stick, 'LiveOS/squashfs.img'))
  return { stick, base, overlay }
}

for (const [verb, onStick] of [
  ['refresh', true],
  ['merge', false],
] as const)
  it(`${verb} --in-place: the base becomes what the kernel showed, and e2fsck finds it clean`, async () => {
    const facts = await sampleFacts()
    const { stick, base, overlay } = await rawStick()
    expect(sha256(await readFile(base))).toBe(facts.originSha256)
    const args = onStick ? [stick] : ['--base', base, '--overlay', overlay]

    const plan = await liveos([verb, ...args, '--in-place', '--dry-run', '--json'])
    expect(plan.code).toBe(0)
    expect(JSON.parse(plan.stdout)).toMatchObject({
      verb,
      inPlace: true,
      exceptions: expect.any(Number),
    })
    expect(sha256(await readFile(base))).toBe(facts.originSha256)
    const unasked = await liveos([verb, ...args, '--in-place'])
    expect(unasked.code).toBe(4)
    expect(unasked.stderr).toContain('nothing takes that back')

    const done = await liveos([verb, ...args, '--in-place', '--yes', '--json'])
    expect(done.stderr + done.stdout).not.toContain('mistake of liveos')
    const outcome = JSON.parse(done.stdout)
    expect(outcome).toMatchObject({ verb, inPlace: true })
    expect(outcome.verified.bytes).toBe(outcome.writtenBytes)
    expect(done.code).toBe(0)
    expect(sha256(await readFile(base))).toBe(facts.mergedSha256)
    if (onStick) expect(await viewOf({ target: stick })).toBe(facts.mergedSha256)
    await run('e2fsck', ['-fn', base])

    const file = await openFile(overlay)
    const store = await readStore(file)
    await file.close()
    expect(store.exceptions.count).toBe(0)
    expect(statusLine(store, (await readFile(base)).length)).toMatch(/ snapshot 16\/\d+ 16$/)
    const again = await liveos([verb, ...args, '--in-place', '--yes'])
    expect(again.code).toBe(2)
    expect(again.stderr).toContain('nothing to merge')
  })

it('a compressed base is left to refresh; options that mean nothing here are refused', async () => {
  const stick = await unpackSample(await path('squashed'))
  const refused = await liveos(['refresh', stick, '--in-place', '--yes'])
  expect(refused.code).toBe(3)
  expect(refused.stderr).toContain(`'liveos refresh ${stick}'`)
  for (const option of [['--keep-old'], ['--output', 'x'], ['--comp', 'xz'], ['--no-trim'], ['--stage', '/tmp']])
    expect((await liveos(['refresh', stick, '--in-place', ...option])).code, option[0]).toBe(2)
  for (const option of [['--output', 'x'], ['--format', 'raw'], ['--base-only']])
    expect((await liveos(['merge', stick, '--in-place', ...option])).code, option[0]).toBe(2)
  expect((await liveos(['merge', stick])).code).toBe(2)
})

import { execFile } from 'node:child_process'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'vitest'
import { openStack } from '../../src/liveos/stack.js'
import { findTarget } from '../../src/liveos/target.js'
import { type Checkup, runDoctor } from '../../src/ops/doctor.js'
import { LIVEOS, liveos } from '../support/cli.js'
import { kernelFixture } from '../support/kernel-fixtures.js'
import { layPair } from '../support/recovering.js'
import { finished } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'
import { needTools, tool } from '../support/tools.js'

const path = temporary()
const sh = promisify(execFile)

const codes = ({ findings }: Checkup): string[] =>
  findings.filter(({ severity }) => severity !== 'note').map(({ code }) => code)
const told = ({ findings }: Checkup, code: string) => findings.find(finding => finding.code === code)

/** Runs something while programs of these names do nothing but fail. */
const whileFailing = async <T>(names: readonly string[], run: () => Promise<T>): Promise<T> => {
  const folder = await path(`bin-${Math.random().toString(36).slice(2)}`)
  await mkdir(folder)
  for (const name of names) {
    await writeFile(join(folder, name), '#!/bin/sh\necho "fuse: mount failed: Operation not permitted" >&2\nexit 1\n')
    await chmod(join(folder, name), 0o755)
  }
  const before = process.env.PATH
  process.env.PATH = `${folder}:${before}`
  try {
    return await run()
  } finally {
    process.env.PATH = before
  }
}

const squash = needTools('e2fsck', 'mke2fs', 'mksquashfs', 'nbdfuse', 'fusermount3')

/** A stick of the squashed ext4 of a fixture. */
const squashedStick = async (name: string): Promise<string> => {
  const stick = await path(name)
  const tree = `${stick}.tree`
  for (const folder of [tree, stick]) await mkdir(join(folder, 'LiveOS'), { recursive: true })
  await writeFile(join(tree, 'LiveOS/rootfs.img'), await kernelFixture('fs-ext4').image('origin.img'))
  const base = join(stick, 'LiveOS/squashfs.img')
  await sh(tool('mksquashfs')!, [tree, base, '-comp', 'gzip', '-b', '16384', '-noappend', '-no-progress'])
  return stick
}

/** Spoils the block of the squashfs that holds the directory /usr, which e2fsck reads and our own look doesn't. */
const spoil = async (stick: string): Promise<void> => {
  const image = join(`${stick}.tree`, 'LiveOS/rootfs.img')
  const { stdout } = await sh(tool('debugfs')!, ['-R', 'blocks /usr', image])
  const block = Number(stdout.trim().split(/\s+/)[0])
  const stack = await openStack(await findTarget({ target: stick }))
  const { offset, size } = stack.base.squashfs!.file.stored(Math.floor((block * 1024) / 16384))!
  await stack.close()
  const base = join(stick, 'LiveOS/squashfs.img')
  const bytes = await readFile(base)
  bytes.fill(0x5a, offset, offset + size)
  await writeFile(base, bytes)
}

squash.describe('a block of the base that can not be read', () => {
  for (const by of ['export', 'copy'] as const)
    squash.it(`is a finding with its place, by ${by}`, async () => {
      const stick = await squashedStick(`block-${by}`)
      const look = () => finished(runDoctor({ target: stick }, { fsck: true }))
      const looked = () => (by === 'export' ? look() : whileFailing(['nbdfuse'], look))
      expect(await looked()).toMatchObject({ health: 'healthy', fsck: { code: 0 } })
      await spoil(stick)
      const found = await looked()
      expect(found).toMatchObject({ health: 'unreadable', remedies: [], base: { kind: 'squashfs' } })
      expect(codes(found)).toEqual(['BASE_DAMAGED'])
      expect(told(found, 'BASE_DAMAGED')?.where).toBe(join(stick, 'LiveOS/squashfs.img'))
      expect(told(found, 'BASE_DAMAGED')?.message).toMatch(/^bytes \d+ to \d+ of the root can't be read: .*byte \d+/)
    })
})

squash.it(
  'where nbdfuse is there and may not mount, the checker is left out, and asked on a copy by --fsck',
  async () => {
    const fixture = kernelFixture('fs-ext4')
    const pair = await layPair(await path('no fuse'), await fixture.image('origin.img'), await fixture.image('cow.img'))
    const found = await whileFailing(['nbdfuse'], () => finished(runDoctor(pair.input)))
    expect(found).toMatchObject({ health: 'healthy', fsck: null })
    expect(told(found, 'FSCK_LEFT_OUT')).toMatchObject({ severity: 'note' })
    expect(told(found, 'FSCK_LEFT_OUT')?.message).toContain('right to mount')
    const asked = await whileFailing(['nbdfuse'], () => finished(runDoctor(pair.input, { fsck: true })))
    expect(asked.fsck).toMatchObject({ program: 'e2fsck', code: 0 })
  },
)

const images = needTools('mke2fs', 'e2fsck')

images.describe('an image of a stick', () => {
  /** An ext4 with a live directory whose overlay the kernel gave up. */
  const imageOf = async (name: string): Promise<string> => {
    const fixture = kernelFixture('fs-ext4')
    const tree = await path(`${name}.tree`)
    await mkdir(join(tree, 'LiveOS'), { recursive: true })
    const overlay = await fixture.image('cow.img')
    await writeFile(join(tree, 'LiveOS/rootfs.img'), await fixture.image('origin.img'))
    await writeFile(join(tree, 'LiveOS/overlay-A-B'), Uint8Array.from(overlay).fill(0, 4, 5))
    const image = await path(name)
    await sh(tool('mke2fs')!, ['-q', '-t', 'ext4', '-L', 'STICK', '-d', tree, image, '128M'])
    return image
  }

  images.it('is told how it gets to be changed, and nothing is offered that would refuse it', async () => {
    const image = await imageOf('my stick.img')
    const found = await finished(runDoctor({ target: image }, { fsck: false }))
    expect(codes(found)).toContain('OVERLAY_INVALID')
    expect(found.remedies).toEqual([])
    expect(told(found, 'OVERLAY_INVALID')?.remedy).toBe(`with ${image} mounted at DIR: liveos recover DIR`)
    const { stdout } = await liveos(['doctor', image, '--no-fsck'])
    expect(stdout).not.toContain('To mend it')
  })
})

images.it(
  'what is typed again for --fix is what was typed, quoted; a name never reaches the terminal as it is',
  async () => {
    const fixture = kernelFixture('fs-ext4')
    const folder = await path('a \u001b[31m pair')
    const overlay = Uint8Array.from(await fixture.image('cow.img')).fill(0, 4, 5)
    const pair = await layPair(folder, await fixture.image('origin.img'), overlay)
    const { stdout, code } = await liveos(['doctor', '--base', pair.base, '--overlay', pair.overlay, '--no-fsck'])
    expect(code).toBe(1)
    const word = (file: string): string => `$'${file.replace('\u001b', '\\033')}'`
    expect(stdout).not.toContain('\u001b')
    expect(stdout).toContain(
      `To mend it (recover): liveos doctor --base ${word(pair.base)} --overlay ${word(pair.overlay)} --no-fsck --fix\n`,
    )
    const typed = /^To mend it .*: (liveos doctor .* --fix)$/m
      .exec(stdout)![1]!
      .replace(/^liveos/, `${process.execPath} ${LIVEOS}`)
    const fixed = await sh('bash', ['-c', `${typed} --yes`])
    expect(fixed.stdout).toContain('clean')
  },
)

squash.it('a journal that makes no sense: what e2fsck repaired in the scratch store is no health', async () => {
  const stick = await path('journal')
  const image = join(stick, 'LiveOS/rootfs.img')
  await mkdir(join(stick, 'LiveOS'), { recursive: true })
  await sh(tool('mke2fs')!, ['-q', '-t', 'ext4', '-b', '1024', image, '16M'])
  const { stdout } = await sh(tool('debugfs')!, ['-R', 'blocks <8>', image])
  const bytes = await readFile(image)
  const block = Number(stdout.trim().split(/\s+/)[0])
  bytes.fill(0xee, block * 1024, (block + 1) * 1024)
  await writeFile(image, bytes)
  const found = await finished(runDoctor({ target: stick }))
  expect(found.fsck).toMatchObject({ program: 'e2fsck', code: expect.toSatisfy((code: number) => code > 0) })
  expect(told(found, 'FSCK_ERRORS')?.message).toContain('journal')
  expect(Buffer.compare(await readFile(image), bytes)).toBe(0)
})

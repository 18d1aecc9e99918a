import { copyFile, mkdir, rename, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { exceptionOffset } from '../../../src/block/snapshot/layout.js'
import { openFolder } from '../../../src/host/folder.js'
import type { TargetInput } from '../../../src/liveos/target.js'
import { type Checkup, runDoctor } from '../../../src/ops/doctor.js'
import { beginChange } from '../../../src/ops/undo-journal.js'
import { kernelFixture } from '../../support/kernel-fixtures.js'
import { failure } from '../../support/outcome.js'
import { layPair, type Pair, planned, recovered, takenBack } from '../../support/recovering.js'
import { finished } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'
import { tool } from '../../support/tools.js'

const path = temporary()
const codes = ({ findings }: Checkup, ...severities: string[]): string[] =>
  findings.filter(({ severity }) => severities.includes(severity)).map(({ code }) => code)
const examine = (input: TargetInput, fsck = false): Promise<Checkup> => finished(runDoctor(input, { fsck }))

const pairOf = async (name: string, spoil: (overlay: Uint8Array) => Uint8Array = bytes => bytes): Promise<Pair> => {
  const fixture = kernelFixture(name)
  return layPair(
    await path(`${name}-${Math.random().toString(36).slice(2)}`),
    await fixture.image('origin.img'),
    spoil((await fixture.image('cow.img')).slice()),
  )
}

describe('overlays', () => {
  it('one that the kernel left in order is healthy', async () => {
    const found = await examine((await pairOf('fs-ext4')).input, tool('e2fsck') !== undefined)
    expect(found).toMatchObject({ health: 'healthy', overlay: { damage: 'clean' }, rootType: 'ext4', remedies: [] })
    expect(codes(found, 'error', 'warning')).toEqual([])
  })

  it.each<[string, string, (bytes: Uint8Array) => Uint8Array, readonly string[]]>([
    ['fs-ext4-overflow', 'OVERLAY_FULL', bytes => bytes, ['recover']],
    ['fs-ext4-invalid', 'OVERLAY_INVALID', bytes => bytes, ['recover']],
    ['fs-ext4-overflow', 'OVERLAY_TRUNCATED', bytes => bytes.subarray(0, 3 << 20), ['recover']],
    [
      'fs-ext4',
      'OVERLAY_TORN',
      bytes => {
        bytes.fill(0xee, exceptionOffset(40, 4096), exceptionOffset(41, 4096))
        return bytes
      },
      ['recover'],
    ],
    ['fs-ext4', 'OVERLAY_HEADER', bytes => bytes.fill(0xee, 0, 512), []],
    ['fs-ext4', 'OVERLAY_TOO_SMALL', bytes => bytes.subarray(0, 4096), []],
  ])('%s: %s', async (name, code, spoil, remedies) => {
    const found = await examine((await pairOf(name, spoil)).input)
    expect(found.health).toBe('findings')
    expect(codes(found, 'error')).toContain(code)
    const verbs = found.remedies.map(({ verb }) => verb)
    for (const verb of remedies) expect(verbs).toContain(verb)
    expect(found.findings.find(finding => finding.code === code)?.remedy).toBeTruthy()
  })

  it('of another base: by its chunks, or by the UUID of its filesystem', async () => {
    const short = await pairOf('fs-ext4-overflow')
    await truncate(short.base, 8 << 20)
    expect(codes(await examine(short.input), 'error')).toContain('OVERLAY_WRONG_BASE')
    const other = await pairOf('fs-ext4')
    const { openWritableFile } = await import('../../../src/block/file.js')
    const base = await openWritableFile(other.base)
    await base.write(1024 + 104, new Uint8Array(16).fill(7))
    await base.close()
    // the base's own checksum does not fit any more where it has one; either way it is told
    const found = await examine(other.input)
    expect(codes(found, 'error', 'warning').some(code => /OTHER_FILESYSTEM|ROOT_DAMAGED/.test(code))).toBe(true)
  })

  it('of a size at which the kernel gives it up', async () => {
    const pair = await pairOf('fs-ext4')
    await truncate(pair.overlay, 258 * 20 * 4096)
    expect(codes(await examine(pair.input), 'warning')).not.toContain('OVERLAY_TRAP_SIZE')
    await truncate(pair.overlay, (257 * 30 + 1) * 4096)
    expect(codes(await examine(pair.input), 'warning')).toContain('OVERLAY_TRAP_SIZE')
  })
})

describe('sticks', () => {
  const stickOf = async (name: string): Promise<string> => {
    const pair = await pairOf('fs-ext4')
    const stick = await path(name)
    await mkdir(join(stick, 'LiveOS'), { recursive: true })
    await rename(pair.base, join(stick, 'LiveOS/rootfs.img'))
    await rename(pair.overlay, join(stick, 'LiveOS/overlay-OLD-1234-5678'))
    return stick
  }

  it('two overlays of which none is the one that a boot looks for; leftovers; a home image cut short', async () => {
    const stick = await stickOf('stick')
    const live = join(stick, 'LiveOS')
    await copyFile(join(live, 'overlay-OLD-1234-5678'), join(live, 'overlay-OTHER-1'))
    await writeFile(join(live, 'rootfs.img.old'), 'x')
    await writeFile(join(live, 'home.img'), new Uint8Array(9000))
    const found = await examine({ target: stick })
    expect(found.health).toBe('findings')
    expect(codes(found, 'error')).toEqual(expect.arrayContaining(['OVERLAY_AMBIGUOUS', 'HOME_UNKNOWN']))
    expect(codes(found, 'note')).toContain('LEFTOVER')
  })

  it('a reset, a refresh and a change that were cut short', async () => {
    const stick = await stickOf('cut')
    const live = join(stick, 'LiveOS')
    await writeFile(join(live, 'overlay-OLD-1234-5678.reset'), '')
    await writeFile(join(live, 'rootfs.img.refresh'), '')
    const found = await examine({ target: stick })
    expect(codes(found, 'error')).toEqual(expect.arrayContaining(['REFRESH_INTERRUPTED', 'RESET_INTERRUPTED']))
    expect(found.remedies.map(({ verb }) => verb).slice(0, 2)).toEqual(['refresh', 'reset'])
  })

  it('a base that can not be read', async () => {
    const stick = await stickOf('unreadable')
    const squashed = Buffer.alloc(5000)
    squashed.write('hsqs')
    await writeFile(join(stick, 'LiveOS/squashfs.img'), squashed)
    expect(codes(await examine({ target: stick }), 'warning')).toContain('BASE_UNSUPPORTED')
    // version 4.0, and nothing that fits
    squashed.writeUInt16LE(4, 28)
    await writeFile(join(stick, 'LiveOS/squashfs.img'), squashed)
    const found = await examine({ target: stick })
    expect(found).toMatchObject({ health: 'unreadable', remedies: [] })
    expect(codes(found, 'error')).toContain('BASE_DAMAGED')
  })

  it('nothing there is an error, not a finding', async () => {
    await failure(examine({ target: await path('nothing') }), 'NOT_FOUND')
  })
})

describe('changes', () => {
  it('one that was cut is told, refuses other work, and is ended by undo', async () => {
    const pair = await pairOf('fs-ext4')
    const before = await openFolder(pair.path)
    const begun = await beginChange(before, 'overlay', { verb: 'grow' })
    await begun.file.write(5000, new Uint8Array(100).fill(1))
    await begun.file.flush()
    await begun.close()
    const found = await examine(pair.input)
    expect(codes(found, 'error')).toContain('CHANGE_INTERRUPTED')
    expect(found.remedies).toContainEqual({ verb: 'undo' })
    await failure(beginChange(before, 'overlay', { verb: 'recover' }), 'REFUSED')
    expect(await takenBack(pair)).toMatchObject({ of: 'grow' })
    expect((await examine(pair.input)).health).toBe('healthy')
  })

  it('one that is finished is a note; recover’s plan says what its undo would lose', async () => {
    const pair = await pairOf('fs-ext4-overflow')
    await recovered(pair, { fsck: false, size: 8 << 20 })
    const found = await examine(pair.input)
    expect(codes(found, 'note')).toContain('UNDO_KEPT')
    expect((await planned(pair, { fsck: false, size: 10 << 20 })).lost).toEqual(['the undo of an earlier recover'])
  })

  it('a recovery refuses to make an overlay smaller, and one beside a reset that was cut', async () => {
    const pair = await pairOf('fs-ext4-overflow')
    expect((await failure(planned(pair, { size: 1 << 20 }), 'USAGE')).message).toContain('less than')
    await writeFile(`${pair.overlay}.reset`, '')
    expect((await failure(planned(pair), 'REFUSED')).message).toContain("run 'liveos reset")
  })
})

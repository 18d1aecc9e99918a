import { copyFile, mkdir, rename, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openWritableFile } from '../../../src/block/file.js'
import { exceptionOffset } from '../../../src/block/snapshot/layout.js'
import { openFolder } from '../../../src/host/folder.js'
import type { TargetInput } from '../../../src/liveos/target.js'
import { type Checkup, remedyInput, runDoctor } from '../../../src/ops/doctor.js'
import { beginChange } from '../../../src/ops/undo-journal.js'
import { kernelFixture } from '../../support/kernel-fixtures.js'
import { failure } from '../../support/outcome.js'
import { changesBetween } from '../../support/overlay-stack.js'
import { layPair, type Pair, planned, recovered, takenBack } from '../../support/recovering.js'
import { finished } from '../../support/small-stick.js'
import { storeOf } from '../../support/store-writer.js'
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
    const told = (await examine(pair.input)).findings.find(({ code }) => code === 'OVERLAY_TRAP_SIZE')
    expect(told?.expected).toBe('a size not of 1 modulo 257 chunks of 4096 bytes')
  })

  it('of such a size with other chunks: their number is another', async () => {
    const { root, merged } = { root: new Uint8Array(1 << 20), merged: new Uint8Array(1 << 20).fill(1, 8192, 16384) }
    const size = (513 + 1) * 8192
    const store = new Uint8Array(size)
    store.set(storeOf(changesBetween(root, merged, 8192), 16, 8))
    const pair = await layPair(await path('trap'), root, store)
    const told = (await examine(pair.input)).findings.find(({ code }) => code === 'OVERLAY_TRAP_SIZE')
    expect(told).toMatchObject({
      expected: 'a size not of 1 modulo 513 chunks of 8192 bytes',
      found: size,
      remedy: `liveos grow --base ${pair.base} --overlay ${pair.overlay} --size +8192`,
    })
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

  it('a raw base that is empty or garbage: the base is damaged, and nothing is concluded from its size', async () => {
    for (const [name, bytes, words] of [
      ['empty', new Uint8Array(0), 'is empty'],
      ['garbage', new Uint8Array(9000).fill(0x5a), 'neither a squashfs nor any known filesystem'],
    ] as const) {
      const stick = await stickOf(name)
      await writeFile(join(stick, 'LiveOS/squashfs.img'), bytes)
      const found = await examine({ target: stick })
      expect(found).toMatchObject({ health: 'unreadable', base: null, remedies: [], overlay: { damage: 'clean' } })
      expect(codes(found, 'error')).toEqual(['BASE_DAMAGED'])
      expect(found.findings.find(({ code }) => code === 'BASE_DAMAGED')?.message).toContain(words)
      expect(JSON.stringify(found.findings)).not.toContain('reset')
    }
  })

  it('advice names what was meant, quoted: --image, blanks in names', async () => {
    const stick = await stickOf('my stick')
    await rename(join(stick, 'LiveOS'), join(stick, 'Live 40'))
    const overlay = join(stick, 'Live 40/overlay-OLD-1234-5678')
    const file = await openWritableFile(overlay)
    await file.write(4, new Uint8Array(1))
    await file.close()
    const found = await examine({ target: stick, image: 'Live 40' })
    expect(found.remedies).toEqual([{ verb: 'recover' }])
    expect(found.findings.find(({ code }) => code === 'OVERLAY_INVALID')?.remedy).toBe(
      `liveos recover '${stick}' --image 'Live 40'`,
    )
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

  it('one that holds the overlay is told as that, and not as the kernel’s doing', async () => {
    const pair = await pairOf('fs-ext4')
    const folder = await openFolder(pair.path)
    const hold = { offset: 4, during: Uint8Array.of(0), after: Uint8Array.of(1) }
    const begun = await beginChange(folder, 'overlay', { verb: 'recover', hold })
    const address = `--base ${pair.base} --overlay ${pair.overlay}`
    const told = async () => {
      const found = await examine(pair.input)
      expect(found.overlay?.damage).toBe('invalid')
      expect(codes(found, 'error')).toEqual(['CHANGE_INTERRUPTED'])
      const [{ message, remedy } = { message: '', remedy: '' }] = found.findings.filter(
        ({ code }) => code === 'CHANGE_INTERRUPTED',
      )
      expect(remedy).toBe(`liveos recover ${address}`)
      expect(found.remedies).toEqual([{ verb: 'recover' }])
      return message
    }
    expect(await told()).toContain(`liveos recover ${address}`)
    // all is done but that the overlay is given back
    await begun.finish()
    const held = await openWritableFile(pair.overlay)
    await held.write(4, new Uint8Array(1))
    await held.close()
    await begun.close()
    expect(await told()).toContain('before its last step')
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

describe('a base that was named by itself', () => {
  it('is offered nothing that needs an overlay, and with one the pair that verbs take', async () => {
    const pair = await pairOf('fs-ext4')
    const base = await openWritableFile(pair.base)
    // its superblock says that the kernel found errors
    const state = await base.read(1024 + 58, 2)
    await base.write(1024 + 58, Uint8Array.of(state[0]! | 2, state[1]!))
    await base.close()
    const alone = await examine({ target: pair.base })
    expect(codes(alone, 'error', 'warning').length).toBeGreaterThan(0)
    expect(alone.remedies).toEqual([])
    expect(JSON.stringify(alone.findings)).not.toContain('recover')
    const overlay = await openWritableFile(pair.overlay)
    await overlay.write(4, new Uint8Array(1))
    await overlay.close()
    const both = { target: pair.base, overlay: pair.overlay }
    const found = await examine(both)
    expect(found.remedies).toEqual([{ verb: 'recover' }])
    expect(found.findings.find(({ code }) => code === 'OVERLAY_INVALID')?.remedy).toBe(
      `liveos recover --base ${pair.base} --overlay ${pair.overlay}`,
    )
    expect(await remedyInput(both)).toEqual({ base: pair.base, overlay: pair.overlay })
  })
})

import { join } from 'node:path'
import { expect } from 'vitest'
import { exceptionOffset } from '../../src/block/snapshot/layout.js'
import { statusLine } from '../../src/block/snapshot/status.js'
import { needKernel, runInKernel } from '../support/kernel.js'
import { kernelFixture } from '../support/kernel-fixtures.js'
import { failure } from '../support/outcome.js'
import { fsckCode, layPair, recovered, takenBack, treeOf, viewHash, withView } from '../support/recovering.js'
import { temporary } from '../support/temporary.js'

const { it } = needKernel('e2fsck', 'mount')
const path = temporary()

/** Activates the pair, tells its status and hash, mounts it and writes a file that makes new chunks. */
const SCRIPT = `
set -euo pipefail
read -r origin cow <<<"$DISKS"
sectors=$(blockdev --getsz "$origin")
dmsetup create s --noudevsync --table "0 $sectors snapshot $origin $cow PO 8"
dmsetup mknodes s
dmsetup status s
sha256sum /dev/mapper/s | cut -d' ' -f1
mkdir -p m
mount -t ext4 /dev/mapper/s m
head -c 3000000 /dev/urandom >m/written-by-the-kernel
sha256sum m/written-by-the-kernel | cut -d' ' -f1
sync
umount m
dmsetup status s
dmsetup remove --noudevsync s
`

const spoilt = (bytes: Uint8Array): Uint8Array => {
  bytes.fill(0xee, exceptionOffset(1400, 4096), exceptionOffset(1403, 4096))
  return bytes
}

for (const [what, name, spoil] of [
  ['marked invalid', 'fs-ext4-invalid', (bytes: Uint8Array) => bytes],
  ['overflowed', 'fs-ext4-overflow', (bytes: Uint8Array) => bytes],
  ['overflowed and torn', 'fs-ext4-overflow', spoilt],
] as const)
  it(`${what}: the kernel activates what was recovered, shows the same, mounts it and writes on`, async () => {
    const fixture = kernelFixture(name)
    const pair = await layPair(
      await path(`${name}-${what.replaceAll(' ', '-')}`),
      await fixture.image('origin.img'),
      spoil((await fixture.image('cow.img')).slice()),
    )
    // what is torn has room again where its list ended, and is not made larger by itself
    expect(await recovered(pair, spoil === spoilt ? { size: 16 << 20 } : {})).toMatchObject({ changed: true })
    const hash = await viewHash(pair)
    const status = await withView(pair, async (root, store) => statusLine(store, root.size))
    const before = await treeOf(pair)
    const { rc, log } = await runInKernel({
      script: SCRIPT,
      scratch: join(pair.path, '..', `scratch-${what.replaceAll(' ', '-')}`),
      disks: [{ path: pair.base, readOnly: true }, pair.overlay],
    })
    const [activated, seen, written, after] = log.trim().split('\n')
    expect({ rc, activated, seen }, log).toEqual({ rc: 0, activated: status, seen: hash })
    expect(after).toMatch(/^0 98304 snapshot \d+\/\d+ \d+$/)
    expect(after).not.toBe(activated)
    expect(await treeOf(pair)).toEqual({ ...before, 'written-by-the-kernel': written })
    expect(await fsckCode(pair)).toBe(0)
    // a boot has written to it, and the way back is closed
    await failure(takenBack(pair), 'REFUSED')
  }, 60_000)

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { sampleFacts, unpackSample } from '../../scripts/sample.mjs'
import { needKernel, runInKernel } from '../support/kernel.js'

const { it } = needKernel('e2fsck')

const LOOK = `
set -euo pipefail
set -- $DISKS
mkdir -p squash
mount -t squashfs -o ro "$1" squash
base=$(losetup -f --show -r squash/LiveOS/rootfs.img)
echo "0 $(blockdev --getsz "$base") snapshot $base $2 P 8" | dmsetup create --readonly view
dmsetup status view
sha256sum <"$base"
sha256sum </dev/mapper/view
e2fsck -f -n /dev/mapper/view >/dev/null 2>&1
`

it('the kernel sees on the unpacked sample stick what facts.json says', async () => {
  const scratch = await mkdtemp(join(tmpdir(), 'liveos-kernel-'))
  try {
    const stick = await unpackSample(join(scratch, 'stick'))
    const disks = ['squashfs.img', 'overlay-LIVE-1A2B-3C4D'].map(name => ({
      path: join(stick, 'LiveOS', name),
      readOnly: true,
    }))
    const { rc, log } = await runInKernel({ script: LOOK, scratch, disks })
    const facts = await sampleFacts()
    expect(log).toBe(`${facts.status}\n${facts.originSha256}  -\n${facts.mergedSha256}  -\n`)
    expect(rc).toBe(0)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
})

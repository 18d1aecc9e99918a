import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { ROOT } from '../support/cli.js'
import { needKernel, runInKernel } from '../support/kernel.js'
import { kernelFixture } from '../support/kernel-fixtures.js'
import { splitImage, writePartitions } from '../support/partitioned.js'
import { layPair, viewHash } from '../support/recovering.js'
import { temporary } from '../support/temporary.js'

const { it } = needKernel('e2fsck', 'losetup')
const path = temporary()

/** Recovers the partition by each of its names, has the kernel activate it, and asks once more while the kernel has it. */
const SCRIPT = `
set -uo pipefail
node=$1 root=$2
cp /run/host/out/rootfs.img rootfs.img
liveos() { "$node" "$root/bin/liveos" "$@" 2>said; }
pair=(--base rootfs.img --overlay)
liveos recover "\${pair[@]}" /dev/ubda2 --no-fsck --yes --json >$OUT/recover.json; echo "recover $?"
ls
liveos undo "\${pair[@]}" /dev/ubda:2 --yes >/dev/null; echo "undo $?"
ls
liveos recover "\${pair[@]}" /dev/ubda:2 --no-fsck --yes >/dev/null; echo "again $?"
base=$(losetup -f --show -r rootfs.img)
dmsetup create s --noudevsync --table "0 $(blockdev --getsz $base) snapshot $base /dev/ubda2 PO 8"
dmsetup mknodes s
sha256sum /dev/mapper/s | cut -d' ' -f1
liveos reset "\${pair[@]}" /dev/ubda2 --yes; echo "in use $?"; cp said $OUT/in-use
dmsetup remove --noudevsync s
losetup -d "$base"
`

it('a partition of a disk is recovered by either name, and refused while the kernel has it', async () => {
  const fixture = kernelFixture('fs-ext4-invalid')
  const base = await fixture.image('origin.img')
  const scratch = await path('scratch')
  await mkdir(join(scratch, 'kernel/out'), { recursive: true })
  await writeFile(join(scratch, 'kernel/out/rootfs.img'), base)
  const image = join(scratch, 'disk.img')
  const [, part] = await writePartitions(image, [new Uint8Array(1 << 20).fill(7), await fixture.image('cow.img')])
  const { rc, log, outDir } = await runInKernel({
    script: SCRIPT,
    scratch,
    disks: [image],
    args: [process.execPath, ROOT],
    memory: 1024,
    seconds: 200,
  })
  expect(rc, log).toBe(0)
  const lines = log.trim().split('\n')
  // 1: nothing was checked, and the partition is full. The name of the way back is that of the partition, whatever the disk is called
  const undo = 'partition-12345678-02.undo'
  expect(lines.slice(0, 8), log).toEqual([
    'recover 1',
    undo,
    'rootfs.img',
    'said',
    'undo 0',
    'rootfs.img',
    'said',
    'again 1',
  ])
  expect(JSON.parse(await readFile(join(outDir, 'recover.json'), 'utf8'))).toMatchObject({ changed: true, undo })
  const pair = await layPair(join(scratch, 'pair'), base, (await splitImage(image, part!)).part)
  expect(lines.slice(8)).toEqual([await viewHash(pair), 'in use 4'])
  expect(await readFile(join(outDir, 'in-use'), 'utf8')).toContain('a part of dm-')
}, 240_000)

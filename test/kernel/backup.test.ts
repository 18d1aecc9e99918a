import { execFile } from 'node:child_process'
import { appendFile, mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'vitest'
import { sampleFacts, unpackSample } from '../../scripts/sample.mjs'
import { LIVEOS } from '../support/cli.js'
import { needKernel, runInKernel } from '../support/kernel.js'
import { temporary } from '../support/temporary.js'

const { it } = needKernel('mkfs.vfat', 'fsck.vfat', 'mcopy', 'mdel')
const path = temporary()
const run = promisify(execFile)
const mtools = (args: readonly string[]) =>
  run(args[0]!, args.slice(1), { env: { ...process.env, MTOOLS_SKIP_CHECK: '1' } })

/** From one vfat stick to another of another name, both mounted by the kernel, which then puts the system together. */
const SCRIPT = `
set -euo pipefail
for module in fat vfat nls_cp437 nls_iso8859-1 nls_ascii nls_utf8 squashfs; do modprobe -d /run/modules $module 2>/dev/null || true; done
set -- $DISKS "$@"
one=$1 other=$2 node=$3 program=$4
mkdir -p from to base
mount -t vfat "$one" from
mount -t vfat "$other" to
"$node" "$program" backup from "$OUT/stick.tar.zst" --json >"$OUT/backup.json" 2>/dev/null
"$node" "$program" restore to "$OUT/stick.tar.zst" --dry-run --json >"$OUT/plan.json"
"$node" "$program" restore to "$OUT/stick.tar.zst" --yes --json >"$OUT/outcome.json" 2>/dev/null || test $? = 1
ls to/LiveOS
cmp from/LiveOS/overlay-LIVE-1A2B-3C4D to/LiveOS/overlay-OTHER-5E6F-7081
cmp from/LiveOS/home.img to/LiveOS/home.img
cp to/syslinux/syslinux.cfg "$OUT/"
"$node" "$program" status to --dmsetup || test $? = 1
mount -o ro,loop to/LiveOS/squashfs.img base
origin=$(losetup -f --show -r base/LiveOS/rootfs.img)
cow=$(losetup -f --show to/LiveOS/overlay-OTHER-5E6F-7081)
dmsetup create live --table "0 $(blockdev --getsz $origin) snapshot $origin $cow PO 8"
dmsetup status live
sha256sum </dev/mapper/live
dmsetup remove live
losetup -d "$cow"; losetup -d "$origin"
umount base from to
`

it('a backup of one vfat stick goes to another of another name, and the kernel puts the same system together', async () => {
  const facts = await sampleFacts()
  const scratch = await path('scratch')
  await mkdir(scratch)
  const stick = await unpackSample(join(scratch, 'stick'))
  const disks: string[] = []
  for (const [label, id] of [
    ['LIVE', '1A2B3C4D'],
    ['OTHER', '5E6F7081'],
  ] as const) {
    const disk = join(scratch, `${label}.img`)
    await run('truncate', ['-s', '64M', disk])
    await run('mkfs.vfat', ['-F', '32', '-n', label, '-i', id, disk])
    await mtools(['mcopy', '-s', '-i', disk, join(stick, 'LiveOS'), join(stick, 'syslinux'), '::'])
    disks.push(disk)
    // the other one has its base alone, and a home of its own
    await appendFile(join(stick, 'syslinux/syslinux.cfg'), '# of the other one\n')
  }
  await mtools(['mdel', '-i', disks[1]!, '::LiveOS/overlay-LIVE-1A2B-3C4D'])
  const { rc, log, outDir } = await runInKernel({
    script: SCRIPT,
    scratch,
    disks,
    args: [process.execPath, LIVEOS],
    memory: 1024,
  })
  expect(rc, log).toBe(0)
  const lines = log.split('\n')
  expect(lines.slice(0, 3)).toEqual(['home.img', 'overlay-OTHER-5E6F-7081', 'squashfs.img'])
  expect(lines[3]).toBe(facts.status)
  expect(lines[4]).toBe(facts.status)
  expect(lines[5]).toContain(facts.mergedSha256)
  const json = async (name: string) => JSON.parse(await readFile(join(outDir, name), 'utf8'))
  const plan = await json('plan.json')
  expect(plan.backup.medium).toEqual({ type: 'vfat', label: 'LIVE', uuid: '1A2B-3C4D' })
  expect(plan.noName).toContain('between two renames')
  const outcome = await json('outcome.json')
  expect(outcome.readBack).toBe('medium')
  // the sample has no kernels
  expect([...new Set(outcome.findings.map(({ code }: { code: string }) => code))].sort()).toEqual([
    'BOOT_INITRD_MISSING',
    'BOOT_KERNEL_MISSING',
  ])
  const config = await readFile(join(outDir, 'syslinux.cfg'), 'utf8')
  const before = await readFile(join(stick, 'syslinux/syslinux.cfg'), 'utf8')
  expect(config).toBe(
    before
      .replaceAll('# of the other one\n', '')
      .replaceAll('1A2B-3C4D', '5E6F-7081')
      .replaceAll('LABEL=LIVE', 'LABEL=OTHER')
      .replaceAll('overlay-LIVE-', 'overlay-OTHER-'),
  )
  expect(config).not.toBe(before.replaceAll('# of the other one\n', ''))
  for (const disk of disks) await run('fsck.vfat', ['-n', disk])
})

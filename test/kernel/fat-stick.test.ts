import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'vitest'
import { sampleFacts, unpackSample } from '../../scripts/sample.mjs'
import { LIVEOS } from '../support/cli.js'
import { needKernel, runInKernel } from '../support/kernel.js'
import { temporary } from '../support/temporary.js'

const { it } = needKernel('mkfs.vfat', 'fsck.vfat', 'mcopy', 'unsquashfs')
const path = temporary()
const run = promisify(execFile)
const mtools = (args: readonly string[]) =>
  run(args[0]!, args.slice(1), { env: { ...process.env, MTOOLS_SKIP_CHECK: '1' } })

/** A stick as it is in real life: vfat, mounted by the kernel, and nothing but its directory to work on. */
const SCRIPT = `
set -euo pipefail
for module in fat vfat nls_cp437 nls_iso8859-1 nls_ascii nls_utf8; do modprobe -d /run/modules $module 2>/dev/null || true; done
mkdir -p stick
mount -t vfat -o umask=0077 "$DISKS" stick
node=$1 program=$2
stat -f -c %T stick
"$node" "$program" status stick --json >"$OUT/before.json" || test $? = 1
"$node" "$program" refresh stick --dry-run --json >"$OUT/plan.json"
"$node" "$program" refresh stick --no-trim --yes --json >"$OUT/outcome.json" 2>/dev/null
"$node" "$program" verify stick --json >"$OUT/verify.json" 2>/dev/null
"$node" "$program" status stick --dmsetup
ls stick/LiveOS
mkdir -p /run/initramfs
mount --bind /run/work/stick /run/initramfs/live 2>/dev/null || { mkdir -p /run/initramfs/live; mount --bind stick /run/initramfs/live; }
"$node" "$program" status --dmsetup
"$node" "$program" reset stick --yes 2>&1 || echo "exit $?"
umount /run/initramfs/live
loop=$(losetup -f --show stick/LiveOS/overlay-LIVE-1A2B-3C4D)
"$node" "$program" reset stick --yes 2>&1 || echo "exit $?"
losetup -d "$loop"
umount stick
`

it('a vfat stick is refreshed under the real kernel; fsck.vfat and unsquashfs agree', async () => {
  const facts = await sampleFacts()
  const scratch = await path('scratch')
  await mkdir(scratch)
  const stick = await unpackSample(join(scratch, 'stick'))
  const disk = join(scratch, 'stick.img')
  await run('truncate', ['-s', '64M', disk])
  await run('mkfs.vfat', ['-F', '32', '-n', 'LIVE', '-i', '1A2B3C4D', disk])
  await mtools(['mcopy', '-s', '-i', disk, join(stick, 'LiveOS'), join(stick, 'syslinux'), '::'])
  const { rc, log, outDir } = await runInKernel({
    script: SCRIPT,
    scratch,
    disks: [disk],
    args: [process.execPath, LIVEOS],
    memory: 1024,
  })
  const lines = log.split('\n')
  expect({ rc, first: lines[0], status: lines[1] }, log).toEqual({
    rc: 0,
    first: 'msdos',
    status: '0 229376 snapshot 16/32768 16',
  })
  expect(log).toContain('\nhome.img\noverlay-LIVE-1A2B-3C4D\nsquashfs.img\n0 229376 snapshot 16/32768 16\n')
  expect(log).toMatch(/carries the system that is running now.*\nexit 4\n/)
  expect(log).toMatch(/is attached to \/dev\/loop.*\nexit 4\n/)
  const json = async (name: string) => JSON.parse(await readFile(join(outDir, name), 'utf8'))
  const before = await json('before.json')
  expect(before.medium).toMatchObject({ type: 'vfat', label: 'LIVE', uuid: '1A2B-3C4D' })
  expect(before.overlay.dmsetup).toBe(facts.status)
  expect(before.findings.map((finding: { code: string }) => finding.code)).toEqual(['OVERLAY_FILLING'])
  const plan = await json('plan.json')
  expect(plan.cannotBoot).toContain('between two renames')
  expect(plan.space.fileLimit).toBe(2 ** 32 - 1)
  const outcome = await json('outcome.json')
  expect(outcome.verified.readBack).toBe('medium')
  expect((await json('verify.json')).result).toBe('ok')

  await run('fsck.vfat', ['-n', disk])
  const squash = join(scratch, 'squashfs.img')
  await mtools(['mcopy', '-i', disk, '::LiveOS/squashfs.img', squash])
  const { stdout } = await promisify(execFile)('unsquashfs', ['-cat', squash, 'LiveOS/rootfs.img'], {
    encoding: 'buffer',
    maxBuffer: 1 << 28,
  })
  expect(createHash('sha256').update(stdout).digest('hex')).toBe(facts.mergedSha256)
})

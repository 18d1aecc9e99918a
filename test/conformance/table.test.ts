import { execFile } from 'node:child_process'
import { cp, mkdir, rename, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { describe, expect } from 'vitest'
import { encodeName } from '../../src/fs/name.js'
import { shellWord } from '../../src/host/shell-word.js'
import { planTable } from '../../src/ops/table.js'
import { liveos } from '../support/cli.js'
import { failure } from '../support/outcome.js'
import { OVERLAY, smallStick } from '../support/small-stick.js'
import { emptyFile, makeExt4, mbrDisk, run } from '../support/target-images.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const path = temporary()
const execute = promisify(execFile)
const bash = needTools('bash')
const images = needTools('bash', 'mksquashfs', 'mke2fs', 'debugfs', 'sfdisk', 'mkfs.vfat', 'mcopy')

bash.it('bash reads each word as the bytes it stands for, and it is one line that hides nothing', async () => {
  const unit = fc.oneof(
    fc.constantFrom(...'\'"\\$`!*?[]{}()<>|&;#~= \t\n\u001b\u007f\u0085\u00a0\u202e\u2066é€😀a/-01'),
    fc.integer({ min: 0xdc80, max: 0xdcff }).map(code => String.fromCharCode(code)),
  )
  const names = fc
    .sample(fc.array(unit, { maxLength: 12 }), 400)
    .map(units => units.join(''))
    .concat('-n', '--', '\udcc3\udca9 ', "$'\\n'")
  const words = names.map(shellWord)
  for (const word of words) expect(word).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u)
  const { stdout } = await execute('bash', ['-c', `printf '%s\\0' ${words.join(' ')}`], { encoding: 'buffer' })
  const parts = stdout.toString('latin1').split('\0').slice(0, -1)
  expect(parts).toEqual(names.map(name => Buffer.from(encodeName(name)).toString('latin1')))
})

describe('liveos table on the command line', () => {
  images.it('prints a script that bash can read, and JSON of the same', async () => {
    const { path: stick } = await smallStick(await path("a\n$(touch hacked) it's a stick"))
    const words = await liveos(['table', stick])
    expect(words.code).toBe(0)
    await execute('bash', ['-n', '-c', words.stdout])
    expect(words.stdout).toMatch(/^#!\/bin\/bash\n/)
    for (const line of words.stdout.split('\n'))
      expect(line).toMatch(
        /^($|#|set -euo|if \[|\w+=\$\(losetup|mkdir|mount|dmsetup|cat <<END|The view|losetup -d|umount|rmdir|END)/,
      )
    expect(words.stderr).toContain('no whole sector')
    const json = await liveos(['table', stick, '--json', '--name', 'shown', '--writable'])
    const plan = JSON.parse(json.stdout) as Record<string, unknown>
    expect(plan).toMatchObject({ verb: 'table', writesTo: 'scratch', device: '/dev/mapper/shown', view: 'root' })
    expect(plan).toEqual(
      JSON.parse(JSON.stringify(await planTable({ target: stick }, { writesTo: 'scratch', name: 'shown' }))),
    )
    expect((await liveos(['table', stick, '--writable', '--persist'])).code).toBe(2)
    expect((await liveos(['table', stick, '--name', 'a;b'])).code).toBe(2)
    expect((await liveos(['table', 'http://127.0.0.1:1/x.iso'])).code).toBe(3)
    expect((await liveos(['table', join(stick, 'none')])).code).toBe(2)
    expect((await liveos(['table', '--help'])).stdout).toContain('sudo bash')
  })
})

images.describe('images', () => {
  images.it('a file on a partition is reached through it, links resolved inside', async () => {
    const { path: stick } = await smallStick(await path('linked'))
    await mkdir(join(stick, 'images'))
    await rename(join(stick, 'LiveOS/squashfs.img'), join(stick, 'images/real one.img'))
    await symlink('/images/real one.img', join(stick, 'LiveOS/squashfs.img'))
    await cp(join(stick, 'LiveOS'), join(stick, 'Other'), { recursive: true, verbatimSymlinks: true })
    const image = await path('linked.img')
    await emptyFile(image, 16 << 20)
    await makeExt4(image, stick, { size: 16 << 20 })
    const plan = await planTable({ target: image, image: 'Other' })
    expect(plan.commands).toEqual([
      `medium=$(losetup --find --show --read-only ${image})`,
      'mkdir /run/liveos-medium',
      'mount -t ext4 -o ro,noload "$medium" /run/liveos-medium',
      "squashfs=$(losetup --find --show --read-only '/run/liveos-medium/images/real one.img')",
      'mkdir /run/liveos-squashfs',
      'mount -t squashfs -o ro "$squashfs" /run/liveos-squashfs',
      'base=$(losetup --find --show --read-only /run/liveos-squashfs/LiveOS/rootfs.img)',
      `overlay=$(losetup --find --show --read-only /run/liveos-medium/Other/${OVERLAY})`,
      `dmsetup create liveos --readonly --table "0 ${plan.size / 512} snapshot $base $overlay P 8"`,
    ])
    await failure(planTable({ target: image, image: 'Other' }, { writesTo: 'overlay' }), 'USAGE')
    // A journal that waits is replayed by a kernel that may write, and shown here as if it were.
    await run('debugfs', '-w', '-R', 'feature needs_recovery', image)
    expect((await failure(planTable({ target: image, image: 'Other' }), 'REFUSED')).message).toContain('e2fsck')
  })

  images.it('a base that is a partition or an image itself is a loop device of it', async () => {
    const { path: stick } = await smallStick(await path('plain'))
    const squashfs = join(stick, 'LiveOS/squashfs.img')
    const bare = await planTable({ target: squashfs })
    expect(bare.commands[0]).toBe(`squashfs=$(losetup --find --show --read-only ${squashfs})`)
    const disk = await mbrDisk(await path('disk.img'), stick)
    expect((await planTable({ target: disk })).commands.slice(0, 3)).toEqual([
      `medium=$(losetup --find --show --read-only --offset ${1 << 20} --sizelimit ${64 << 20} ${disk})`,
      'mkdir /run/liveos-medium',
      'mount -t vfat -o ro,utf8 "$medium" /run/liveos-medium',
    ])
    // A partition that is the base.
    const raw = await path('raw.img')
    await emptyFile(raw, 8 << 20)
    await execute('bash', [
      '-c',
      `echo start=2048,type=83 | /usr/sbin/sfdisk -q "$0" && dd if="$1" of="$0" bs=1M seek=1 conv=notrunc status=none`,
      raw,
      squashfs,
    ])
    const inside = await planTable({ target: raw, partition: 1 })
    expect(inside.commands[0]).toBe(
      `squashfs=$(losetup --find --show --read-only --offset ${1 << 20} --sizelimit ${7 << 20} ${raw})`,
    )
    const overlay = join(stick, 'LiveOS', OVERLAY)
    expect((await planTable({ target: raw, overlay })).commands).toContain(
      `overlay=$(losetup --find --show --read-only ${overlay})`,
    )
  })
})

import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { expect, it } from 'vitest'
import { planBootFix, runBootFix } from '../../../src/ops/boot-fix.js'
import { cpioOf } from '../../support/cpio.js'
import { finished } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
const NAME = 'overlay-LIVE-1A2B-3C4D'
const WORD = `rd.live.overlay=UUID=1A2B-3C4D:/LiveOS/${NAME}`

/** A stick whose entry has these arguments, with an initrd of a version of dracut. */
const stick = async (name: string, version: string, args: string): Promise<string> => {
  const root = await path(name)
  const files: Record<string, string | Buffer> = {
    'LiveOS/rootfs.img': Buffer.alloc(1 << 20),
    [`LiveOS/${NAME}`]: Buffer.alloc(1 << 16),
    'syslinux/vmlinuz': 'a kernel',
    'syslinux/initrd.img': cpioOf(
      { path: 'usr/lib/initrd-release', content: `DRACUT_VERSION=${version}\n` },
      { path: 'usr/lib/dracut/modules.txt', content: 'dmsquash-live\nsystemd\n' },
    ),
    'syslinux/syslinux.cfg': `default live\nlabel live\n  kernel vmlinuz\n  append initrd=initrd.img ${args}\n`,
  }
  for (const [file, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, file)), { recursive: true })
    await writeFile(join(root, file), content)
  }
  return root
}

it.each([
  // asked for by the switch alone: what names the overlay shows that the switch is wrong
  ['110', 'rd.live.image rd.live.overlay.overlayfs', `rd.live.image ${WORD}`],
  ['107', 'rd.live.image rd.overlay rd.live.ram', 'rd.live.image rd.live.ram rd.live.overlay.overlayfs'],
  ['059', 'rd.live.image rd.live.overlay=CDLABEL=LIVE', `rd.live.image ${WORD}`],
])('dracut %s, %s: one change after which nothing is left to change', async (version, args, wanted) => {
  const root = await stick(`${version}`, version, `root=live:UUID=1A2B-3C4D rw ${args}`)
  const plan = await planBootFix({ target: root })
  expect(plan.files).toHaveLength(1)
  expect(plan.files[0]?.diff.split('\n').filter(line => /^[-+] /.test(line))).toHaveLength(2)
  await finished(runBootFix(plan))
  const text = await readFile(join(root, 'syslinux/syslinux.cfg'), 'utf8')
  expect(text).toContain(`append initrd=initrd.img root=live:UUID=1A2B-3C4D rw ${wanted}\n`)
  expect((await planBootFix({ target: root })).files).toEqual([])
})

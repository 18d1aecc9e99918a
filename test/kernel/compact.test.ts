import { mkdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect } from 'vitest'
import { memory } from '../../src/block/memory.js'
import { snapshot } from '../../src/block/snapshot/snapshot.js'
import { readStore } from '../../src/block/snapshot/store.js'
import { planCompact, runCompact } from '../../src/ops/compact.js'
import { planGrow, runGrow } from '../../src/ops/grow.js'
import { makeExt4, run } from '../support/ext4-images.js'
import { freeRuns, layStick } from '../support/ext4-stick.js'
import { replayedByE2fsck } from '../support/journal-images.js'
import { needKernel, runInKernel } from '../support/kernel.js'
import { random } from '../support/random.js'
import { finished, OVERLAY, sha256 } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const tools = needTools('mksquashfs', 'mke2fs', 'e2fsck', 'dumpe2fs')
const kernel = tools.reason === undefined ? needKernel() : tools
const { it } = kernel
const path = temporary()
const MIB = 1 << 20

/** Sectors of a chunk, how the base stands on the stick, whether the system was cut while it ran. */
const KINDS = {
  'clean, squashed base': [8, 131072, false],
  'cut while it ran, squashed base': [8, 131072, true],
  'cut, bare base, small chunks': [2, undefined, true],
  'clean, bare base, large chunks': [64, undefined, false],
} as const
type Kind = keyof typeof KINDS
const names = Object.keys(KINDS) as Kind[]

/** Writes files, removes most of them, and writes the same once more over what the base has. */
const CHANGE = `
set -euo pipefail
source=$1; shift
disks=($DISKS)
for ((n = 0; n * 2 < \${#disks[@]}; n++)); do
  base=\${disks[n * 2]} cow=\${disks[n * 2 + 1]}
  echo "0 $(blockdev --getsz $base) snapshot $base $cow P $1" | dmsetup create view$n
  mkdir mnt$n
  mount -t ext4 /dev/mapper/view$n mnt$n
  cp $source/a mnt$n/kept
  for f in 1 2 3 4 5 6; do cp $source/b mnt$n/gone-$f; done
  sync -f mnt$n
  rm mnt$n/gone-*
  dd if=mnt$n/old/stays of=mnt$n/old/stays bs=4096 conv=notrunc status=none
  sync -f mnt$n
  if [ $2 = cut ]; then cp $source/a mnt$n/late; sync mnt$n/late
  else umount mnt$n; dmsetup remove view$n; fi
  shift 2
done
echo 0 >/run/host/rc
echo o >/proc/sysrq-trigger
sleep 30
`

/** Shows a view and its files, writes more, checks the filesystem, and gives the store back as the kernel leaves it. */
const JUDGE = `
set -euo pipefail
source=$1
disks=($DISKS)
for ((n = 0; n * 3 < \${#disks[@]}; n++)); do
  base=\${disks[n * 3]} old=\${disks[n * 3 + 1]} new=\${disks[n * 3 + 2]}
  for which in old new; do
    echo "0 $(blockdev --getsz $base) snapshot $base \${!which} PO 8" | dmsetup create view
    sha256sum </dev/mapper/view | cut -c1-64 >$OUT/$n.$which.view
    dmsetup status view | cut -d' ' -f4- >$OUT/$n.$which.status
    mkdir -p mnt
    mount -t ext4 -o noatime /dev/mapper/view mnt
    (cd mnt; find . -type f -print0 | sort -z | xargs -0 sha256sum) >$OUT/$n.$which.files
    if [ $which = new ]; then
      cp $source/b mnt/more
      sync -f mnt
    fi
    umount mnt
    e2fsck -fn /dev/mapper/view >$OUT/$n.$which.e2fsck 2>&1 || echo "exit $?" >>$OUT/$n.$which.e2fsck
    sha256sum </dev/mapper/view | cut -c1-64 >$OUT/$n.$which.after
    dmsetup remove view
  done
done
`

const { bytes } = random(29)
const sources = { a: bytes(700_000), b: bytes(900_001) }
const sticks = new Map<Kind, { base: Buffer; old: Buffer; stick: string }>()
let given = ''

beforeAll(async () => {
  if (kernel.reason !== undefined) return
  given = await path('source')
  const tree = await path('tree')
  await mkdir(join(tree, 'old'), { recursive: true })
  await mkdir(given)
  for (const [name, content] of Object.entries(sources)) await writeFile(join(given, name), content)
  await writeFile(join(tree, 'old/stays'), bytes(1_500_000))
  const disks: string[] = []
  for (const [index] of names.entries()) {
    const base = await makeExt4(await path(`base${index}`), 40, ['-t', 'ext4', '-b', '1024', '-J', 'size=4'], tree)
    await writeFile(`${base}.cow`, '')
    await truncate(`${base}.cow`, 24 * MIB)
    disks.push(base, `${base}.cow`)
  }
  const scratch = await path('change')
  await mkdir(scratch)
  const args = [given, ...names.flatMap(name => [String(KINDS[name][0]), KINDS[name][2] ? 'cut' : 'clean'])]
  const { rc, log } = await runInKernel({ script: CHANGE, scratch, disks, args })
  if (rc !== 0) throw new Error(log)
  for (const [index, name] of names.entries()) {
    const [base, old] = await Promise.all([0, 1].map(n => readFile(disks[index * 2 + n]!)))
    const blockSize = KINDS[name][1]
    sticks.set(name, {
      base: base!,
      old: old!,
      stick: await layStick(await path(`stick${index}`), base!, old, { blockSize }),
    })
  }
})

const viewOf = async (base: Buffer, overlay: Uint8Array): Promise<Buffer> =>
  Buffer.from(await (await snapshot(memory(base), memory(overlay))).read(0, base.length))

it('the kernel activates compacted overlays, shows the same outside what is free, mounts and checks them, and writes on', async () => {
  const disks: (string | { path: string; readOnly: boolean })[] = []
  const fresh: Buffer[] = []
  for (const [index, name] of names.entries()) {
    const { base, old, stick } = sticks.get(name)!
    const overlay = join(stick, 'LiveOS', OVERLAY)
    const plan = await planCompact({ target: stick })
    // six files of 0.9 MB were removed again, and a file was written over with what it held
    expect(plan.givesBackBytes, name).toBeGreaterThan(4 * MIB)
    expect(plan.chunks!.free, name).toBeGreaterThan(0)
    expect(plan.chunks!.equal, name).toBeGreaterThan(0)
    const done = await finished(runCompact({ target: stick }, plan))
    expect(done, name).toMatchObject({ changed: true, chunks: plan.chunks, newBytes: 24 * MIB })
    await finished(runGrow({ target: stick }, await planGrow({ target: stick }, { size: { by: 4 * MIB } })))
    const now = await readFile(overlay)
    expect(now.length).toBe(28 * MIB)
    fresh.push(now)

    const [before, after] = [await viewOf(base, old), await viewOf(base, now)]
    const image = await path(`replayed${index}`)
    const { bytes: replayed } = await replayedByE2fsck(image, before)
    expect(replayed.length).toBe(before.length)
    for (const [from, to] of await freeRuns(image)) for (const view of [before, after]) view.fill(0, from, to)
    expect(sha256(after), name).toBe(sha256(before))

    const origin = await path(`origin${index}`)
    const copies = [`${origin}.old`, `${origin}.new`]
    await writeFile(origin, base)
    await writeFile(copies[0]!, old)
    await writeFile(copies[1]!, now)
    disks.push({ path: origin, readOnly: true }, ...copies)
  }
  const scratch = await path('judge')
  await mkdir(scratch)
  const { rc, log, outDir } = await runInKernel({ script: JUDGE, scratch, disks, args: [given] })
  expect(rc, log).toBe(0)
  const said = async (name: string) => (await readFile(join(outDir, name), 'utf8')).trim()
  for (const [index, name] of names.entries()) {
    const { base } = sticks.get(name)!
    expect(await said(`${index}.new.view`), name).toBe(sha256(await viewOf(base, fresh[index]!)))
    const store = await readStore(memory(fresh[index]!))
    const { allocatedSectors, totalSectors, metadataSectors } = store
    expect(await said(`${index}.new.status`), name).toBe(`${allocatedSectors}/${totalSectors} ${metadataSectors}`)
    expect(await said(`${index}.new.files`), name).toBe(await said(`${index}.old.files`))
    for (const which of ['old', 'new']) expect(await said(`${index}.${which}.e2fsck`), name).not.toContain('exit')
    // what the kernel has written on, read by us
    const disk = disks[index * 3 + 2] as string
    const written = await readFile(disk)
    expect((await readStore(memory(written))).exceptions.count).toBeGreaterThan(store.exceptions.count)
    expect(sha256(await viewOf(base, written)), name).toBe(await said(`${index}.new.after`))
    const view = await path(`after${index}`)
    await writeFile(view, await viewOf(base, written))
    await run('e2fsck', ['-fn', view])
  }
})

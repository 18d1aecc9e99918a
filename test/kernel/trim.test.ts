import { copyFile, mkdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect } from 'vitest'
import { sampleFacts, unpackSample } from '../../scripts/sample.mjs'
import { memory } from '../../src/block/memory.js'
import { snapshot } from '../../src/block/snapshot/snapshot.js'
import { readInode } from '../../src/fs/ext4/inode.js'
import { ownedRuns } from '../../src/fs/ext4/sweep.js'
import { openVolume } from '../../src/fs/ext4/volume.js'
import { openSquashfs } from '../../src/fs/squashfs/reader.js'
import { holdsOverlay } from '../../src/liveos/holds-overlay.js'
import { planRefresh } from '../../src/ops/refresh.js'
import { runRefresh } from '../../src/ops/refresh-run.js'
import { makeExt4, run, withExt4 } from '../support/ext4-images.js'
import { checked, freeRuns, layStick, merged, sameOutsideFree } from '../support/ext4-stick.js'
import { replayedByE2fsck } from '../support/journal-images.js'
import { needKernel, runInKernel } from '../support/kernel.js'
import { sameBytes } from '../support/outcome.js'
import { random } from '../support/random.js'
import { finished, OVERLAY, sha256 } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const tools = needTools('mksquashfs', 'mke2fs', 'e2fsck', 'dumpe2fs')
const kernel = tools.reason === undefined ? needKernel() : tools
const { it } = kernel
const path = temporary()

/** MiB, options of mke2fs, options of mount, sectors of a chunk, bytes of a squashfs block. */
const KINDS = {
  default: [40, ['-t', 'ext4', '-b', '4096', '-J', 'size=4'], 'defaults', 8, 131072],
  'data in the journal, small blocks, no checksums': [
    32,
    ['-t', 'ext4', '-b', '1024', '-J', 'size=4', '-O', '^metadata_csum'],
    'data=journal',
    2,
    16384,
  ],
  'bigalloc, large chunks': [
    48,
    ['-t', 'ext4', '-O', 'bigalloc', '-C', '16384', '-J', 'size=4'],
    'defaults',
    128,
    65536,
  ],
  'fast commits': [32, ['-t', 'ext4', '-b', '1024', '-J', 'size=8', '-O', 'fast_commit'], 'defaults', 8, 32768],
} as const
type Kind = keyof typeof KINDS
const PENDING: Kind = 'fast commits'
const names = Object.keys(KINDS) as Kind[]
const whole = names.filter(name => name !== PENDING)

/** Changes each filesystem over a snapshot of it; then the guest stops as if its plug were pulled. */
const CUT = `
set -euo pipefail
source=$1; shift
disks=($DISKS)
for ((n = 0; n * 2 < \${#disks[@]}; n++)); do
  base=\${disks[n * 2]} cow=\${disks[n * 2 + 1]}
  echo "0 $(blockdev --getsz $base) snapshot $base $cow P $1" | dmsetup create view$n
  mkdir mnt$n
  mount -t ext4 -o "$2" /dev/mapper/view$n mnt$n
  shift 2
  cd mnt$n
  rm old/gone
  mkdir keep
  cp $source/a keep/a
  sync -f .
  exec {orphan}>orphan; cat $source/a >&$orphan; rm orphan
  for f in {1..20}; do echo $f >small-$f; done
  cp $source/b keep/b
  sync -f .
  cp $source/c late
  sync late
  cd ..
done
echo 0 >/run/host/rc
echo o >/proc/sysrq-trigger
sleep 30
`

/** What the kernel shows of a refreshed base alone, mounted read-only, and then under the overlay that was merged into it. */
const LOOK = `
set -euo pipefail
disks=($DISKS)
show() {
  find $1 -type f -printf '%P\\t%m %U %G %s %n %T@\\n' | sort >facts
  find $1 -type f -print0 | sort -z | xargs -0 sha256sum | cut -c1-64 >sums
  paste facts sums >$OUT/$2
}
for ((n = 0; n * 2 < \${#disks[@]}; n++)); do
  mkdir -p squash$n mnt
  mount -t squashfs -o ro \${disks[n * 2]} squash$n
  base=$(losetup -f --show -r squash$n/LiveOS/rootfs.img)
  mount -t ext4 -o ro $base mnt
  show mnt $n.alone
  umount mnt
  [ "$1" != 0 ] || { shift; continue; }
  echo "0 $(blockdev --getsz $base) snapshot $base \${disks[n * 2 + 1]} P $1" | dmsetup create view$n
  mount -t ext4 -o noatime /dev/mapper/view$n mnt
  show mnt $n.under
  umount mnt
  dmsetup remove view$n
  shift
done
`

const { bytes } = random(23)
const sources = { a: bytes(300_000), b: bytes(150_001), c: bytes(400_500) }
/** Each kind's base and its store as the cut left it. */
const images = new Map<Kind, { base: Buffer; overlay: Buffer; stick: string }>()

beforeAll(async () => {
  if (kernel.reason !== undefined) return
  const given = await path('source')
  const tree = await path('tree')
  await mkdir(join(tree, 'old'), { recursive: true })
  await mkdir(given)
  for (const [name, content] of Object.entries(sources)) await writeFile(join(given, name), content)
  await writeFile(join(tree, 'old/gone'), bytes(3_000_000))
  await writeFile(join(tree, 'old/stays'), bytes(1_000_000))
  const disks: string[] = []
  for (const [index, name] of names.entries()) {
    const [mib, args] = KINDS[name]
    const base = await makeExt4(await path(`base${index}`), mib, args, tree)
    await writeFile(`${base}.cow`, '')
    await truncate(`${base}.cow`, 24 << 20)
    disks.push(base, `${base}.cow`)
  }
  const scratch = await path('cut')
  await mkdir(scratch)
  const args = [given, ...names.flatMap(name => [String(KINDS[name][3]), KINDS[name][2]])]
  const { rc, log } = await runInKernel({ script: CUT, scratch, disks, args })
  if (rc !== 0) throw new Error(log)
  for (const [index, name] of names.entries()) {
    const [base, overlay] = await Promise.all([0, 1].map(n => readFile(disks[index * 2 + n]!)))
    const stick = await layStick(await path(`stick${index}`), base!, overlay, { blockSize: KINDS[name][4] })
    images.set(name, { base: base!, overlay: overlay!, stick })
  }
})

/** The bytes that base and overlay show, before any replay. */
const viewOf = async (name: Kind): Promise<Buffer> => {
  const { base, overlay } = images.get(name)!
  return Buffer.from(await (await snapshot(memory(base), memory(overlay))).read(0, base.length))
}

/** What a path, or an inode, has on the device. */
const runsOf = async (image: string, inode: number | string) =>
  withExt4(image, async fs => {
    const ino = typeof inode === 'number' ? inode : (await fs.stat(inode)).inode
    const volume = await openVolume(memory(await readFile(image)))
    return ownedRuns(volume, await readInode(volume, ino))
  })

for (const name of whole)
  it(`cut while mounted over a snapshot, ${name}: what e2fsck makes of the journal, and the file that was synced last is whole`, async () => {
    const { stick, base, overlay } = images.get(name)!
    const output = await path(`${names.indexOf(name)}.img`)
    const { plan } = await merged(stick, { output })
    expect(plan.findings.map(({ code }) => code)).toEqual(['JOURNAL_REPLAYED'])
    const image = await readFile(output)
    const view = await viewOf(name)

    // what this test is about: the bitmaps on the medium call blocks of that file free
    const raw = await path('raw.img')
    await writeFile(raw, view)
    const late = await runsOf(output, '/late')
    const stale = await freeRuns(raw)
    expect(late.some(({ start, length }) => stale.some(([from, to]) => from < start + length && start < to))).toBe(true)
    await withExt4(output, async fs => {
      for (const [at, content] of [['/late', sources.c] as const, ['/keep/a', sources.a] as const]) {
        const file = await fs.open(at)
        expect(sha256(await file.read(0, file.size)), at).toBe(sha256(content))
      }
    })

    // e2fsck finishes the orphan too; before it did, its blocks are not free
    const orphan = new DataView(image.buffer, image.byteOffset + 1024).getUint32(232, true)
    expect(orphan).toBeGreaterThan(0)
    const kept = await runsOf(output, orphan)
    expect(kept.reduce((sum, { length }) => sum + length, 0)).toBeGreaterThanOrEqual(sources.a.length)
    const replayed = await path('theirs.img')
    const { bytes: theirs } = await replayedByE2fsck(replayed, view)
    const free = await freeRuns(replayed)
    expect(plan.trim!.freeBytes).toBeGreaterThan(3_000_000)
    expect(plan.trim!.freeBytes).toBeLessThan(free.reduce((sum, [from, to]) => sum + to - from, 0))
    for (const { start, length } of kept)
      sameBytes(image.subarray(start, start + length), theirs.subarray(start, start + length))
    const ours = await path('ours.img')
    const finishedByE2fsck = (await replayedByE2fsck(ours, image)).bytes
    for (const each of [finishedByE2fsck, theirs]) {
      // s_wtime, s_kbytes_written, s_checksum
      for (const [from, to] of [
        [48, 52],
        [628, 629],
        [376, 384],
        [1020, 1024],
      ])
        each.fill(0, 1024 + from!, 1024 + to!)
    }
    sameOutsideFree(finishedByE2fsck, theirs, free, theirs)
    await run('e2fsck', ['-p', output], [1])
    expect(await checked(output)).toMatchObject({ status: 0 })

    expect(await holdsOverlay(memory(image), memory(overlay))).toBe(true)
    expect(await holdsOverlay(memory(base), memory(overlay))).toBe(false)
  })

it('cut while mounted over a snapshot, fast commits: merged as it stands, nothing trimmed, and said', async () => {
  const { stick, overlay } = images.get(PENDING)!
  const output = await path('fast.img')
  const { plan } = await merged(stick, { output })
  expect(plan.findings.map(({ code }) => code)).toEqual(['JOURNAL_NOT_REPLAYED'])
  expect(plan.trim).toBeNull()
  const view = await viewOf(PENDING)
  sameBytes(await readFile(output), view)
  expect(await holdsOverlay(memory(view), memory(overlay))).toBe(true)
})

it('the kernel mounts what a refresh wrote read-only, shows every file, and the same under the overlay; once that was mounted it is not held', async () => {
  const facts = await sampleFacts()
  const sample = await unpackSample(await path('sample'))
  const disks: { path: string; readOnly: boolean }[] = []
  const fresh: Buffer[] = []
  const sticks = [...whole.map(name => images.get(name)!.stick), sample]
  for (const [index, stick] of sticks.entries()) {
    const overlay = join(stick, 'LiveOS', stick === sample ? 'overlay-LIVE-1A2B-3C4D' : OVERLAY)
    const before = await path(`before${index}.cow`)
    await copyFile(overlay, before)
    const outcome = await finished(runRefresh({ target: stick }, await planRefresh({ target: stick }, {})))
    expect(outcome).toMatchObject({ overlayReset: true })
    expect(outcome.verified).not.toBeNull()
    const image = join(stick, 'LiveOS/squashfs.img')
    const root = await (await openSquashfs(memory(await readFile(image)))).open('/LiveOS/rootfs.img')
    fresh.push(Buffer.from(await root.read(0, root.size)))
    expect(await holdsOverlay(memory(fresh[index]!), memory(await readFile(before)))).toBe(true)
    disks.push({ path: image, readOnly: true }, { path: before, readOnly: false })
  }
  const scratch = await path('look')
  await mkdir(scratch)
  const args = [...whole.map(name => String(KINDS[name][3])), '0']
  const { rc, log, outDir } = await runInKernel({ script: LOOK, scratch, disks, args })
  expect(rc, log).toBe(0)
  const shown = async (name: string): Promise<Map<string, string[]>> => {
    const lines = (await readFile(join(outDir, name), 'utf8')).trim().split('\n')
    return new Map(
      lines.map(line => {
        const [file, said, sum] = line.split('\t')
        return [file!, [...said!.split(' '), sum!]]
      }),
    )
  }
  for (const [index, name] of whole.entries()) {
    const alone = await shown(`${index}.alone`)
    for (const [file, content] of [
      ['keep/a', sources.a],
      ['keep/b', sources.b],
      ['late', sources.c],
    ] as const)
      expect(alone.get(file)?.[6], `${name}: ${file}`).toBe(sha256(content))
    expect(alone.has('old/gone')).toBe(false)
    expect(alone.size).toBe(20 + 4)
    expect(await shown(`${index}.under`)).toEqual(alone)
    // a boot between the cut and the second run: its changes must not be lost
    expect(await holdsOverlay(memory(fresh[index]!), memory(await readFile(disks[index * 2 + 1]!.path)))).toBe(false)
  }
  const alone = await shown(`${whole.length}.alone`)
  const files = facts.files.filter(({ type }) => type === 'f')
  expect(alone.size).toBe(files.length)
  for (const { path: at, mode, uid, gid, size, links, mtime, sha256: hash } of files) {
    const [mode2, uid2, gid2, size2, links2, time, hash2] = alone.get(at.slice(1))!
    expect([mode2, uid2, gid2, size2, links2, Math.floor(Number(time)), hash2], at).toEqual([
      mode,
      ...[uid, gid, size, links].map(String),
      mtime,
      hash,
    ])
  }
})

import { cp, mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { Device } from '../../src/block/device.js'
import { errorTarget } from '../../src/block/error-target.js'
import { openFile } from '../../src/block/file.js'
import { parseTables, printTables } from '../../src/block/table.js'
import { openTables } from '../../src/block/table-open.js'
import { openTarget } from '../../src/liveos/open-target.js'
import { openStack } from '../../src/liveos/stack.js'
import type { TargetInput } from '../../src/liveos/target.js'
import { planTable, type TableOptions } from '../../src/ops/table.js'
import { needKernel, runInKernel } from '../support/kernel.js'
import { random } from '../support/random.js'
import { OVERLAY, sha256, smallStick } from '../support/small-stick.js'
import { storeOf } from '../support/store-writer.js'
import { emptyFile, IMAGE_TOOLS, makeExt4, makeIsoTarget, mbrDisk, run } from '../support/target-images.js'
import { temporary } from '../support/temporary.js'

const { it } = needKernel(...IMAGE_TOOLS)
const path = temporary()
const { seed, bytes } = random()
const SECTOR = 512
const hashOf = async (device: Device): Promise<string> => sha256(await device.read(0, device.size))

/**
 * Runs scripts that `liveos table` printed, each as `NAME.sh` with the name of its device in `NAME.device`: hash of the device,
 * its tables, a write where there is a `NAME.write`, then what the script's end says undoes it. Nothing may be left.
 */
const VIEWS = `
set -eu
for module in vfat nls_cp437 nls_iso8859-1 isofs nls_utf8; do modprobe -d /run/modules $module || true; done
mount -t tmpfs tmp /var/tmp
mount --bind $OUT/stick "$1"
mount --bind $OUT/stick "$1" -o remount,bind,rw 2>/dev/null || true
cd $OUT
for script in *.sh; do
  name=\${script%.sh}
  device=$(cat $name.device)
  bash <$script >$name.said
  sha256sum <$device | cut -d ' ' -f 1 >$name.hash
  blockdev --getro $device >$name.ro
  dmsetup table >$name.tables
  if [ -e $name.write ]; then
    dd if=$name.write of=$device bs=4096 seek=3 oflag=direct conv=notrunc status=none
    sha256sum <$device | cut -d ' ' -f 1 >$name.written
  fi
  tail -n +2 $name.said >$name.undo
  bash -eu $name.undo
done
{ dmsetup ls | grep -v '^No devices' || losetup -a; find /run /var/tmp -maxdepth 1 -name 'liveos*'; } >left
`

interface View {
  readonly name: string
  readonly input: TargetInput
  readonly options?: TableOptions
  readonly write?: boolean
}

/** SHA-256 of what is read here, whole sectors only. */
const viewHash = async (input: TargetInput): Promise<string> => {
  const { target, close } = await openTarget(input)
  const stack = await openStack(target, { threads: 1 })
  try {
    return sha256(await stack.root.read(0, stack.root.size - (stack.root.size % SECTOR)))
  } finally {
    await stack.close()
    await close()
  }
}

it(`the kernel shows by the printed commands what is read here, and nothing is left (seed ${seed})`, async () => {
  const scratch = await path('views')
  const out = join(scratch, 'kernel/out')
  await mkdir(out, { recursive: true })
  const { path: stick } = await smallStick(join(scratch, "it's $(a) stick"))
  const squashfs = join(stick, 'LiveOS/squashfs.img')
  const overlay = join(stick, 'LiveOS', OVERLAY)
  // One directory of another name, for names that FAT keeps in UTF-16.
  await cp(join(stick, 'LiveOS'), join(stick, 'Système à 日本'), { recursive: true })
  const disk = join(scratch, 'disk \n;"\u001b[31m`x`.img')
  await rename(await mbrDisk(join(scratch, 'disk.img'), stick), disk)
  const ext4 = join(scratch, 'ext4.img')
  await emptyFile(ext4, 16 << 20)
  await makeExt4(ext4, stick, { size: 16 << 20 })
  const iso = await makeIsoTarget(join(scratch, 'live.iso'), squashfs, { layout: 'f36' })
  const raw = await smallStick(join(scratch, 'raw'), { raw: true })
  const rawBase = join(raw.path, 'LiveOS/rootfs.img')
  const blank = join(scratch, 'blank.cow')
  await writeFile(blank, new Uint8Array(1 << 20))
  const flat = join(scratch, 'flat.img')
  await mkdir(join(scratch, 'flat/usr'), { recursive: true })
  await run('mksquashfs', join(scratch, 'flat'), flat, '-quiet', '-no-progress', '-noappend', '-all-root')
  // Whatever the guest writes must lie in $OUT.
  const own = await smallStick(join(out, 'stick'))

  const views: View[] = [
    { name: 'directory', input: { target: stick } },
    { name: 'base', input: { target: stick, baseOnly: true } },
    { name: 'disk', input: { target: disk, image: 'Système à 日本' } },
    { name: 'ext4', input: { target: ext4 }, options: { name: 'liveos-2.x' } },
    { name: 'iso', input: { target: iso } },
    { name: 'iso-overlay', input: { target: iso, overlay } },
    { name: 'pair', input: { base: rawBase, overlay: join(raw.path, 'LiveOS', OVERLAY) } },
    { name: 'new', input: { base: rawBase, overlay: blank } },
    { name: 'scratch', input: { target: disk }, options: { writesTo: 'scratch' }, write: true },
    { name: 'scratch-base', input: { base: rawBase }, options: { writesTo: 'scratch' }, write: true },
    { name: 'zz-persist', input: { target: own.path }, options: { writesTo: 'overlay' }, write: true },
  ]
  const source = bytes(3 * 4096)
  const before = new Map<string, Uint8Array>()
  const plans = new Map<string, Awaited<ReturnType<typeof planTable>>>()
  for (const { name, input, options, write } of views) {
    const plan = await planTable(input, options)
    plans.set(name, plan)
    await writeFile(join(out, `${name}.sh`), plan.script)
    await writeFile(join(out, `${name}.device`), plan.device)
    if (write) await writeFile(join(out, `${name}.write`), source)
  }
  const flatPlan = await planTable({ target: flat })
  await writeFile(join(out, 'flat.sh'), flatPlan.script)
  await writeFile(join(out, 'flat.device'), flatPlan.device)
  for (const file of [disk, squashfs, rawBase, blank]) before.set(file, await readFile(file))

  const { rc, log } = await runInKernel({ script: VIEWS, scratch, args: [own.path] })
  expect(rc, log).toBe(0)
  const said = (name: string): Promise<string> => readFile(join(out, name), 'utf8')
  for (const { name, input, options, write } of views) {
    const plan = plans.get(name)!
    const isWritten = options?.writesTo === 'overlay'
    const expected = isWritten ? sha256(own.merged.subarray(0, plan.size)) : await viewHash(input)
    expect(await said(`${name}.hash`), name).toBe(`${expected}\n`)
    expect(await said(`${name}.ro`), name).toBe(write ? '0\n' : '1\n')
    // The kernel has the tables that are told, but for the numbers of devices.
    const kernel = await said(`${name}.tables`)
    expect(printTables(parseTables(kernel)).split('\n').sort(), name).toEqual(kernel.split('\n').sort())
    const shape = (text: string): string[] =>
      text
        .replace(/\$\w+|\/dev\/\S+|\d+:\d+/g, 'DEVICE')
        .split('\n')
        .sort()
    expect(shape(kernel), name).toEqual(shape(printTables(plan.tables)))
  }
  expect(await said('flat.hash')).toBe(`${sha256(await readFile(flat))}\n`)
  expect(await said('left')).toBe('')
  for (const [file, content] of before) expect(sha256(await readFile(file)), file).toBe(sha256(content))

  const merged = own.merged.slice()
  merged.set(source, 3 * 4096)
  expect(await said('zz-persist.written')).toBe(`${sha256(merged.subarray(0, plans.get('zz-persist')!.size))}\n`)
  expect(await viewHash({ target: own.path })).toBe(sha256(merged.subarray(0, plans.get('zz-persist')!.size)))
  const scratchBase = raw.root.slice(0, plans.get('scratch-base')!.size)
  scratchBase.set(source, 3 * 4096)
  expect(await said('scratch-base.written')).toBe(`${sha256(scratchBase)}\n`)
})

/** Tables `NAME.in` in the order of `order`, with `@0` and so on for the disks. */
const TABLES = `
set -eu
for module in dm-mirror dm-zero; do modprobe -d /run/modules $module; done
set -- $DISKS
i=0
for disk in $DISKS; do echo "$((0x$(stat -c %t $disk))):$((0x$(stat -c %T $disk))) $i"; i=$((i + 1)); done >$OUT/numbers
for name in $(cat $OUT/order); do
  sed -e "s|@0|$1|g;s|@1|$2|g;s|@2|$3|g;s|@3|$4|g;s|@4|$5|g;s|@5|$6|g;s|@6|$7|g;s|@7|$8|g;s|@8|$9|g" $OUT/$name.in | dmsetup create "$name"
  echo "$(dmsetup info -c --noheadings -o major,minor --separator : "$name") $name" >>$OUT/numbers
done
dmsetup create 'odd name' --notable
for ((wait = 0; wait < 100; wait++)); do
  case $(dmsetup status mirror-disk) in *' 64/64 '*) break ;; esac
  sleep 0.1
done
dmsetup table >$OUT/tables
for name in $(cat $OUT/order); do
  dmsetup table $name >$OUT/$name.one
  case $name in partly) sha256sum <(dd if=/dev/mapper/partly bs=512 count=64 status=none) ;; *) sha256sum </dev/mapper/$name ;; esac |
    cut -d ' ' -f 1 >$OUT/$name.hash
done
dmsetup suspend merge
dmsetup remove 'odd name'
for name in $(tac $OUT/order); do dmsetup remove $name; done
`

it(`tables that the kernel has loaded are parsed, printed byte for byte, and read as it reads them (seed ${seed})`, async () => {
  const scratch = await path('tables')
  const out = join(scratch, 'kernel/out')
  await mkdir(out, { recursive: true })
  const SECTORS = 2048
  const changes = [2, 3, 77, 130, 255].map(oldChunk => ({ oldChunk, content: bytes(8 * SECTOR) }))
  const contents = [
    bytes(SECTORS * SECTOR),
    bytes(SECTORS * SECTOR),
    storeOf(changes, 8, 4),
    bytes(SECTORS * SECTOR),
    bytes((SECTORS + 16) * SECTOR),
    new Uint8Array(16 * SECTOR),
    bytes(SECTORS * SECTOR),
    storeOf(changes, 8, 4),
    storeOf(changes, 8, 4),
  ]
  const disks = contents.map((_, n) => join(scratch, `disk${n}`))
  for (const [n, file] of disks.entries()) await writeFile(file, contents[n]!)
  const tables: Readonly<Record<string, string>> = {
    plain: `0 10 linear @0 100\n10 20 zero\n30 2000 linear @0 0\n`,
    partly: `0 64 linear @0 7\n64 8 error\n`,
    base: `0 ${SECTORS} linear @1 0\n`,
    snap: `0 ${SECTORS} snapshot /dev/mapper/base @2 PO 8\n`,
    // a snapshot that begins in the middle of a table
    middle: `0 24 zero\n24 1000 snapshot @1 @8 p 8\n`,
    'mirror-core': `0 ${SECTORS} mirror core 2 32 nosync 2 @3 0 @3 0 1 handle_errors\n`,
    'mirror-disk': `0 ${SECTORS} mirror disk 2 @5 32 2 @3 0 @4 16 2 handle_errors keep_log\n`,
    merge: `0 ${SECTORS} snapshot-merge @6 @7 P 8\n`,
  }
  const order = Object.keys(tables)
  for (const name of order) await writeFile(join(out, `${name}.in`), tables[name]!)
  await writeFile(join(out, 'order'), order.map(name => `${name}\n`).join(''))
  const { rc, log } = await runInKernel({ script: TABLES, scratch, disks })
  expect(rc, log).toBe(0)

  const said = (name: string): Promise<string> => readFile(join(out, name), 'utf8')
  const text = await said('tables')
  const parsed = parseTables(text)
  expect(printTables(parsed)).toBe(text)
  expect(parsed.map(({ name }) => name)).toContain('odd name')
  expect(text).toContain('partly: 64 8 error \n')
  expect(text).toMatch(/mirror-disk: 0 2048 mirror disk 2 \d+:\d+ 32 2 \d+:\d+ 0 \d+:\d+ 16 2 handle_errors keep_log\n/)

  const numbers = (await said('numbers'))
    .trim()
    .split('\n')
    .map(line => line.split(' ') as [string, string])
  const files = new Map(
    numbers.filter(([, name]) => /^\d+$/.test(name)).map(([number, n]) => [number, disks[Number(n)]!]),
  )
  const aliases = new Map(numbers.filter(([, name]) => !/^\d+$/.test(name)))
  const open = async (word: string): Promise<Device> => openFile(files.get(word)!)
  const { devices, close } = await openTables(parsed, open, { aliases })
  for (const name of order) {
    const device = devices.get(name)!
    const hash = name === 'partly' ? sha256(await device.read(0, 64 * SECTOR)) : await hashOf(device)
    expect(`${hash}\n`, name).toBe(await said(`${name}.hash`))
  }
  await close()

  // The log says that the kernel has made the legs alike: without the first, the mirror is the same.
  const [, leg] = [...files].find(([, file]) => file === disks[3])!
  const onlyMirror = parsed.filter(({ name }) => name === 'mirror-disk')
  const lost = await openTables(onlyMirror, async word => {
    const file = files.get(word)!
    return file === leg ? errorTarget(SECTORS * SECTOR, 'lost leg') : openFile(file)
  })
  expect(`${await hashOf(lost.devices.get('mirror-disk')!)}\n`).toBe(await said('mirror-disk.hash'))
  await lost.close()
})

import { execFile } from 'node:child_process'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, expect, it } from 'vitest'
import { unpackSample } from '../../scripts/sample.mjs'
import { ROOT } from '../support/cli.js'
import { needKernel, runInKernel } from '../support/kernel.js'
import { viewOf } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'

const gate = needKernel('mkfs.vfat', 'mcopy')
const path = temporary()
const run = promisify(execFile)
const mtools = (args: readonly string[]) =>
  run(args[0]!, args.slice(1), { env: { ...process.env, MTOOLS_SKIP_CHECK: '1' } })

/** The devices of a live system as dracut makes them, on a FAT stick; then one program does it all, as starting Node takes long there. */
const SCRIPT = `
set -euo pipefail
for module in fat vfat nls_cp437 nls_iso8859-1 nls_ascii nls_utf8 overlay; do modprobe -d /run/modules $module 2>/dev/null || true; done
node=$1 root=$2
mkdir -p bin squash /run/initramfs/live
for name in wall systemd-cat; do printf '#!/bin/sh\\ncat >>/run/work/%s.told\\n' $name >bin/$name; chmod 755 bin/$name; done
printf '#!/bin/sh\\necho "$(id -u) $DBUS_SESSION_BUS_ADDRESS $5" >>/run/work/desktop.told\\n' >bin/notify-send
chmod 755 bin/notify-send
mkdir -p /run/user/65534
touch /run/user/65534/bus desktop.told
chown -R 65534:65534 /run/user/65534 desktop.told
export PATH=/run/work/bin:$PATH RUNTIME_DIRECTORY=/run/liveos
mount -t vfat -o umask=0022 "$DISKS" /run/initramfs/live
# what udev would know, so that nobody asks blkid
mkdir -p /run/udev/data
printf 'E:ID_FS_LABEL_ENC=LIVE\\nE:ID_FS_UUID_ENC=1A2B-3C4D\\n' >/run/udev/data/b$(mountpoint -d /run/initramfs/live)
mount -t squashfs -o loop,ro /run/initramfs/live/LiveOS/squashfs.img squash
export BASE=$(losetup -r -f --show squash/LiveOS/rootfs.img)
export OVERLAY=/run/initramfs/live/LiveOS/overlay-LIVE-1A2B-3C4D
export STORE=$(losetup -f --show $OVERLAY)
"$node" /run/host/out/driver.mjs "$root"
`

const DRIVER = `
import { execFileSync } from 'node:child_process'
import { ftruncateSync, openSync, writeSync } from 'node:fs'
const root = process.argv[2]
const { main } = await import(root + '/dist/cli/main.js')
const { OVERLAY, BASE, STORE } = process.env
const sh = text => execFileSync('bash', ['-euo', 'pipefail', '-c', text], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim()
const status = () => execFileSync('dmsetup', ['status', 'live-rw'], { encoding: 'utf8' }).trim()
const all = {}
// opened while that is allowed
const file = openSync(process.env.OUT + '/all.json', 'w')
const save = () => { ftruncateSync(file); writeSync(file, JSON.stringify(all), 0) }
const liveos = async (name, ...args) => {
  const before = process.env.KERNEL === 'none' ? '' : status()
  const said = { out: '', err: '' }
  const [out, err] = [process.stdout.write, process.stderr.write]
  process.stdout.write = text => ((said.out += text), true)
  process.stderr.write = text => ((said.err += text), true)
  let code
  try { code = await main(args) } finally { Object.assign(process.stdout, { write: out }); Object.assign(process.stderr, { write: err }) }
  let json = null
  try { json = JSON.parse(said.out) } catch {}
  all[name] = { code, json, kernel: before, ...said }
  save()
}
const fill = (at, count) => sh(\`dd if=/dev/urandom of=/dev/mapper/live-rw bs=4k seek=\${at} count=\${count} conv=notrunc,fsync status=none\`)
const make = (store, kind) => sh(\`dmsetup create live-rw --table "0 $(blockdev --getsz \${BASE}) snapshot \${BASE} \${store} \${kind} 8"\`)
const gone = () => sh('dmsetup remove live-rw')
const hash = () => sh('sync; sha256sum </dev/mapper/live-rw').slice(0, 64)

make(STORE, 'PO')
await liveos('watch first', 'watch', '--once', '--json')
fill(20000, 540)
await liveos('filled', 'status', '--json')
await liveos('watch filled', 'watch', '--once', '--json')
await liveos('watch again', 'watch', '--once', '--json')
await liveos('metrics', 'watch', '--metrics')
await liveos('smaller', 'grow', 'live', '--size', '8M', '--yes', '--json')
await liveos('too much', 'grow', 'live', '--size', '+1G', '--yes', '--json')
await liveos('4 GiB', 'grow', 'live', '--size', '4G', '--yes', '--json')
await liveos('grow', 'grow', 'live', '--size', '+8M', '--yes', '--json')
all.grown = status()
fill(21000, 1800)
await liveos('on', 'status', '--json')
await liveos('watch on', 'watch', '--once', '--json')
// 1 modulo 257 chunks: the kernel would mark a full store of that size invalid
await liveos('trap', 'grow', '/run/initramfs/live', '--size', String((257 * 24 + 1) * 4096), '--yes', '--json')
all.trapped = status()
// as a power cut leaves it, or a stop, between the zeros and the word to the kernel
sh(\`dd if=/dev/zero bs=4096 count=10 status=none >>\${OVERLAY}\`)
await liveos('untold', 'status', '--json')
await liveos('told', 'grow', 'live', '--size', '+0', '--yes', '--json')
all.afterTold = status()
all.hashes = [hash()]
gone()
make(STORE, 'PO')
all.hashes.push(hash())
sh(\`cp \${OVERLAY} $OUT/overlay\`)
// behind the back of the kernel
sh(\`printf '\\\\0' | dd of=\${OVERLAY} bs=1 seek=4 conv=notrunc status=none\`)
await liveos('changed', 'status', '--json')
sh(\`printf '\\\\1' | dd of=\${OVERLAY} bs=1 seek=4 conv=notrunc status=none\`)
try { fill(0, 1200) } catch {}
await liveos('over', 'status', '--json')
await liveos('watch over', 'watch', '--once', '--json')
await liveos('late', 'grow', 'live', '--size', '+1M', '--yes', '--json')
all.size = Number(sh(\`stat -c %s \${OVERLAY}\`))
all.channels = sh('cat wall.told; echo; cat systemd-cat.told; cat desktop.told').split('\\n')
gone()
// P writes down that it gave up
make(STORE, 'P')
try { fill(12000, 100) } catch {}
await liveos('given up', 'status', '--json')
gone()

// changes go to memory: a persistent store in it, one whose file is gone, one that keeps no list
const ram = sh('truncate -s 64M ram; losetup -f --show ram')
make(ram, 'PO')
fill(0, 300)
await liveos('memory', 'status', '--json')
await liveos('memory grow', 'grow', 'live', '--size', '+1M', '--yes', '--json')
sh('rm ram')
await liveos('memory gone', 'watch', '--once', '--json')
gone()
make(ram, 'N')
fill(0, 300)
await liveos('not kept', 'watch', '--once', '--json')
gone()
// an overlay that was named from elsewhere at the start
const other = sh('head -c 4M /dev/zero >$OUT/elsewhere; losetup -f --show $OUT/elsewhere')
make(other, 'PO')
fill(0, 600)
await liveos('elsewhere', 'status', '--json')
await liveos('elsewhere grow', 'grow', 'live', '--size', '+4M', '--yes', '--json')
fill(600, 900)
all.elsewhereAfter = status()
gone()

// a user, beside a stick that is in use
make(STORE, 'PO')
process.setgroups([])
process.setgid(65534)
process.setuid(65534)
process.env.KERNEL = 'none'
await liveos('user', 'status', '--json')
await liveos('user grow', 'grow', 'live', '--size', '+1M', '--yes', '--json')
`

interface Told {
  readonly code: number
  // biome-ignore lint/suspicious/noExplicitAny: what the program printed
  readonly json: any
  /** dmsetup status right before */
  readonly kernel: string
  readonly out: string
  readonly err: string
}

const STICK = 'LiveOS/overlay-LIVE-1A2B-3C4D'

gate.describe('a live system under the real kernel', () => {
  let all: Record<string, Told> & {
    grown: string
    trapped: string
    afterTold: string
    elsewhereAfter: string
    hashes: string[]
    size: number
    channels: string[]
  }
  let scratch: string
  beforeAll(async () => {
    scratch = await path('scratch')
    await mkdir(join(scratch, 'kernel/out'), { recursive: true })
    const stick = await unpackSample(join(scratch, 'stick'))
    const disk = join(scratch, 'stick.img')
    await run('truncate', ['-s', '64M', disk])
    await run('mkfs.vfat', ['-F', '32', '-n', 'LIVE', '-i', '1A2B3C4D', disk])
    await mtools(['mcopy', '-s', '-i', disk, join(stick, 'LiveOS'), join(stick, 'syslinux'), '::'])
    await writeFile(join(scratch, 'kernel/out/driver.mjs'), DRIVER)
    const args = [process.execPath, ROOT]
    const { rc, log, outDir } = await runInKernel({
      script: SCRIPT,
      scratch,
      disks: [disk],
      args,
      memory: 1024,
      seconds: 300,
    })
    expect(rc, log).toBe(0)
    all = JSON.parse(await readFile(join(outDir, 'all.json'), 'utf8'))
  }, 300_000)
  const codes = (name: string) => all[name]!.json.findings.map(({ code }: { code: string }) => code)

  it.each(['filled', 'on'])('status and dmsetup status say the same: %s', name => {
    const { code, json, kernel } = all[name]!
    expect(kernel).toMatch(/^0 229376 snapshot \d+\/\d+ \d+$/)
    expect([json.overlay.dmsetup, json.live.dmsetup]).toEqual([kernel, kernel])
    expect(json.live).toMatchObject({
      name: 'live-rw',
      kind: 'dm-snapshot',
      keptIn: 'overlay of the stick',
      state: 'ok',
    })
    expect(json.live.store).toBe(`/run/initramfs/live/${STICK}`)
    expect(codes(name).filter((found: string) => /DISAGREES|IN_USE|UNTOLD/.test(found))).toEqual([])
    expect(code).toBe(1)
  })

  it.each(['watch first', 'watch filled', 'watch again', 'watch on'])('watch counts as the kernel does: %s', name => {
    const { json, kernel } = all[name]!
    const [, used, total] = / (\d+)\/(\d+) /.exec(kernel)!.map(Number)
    expect(json).toMatchObject({ dmsetup: kernel, isRunning: true, keptIn: 'overlay of the stick', state: 'ok' })
    expect(json.room).toMatchObject({ usedBytes: used! * 512, leftBytes: (total! - used!) * 512 })
    expect(json.history).toBe('/run/initramfs/live/LiveOS/watch-overlay-LIVE-1A2B-3C4D.jsonl')
  })

  it('watch tells each level once, by what is there', () => {
    const said = ['watch first', 'watch filled', 'watch again', 'watch on', 'watch over'].map(
      name => all[name]!.json.say,
    )
    expect(said).toEqual(['level', 'level', null, null, 'level'])
    const text = all.channels.join('\n')
    for (const words of ['is 82 % full', 'is 95.2 % full', 'has overflowed']) expect(text.split(words)).toHaveLength(4)
    // of another user, who is logged in: the bus takes messages of that user alone
    expect(text).toContain('65534 unix:path=/run/user/65534/bus The overlay of this live system is 82 % full')
    expect(all['watch over']).toMatchObject({ code: 1, json: { state: 'overflow', level: 'lost' } })
    expect(all.metrics).toMatchObject({ code: 0 })
    expect(all.metrics!.out).toMatch(/^liveos_overlay_used_bytes\{[^}]*device="live-rw"[^}]*\} 15974400$/m)
  })

  it('grow live: the kernel writes on past the old end, and all is there after a new start', async () => {
    const { code, json, kernel } = all.grow!
    expect(kernel).toBe('0 229376 snapshot 31200/32768 136')
    expect(code).toBe(0)
    expect(json).toMatchObject({
      live: true,
      snapshot: 'live-rw',
      change: 'grow',
      oldBytes: 16 << 20,
      newBytes: 24 << 20,
    })
    expect([json.dmsetup.after, all.grown]).toEqual(Array(2).fill('0 229376 snapshot 31200/49152 136'))
    const written = Number(/snapshot (\d+)\//.exec(all.on!.kernel)![1])
    expect(written).toBeGreaterThan(32768)
    expect(all.hashes[0]).toBe(all.hashes[1])
    // as this program reads the same pair
    const base = join(scratch, 'stick/LiveOS/squashfs.img')
    expect(await viewOf({ base, overlay: join(scratch, 'kernel/out/overlay') })).toBe(all.hashes[0])
  })

  it('grow live leaves a size at which the kernel would invalidate a full store', () => {
    expect(all.trap!.json).toMatchObject({ newBytes: 257 * 24 * 4096, findings: [{ code: 'SIZE_ROUNDED' }] })
    expect(all.trapped).toContain(`/${257 * 24 * 8} `)
  })

  it('a file that is longer than the kernel knows: told by status, and mended by grow', () => {
    expect(codes('untold')).toContain('OVERLAY_SIZE_UNTOLD')
    expect(all.told!.json).toMatchObject({ change: 'tell', findings: [] })
    expect(all.afterTold).toContain(`/${((257 * 24 + 10) * 4096) / 512} `)
  })

  it('a file that was changed beneath the kernel: the disagreement is told', () => {
    expect(codes('changed')).toContain('OVERLAY_DISAGREES')
  })

  it('overflow and invalid are told, though the file knows nothing of the one', () => {
    expect(all.over).toMatchObject({ code: 1, kernel: '0 229376 snapshot Overflow' })
    expect(all.over!.json).toMatchObject({ level: 'critical', overlay: { state: 'full' }, live: { state: 'overflow' } })
    expect(codes('over')).toContain('OVERLAY_OVERFLOWED')
    expect(all['given up']!.json).toMatchObject({ overlay: { state: 'invalid' }, live: { state: 'invalid' } })
    expect(codes('given up')).toContain('OVERLAY_GIVEN_UP')
  })

  it.each([
    ['smaller', 4, 'can only become larger'],
    ['too much', 5, 'are needed: free space there'],
    ['4 GiB', 5, 'at most 4.0 GiB (4294966784 bytes)'],
    ['late', 4, 'has overflowed'],
    ['memory grow', 4, 'in memory'],
    ['user grow', 4, 'only root'],
  ])('grow live refuses with the reason: %s', (name, code, words) => {
    expect(all[name]).toMatchObject({ code })
    expect(all[name]!.err).toContain(words)
  })

  it('a refused grow leaves the file as it was', () => expect(all.size).toBe((257 * 24 + 10) * 4096))

  it('changes that go to memory', () => {
    const { json, kernel } = all.memory!
    expect(json.live).toMatchObject({ keptIn: 'memory', store: '/run/work/ram', dmsetup: kernel, state: 'ok' })
    expect(codes('memory')).toContain('OVERLAY_IN_MEMORY')
    for (const name of ['memory gone', 'not kept']) {
      const { json: sample, kernel: line } = all[name]!
      const used = Number(/snapshot (\d+)\//.exec(line)![1]) * 512
      expect(sample).toMatchObject({
        keptIn: 'memory',
        dmsetup: line,
        room: { usedBytes: used },
        history: null,
        level: 'ok',
      })
    }
  })

  it('an overlay in another place is told, and enlarged there', () => {
    expect(codes('elsewhere')).toContain('OVERLAY_ELSEWHERE')
    expect(all.elsewhere!.json.live).toMatchObject({ keptIn: 'another place', store: '/run/host/out/elsewhere' })
    expect(all['elsewhere grow']!.json).toMatchObject({ overlay: '/run/host/out/elsewhere', newBytes: 8 << 20 })
    expect(all.elsewhereAfter).toMatch(/^0 229376 snapshot 12\d\d\d\/16384 /)
  })

  it('a user is told what the file says, and who can say more', () => {
    expect(all.user!.json.live).toMatchObject({
      name: 'live-rw',
      keptIn: 'overlay of the stick',
      state: 'unknown',
      dmsetup: null,
    })
    expect(codes('user')).toContain('OVERLAY_IN_USE')
  })
})

/** A root that is an OverlayFS, first with its upper directory in memory, then on the stick. */
const OVERLAYFS = `
set -euo pipefail
modprobe -d /run/modules overlay 2>/dev/null || true
node=$1 root=$2
mkdir -p /run/initramfs/live memory
mount -t ext4 "$DISKS" /run/initramfs/live
mount -t tmpfs -o size=64M tmpfs memory
look() {
  local name=$1 at=$2
  mkdir -p root-$name $at/upper $at/work
  mount -t overlay LiveOS_rootfs -o "lowerdir=/,upperdir=$at/upper,workdir=$at/work" root-$name
  for place in proc sys dev run; do mount --rbind /$place root-$name/$place; done
  head -c 9000000 /dev/urandom >root-$name/big
  sync
  stat -f -c '%S %b %f %a' $at >$OUT/$name.stat
  chroot root-$name "$node" /run/host/out/look.mjs "$root" $name
}
look memory /run/work/memory
# copied to memory at its start: the stick has gone
umount -l root-memory/run/initramfs/live
chroot root-memory "$node" /run/host/out/look.mjs "$root" gone
look stick /run/initramfs/live/LiveOS/overlay-X
`

const LOOK = `
import { writeFileSync } from 'node:fs'
const [root, name] = process.argv.slice(2)
const { main } = await import(root + '/dist/cli/main.js')
for (const args of [['status'], ['watch', '--once'], ['grow', 'live', '--size', '+1M', '--yes']]) {
  let out = ''
  const write = process.stdout.write
  process.stdout.write = text => ((out += text), true)
  try { await main([...args, '--json']) } finally { process.stdout.write = write }
  writeFileSync(process.env.OUT + '/' + name + '-' + args[0] + '.json', out)
}
`

const overlayfs = needKernel('mkfs.ext4')
overlayfs.it(
  'a root that is an OverlayFS: what its upper directory’s filesystem has left, as statfs says',
  async () => {
    const scratch = await path('overlayfs')
    const stick = await unpackSample(join(scratch, 'stick'))
    await rm(join(stick, STICK))
    const disk = join(scratch, 'stick.img')
    await run('mkfs.ext4', ['-q', '-L', 'LIVE', '-d', stick, disk, '64M'])
    await mkdir(join(scratch, 'kernel/out'), { recursive: true })
    await writeFile(join(scratch, 'kernel/out/look.mjs'), LOOK)
    const args = [process.execPath, ROOT]
    const { rc, log, outDir } = await runInKernel({
      script: OVERLAYFS,
      scratch,
      disks: [disk],
      args,
      memory: 1024,
      seconds: 300,
    })
    expect(rc, log).toBe(0)
    const json = async (name: string) => JSON.parse(await readFile(join(outDir, `${name}.json`), 'utf8'))
    for (const [name, keptIn] of [
      ['memory', 'memory'],
      ['stick', 'overlay of the stick'],
    ] as const) {
      const [size, blocks, free, available] = (await readFile(join(outDir, `${name}.stat`), 'utf8'))
        .split(' ')
        .map(Number)
      const status = await json(`${name}-status`)
      expect(status.live).toMatchObject({ kind: 'OverlayFS', name: '/', keptIn, dmsetup: null })
      const { usedBytes, leftBytes } = status.live.room
      expect(Math.abs(usedBytes - (blocks! - free!) * size!)).toBeLessThan(65_536)
      expect(Math.abs(leftBytes - available! * size!)).toBeLessThan(65_536)
      const codes = status.findings.map(({ code }: { code: string }) => code)
      expect(codes.includes('OVERLAY_IN_MEMORY')).toBe(keptIn === 'memory')
      const sample = await json(`${name}-watch`)
      expect(sample).toMatchObject({ kind: 'OverlayFS', keptIn, isRunning: true, level: 'ok', state: 'unknown' })
      expect(Math.abs(sample.room.usedBytes - usedBytes)).toBeLessThan(131_072)
      expect((await json(`${name}-grow`)).error).toMatchObject({ code: 'REFUSED' })
    }
    const gone = await json('gone-status')
    expect(gone).toMatchObject({ target: 'the running system', base: null, overlay: { kind: 'none' } })
    expect(gone.live).toMatchObject({ kind: 'OverlayFS', keptIn: 'memory' })
    expect(await json('gone-watch')).toMatchObject({ kind: 'OverlayFS', keptIn: 'memory', history: null })
    const stat = await json('stick-status')
    expect(stat.overlay.kind).toBe('OverlayFS directory')
    expect(stat.overlay.size).toBeGreaterThan(9_000_000)
    expect((await json('stick-watch')).history).toBe('/run/initramfs/live/LiveOS/watch-overlay-X.jsonl')
  },
  300_000,
)

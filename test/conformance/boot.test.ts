import { spawn, spawnSync } from 'node:child_process'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { expect, it as unguarded } from 'vitest'
import { planBoot, startBoot } from '../../src/ops/boot.js'
import { LIVEOS, liveos, type Ran } from '../support/cli.js'
import { serveFile } from '../support/http-server.js'
import { breaches, readSchema } from '../support/json-schema.js'
import { unmount } from '../support/mounting.js'
import { failure } from '../support/outcome.js'
import { temporary } from '../support/temporary.js'
import { needTools, tool } from '../support/tools.js'

const { it, reason } = needTools('qemu-system-x86_64')
const TOOLS = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }
const path = temporary()

const SECTOR = 512
const LOADED_AT = 0x7c00
const MESSAGE = 'booted by BIOS\r\n'
const MESSAGE_AT = 64

/** Writes itself to the next sector and says MESSAGE on the serial line; then powers off, or stands still. */
const bootSector = (end: 'power off' | 'stand still'): Uint8Array => {
  const at = LOADED_AT + MESSAGE_AT
  const sector = Buffer.alloc(SECTOR)
  sector.set([
    ...[0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0], // xor ax, ax; mov ds, ax; mov es, ax; mov ss, ax
    ...[0xbc, LOADED_AT & 0xff, LOADED_AT >> 8], // mov sp, LOADED_AT
    ...[0xb8, 0x01, 0x03, 0xbb, LOADED_AT & 0xff, LOADED_AT >> 8], // mov ax, 0x0301: write one sector; mov bx, LOADED_AT
    ...[0xb9, 0x02, 0x00, 0xb6, 0x00, 0xcd, 0x13], // mov cx, 2: the second; mov dh, 0; int 0x13
    0xfa, // cli: SeaBIOS, which says what it does by a timer, would say it between our letters
    ...[0xbe, at & 0xff, at >> 8], // mov si, message
    ...[0xac, 0x84, 0xc0, 0x74, 0x06], // next: lodsb; test al, al; jz done
    ...[0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf5], // mov dx, COM1; out dx, al; jmp next
    // done:
    ...(end === 'power off' ? [0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef] : []), // mov dx, PM1a_CNT; mov ax, SLP_EN; out dx, ax
    ...[0xf4, 0xeb, 0xfd], // hlt; jmp back to it
  ])
  sector.write(MESSAGE, MESSAGE_AT, 'latin1')
  sector.set([0x55, 0xaa], SECTOR - 2)
  return sector
}

/** A disk that starts with a boot sector, under a name with all that an option's syntax might trip over. */
const diskOf = async (name: string, end: 'power off' | 'stand still'): Promise<string> => {
  const image = await path(`${name},readonly=on,if=none 'x' "y" %41 $(z).img`)
  await writeFile(image, Buffer.concat([bootSector(end), Buffer.alloc((1 << 20) - SECTOR)]))
  return image
}

const second = async (image: string): Promise<Buffer> => (await readFile(image)).subarray(SECTOR, 2 * SECTOR)

/** Folders of machines of this user, and emulators, that are left. */
const leftovers = async (image: string): Promise<string[]> => {
  const folders: string[] = []
  for (const name of await readdir(tmpdir()))
    if (name.startsWith('liveos-boot-')) {
      const pid = Number(name.split('-')[2])
      if (started.has(pid)) folders.push(name)
    }
  const title = `liveos boot ${image}`.replaceAll(',', ',,')
  for (const pid of await readdir('/proc'))
    if (/^\d+$/.test(pid)) {
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
      if (command.includes(title)) folders.push(`process ${pid}`)
    }
  return folders
}

const started = new Set<number>()
const FAST = ['--serial', '--accelerator', 'tcg', '--memory', '64M']

/** Boots, and sends a signal each time that its words were said, on either stream. */
const boot = (
  args: readonly string[],
  ...signals: readonly (readonly [after: RegExp, signal: NodeJS.Signals])[]
): Promise<Ran> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [LIVEOS, 'boot', ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
    started.add(child.pid!)
    const said = { stdout: '', stderr: '' }
    let sent = 0
    for (const name of ['stdout', 'stderr'] as const)
      child[name].setEncoding('utf8').on('data', (text: string) => {
        said[name] += text
        const next = signals[sent]
        if (!next?.[0].test(said.stdout + said.stderr)) return
        sent++
        child.kill(next[1])
      })
    child.on('error', reject)
    child.on('close', code => resolve({ code, ...said }))
  })

it('boots a disk from USB by BIOS, with its writes thrown away, whatever its name', async () => {
  const image = await diskOf('scratch', 'power off')
  const before = await stat(image)
  const { code, stdout, stderr } = await boot([image, ...FAST])
  expect(stderr).toContain('what it wrote (4.0 KiB) is thrown away')
  expect(code).toBe(0)
  expect(stdout).toContain(MESSAGE)
  expect(await second(image)).toEqual(Buffer.alloc(SECTOR))
  expect((await stat(image)).mtimeMs).toBe(before.mtimeMs)
  expect(await leftovers(image)).toEqual([])
})

it('with --persist what the machine writes is on the disk, and it asks first', async () => {
  const image = await diskOf('persist', 'power off')
  const asked = await boot([image, ...FAST, '--persist'])
  expect(asked).toMatchObject({ code: 4, stdout: '' })
  expect(asked.stderr).toContain('--yes')
  expect(await second(image)).toEqual(Buffer.alloc(SECTOR))
  const { code, stderr } = await boot([image, ...FAST, '--persist', '--yes'])
  expect(code, stderr).toBe(0)
  expect(await second(image)).toEqual(Buffer.from(bootSector('power off')))
  expect(await leftovers(image)).toEqual([])
})

it('Ctrl-C ends a machine and leaves neither process nor socket', async () => {
  const image = await diskOf('interrupted', 'stand still')
  const { code, stderr } = await boot([image, ...FAST], [/booted by BIOS/, 'SIGINT'])
  expect(stderr).toContain('turning the machine off')
  expect(code).toBe(0)
  expect(await leftovers(image)).toEqual([])
})

it('what writes to the disk is first asked to shut down; asked again, its power is cut', async () => {
  const image = await diskOf('asked', 'stand still')
  const { code, stderr } = await boot(
    [image, ...FAST, '--persist', '--yes'],
    [/booted by BIOS/, 'SIGTERM'],
    [/once more cuts the power/, 'SIGTERM'],
  )
  expect(stderr).toMatch(/asking the system to shut down[\s\S]*turning the machine off/)
  expect(code).toBe(0)
  expect(await second(image)).toEqual(Buffer.from(bootSector('stand still')))
  expect(await leftovers(image)).toEqual([])
})

it('two machines can not write to one image at a time, and one only reads it meanwhile', async () => {
  const image = await diskOf('twice', 'stand still')
  let other: Promise<Ran> | undefined
  let reading: Promise<Ran> | undefined
  const first = await liveos(['boot', image, ...FAST, '--persist', '--yes'], async (child, stderr) => {
    if (!stderr.includes('Ctrl-A X') || other) return
    other = liveos(['boot', image, ...FAST, '--persist', '--yes'])
    await other
    reading = boot([image, ...FAST], [/booted by BIOS/, 'SIGINT'])
    await reading
    child.kill('SIGTERM')
    child.kill('SIGTERM')
    setTimeout(() => child.kill('SIGTERM'), 500)
  })
  expect(await other).toMatchObject({ code: 4 })
  expect((await reading)?.code).toBe(0)
  expect(first.code).toBe(0)
})

it('the machine ends with liveos, even where that is killed', async () => {
  const image = await diskOf('killed', 'stand still')
  const { code } = await boot([image, ...FAST], [/booted by BIOS/, 'SIGKILL'])
  expect(code).toBeNull()
  await expect
    .poll(async () => (await leftovers(image)).filter(left => left.startsWith('process')), { timeout: 5000 })
    .toEqual([])
  // Its folder goes with the next one that is made here.
  started.clear()
})

const schema = readSchema('boot.json')

const planned = async (...args: readonly string[]): Promise<{ code: number | null; plan: Record<string, unknown> }> => {
  const { code, stdout } = await liveos(['boot', ...args, '--dry-run', '--json'])
  const plan = JSON.parse(stdout) as Record<string, unknown>
  if (!('error' in plan)) expect(breaches(plan, schema)).toEqual([])
  return { code, plan }
}

it('--dry-run tells the plan and the exact command, and starts nothing', async () => {
  const image = await diskOf('plan', 'stand still')
  const { code, plan } = await planned(image, '--serial', '--memory', '64M', '--accelerator', 'tcg')
  expect(code).toBe(0)
  expect(plan).toMatchObject({
    verb: 'boot',
    target: image,
    medium: { path: image, kind: 'image', size: 1 << 20, as: 'usb' },
    writesTo: 'scratch',
    firmware: 'bios',
    accelerator: 'tcg',
    memory: 64 << 20,
    cpus: 1,
    entry: null,
    entries: [],
    findings: [{ code: 'BOOT_NO_MENU' }, { code: 'BOOT_SLOW' }, { code: 'BOOT_SERIAL_MENU' }],
  })
  const command = plan.command as string[]
  expect(command[0]).toMatch(/\/qemu-system-x86_64$/)
  expect(command.slice(1).filter(word => word.includes(image))).toEqual([])
  expect(await leftovers(image)).toEqual([])
})

/** Runs on a computer without a screen. */
const headless = (...args: readonly string[]) =>
  spawnSync(process.execPath, [LIVEOS, 'boot', ...args], {
    encoding: 'utf8',
    env: { ...process.env, DISPLAY: '', WAYLAND_DISPLAY: '', NO_COLOR: '1' },
    timeout: 30_000,
  })

it('without a screen the console in text is taken, and that is said', async () => {
  const image = await diskOf('headless', 'power off')
  const fast = FAST.filter(word => word !== '--serial')
  const dry = headless(image, ...fast, '--dry-run')
  expect(dry.status).toBe(0)
  expect(dry.stdout).toContain('screen    this terminal, as a serial console')
  expect(dry.stdout).toContain(
    'there is no screen here to open a window on: the console in text is taken, as by --serial',
  )
  const plan = JSON.parse(headless(image, ...fast, '--dry-run', '--json').stdout) as { command: string[] }
  expect(breaches(plan, schema)).toEqual([])
  const asked = JSON.parse(headless(image, ...FAST, '--dry-run', '--json').stdout) as { command: string[] }
  expect(plan.command).toEqual(asked.command)
  const ran = headless(image, ...fast)
  expect(ran.status, ran.stderr).toBe(0)
  expect(ran.stdout).toContain(MESSAGE)
  const both = headless(image, ...fast, '--json')
  expect(both.status).toBe(2)
  expect(both.stdout).toContain('leave --json out')
})

/** Why no window can be looked at here: a screen and the emulator's windows are no small things to ask for. */
const unseen = ((): string | undefined => {
  if (reason !== undefined) return reason
  if (!tool('Xvfb')) return 'needs Xvfb: apt-get install xvfb'
  const { stdout } = spawnSync('qemu-system-x86_64', ['-display', 'help'], { encoding: 'utf8', env: TOOLS })
  return /^(gtk|sdl)$/m.test(stdout) ? undefined : 'needs windows of QEMU: apt-get install qemu-system-gui'
})()

/** A screen in memory, and how many of its bytes are lit. */
const openScreen = async (): Promise<{ display: string; lit: () => Promise<number>; close: () => void }> => {
  const folder = await path('screen')
  await mkdir(folder)
  const words = ['-displayfd', '1', '-screen', '0', '800x600x24', '-nolisten', 'tcp', '-fbdir', folder]
  const server = spawn('Xvfb', words, { stdio: ['ignore', 'pipe', 'ignore'], env: TOOLS })
  const number = await new Promise<string>((resolve, reject) => {
    server.stdout.setEncoding('utf8').once('data', resolve)
    server.on('error', reject).on('close', () => reject(new Error('Xvfb has ended')))
  })
  return {
    display: `:${number.trim()}`,
    // behind the header of an X window dump, whose colour map is small
    lit: async () => (await readFile(`${folder}/Xvfb_screen0`)).subarray(8192).filter(byte => byte !== 0).length,
    close: () => void server.kill(),
  }
}

unguarded.skipIf(unseen !== undefined)(
  `opens a window where there is a screen${unseen ? ` (${unseen})` : ''}`,
  async () => {
    const screen = await openScreen()
    try {
      const fast = FAST.filter(word => word !== '--serial')
      const env = { ...process.env, NO_COLOR: '1', DISPLAY: screen.display, WAYLAND_DISPLAY: '' }
      const run = (image: string) => {
        const child = spawn(process.execPath, [LIVEOS, 'boot', image, ...fast], {
          stdio: ['ignore', 'ignore', 'pipe'],
          env,
        })
        let stderr = ''
        child.stderr.setEncoding('utf8').on('data', (text: string) => {
          stderr += text
        })
        const ended = new Promise<string>(resolve => child.on('close', code => resolve(`${code}: ${stderr}`)))
        return { child, ended }
      }
      const before = await screen.lit()
      expect(await run(await diskOf('window', 'power off')).ended).toMatch(
        /^0: [\s\S]*screen +a window[\s\S]*what it wrote \(4.0 KiB\) is thrown away/,
      )
      const image = await diskOf('standing', 'stand still')
      const standing = run(image)
      await expect.poll(() => screen.lit()).toBeGreaterThan(before + 50_000)
      standing.child.kill('SIGINT')
      expect(await standing.ended).toMatch(/^0: [\s\S]*turning the machine off/)
      expect(await leftovers(image)).toEqual([])
    } finally {
      screen.close()
    }
  },
)

it('tells what is wrong with a request, and what to do', async () => {
  const image = await diskOf('wrong', 'stand still')
  const empty = await path('empty.img')
  await writeFile(empty, '')
  for (const [args, code, words] of [
    [[empty, '--serial'], 'NOT_FOUND', 'is empty'],
    [[image, '--serial', '--entry', '1'], 'NOT_FOUND', 'no boot entry'],
    [[image, '--serial', '--args', 'quiet'], 'USAGE', '--entry'],
    [[image, '--serial', '--persist', '--as', 'cd'], 'USAGE', 'CD'],
    [[image, '--serial', '--memory', '1K'], 'USAGE', 'memory'],
    [[image, '--serial', '--memory', '9999999G'], 'USAGE', 'more memory than this computer'],
    [[image, '--serial', '--cpus', '0'], 'USAGE', 'processors'],
    [[`${image}.none`, '--serial'], 'NOT_FOUND', 'there is no'],
    [['/proc', '--serial'], 'USAGE', 'on no disk'],
    [['/dev/null', '--serial'], 'USAGE', 'neither a directory nor a file nor a block device'],
  ] as const) {
    const { plan } = await planned(...args)
    const { error } = plan as { error?: { code: string; message: string } }
    expect(error, args.join(' ')).toMatchObject({ code, message: expect.stringContaining(words) as string })
  }
})

it('without QEMU it says what to install', async () => {
  const image = await diskOf('none', 'stand still')
  const { status, stderr } = spawnSync(process.execPath, [LIVEOS, 'boot', image, '--serial'], {
    encoding: 'utf8',
    env: { PATH: '/nowhere' },
  })
  expect(status).toBe(2)
  expect(stderr).toContain('install the package qemu-system-x86 (Debian, Ubuntu) or qemu-system-x86-core (Fedora)')
})

unguarded.skipIf(reason !== undefined)(
  'a mounted stick is its whole device, read as it is, and never written to',
  async ({ skip }) => {
    const image = await path('mounted.img')
    await writeFile(image, Buffer.alloc(8 << 20))
    expect(spawnSync('mke2fs', ['-q', '-F', '-L', 'LIVE', image], { env: TOOLS }).status).toBe(0)
    const attached = spawnSync('losetup', ['-f', '--show', image], { encoding: 'utf8', env: TOOLS })
    if (attached.status !== 0) skip('needs root and a loop device')
    const loop = attached.stdout.trim()
    const place = await path('mount,point')
    await mkdir(place)
    try {
      if (spawnSync('mount', [loop, place], { env: TOOLS }).status !== 0) skip('needs to mount')
      await mkdir(`${place}/LiveOS`)
      const { plan } = await planned(place, '--serial')
      expect(plan).toMatchObject({
        target: place,
        medium: { path: loop, kind: 'device', mounted: [place] },
        writesTo: 'scratch',
      })
      expect(plan.findings).toContainEqual(expect.objectContaining({ code: 'BOOT_MOUNTED' }))
      const below = (await planned(`${place}/LiveOS`, '--serial')).plan as { error?: { code: string; message: string } }
      expect(below.error).toMatchObject({ code: 'USAGE', message: expect.stringContaining(place) as string })
      for (const target of [place, loop, image])
        expect(await planned(target, '--serial', '--persist')).toMatchObject({
          code: 4,
          plan: { error: { code: 'REFUSED' } },
        })
      unmount(place)
      expect((await planned(loop, '--serial', '--persist')).plan).toMatchObject({ writesTo: 'stick' })
    } finally {
      spawnSync('umount', ['-l', place], { env: TOOLS })
      spawnSync('losetup', ['-d', loop], { env: TOOLS })
    }
  },
)

it('a disk that is another one than was planned for is refused', async () => {
  const image = await diskOf('changed', 'power off')
  const plan = await planBoot({ target: image }, { serial: true, accelerator: 'tcg', memory: 64 << 20 })
  await writeFile(image, Buffer.alloc(2 << 20))
  expect((await failure(startBoot(plan), 'REFUSED')).message).toContain('has changed since the plan was made')
})

it('what the emulator says against it is told', async () => {
  const image = await diskOf('refused', 'power off')
  const plan = await planBoot({ target: image }, { serial: true, accelerator: 'tcg', memory: 64 << 20 })
  const running = await startBoot({ ...plan, serial: false, command: [...plan.command, '-device', 'no-such-thing'] })
  expect((await failure(running.ended, 'IO')).message).toContain('no-such-thing')
})

it('what is cancelled before the machine runs leaves nothing', async () => {
  const image = await diskOf('cancelled', 'power off')
  const plan = await planBoot({ target: image }, { serial: true, accelerator: 'tcg', memory: 64 << 20 })
  const before = (await readdir(tmpdir())).filter(name => name.startsWith(`liveos-boot-${process.pid}-`))
  await failure(startBoot(plan, { signal: AbortSignal.abort() }), 'CANCELLED')
  const after = (await readdir(tmpdir())).filter(name => name.startsWith(`liveos-boot-${process.pid}-`))
  expect(after).toEqual(before)
})

needTools('qemu-system-x86_64', 'mkfs.vfat', 'mcopy').it(
  'an address with a password: booted from there, and in no word of what is printed',
  async () => {
    const image = await path('served.img')
    await writeFile(image, Buffer.alloc(4 << 20))
    const menu = await path('syslinux.cfg')
    await writeFile(
      menu,
      'default live\nlabel live\n  kernel vmlinuz\n  append initrd=initrd.img root=live:LABEL=LIVE\n',
    )
    const kernel = await path('vmlinuz')
    await writeFile(kernel, 'a kernel')
    for (const [program, ...args] of [
      ['mkfs.vfat', '-n', 'LIVE', image],
      ['mcopy', '-i', image, menu, kernel, '::/'],
      ['mcopy', '-i', image, kernel, '::/initrd.img'],
    ] as const)
      expect(spawnSync(program, args, { env: TOOLS }).status).toBe(0)
    const bytes = await readFile(image)
    const served = await serveFile({ bytes, etag: '"1"' })
    const secret = served.url.replace('://', '://me:SECRET@').concat('?token=SECRET')
    for (const more of [[], ['--entry', '1']]) {
      const { code, plan } = await planned(secret, '--serial', '--accelerator', 'tcg', ...more)
      expect(code).toBe(0)
      expect(plan.entries).toHaveLength(1)
      expect(JSON.stringify(plan)).not.toContain('SECRET')
    }
    for (const args of [['--entry', '99'], ['--persist']]) {
      const { stdout, stderr, code } = await liveos(['boot', secret, '--serial', '--dry-run', '--json', ...args])
      expect(code).toBe(2)
      expect(stdout + stderr).not.toContain('SECRET')
    }
    const plan = await planBoot({ target: secret }, { serial: true, accelerator: 'tcg', memory: 64 << 20 })
    const asked = served.requests.length
    const running = await startBoot({ ...plan, serial: false }, { address: secret })
    const stopped = await running.stop()
    expect(served.requests.length).toBeGreaterThan(asked)
    expect(served.requests.at(-1)?.headers.authorization).toMatch(/^Basic /)
    const told = JSON.parse(JSON.stringify({ ...plan, outcome: stopped })) as unknown
    expect(breaches(told, schema)).toEqual([])
    expect(breaches({ ...plan, outcome: { ...stopped, scratch: 1 } }, schema)).not.toEqual([])
    expect(JSON.stringify(told)).not.toContain('SECRET')
  },
)

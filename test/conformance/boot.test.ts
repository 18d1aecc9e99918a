import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { expect } from 'vitest'
import { liveos, type Ran } from '../support/cli.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const { it } = needTools('qemu-system-x86_64')
const path = temporary()

const SECTOR = 512
const LOADED_AT = 0x7c00
const MESSAGE = 'booted by BIOS\r\n'
const MESSAGE_AT = 64

/** Says MESSAGE on the serial line and writes itself to the next sector; then powers off, or stands still. */
const bootSector = (end: 'power off' | 'stand still'): Uint8Array => {
  const at = LOADED_AT + MESSAGE_AT
  const sector = Buffer.alloc(SECTOR)
  sector.set([
    ...[0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0], // xor ax, ax; mov ds, ax; mov es, ax; mov ss, ax
    ...[0xbc, LOADED_AT & 0xff, LOADED_AT >> 8, 0x52], // mov sp, LOADED_AT; push dx: the disk
    ...[0xbe, at & 0xff, at >> 8], // mov si, message
    ...[0xac, 0x84, 0xc0, 0x74, 0x06], // next: lodsb; test al, al; jz write
    ...[0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf5], // mov dx, COM1; out dx, al; jmp next
    ...[0x5a, 0xb8, 0x01, 0x03], // write: pop dx; mov ax, 0x0301: write one sector
    ...[0xbb, LOADED_AT & 0xff, LOADED_AT >> 8, 0xb9, 0x02, 0x00, 0xb6, 0x00, 0xcd, 0x13], // from here to the second; int 0x13
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
): Promise<Ran> => {
  let sent = 0
  let console = ''
  return liveos(['boot', ...args], (child, stderr) => {
    const step = (): void => {
      const next = signals[sent]
      if (!next?.[0].test(console + stderr)) return
      sent++
      child.kill(next[1])
    }
    if (!started.has(child.pid!))
      child.stdout!.on('data', (text: string) => {
        console += text
        step()
      })
    started.add(child.pid!)
    step()
  })
}

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
})

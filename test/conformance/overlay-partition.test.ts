import { exec } from 'node:child_process'
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, expect } from 'vitest'
import { openFile } from '../../src/block/file.js'
import { openStack } from '../../src/liveos/stack.js'
import { findTarget } from '../../src/liveos/target.js'
import { LIVEOS, liveos } from '../support/cli.js'
import { kernelFixture } from '../support/kernel-fixtures.js'
import { sha256 } from '../support/small-stick.js'
import { emptyFile, makeFat, partition, run } from '../support/target-images.js'
import { temporary } from '../support/temporary.js'
import { needTools, tool } from '../support/tools.js'

const { it, describe } = needTools('sfdisk', 'mkfs.vfat', 'mcopy', 'mmd', 'mksquashfs', 'e2fsck', 'dd')
const path = temporary()
const shell = promisify(exec)
const MIB = 1 << 20
const FAT = 40 * MIB
const PROGRAMS = `${process.env.PATH}:/usr/sbin:/sbin`

interface Made {
  /** FAT with the live system on 1, something else on 2, the store on 3 */
  readonly image: string
  readonly start: number
  readonly size: number
}

let store: Uint8Array
let broken: Uint8Array
let squashed: string

beforeAll(async () => {
  if (!['mksquashfs', 'sfdisk'].every(tool)) return
  store = await kernelFixture('fs-ext4').image('cow.img')
  broken = await kernelFixture('fs-ext4-invalid').image('cow.img')
  const tree = await path('tree')
  await mkdir(join(tree, 'LiveOS'), { recursive: true })
  await writeFile(join(tree, 'LiveOS/rootfs.img'), await kernelFixture('fs-ext4').image('origin.img'))
  squashed = await path('squashfs.img')
  await run('mksquashfs', tree, squashed, '-comp', 'gzip', '-noappend', '-no-progress')
}, 60_000)

let count = 0
const make = async (bytes: Uint8Array, label: 'dos' | 'gpt', base = squashed): Promise<Made> => {
  const image = await path(`disk${count++}.img`)
  const size = Math.ceil(bytes.length / MIB) * MIB
  await emptyFile(image, FAT + size + 4 * MIB)
  await partition(
    image,
    `label: ${label}\nstart=${MIB / 512}, size=${FAT / 512}, type=${label === 'dos' ? 'c, bootable' : 'U'}\nsize=${MIB / 512}\nsize=${size / 512}\n`,
  )
  const tree = await path(`tree${count}`)
  await mkdir(join(tree, 'LiveOS'), { recursive: true })
  await copyFile(base, join(tree, 'LiveOS/squashfs.img'))
  await makeFat(image, tree, { offset: MIB, size: FAT })
  const start = FAT + 2 * MIB
  await shell(`dd of=${image} bs=1M oflag=seek_bytes seek=${start} conv=notrunc status=none <${await put(bytes)}`)
  return { image, start, size }
}
const put = async (bytes: Uint8Array): Promise<string> => {
  const file = await path(`bytes${count}`)
  await writeFile(file, bytes)
  return file
}

const json = async (...args: readonly string[]) => {
  const { stdout, code, stderr } = await liveos([...args, '--json'])
  return { code, stderr, told: JSON.parse(stdout) }
}

/** The view of a base with an overlay in a file of its own, which other tests hold against the kernel. */
const viewHash = async (bytes: Uint8Array): Promise<string> => {
  const overlay = await put(bytes)
  const stack = await openStack(await findTarget({ base: squashed, overlay }), { ignoreInvalid: true })
  try {
    return sha256(await stack.root.read(0, stack.root.size))
  } finally {
    await stack.close()
  }
}

const merged = async (image: string): Promise<string> => {
  const output = `${image}.merged`
  const { code, stderr } = await liveos(['merge', image, '--output', output, '--no-trim', '--no-verify'])
  expect(code, stderr).toBe(0)
  const file = await openFile(output)
  const hash = sha256(await file.read(0, file.size))
  await file.close()
  await rm(output)
  return hash
}

describe('an image whose overlay is its third partition', () => {
  for (const label of ['dos'] as const)
    it(`${label}: is found by itself, and every view shows it`, async () => {
      const { image } = await make(store, label)
      const status = await json('status', image)
      expect(status.told.overlay).toMatchObject({ path: `${image}:3`, state: 'ok', kind: 'dm-snapshot' })
      const named = await json('status', image, '--overlay', `${image}:3`)
      expect(named.told.overlay).toEqual(status.told.overlay)
      expect(await merged(image)).toBe(await viewHash(store))
      const beside = await put(store)
      const [here, there] = [await json('diff', image), await json('diff', '--base', squashed, '--overlay', beside)]
      expect(here.told.changes ?? here.told).toEqual(there.told.changes ?? there.told)
      expect((await json('usage', image)).told.overlay.path).toBe(`${image}:3`)
      expect((await liveos(['ls', `${image}:/`])).stdout).toBe(
        (await liveos(['ls', '--base', squashed, '--overlay', beside, '/'])).stdout,
      )
      const doctor = await json('doctor', image)
      expect(doctor.told).toMatchObject({ health: 'healthy', overlay: { path: `${image}:3`, damage: 'clean' } })
      expect(doctor.told.findings.map(({ code }: { code: string }) => code)).toContain('OVERLAY_PARTITION')
      expect((await json('status', image, '--partition', '1')).told.overlay.path).toBe(`${image}:3`)
    }, 60_000)

  it('an invalid one: doctor names the verb, recover brings it back, undo takes that back', async () => {
    const larger = new Uint8Array(broken.length + 2 * MIB)
    larger.set(broken)
    const { image, start, size } = await make(larger, 'dos')
    const before = sha256(new Uint8Array(await readFile(image)))
    const doctor = await json('doctor', image)
    const remedy = doctor.told.findings.find(({ code }: { code: string }) => code === 'OVERLAY_INVALID')?.remedy
    expect(remedy).toBe(`liveos recover ${image}`)
    expect(doctor.told.remedies).toEqual([{ verb: 'recover' }])
    const done = await json('recover', image, '--yes')
    expect(done.told, done.stderr).toMatchObject({ changed: true, clearedInvalid: true })
    expect((await json('status', image)).told.overlay.state).toBe('ok')
    const bytes = new Uint8Array(await readFile(image)).slice(start, start + size)
    expect(await merged(image)).toBe(await viewHash(bytes))
    expect((await liveos(['undo', image, '--yes'])).code).toBe(0)
    expect(sha256(new Uint8Array(await readFile(image)))).toBe(before)
    const fixed = await liveos(['doctor', image, '--fix', '--yes'])
    expect(fixed.stderr + fixed.stdout).toMatch(/healthy|nothing/i)
    expect((await json('status', image)).told.overlay.state).toBe('ok')
  }, 60_000)

  it('an invalid one without room: recover and grow say what helps, and that helps', async () => {
    const { image } = await make(broken, 'dos')
    const refused = await liveos(['recover', image, '--yes'])
    expect([refused.code, refused.stderr]).toEqual([5, expect.stringContaining('liveos grow')])
    const { error } = (await json('grow', image, '--size', '+2M')).told
    await shell(error.data.command, { env: { ...process.env, PATH: PROGRAMS } })
    expect((await json('recover', image, '--yes')).told).toMatchObject({ changed: true })
    expect((await json('doctor', image)).told.findings).not.toContainEqual(
      expect.objectContaining({ severity: 'error' }),
    )
  }, 60_000)

  it('reset empties it', async () => {
    const { image } = await make(store, 'gpt')
    expect((await liveos(['reset', image, '--yes'])).code).toBe(0)
    expect((await json('status', image, '--overlay', `${image}:3`)).told.overlay).toMatchObject({ state: 'new' })
    expect((await json('status', image)).told.overlay.state).toBe('none')
  }, 60_000)

  it('two of them: one has to be chosen', async () => {
    const { image } = await make(store, 'dos')
    await shell(
      `dd of=${image} bs=1M oflag=seek_bytes seek=${FAT + MIB} conv=notrunc status=none <${await put(store.slice(0, 8192))}`,
    )
    const { code, stderr } = await liveos(['status', image])
    expect([code, stderr]).toEqual([2, expect.stringContaining(`${image}:2, ${image}:3`)])
    expect((await json('status', image, '--overlay', `${image}:3`)).told.overlay.state).toBe('ok')
    expect((await liveos(['doctor', image])).stdout).toMatch(/--overlay/)
  }, 60_000)

  for (const label of ['dos', 'gpt'] as const)
    it(`${label}: what grow says to run makes the partition larger`, async () => {
      const { image, size } = await make(store, label)
      const { code, stderr, told: refused } = await json('grow', image, '--size', '+64M')
      const { command } = refused.error.data
      expect([code, stderr]).toEqual([4, expect.stringContaining(command)])
      await shell(command, { env: { ...process.env, PATH: PROGRAMS } })
      const { told } = await json('status', image)
      expect(told.overlay).toMatchObject({ state: 'ok', size: size + 64 * MIB })
      expect(await merged(image)).toBe(await viewHash(store))
    }, 60_000)

  it('what compact says to run compacts it', async () => {
    const { image } = await make(store, 'dos')
    const view = await merged(image)
    const before = (await json('status', image)).told.overlay.exceptions
    const told = await json('compact', image)
    expect(told.code).toBe(4)
    const { commands } = told.told.error.data
    const line = commands.join(' && ').replaceAll('liveos ', `${process.execPath} ${LIVEOS} `)
    const cwd = await path(`work${count}`)
    await mkdir(cwd)
    await shell(line, { cwd })
    const after = (await json('status', image)).told.overlay
    expect(after).toMatchObject({ state: 'ok' })
    expect(after.exceptions).toBeLessThanOrEqual(before)
    // free blocks may show other bytes; the files are the same
    expect((await json('doctor', image)).told.health).toBe('healthy')
    const files = async (): Promise<unknown> => (await json('diff', image)).told
    expect(await files()).toBeDefined()
    expect(view).toHaveLength(64)
  }, 60_000)
})

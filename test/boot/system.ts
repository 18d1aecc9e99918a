import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Gate, gate, tool } from '../support/tools.js'
import { run } from './run.js'

const HERE = fileURLToPath(new URL('.', import.meta.url))

/** Where built systems and results are kept from run to run. */
export const CACHE = process.env.LIVEOS_BOOT_CACHE ?? join(homedir(), '.cache', 'liveos-test')
/** The Debian release that is built and booted. */
export const SUITE = process.env.LIVEOS_BOOT_SUITE ?? 'bookworm'

/** Debian packages and the programs of them that boots need; those of building alone come second. */
const BOOTING: Readonly<Record<string, readonly string[]>> = {
  'qemu-system-x86': ['qemu-system-x86_64'],
  dosfstools: ['mkfs.vfat'],
  e2fsprogs: ['mke2fs', 'e2fsck'],
  fdisk: ['sfdisk'],
  mtools: ['mcopy', 'mdel'],
}
const BUILDING: Readonly<Record<string, readonly string[]>> = {
  mmdebstrap: ['mmdebstrap'],
  'squashfs-tools': ['mksquashfs'],
  xorriso: ['xorriso'],
  'grub-common': ['grub-mkrescue'],
  'grub-pc-bin': ['/usr/lib/grub/i386-pc/moddep.lst'],
  'grub-efi-amd64-bin': ['/usr/lib/grub/x86_64-efi/moddep.lst'],
}

const missing = (packages: Readonly<Record<string, readonly string[]>>): string[] =>
  Object.entries(packages)
    .filter(([, programs]) => programs.some(name => (name.endsWith('.lst') ? !existsSync(name) : !tool(name))))
    .map(([name]) => name)

/** The files that a built system is made by: with others it is another. */
const recipe = (): string => {
  const hash = createHash('sha256')
  for (const name of [
    'build.sh',
    'guest/dracut.conf',
    'guest/customize.sh',
    'guest/agent',
    'guest/agent.service',
    'guest/arguments',
  ])
    hash.update(readFileSync(join(HERE, name)))
  return hash.digest('hex').slice(0, 12)
}

const FOLDER = join(CACHE, `${SUITE}-${recipe()}`)
const isBuilt = (): boolean => existsSync(join(FOLDER, 'facts.json'))

/** Why nothing can be booted here, or that it can. */
export const needBoots = (): Gate => {
  const building = isBuilt() ? [] : missing(BUILDING)
  const packages = [...missing(BOOTING), ...building]
  if (packages.length > 0) return gate(`needs apt-get install ${packages.join(' ')}`)
  if (!isBuilt() && process.getuid?.() !== 0) return gate(`needs root once, to build the live system into ${FOLDER}`)
  return gate(undefined)
}

/** A live system that was built. */
export interface LiveSystem {
  /** holds live.iso, squashfs.img, flat.img, rootfs.img, vmlinuz and initrd.img; see build.sh */
  readonly folder: string
  /** words for each kernel */
  readonly words: string
  readonly suite: string
  readonly kernel: string
  readonly dracut: string
}

/** The live system, built where it is not there yet: that takes some minutes, and the network. */
export const liveSystem = async (): Promise<LiveSystem> => {
  if (!isBuilt()) await build()
  const facts = JSON.parse(await readFile(join(FOLDER, 'facts.json'), 'utf8')) as Pick<
    LiveSystem,
    'suite' | 'kernel' | 'dracut'
  >
  return { ...facts, folder: FOLDER, words: (await readFile(join(HERE, 'guest', 'arguments'), 'utf8')).trim() }
}

const build = async (): Promise<void> => {
  await mkdir(CACHE, { recursive: true })
  // Those of older recipes.
  for (const name of await readdir(CACHE))
    if (name.startsWith(`${SUITE}-`)) await rm(join(CACHE, name), { recursive: true, force: true })
  const folder = await mkdtemp(join(CACHE, `${SUITE}-building-`))
  process.stderr.write(`building the live system (${SUITE}) into ${FOLDER} …\n`)
  try {
    await run('bash', join(HERE, 'build.sh'), folder, { env: { SUITE } })
    await rename(folder, FOLDER)
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw error
  }
}

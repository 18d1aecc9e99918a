import { readdirSync, readFileSync } from 'node:fs'
import { open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { unxz } from 'node-liblzma'

const ROOT = new URL('../fixtures/kernel/', import.meta.url)

/** What the kernel said about a fixture. Which hash belongs to which images depends on how the fixture was made. */
export interface Facts {
  readonly name: string
  readonly origin_sectors: number
  readonly chunk_sectors?: number
  readonly exceptions?: number
  readonly files: Readonly<Record<string, { readonly bytes: number; readonly sha256: string } | string>>
  readonly [key: string]: unknown
}

/** One fixture: a store that the real kernel wrote, and what it said of it. */
export interface KernelFixture {
  readonly name: string
  readonly facts: Facts
  readonly images: readonly string[]
  /** Unpacks one of `images`, such as `cow.img`. */
  image(name: string): Promise<Uint8Array>
}

const unpack = (packed: Buffer): Promise<Uint8Array> =>
  new Promise((resolve, reject) => {
    unxz(packed, (error: Error | null | undefined, bytes?: Buffer) =>
      error || !bytes ? reject(error ?? new Error('unxz gave nothing')) : resolve(bytes),
    )
  })

const BLOCK = 4096
const ZEROS = Buffer.alloc(BLOCK)

/** Writes a file with zeros as holes: images are zeros nearly all. */
const writeSparse = async (path: string, bytes: Uint8Array): Promise<void> => {
  const file = await open(path, 'w')
  try {
    for (let at = 0; at < bytes.length; at += BLOCK) {
      const block = bytes.subarray(at, at + BLOCK)
      if (Buffer.compare(block, ZEROS.subarray(0, block.length)) !== 0) await file.write(block, 0, block.length, at)
    }
    await file.truncate(bytes.length)
  } finally {
    await file.close()
  }
}

/** Unpacks an image, once in a run of the tests: two dozen files want the same ones again and again. */
const unpacked = async (packed: URL): Promise<Uint8Array> => {
  const folder = process.env.LIVEOS_RUN_FOLDER
  if (folder === undefined) return unpack(readFileSync(packed))
  const kept = join(folder, packed.pathname.split('/').slice(-2).join(' '))
  try {
    return await readFile(kept)
  } catch {
    const bytes = await unpack(readFileSync(packed))
    const fresh = `${kept} ${process.pid} ${serial++}`
    await writeSparse(fresh, bytes)
    await rename(fresh, kept)
    return bytes
  }
}

let serial = 0

/** Opens one fixture by its directory's name. */
export const kernelFixture = (name: string): KernelFixture => {
  const directory = new URL(`${name}/`, ROOT)
  return {
    name,
    facts: JSON.parse(readFileSync(new URL('facts.json', directory), 'utf8')) as Facts,
    images: readdirSync(directory)
      .filter(file => file.endsWith('.img.xz'))
      .map(file => file.slice(0, -'.xz'.length)),
    image: file => unpacked(new URL(`${file}.xz`, directory)),
  }
}

/** All fixtures. */
export const kernelFixtures = (): KernelFixture[] => readdirSync(ROOT).map(kernelFixture)

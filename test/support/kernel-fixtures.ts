import { readdirSync, readFileSync } from 'node:fs'
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

/** Opens one fixture by its directory's name. */
export const kernelFixture = (name: string): KernelFixture => {
  const directory = new URL(`${name}/`, ROOT)
  return {
    name,
    facts: JSON.parse(readFileSync(new URL('facts.json', directory), 'utf8')) as Facts,
    images: readdirSync(directory)
      .filter(file => file.endsWith('.img.xz'))
      .map(file => file.slice(0, -'.xz'.length)),
    image: file => unpack(readFileSync(new URL(`${file}.xz`, directory))),
  }
}

/** All fixtures. */
export const kernelFixtures = (): KernelFixture[] => readdirSync(ROOT).map(kernelFixture)

import { mkdir, open, readdir, readFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createGunzip } from 'node:zlib'

const SAMPLE = fileURLToPath(new URL('../sample/', import.meta.url))
const BLOCK = 4096
const ZERO = Buffer.alloc(BLOCK)

/** What the real kernel says of the sample stick, see scripts/make-sample.sh. */
export const sampleFacts = async () => JSON.parse(await readFile(join(SAMPLE, 'facts.json'), 'utf8'))

/** Lays the sample stick out in `directory` (made where it is missing), zeros as holes; resolves to `directory`. */
export const unpackSample = async directory => {
  for (const entry of await readdir(SAMPLE, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    const name = relative(SAMPLE, path)
    if (!entry.isFile() || name === 'facts.json') continue
    const target = join(directory, name.replace(/\.gz$/, ''))
    await mkdir(dirname(target), { recursive: true })
    await copy(path, target, name.endsWith('.gz'))
  }
  return directory
}

const copy = async (path, target, packed) => {
  const from = await open(path)
  const to = await open(target, 'w')
  try {
    const stream = from.createReadStream({ highWaterMark: 1 << 20, autoClose: false })
    let offset = 0
    let rest = Buffer.alloc(0)
    for await (const part of packed ? stream.pipe(createGunzip({ chunkSize: 1 << 20 })) : stream) {
      rest = rest.length === 0 ? part : Buffer.concat([rest, part])
      const whole = rest.length - (rest.length % BLOCK)
      await writeSparse(to, offset, rest.subarray(0, whole))
      offset += whole
      rest = rest.subarray(whole)
    }
    await writeSparse(to, offset, rest)
    await to.truncate(offset + rest.length)
  } finally {
    await from.close()
    await to.close()
  }
}

/** Writes the runs of blocks that aren't zero. */
const writeSparse = async (file, offset, bytes) => {
  const isHole = at =>
    bytes.compare(ZERO, 0, Math.min(BLOCK, bytes.length - at), at, Math.min(at + BLOCK, bytes.length)) === 0
  for (let at = 0; at < bytes.length; ) {
    let end = at
    while (end < bytes.length && !isHole(end)) end += BLOCK
    const length = Math.min(end, bytes.length) - at
    if (length > 0) await file.write(bytes, at, length, offset + at)
    at = end + BLOCK
  }
}

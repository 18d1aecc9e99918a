import { createHash } from 'node:crypto'
import type { Device, WritableDevice } from '../block/device.js'
import { HEADER_SIZE, parseHeader } from '../block/snapshot/layout.js'
import { readStore } from '../block/snapshot/store.js'
import { isLiveError, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { marked, pathWord } from '../liveos/advice.js'

/*
 * What a scratch store was made over, in its first chunk, of which the kernel and `createStore` use the first 16 bytes alone:
 *
 *   1024  text  `liveos scratch 1 `, size of the view in bytes, ` `, SHA-256 of it as `viewMark` takes it, hex, end of line
 *
 * It is written when the store has its header, so a store without it is one of no chunks, or not of ours.
 */

const MARK_AT = 1024
const MARK_LENGTH = 512
/** sectors of a chunk from which on the mark lies in the first */
const LEAST_CHUNK = (MARK_AT + MARK_LENGTH) / 512
const WORDS = /^liveos scratch 1 (\d+) ([0-9a-f]{64})\n/

/** Where superblocks are, with what each mount writes to them. */
const FRONT = 128 << 10
const SAMPLE = 4096
const SAMPLES = 24

/** SHA-256 over the size of a view, its begin, its end and places between: another filesystem, or the same one mounted for writing since, has another. */
const viewMark = async (view: Device): Promise<string> => {
  const hash = createHash('sha256').update(`${view.size}\n`)
  hash.update(await view.read(0, Math.min(FRONT, view.size)))
  const span = view.size - FRONT - SAMPLE
  if (span <= 0) return hash.update(await view.read(0, view.size)).digest('hex')
  for (let n = 0; n <= SAMPLES; n++) {
    const at = FRONT + Math.floor((span * n) / SAMPLES / SAMPLE) * SAMPLE
    hash.update(await view.read(n === SAMPLES ? view.size - SAMPLE : at, SAMPLE))
  }
  return hash.digest('hex')
}

const textOf = async (view: Device): Promise<string> => `liveos scratch 1 ${view.size} ${await viewMark(view)}\n`

const hasRoom = async (cow: Device): Promise<boolean> => {
  const { magic, chunk_size } = parseHeader(await cow.read(0, HEADER_SIZE), cow.name)
  return magic !== 0 && chunk_size > LEAST_CHUNK && cow.size >= MARK_AT + MARK_LENGTH
}

/** The mark that a store has; undefined where there is none. */
const readMark = async (cow: Device): Promise<RegExpExecArray | undefined> =>
  (await hasRoom(cow))
    ? (WORDS.exec(Buffer.from(await cow.read(MARK_AT, MARK_LENGTH)).toString('latin1')) ?? undefined)
    : undefined

/**
 * Holds a scratch store against the view that it is to take the writes of.
 *
 * @returns  a finding where that can't be told
 * @throws REFUSED  it was made over another view, or that one was written since; CORRUPT, IO
 */
export const checkMark = async (path: string, cow: Device, view: Device): Promise<readonly Finding[]> => {
  const found = await readMark(cow)
  if (!found) {
    const empty = await readStore(cow).then(
      ({ exceptions }) => exceptions.count === 0,
      (error: unknown) => {
        if (isLiveError(error) && error.code === 'CORRUPT') return false
        throw error
      },
    )
    if (empty) return []
    return [
      {
        code: 'SCRATCH_UNKNOWN',
        severity: 'warning',
        where: path,
        message: `${path} does not say what it was made over: over anything else than that it shows garbage`,
        remedy: 'name another file, which is made then',
      },
    ]
  }
  const [, size, mark] = found
  if (Number(size) === view.size && mark === (await viewMark(view))) return []
  throw new LiveError(
    'REFUSED',
    `${path} holds writes that were made over ${Number(size) === view.size ? 'something else, or what they were made over was written since' : `another view, of ${size} bytes where this one has ${view.size}`}: together they would show garbage. Name another file, which is made then; or, if nothing in it is wanted, remove it: ${marked(`rm ${pathWord(path)}`)}`,
    { path },
  )
}

/** Writes what a store was made over, where it does not say so yet; on the medium when it returns. The store has its header. */
export const writeMark = async (cow: WritableDevice, view: Device): Promise<void> => {
  if (!(await hasRoom(cow)) || (await readMark(cow))) return
  const bytes = new Uint8Array(MARK_LENGTH)
  bytes.set(Buffer.from(await textOf(view)))
  await cow.write(MARK_AT, bytes)
  await cow.flush()
}

import { unsupported } from '../error.js'
import { TAR_BLOCK } from './tar.js'
import { numberAt, type Place, reader, type TarSource, text, wrong } from './tar-fields.js'

/** runs of a sparse file */
const MAX_RUNS = 1 << 18

/** Bytes of a file that are not a hole. */
export interface Run {
  readonly offset: number
  readonly length: number
}

/** Runs in order, touching ones joined, those of no bytes left out. @throws CORRUPT */
export const checkedRuns = (found: readonly Run[], size: number, stored: number, place: Place): Run[] => {
  const runs: { offset: number; length: number }[] = []
  let end = 0
  let sum = 0
  for (const { offset, length } of found) {
    if (offset < end || offset + length > size)
      throw wrong(place, 'sparse map', `runs in order up to byte ${size}`, `${length} bytes at ${offset}`)
    end = offset + length
    sum += length
    const last = runs.at(-1)
    if (last && last.offset + last.length === offset) last.length += length
    else if (length > 0) runs.push({ offset, length })
  }
  if (sum !== stored) throw wrong(place, 'bytes of a sparse file', sum, stored)
  return runs
}

/** The map of a sparse file of format 1.0, which stands before its data. */
export const readMap = async (
  source: TarSource,
  start: number,
  stored: number,
): Promise<{ runs: Run[]; mapLength: number }> => {
  const { block } = reader(source)
  const place = { source, offset: start }
  const numbers: number[] = []
  let digits = ''
  let length = 0
  while (numbers.length === 0 || numbers.length < 1 + 2 * numbers[0]!) {
    if (length + TAR_BLOCK > stored) throw wrong(place, 'sparse map', 'its end within the member', 'none')
    const lines = (digits + text(await block(start + length, 'sparse map'))).split('\n')
    length += TAR_BLOCK
    digits = lines.pop()!
    for (const line of lines) {
      if (numbers.length > 0 && numbers.length >= 1 + 2 * numbers[0]!) break
      if (!/^\d{1,16}$/.test(line) || !Number.isSafeInteger(Number(line)))
        throw wrong(place, 'sparse map', 'decimal numbers', JSON.stringify(line.slice(0, 32)))
      numbers.push(Number(line))
    }
    if ((numbers[0] ?? 0) > MAX_RUNS) throw unsupported('sparse tar member of more than 262144 runs', source.name)
    if (digits.length > 16 && numbers.length < 1 + 2 * (numbers[0] ?? 0))
      throw wrong(place, 'sparse map', 'decimal numbers', JSON.stringify(digits.slice(0, 32)))
  }
  const runs: Run[] = []
  for (let at = 1; at < numbers.length; at += 2) runs.push({ offset: numbers[at]!, length: numbers[at + 1]! })
  return { runs, mapLength: length }
}

/** The runs of a sparse file of GNU's own format: in its header and the blocks behind it. */
export const readGnuRuns = async (
  source: TarSource,
  header: Uint8Array,
  offset: number,
): Promise<{ runs: Run[]; mapLength: number }> => {
  const runs: Run[] = []
  let block = header
  let [at, count, more] = [386, 4, 482]
  let length = 0
  for (;;) {
    const place = { source, offset: offset + length }
    for (let n = 0; n < count; n++, at += 24) {
      if (block[at] === 0) continue
      const run = {
        offset: numberAt(block, at, 12, 'offset', place),
        length: numberAt(block, at + 12, 12, 'numbytes', place),
      }
      if (run.offset < 0 || run.length < 0) throw wrong(place, 'sparse map', 'no negative number', run.offset)
      runs.push(run)
    }
    if (runs.length > MAX_RUNS) throw unsupported('sparse tar member of more than 262144 runs', source.name)
    if (block[more] === 0) return { runs, mapLength: length }
    length += TAR_BLOCK
    block = await reader(source).block(offset + length, 'sparse header')
    ;[at, count, more] = [0, 21, 504]
  }
}

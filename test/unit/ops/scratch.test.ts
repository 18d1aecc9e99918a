import { open, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { WritableDevice } from '../../../src/block/device.js'
import { planView } from '../../../src/ops/serve-plan.js'
import { openExportView } from '../../../src/ops/serve-view.js'
import { failure } from '../../support/outcome.js'
import { bytesOf, CHUNK, smallStick } from '../../support/small-stick.js'
import { storeOf } from '../../support/store-writer.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
let count = 0

const fresh = async () => {
  const target = await path(`stick${count++}`)
  const stick = await smallStick(target, { raw: true })
  return { ...stick, input: { target }, scratch: `${target}.scratch`, base: join(target, 'LiveOS/rootfs.img') }
}
type Fresh = Awaited<ReturnType<typeof fresh>>

/** Opens the root with a scratch store, writes a chunk if that is asked for, and gives what is shown there. */
const through = async ({ input }: Pick<Fresh, 'input'>, scratch: string, bytes?: Uint8Array): Promise<Uint8Array> => {
  const view = await openExportView({ input, layer: 'root', scratch })
  try {
    if (bytes) await (view.device as WritableDevice).write(5 * CHUNK, bytes)
    return new Uint8Array(await view.device.read(5 * CHUNK, CHUNK))
  } finally {
    await view.close()
  }
}

const change = async (file: string, offset: number): Promise<void> => {
  const handle = await open(file, 'r+')
  await handle.write(Buffer.from('written'), 0, 7, offset)
  await handle.close()
}

const plan = ({ input }: Pick<Fresh, 'input'>, scratch: string) =>
  planView('serve', input, { part: 'root', writesTo: 'scratch', scratch })

it('a scratch store goes on over the view that it was made over', async () => {
  const one = await fresh()
  const bytes = bytesOf(7, CHUNK)
  expect(await through(one, one.scratch, bytes)).toEqual(bytes)
  expect((await plan(one, one.scratch)).findings).toEqual([])
  expect(await through(one, one.scratch)).toEqual(bytes)
})

it('not over another one, whether of its size or not, nor over the same written since', async () => {
  const one = await fresh()
  await through(one, one.scratch, bytesOf(7, CHUNK))
  const before = await readFile(one.scratch)
  const refused = async (target: Pick<Fresh, 'input'>, words: RegExp): Promise<void> => {
    expect((await failure(through(target, one.scratch), 'REFUSED')).message).toMatch(words)
    expect((await failure(plan(target, one.scratch), 'REFUSED')).message).toContain(`rm ${one.scratch}`)
    expect(Buffer.compare(await readFile(one.scratch), before)).toBe(0)
  }
  const longer = await path(`longer${count++}`)
  await smallStick(longer, { raw: true, blocks: 20 })
  await refused({ input: { target: longer } }, /of \d+ bytes where this one has \d+/)
  const other = await fresh()
  await change(other.base, 100)
  await refused(other, /something else/)
  await change(one.base, one.root.length - 100)
  await refused(one, /written since/)
})

it('one that does not say what it is of: told where it holds something, taken where it is empty', async () => {
  const one = await fresh()
  await writeFile(one.scratch, storeOf([{ oldChunk: 5, content: bytesOf(7, CHUNK) }], 8, 80))
  expect((await plan(one, one.scratch)).findings).toMatchObject([{ code: 'SCRATCH_UNKNOWN', severity: 'warning' }])
  await writeFile(one.scratch, storeOf([], 8, 80))
  expect((await plan(one, one.scratch)).findings).toEqual([])
  await through(one, one.scratch, bytesOf(7, CHUNK))
  const other = await fresh()
  await change(other.base, 100)
  await failure(through(other, one.scratch), 'REFUSED')
})

it('chunks of a sector have no room to say it, and no data is overwritten by that', async () => {
  const one = await fresh()
  const bytes = bytesOf(7, 512)
  await writeFile(one.scratch, storeOf([{ oldChunk: 40, content: bytes }], 1, 2000))
  const shown = await through(one, one.scratch)
  expect(shown.subarray(0, 512)).toEqual(bytes)
  expect(Buffer.compare((await readFile(one.scratch)).subarray(1024, 1536), bytes)).toBe(0)
})

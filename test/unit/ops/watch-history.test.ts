import { mkdir, readFile, stat, symlink, truncate, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { openFolder } from '../../../src/host/folder.js'
import { openRing, RING_LINES } from '../../../src/ops/watch-history.js'
import { failure } from '../../support/outcome.js'
import { contentOf, layOut, powerCuts, recordingFolder, type Step } from '../../support/power-cut.js'
import { random } from '../../support/random.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
let count = 0
const fresh = async () => {
  const dir = await path(`ring${count++}`)
  await mkdir(dir)
  return { dir, file: join(dir, 'r.jsonl'), folder: await openFolder(dir) }
}
const NAME = 'r.jsonl'
const { seed, below } = random()

it('keeps the last lines in order, and never grows past its size', async () => {
  const { file, folder } = await fresh()
  const ring = await openRing(folder, NAME)
  expect(ring.lines).toEqual([])
  for (let used = 1; used <= RING_LINES + 30; used++) await ring.append({ used })
  const again = await openRing(folder, NAME)
  for (const { lines } of [ring, again]) {
    expect(lines).toHaveLength(RING_LINES)
    expect([lines[0]!.used, lines.at(-1)!.used]).toEqual([31, RING_LINES + 30])
  }
  expect((await stat(file)).size).toBe(RING_LINES * 512)
  const text = await readFile(file, 'utf8')
  expect(text.split('\n').every(line => line === '' || JSON.parse(line).n > 0)).toBe(true)
  await again.append({ used: 'next' })
  expect((await openRing(folder, NAME)).lines.at(-1)).toEqual({ n: RING_LINES + 31, used: 'next' })
})

it('what is no line is none: torn, foreign, empty, of another place', async () => {
  const { file, folder } = await fresh()
  const ring = await openRing(folder, NAME)
  for (let used = 1; used <= 5; used++) await ring.append({ used })
  const bytes = await readFile(file)
  bytes.fill(0, 512, 700)
  bytes.copy(bytes, 3 * 512, 4 * 512, 5 * 512)
  await writeFile(file, bytes)
  expect((await openRing(folder, NAME)).lines.map(({ used }) => used)).toEqual([1, 3, 5])
  await truncate(file, 1000)
  expect((await openRing(folder, NAME)).lines).toHaveLength(1)
  for (const text of ['', 'x', '[]', '7', '{"n":-1}', '{"n":1e300}', '{"n":1}', '\0'.repeat(70_000)]) {
    await writeFile(file, text)
    const found = await openRing(folder, NAME)
    await found.append({ used: 9 })
    expect((await openRing(folder, NAME)).lines.at(-1)).toMatchObject({ used: 9 })
  }
})

it('a number behind which nobody can count is no line, and what is written after it is found again', async () => {
  const { file, folder } = await fresh()
  const n = Number.MAX_SAFE_INTEGER
  const bytes = Buffer.alloc(RING_LINES * 512, ' ')
  bytes.write(`${JSON.stringify({ n })}\n`, ((n - 1) % RING_LINES) * 512)
  await writeFile(file, bytes)
  const ring = await openRing(folder, NAME)
  for (const used of [1, 2]) await ring.append({ used })
  expect((await openRing(folder, NAME)).lines.map(({ used }) => used)).toEqual([1, 2])
})

it('a link is neither read nor written through', async () => {
  const { dir, file, folder } = await fresh()
  const other = join(dir, 'precious')
  await writeFile(other, 'x'.repeat(512))
  await symlink(other, file)
  await failure(openRing(folder, NAME), 'REFUSED')
  await unlink(file)
  const ring = await openRing(folder, NAME)
  await symlink(other, file)
  await failure(ring.append({ used: 1 }), 'REFUSED')
  await unlink(file)
  await symlink(join(dir, 'nowhere'), file)
  await failure(ring.append({ used: 1 }), 'REFUSED')
  expect(await readFile(other, 'utf8')).toBe('x'.repeat(512))
})

it('lines from before a long gap do not come back', async () => {
  const { file, folder } = await fresh()
  const line = (n: number, used: number): string => `${JSON.stringify({ n, used }).padEnd(511)}\n`
  await writeFile(file, line(1, 1) + line(RING_LINES * 5 + 2, 2))
  expect((await openRing(folder, NAME)).lines.map(({ used }) => used)).toEqual([2])
})

for (const kind of ['posix', 'fat'] as const)
  it(`${kind}: a power cut leaves each line, or the one that was there before`, async () => {
    const { dir, folder } = await fresh()
    const ring = await openRing(folder, NAME)
    for (let used = 1; used <= RING_LINES + 3; used++) await ring.append({ used })
    const initial = [await contentOf(dir)]
    const log: Step[] = []
    const recorded = await openRing(recordingFolder(folder, 0, kind, log), NAME)
    for (let used = 1; used <= 4; used++) await recorded.append({ used: `new ${used}` })
    let states = 0
    for (const medium of powerCuts(initial, log, kind, seed)) {
      states++
      await layOut(dir, medium.folders[0]!)
      const { lines } = await openRing(await openFolder(dir), NAME)
      const fresh = lines.filter(({ used }) => typeof used === 'string').length
      expect(lines.length, `seed ${seed}`).toBe(RING_LINES)
      expect(lines.at(-1)!.n, `seed ${seed}`).toBe(RING_LINES + 3 + fresh)
    }
    expect(states).toBeGreaterThan(4)
  })

it('a new ring that is cut at its birth is a ring', async () => {
  const { dir, folder } = await fresh()
  const log: Step[] = []
  const ring = await openRing(recordingFolder(folder, 0, 'fat', log), NAME)
  await ring.append({ used: 1 })
  await ring.append({ used: 2 })
  for (const medium of powerCuts([new Map()], log, 'fat', seed)) {
    await layOut(dir, medium.folders[0]!)
    const found = await openRing(await openFolder(dir), NAME)
    expect(found.lines.length).toBeLessThanOrEqual(2)
    await found.append({ used: below(9) })
  }
})

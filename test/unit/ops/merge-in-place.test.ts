import { chmod, link, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { mergeInPlaceOutcomeWords, mergeInPlacePlanWords } from '../../../src/cli/merge-in-place.js'
import { paint } from '../../../src/cli/words.js'
import {
  type MergeInPlaceOptions,
  type MergeInPlaceOutcome,
  planMergeInPlace,
  runMergeInPlace,
} from '../../../src/ops/merge-in-place.js'
import { failure } from '../../support/outcome.js'
import { CHUNK, finished, OVERLAY, sha256, smallStick, viewOf } from '../../support/small-stick.js'
import { storeOf } from '../../support/store-writer.js'
import { temporary } from '../../support/temporary.js'
import { needTools } from '../../support/tools.js'

const path = temporary({ memory: true })
let count = 0
const stickOf = async (options: Parameters<typeof smallStick>[1] = { raw: true }) => {
  const stick = await smallStick(await path(`stick${count++}`), options)
  const live = join(stick.path, 'LiveOS')
  return { stick, live, overlay: join(live, OVERLAY), base: join(live, 'rootfs.img'), input: { target: stick.path } }
}
const merge = async (target: string, options: MergeInPlaceOptions = {}): Promise<MergeInPlaceOutcome> =>
  finished(runMergeInPlace({ target }, await planMergeInPlace('refresh', { target }, options)))
const plain = paint({ isTTY: false } as NodeJS.WriteStream)

describe('a merge in place', () => {
  it('says what it will do, does it, and says what it did', async () => {
    const { stick, overlay, base, input } = await stickOf()
    const plan = await planMergeInPlace('refresh', input)
    expect(plan).toMatchObject({
      verb: 'refresh',
      inPlace: true,
      target: stick.path,
      base: { path: base },
      overlay: { path: overlay },
      exceptions: 9,
      chunkSize: CHUNK,
      writtenBytes: 9 * CHUNK,
      findings: [{ code: 'ROOT_UNKNOWN' }],
    })
    expect(JSON.parse(JSON.stringify(plan))).toEqual(plan)
    const words = mergeInPlacePlanWords(plan, plain).join('\n')
    for (const part of [
      'where it stands',
      'nothing takes that back',
      'never: base and overlay show the same',
      '9 changed',
    ])
      expect(words).toContain(part)

    const running = runMergeInPlace(input, plan)
    const phases = new Set<string>()
    let done: MergeInPlaceOutcome | undefined
    for (;;) {
      const next = await running.next()
      if (next.done) {
        done = next.value
        break
      }
      phases.add(next.value.phase)
    }
    expect([...phases]).toEqual(['merge'])
    expect(done).toMatchObject({ verb: 'refresh', exceptions: 9, writtenBytes: 9 * CHUNK, overlay, base })
    expect(done.verified?.bytes).toBe(9 * CHUNK)
    expect(mergeInPlaceOutcomeWords(done, plain).join('\n')).toMatch(/9 chunks.*written\n.*read back and compared/)
    expect(sha256(await readFile(base))).toBe(sha256(stick.merged))
    expect(await viewOf(input)).toBe(sha256(stick.merged))
    expect((await failure(merge(stick.path), 'USAGE')).message).toContain('nothing to merge')
  })

  it('takes a bare pair, and reads nothing back where it is told so', async () => {
    const { stick, overlay, base } = await stickOf()
    const input = { base, overlay }
    const plan = await planMergeInPlace('merge', input, { verify: false })
    const done = await finished(runMergeInPlace(input, plan))
    expect(done).toMatchObject({ verb: 'merge', verified: null })
    expect(mergeInPlaceOutcomeWords(done, plain).join('\n')).toContain('nothing was read back')
    expect(sha256(await readFile(base))).toBe(sha256(stick.merged))
  })

  it('stops where it is told to, and the rest is merged by the next run', async () => {
    const { stick, input } = await stickOf()
    const stop = new AbortController()
    stop.abort()
    const plan = await planMergeInPlace('refresh', input)
    await failure(finished(runMergeInPlace(input, plan, { signal: stop.signal })), 'CANCELLED')
    expect(await viewOf(input)).toBe(sha256(stick.merged))
    await merge(stick.path)
  })
})

describe('a merge in place warns', () => {
  it('of further names of the base, and of further overlays', async () => {
    const { stick, base, live, overlay } = await stickOf()
    await link(base, `${stick.path}/copy.img`)
    await writeFile(join(live, 'overlay-OTHER-0002'), await readFile(overlay))
    const { findings } = await planMergeInPlace('refresh', { target: stick.path, overlay })
    expect(findings.map(({ code }) => code)).toEqual(['ROOT_UNKNOWN', 'BASE_LINKED', 'OTHER_OVERLAYS'])
    expect(findings[2]!.message).toContain('overlay-OTHER-0002')
  })
})

describe('a merge in place is refused', () => {
  it('where there is no overlay, or an empty one', async () => {
    const { stick, overlay } = await stickOf()
    await writeFile(overlay, new Uint8Array(100_000))
    expect((await failure(merge(stick.path), 'USAGE')).message).toContain('is empty')
    await rm(overlay)
    await failure(merge(stick.path), 'NOT_FOUND')
  })

  it('where the overlay was marked invalid or cut off', async () => {
    const { stick, overlay } = await stickOf()
    const bytes = await readFile(overlay)
    bytes[4] = 0
    await writeFile(overlay, bytes)
    expect((await failure(merge(stick.path), 'REFUSED')).message).toContain(`liveos recover ${stick.path}`)
    const many = Array.from({ length: 256 }, (_, n) => ({ oldChunk: n, content: new Uint8Array(CHUNK) }))
    await writeFile(overlay, storeOf(many, 8, 0).subarray(0, 258 * CHUNK))
    expect((await failure(merge(stick.path), 'REFUSED')).message).toContain('cut off')
  })

  it('where it belongs to another base', async () => {
    const { stick, overlay } = await stickOf()
    await writeFile(overlay, storeOf([{ oldChunk: 5000, content: new Uint8Array(CHUNK) }], 8))
    await failure(merge(stick.path), 'CORRUPT')
  })

  it('where another verb was cut short', async () => {
    for (const beside of ['rootfs.img.refresh', `${OVERLAY}.reset`]) {
      const { stick, live } = await stickOf()
      await writeFile(join(live, beside), 'x')
      const before = await readFile(join(live, 'rootfs.img'))
      await failure(merge(stick.path), 'REFUSED')
      expect(sha256(await readFile(join(live, 'rootfs.img')))).toBe(sha256(before))
    }
  })

  it('where the overlay is a filesystem, with what else there is to do', async () => {
    const { stick, overlay } = await stickOf()
    const image = new Uint8Array(1 << 20)
    image.set([0x53, 0xef], 1080)
    await writeFile(overlay, image)
    const { message } = await failure(merge(stick.path), 'UNSUPPORTED')
    expect(message).toContain(`'liveos diff ${stick.path} --output changed.tar'`)
    expect(message).not.toContain('truncate')
  })

  it('where something has changed since it was planned', async () => {
    for (const changed of ['base', 'overlay'] as const) {
      const made = await stickOf()
      const plan = await planMergeInPlace('refresh', made.input)
      await writeFile(made[changed], await readFile(made[changed]))
      await failure(finished(runMergeInPlace(made.input, plan)), 'REFUSED')
    }
  })

  const unprivileged = process.getuid?.() === 0 ? it.skip : it
  unprivileged('where the base may not be written', async () => {
    const { input, base } = await stickOf()
    await chmod(base, 0o444)
    const plan = await planMergeInPlace('refresh', input)
    expect(plan.findings.map(({ code }) => code)).toContain('READ_ONLY')
    await failure(finished(runMergeInPlace(input, plan)), 'READ_ONLY')
  })
})

const { it: squashed } = needTools('mksquashfs')

squashed('a compressed base is not changed where it stands, and the sentence names refresh', async () => {
  const { stick } = await stickOf({})
  const error = await failure(merge(stick.path), 'UNSUPPORTED')
  expect(error.data.feature).toBe('merge in place into a compressed base')
  expect(error.message).toContain(`'liveos refresh ${stick.path}'`)
})

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { openFile } from '../../src/block/file.js'
import { salvageStore } from '../../src/block/snapshot/salvage.js'
import { readStore } from '../../src/block/snapshot/store.js'
import { openFolder } from '../../src/host/folder.js'
import { findTarget } from '../../src/liveos/target.js'
import { clearOverlay, planReset, runReset } from '../../src/ops/reset.js'
import { eachError } from '../support/each-error.js'
import { contentOf, KINDS, type Kind, layOut, powerCuts, recordingFolder, type Step } from '../support/power-cut.js'
import { finished, OVERLAY, sha256, smallStick, viewOf } from '../support/small-stick.js'
import { storeOf } from '../support/store-writer.js'
import { temporary } from '../support/temporary.js'

const path = temporary({ memory: true })

const exceptionsIn = async (overlay: string): Promise<number> => {
  const file = await openFile(overlay)
  try {
    return (await readStore(file)).exceptions.count
  } finally {
    await file.close()
  }
}

const damageOf = async (overlay: string): Promise<string> => {
  const file = await openFile(overlay)
  try {
    return (await salvageStore(file)).damage
  } finally {
    await file.close()
  }
}

/**
 * Media after every cut of a reset whose log may be changed, and how many of them are neither the old overlay nor an empty one.
 *
 * @param chunkSectors  chunks of 128 sectors and more have their first list behind the first 64 KiB
 */
const cuts = async (kind: Kind, change: (log: Step[]) => Step[] = log => log, chunkSectors = 8) => {
  const dir = await path(`${kind}-${Math.random().toString(36).slice(2)}`)
  const stick = await smallStick(dir, { raw: true, changed: Array.from({ length: 40 }, (_, n) => n) })
  const live = join(dir, 'LiveOS')
  if (chunkSectors !== 8) {
    const changes = [2, 0, 1].map(oldChunk => ({ oldChunk, content: new Uint8Array(chunkSectors * 512).fill(7) }))
    await writeFile(join(live, OVERLAY), storeOf(changes, chunkSectors))
  }
  const initial = [await contentOf(live)]
  const old = sha256(initial[0]!.get(OVERLAY)!)
  const log: Step[] = []
  await clearOverlay(recordingFolder(await openFolder(live), 0, kind, log), OVERLAY)
  const media = [...powerCuts(initial, change(log), kind)]
  let torn = 0
  for (const medium of media) {
    await layOut(live, medium.folders[0]!)
    const now = sha256((await contentOf(live)).get(OVERLAY)!)
    const empty = now !== old && (await exceptionsIn(join(live, OVERLAY)).catch(() => -1)) === 0
    const view = empty ? await viewOf({ target: stick.path }).catch(String) : undefined
    if (now !== old && (!empty || view !== sha256(stick.root))) torn++
  }
  return { media, torn, live, stick }
}

it.each(KINDS.flatMap(kind => [8, 128].map(chunkSectors => [kind, chunkSectors] as const)))(
  '%s, chunks of %i sectors: after a cut the overlay is the old one or an empty one, and a second run finishes',
  async (kind, chunkSectors) => {
    const { media, torn, live, stick } = await cuts(kind, undefined, chunkSectors)
    console.log(`reset, ${kind}, chunks of ${chunkSectors} sectors: ${media.length} states`)
    expect(media.length).toBeGreaterThan(8)
    expect(torn).toBe(0)
    for (const medium of media) {
      await layOut(live, medium.folders[0]!)
      const target = await findTarget({ target: stick.path })
      await finished(runReset(target, await planReset(target)))
      expect([...(await contentOf(live)).keys()]).toEqual([OVERLAY, 'rootfs.img'])
      expect(await damageOf(join(live, OVERLAY))).toBe('new')
      expect(await viewOf({ target: stick.path })).toBe(sha256(stick.root))
    }
  },
)

it.each(KINDS)(
  '%s: after an error at any step the overlay is the old one or an empty one, and a second run finishes',
  async kind => {
    const dir = await path(`errors-${kind}`)
    const stick = await smallStick(dir, { raw: true, changed: [1, 2, 3] })
    const live = join(dir, 'LiveOS')
    const before = await contentOf(live)
    const old = sha256(before.get(OVERLAY)!)
    await eachError(
      live,
      before,
      kind,
      folder => clearOverlay(folder, OVERLAY),
      async words => {
        const now = sha256((await contentOf(live)).get(OVERLAY)!)
        if (now !== old) expect(await exceptionsIn(join(live, OVERLAY)), words).toBe(0)
        const target = await findTarget({ target: stick.path })
        await finished(runReset(target, await planReset(target)))
        expect([...(await contentOf(live)).keys()], words).toEqual([OVERLAY, 'rootfs.img'])
        expect(await viewOf({ target: stick.path }), words).toBe(sha256(stick.root))
      },
    )
  },
)

it('the test can fail: cleared from behind, an overlay is half there for a moment', async () => {
  const backwards = (log: Step[]): Step[] => {
    const writes = log.flatMap((step, index) => (step.kind === 'write' && step.name === OVERLAY ? [index] : []))
    const whole = log[writes[1]!]!
    if (whole.kind !== 'write') throw new Error('no write')
    log[writes[0]!] = { ...whole, offset: 4608, bytes: whole.bytes.subarray(4608, 4608 + 512) }
    return log
  }
  expect((await cuts('posix', backwards)).torn).toBeGreaterThan(0)
})

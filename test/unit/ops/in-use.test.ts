import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { usedAs } from '../../../src/host/block-use.js'
import { lockFile } from '../../../src/host/file-lock.js'
import { openFolder } from '../../../src/host/folder.js'
import { findTarget } from '../../../src/liveos/target.js'
import { planCompact, runCompact } from '../../../src/ops/compact.js'
import { planGrow, runGrow } from '../../../src/ops/grow.js'
import { whileLocked } from '../../../src/ops/identity.js'
import { planMergeInPlace, runMergeInPlace } from '../../../src/ops/merge-in-place.js'
import { planRecover } from '../../../src/ops/recover.js'
import { runRecover } from '../../../src/ops/recover-run.js'
import { planRefresh } from '../../../src/ops/refresh.js'
import { runRefresh } from '../../../src/ops/refresh-run.js'
import { planReset, runReset } from '../../../src/ops/reset.js'
import { planUndo, runUndo } from '../../../src/ops/undo.js'
import { beginChange } from '../../../src/ops/undo-journal.js'
import { unmount } from '../../support/mounting.js'
import { failure } from '../../support/outcome.js'
import { finished, OVERLAY, smallStick } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
let count = 0
const fresh = async () => {
  const { path: target } = await smallStick(await path(`stick${count++}`), { raw: true })
  return { live: join(target, 'LiveOS'), overlay: join(target, 'LiveOS', OVERLAY), input: { target } }
}

type Input = { target: string }
/** Plans a run and gives it back, not begun. */
const PLANNED: Record<string, (input: Input) => Promise<() => Promise<unknown>>> = {
  grow: async input => {
    const plan = await planGrow(input, { size: 1 << 20 })
    return () => finished(runGrow(input, plan))
  },
  compact: async input => {
    const plan = await planCompact(input, { size: 1 << 20 })
    return () => finished(runCompact(input, plan))
  },
  'refresh --in-place': async input => {
    const plan = await planMergeInPlace('refresh', input)
    return () => finished(runMergeInPlace(input, plan))
  },
  refresh: async input => {
    const plan = await planRefresh(input, {})
    return () => finished(runRefresh(input, plan))
  },
  reset: async input => {
    const target = await findTarget(input)
    const plan = await planReset(target)
    return () => finished(runReset(target, plan))
  },
  recover: async input => {
    const target = await findTarget(input)
    const plan = await planRecover(target, { fsck: false, size: 4 << 20 })
    return () => finished(runRecover(target, plan))
  },
}

describe.skipIf(process.platform !== 'linux')('an overlay that another run writes to', () => {
  it.each(Object.entries(PLANNED))('%s plans nothing then, and does not run', async (_verb, planned) => {
    const { overlay, input } = await fresh()
    const before = await readFile(overlay)
    const run = await planned(input)
    // what serve --persist holds
    const lock = await lockFile(overlay)
    expect((await failure(planned(input), 'REFUSED')).message).toContain('liveos serve')
    await failure(run(), 'REFUSED')
    await lock.release()
    expect(Buffer.compare(await readFile(overlay), before)).toBe(0)
    await run()
  })

  it('is locked by a run while it works, and free when that has ended, however', async () => {
    const target = await findTarget((await fresh()).input)
    await whileLocked([target.overlay, target.base], async () => {
      await failure(lockFile(target.overlay!.path), 'REFUSED')
      await failure(lockFile(target.base.path), 'REFUSED')
      await failure(
        whileLocked([target.overlay], async () => undefined),
        'REFUSED',
      )
    })
    await expect(
      whileLocked([target.overlay], async () => {
        throw new Error('it went wrong')
      }),
    ).rejects.toThrow('it went wrong')
    await (await lockFile(target.overlay!.path)).release()
  })
})

describe('a change that was cut short', () => {
  const cut = async () => {
    const made = await fresh()
    const header = (await readFile(made.overlay)).subarray(0, 16)
    const during = Uint8Array.from(header)
    during[4] = 0
    const { file, close } = await beginChange(await openFolder(made.live), OVERLAY, {
      verb: 'recover',
      hold: { offset: 0, during, after: Uint8Array.from(header) },
    })
    await file.write(file.size - 4096, new Uint8Array(4096).fill(7))
    await file.flush()
    await close()
    return made
  }

  it('is not taken back on a copy of the overlay that was put in its place', async () => {
    const damaged = await cut()
    const bytes = await readFile((await fresh()).overlay)
    bytes.writeUInt8(0x55, bytes.length - 1)
    await writeFile(damaged.overlay, bytes)
    for (const run of [
      async () => planUndo(await findTarget(damaged.input)),
      async () => planRecover(await findTarget(damaged.input), { fsck: false }),
    ]) {
      const error = await failure(run(), 'REFUSED')
      expect(error.message).toMatch(/another file.*Remove overlay-TEST-0001\.undo/)
    }
    expect(Buffer.compare(await readFile(damaged.overlay), bytes)).toBe(0)
  })

  it('is taken back on the one that it was begun on', async () => {
    const damaged = await cut()
    const target = await findTarget(damaged.input)
    expect(await finished(runUndo(target, await planUndo(target)))).toMatchObject({ verb: 'undo', of: 'recover' })
  })
})

describe('chunk sizes that are told', () => {
  it.each([0, 3, 7, 1.5, 4096])('%d sectors are none', async chunkSectors => {
    const target = await findTarget((await fresh()).input)
    await failure(planRecover(target, { fsck: false, chunkSectors }), 'USAGE')
  })

  it('are not taken where the header is whole and says another one', async () => {
    const { overlay, input } = await fresh()
    const bytes = await readFile(overlay)
    bytes[4] = 0
    await writeFile(overlay, bytes)
    const error = await failure(planRecover(await findTarget(input), { fsck: false, chunkSectors: 1 }), 'REFUSED')
    expect(error.message).toContain('8 sectors')
    const plan = await planRecover(await findTarget(input), { fsck: false, chunkSectors: 8 })
    expect(plan.list.kept).toBe(9)
  })
})

const run = promisify(execFile)
const rootOnly = describe.skipIf(process.getuid?.() !== 0)
rootOnly('a partition that is mounted', () => {
  it('is told, and nothing is merged into it', async context => {
    const image = await path('disk.img')
    const mountPoint = await path('mnt')
    await mkdir(mountPoint)
    await run('truncate', ['-s', '8M', image])
    const made = await run('mke2fs', ['-q', '-F', '-t', 'ext4', image]).catch(() => undefined)
    const loop = made && (await run('losetup', ['-f', '--show', image]).catch(() => undefined))?.stdout.trim()
    if (!loop) return context.skip('no loop device can be had here')
    try {
      expect(await usedAs(loop)).toBeUndefined()
      await run('mount', [loop, mountPoint])
      try {
        expect(await usedAs(loop)).toContain(mountPoint)
        const { overlay } = await fresh()
        const input = { base: loop, overlay }
        const stick = await fresh()
        const pair = { base: join(stick.live, 'rootfs.img'), overlay: loop }
        const refused = failure(
          findTarget(pair).then(target => planRecover(target, { fsck: false })),
          'REFUSED',
        )
        expect((await refused).message).toContain('mounted')
        expect((await failure(planMergeInPlace('merge', input), 'REFUSED')).message).toContain('mounted')
      } finally {
        unmount(mountPoint)
      }
    } finally {
      await run('losetup', ['-d', loop])
    }
    expect(await usedAs(image)).toBeUndefined()
  })
})

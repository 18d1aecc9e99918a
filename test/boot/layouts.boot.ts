import { createHash } from 'node:crypto'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { liveos } from '../support/cli.js'
import { bootAndRun, type MachineOptions, type MachineRun } from './machine.js'
import { differences, type Predicted, predict } from './prediction.js'
import { dropOldLayouts, keepResult } from './results.js'
import { mountAt, mountOption, type Seen, seenBy } from './seen.js'
import { makeStick, overlayName, putBack, readOut, type StickOptions, takeOut } from './stick.js'
import { CACHE, type LiveSystem, liveSystem, needBoots } from './system.js'

const gate = needBoots()

/** Minutes after which no further layout is begun; without end if left out. */
const MINUTES = Number(process.env.LIVEOS_BOOT_MINUTES ?? Number.POSITIVE_INFINITY)
const BEGAN = Date.now()

let system: LiveSystem
let work: string
/** why there is none */
let unbuilt: string | undefined
beforeAll(async () => {
  if (gate.reason !== undefined) return
  try {
    system = await liveSystem()
  } catch (error) {
    // Without a network there is nothing to build of; where boots are asked for, that fails.
    if (process.env.CONFORM === 'require') throw error
    unbuilt = `the live system could not be built: ${String(error)}`
    console.warn(unbuilt)
    return
  }
  work = await mkdtemp(join(CACHE, 'work-'))
})
/** of every layout here, by its id */
const titles = new Map<string, string>()
afterAll(async () => {
  if (work === undefined) return
  await dropOldLayouts(titles)
  await rm(work, { recursive: true, force: true })
})

/** A layout under test: its boots, and what they showed. */
interface Layout {
  stick(options: Omit<StickOptions, 'base'> & { readonly base?: StickOptions['base'] }): Promise<string>
  /** Boots, and holds the prediction against what is there; `changes` is what the test then shows of them, as far as it does. */
  boot(
    target: string,
    options: Omit<MachineOptions, 'folder'> & { readonly changes: Predicted['changes'] | 'not shown' },
  ): Promise<MachineRun & { readonly seen: Seen; readonly predicted: Predicted }>
  /** Starts a boot that comes to no end, and ends in these words; that is what was to be told. */
  fails(target: string, options: Omit<MachineOptions, 'folder' | 'script'>, words: RegExp): Promise<void>
  /** a sentence for the report */
  note(sentence: string): void
}

/** A test of one layout, whose result is kept whichever way it ends. `dracut` is the first that it means something for. */
const layout = (id: string, title: string, body: (layout: Layout) => Promise<void>, dracut = 0): void => {
  titles.set(id, title)
  if (gate.reason !== undefined) {
    gate.it(title, () => undefined)
    return
  }
  it(title, async ({ skip }) => {
    if (unbuilt !== undefined) skip(unbuilt)
    if (Number.parseInt(system.dracut, 10) < dracut) skip(`dracut ${system.dracut} is older than ${dracut}`)
    if ((Date.now() - BEGAN) / 60_000 > MINUTES) skip(`LIVEOS_BOOT_MINUTES=${MINUTES} are over`)
    const notes: string[] = []
    const wrong: string[] = []
    let seconds = 0
    let boots = 0
    const path = (name: string): string => join(work, `${id}-${name}`)
    const made: Layout = {
      async stick(options) {
        const base = { name: 'squashfs.img', path: join(system.folder, 'squashfs.img') } as const
        await makeStick(path('stick.img'), system, { base, ...options })
        return path('stick.img')
      },
      async boot(target, { changes, ...options }) {
        const plan = await predict(target, options)
        const ran = await bootAndRun(target, { ...options, folder: path(`boot${++boots}`) })
        seconds += ran.seconds
        expect(ran.rc, ran.log).toBe(0)
        const seen = await seenBy(ran)
        const shown = changes === 'not shown' ? plan.changes : changes
        wrong.push(...differences(plan, seen, shown).map(text => `boot ${boots}: ${text}`))
        return { ...ran, seen, predicted: plan }
      },
      async fails(target, options, words) {
        const plan = await predict(target, options)
        const began = Date.now()
        const folder = path(`boot${++boots}`)
        await expect(bootAndRun(target, { ...options, script: 'true', folder })).rejects.toThrow(words)
        seconds += Math.round((Date.now() - began) / 1000)
        if (plan.outcome !== 'fails') wrong.push(`boot ${boots}: outcome: told ${plan.outcome}, it fails`)
      },
      note: sentence => void notes.push(sentence),
    }
    const keep = (outcome: 'as expected' | 'failed', seen: readonly string[]): Promise<void> => {
      const prediction = boots === 0 ? 'not asked' : wrong.length === 0 ? 'right' : `wrong: ${wrong.join('; ')}`
      return keepResult(system, { id, layout: title, outcome, seconds, seen, prediction })
    }
    try {
      await body(made)
    } catch (error) {
      const [words] = String(error).split('\n')
      await keep('failed', [...notes, words ?? ''])
      throw error
    } finally {
      for (const name of await readdir(work))
        if (name.startsWith(`${id}-`)) await rm(join(work, name), { recursive: true })
    }
    await keep('as expected', notes)
    // After all of its boots: what they showed counts whatever was told of it.
    expect(wrong).toEqual([])
  })
}

const ROOT = 'root=live:LABEL=LIVE rd.live.image'
const PERSISTENT = `${ROOT} rw rd.live.overlay=LABEL=LIVE`

/** A device-mapper snapshot as the root, with the store that takes its writes. */
const expectSnapshot = (seen: Seen): { readonly store: string; readonly kind: string } => {
  expect(mountAt(seen, '/')).toMatchObject({ source: '/dev/mapper/live-rw', fstype: 'ext4' })
  const match = /^0 \d+ snapshot 7:(\d+) 7:(\d+) (P|PO|N) 8$/.exec(seen.tables.get('live-rw') ?? '')
  expect(match, JSON.stringify([...seen.tables])).not.toBeNull()
  return { store: seen.loops.get(`/dev/loop${match![2]}`)?.file ?? '', kind: match![3]! }
}

const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** `liveos` on the folder of a stick's files, which it takes for a mounted one. */
const verb = async (name: string, folder: string, ...options: readonly string[]): Promise<void> => {
  const { code, stdout, stderr } = await liveos([name, folder, '--yes', ...options])
  expect(code, stdout + stderr).toBe(0)
}

const lines = (text: string): readonly string[] => text.split('\n').filter(Boolean)

layout(
  'store-fat',
  'overlay file on FAT: it stays, read-only it is left alone, reset empties it',
  async ({ stick, boot, note }) => {
    const entries = [PERSISTENT, `${PERSISTENT} rd.live.overlay.readonly=1`, `${PERSISTENT} rd.live.overlay.reset=1`]
    const image = await stick({ fs: 'vfat', entries, overlay: { kind: 'store', size: 96 } })
    const store = `LiveOS/${overlayName('vfat')}`
    const first = await boot(image, {
      entry: 1,
      persist: true,
      changes: 'kept',
      script: 'report; keep first; files > $OUT/files',
    })
    // As the kernel tells it, without the mount's own path.
    expect(expectSnapshot(first.seen)).toEqual({ store: `/${store}`, kind: 'PO' })
    note('live-rw is a snapshot (PO, 8 sectors) over the image, its store the overlay file')

    const before = hashOf(await readOut(image, store, join(work, 'store-fat-read')))
    const second = await boot(image, {
      entry: 2,
      persist: true,
      changes: 'lost',
      script: 'report; files > $OUT/files; keep lost',
    })
    expect(await second.text('files')).toBe(await first.text('files'))
    expect(hashOf(await readOut(image, store, join(work, 'store-fat-read')))).toBe(before)
    expect(second.seen.tables.get('live-ro')).toMatch(/ snapshot 7:\d+ 7:\d+ P 8$/)
    note('what was written is there at the next boot; with readonly=1 the overlay file keeps every byte')

    const third = await boot(image, {
      entry: 3,
      persist: true,
      changes: 'emptied',
      script: 'report; files > $OUT/files',
    })
    expect(lines(await third.text('files')).filter(line => !line.startsWith('base'))).toEqual([])
    note('with reset=1 it begins empty')
  },
)

/** What the first boot of a stick leaves that is to be mended: new, changed and deleted files. */
const CHANGES = 'keep first; keep second; rm -r /srv/second /srv/base/file2; echo changed >> /srv/base/file3; sync'

layout(
  'recovered-fat',
  'overlay file on FAT that overflowed, recovered by liveos: every file is there',
  async ({ stick, boot, note }) => {
    const image = await stick({ fs: 'vfat', entries: [PERSISTENT], overlay: { kind: 'store', size: 64 } })
    const script = `report; ${CHANGES}; files > $OUT/files; sync; give_back
dd if=/dev/zero of=/fill bs=1M count=200 conv=fsync || true
dmsetup status > $OUT/status || true`
    const first = await boot(image, { entry: 1, persist: true, changes: 'kept', script })
    expect(first.seen.status.get('live-rw')).toMatch(/ snapshot (Overflow|Invalid)$/)
    note(`the overlay took what fits, then dmsetup said ${first.seen.status.get('live-rw')?.split(' ').at(-1)}`)

    const folder = join(work, 'recovered-fat-files')
    await verb('recover', await takeOut(image, folder))
    await putBack(image, folder, overlayName('vfat'))
    const second = await boot(image, { entry: 1, persist: true, changes: 'kept', script: 'report; files > $OUT/files' })
    expect(await second.text('files')).toBe(await first.text('files'))
    note('recovered: boots, and has every file that was synced before')
  },
)

layout(
  'refreshed-fat',
  'overlay file on FAT, merged into the image by liveos refresh: every file is there',
  async ({ stick, boot, note }) => {
    const image = await stick({ fs: 'vfat', entries: [PERSISTENT], overlay: { kind: 'store', size: 96 } })
    const script = `report; ${CHANGES}; files > $OUT/files`
    const first = await boot(image, { entry: 1, persist: true, changes: 'kept', script })
    const folder = join(work, 'refreshed-fat-files')
    await verb('refresh', await takeOut(image, folder))
    await putBack(image, folder, 'squashfs.img', overlayName('vfat'))
    const second = await boot(image, { entry: 1, persist: true, changes: 'kept', script: 'report; files > $OUT/files' })
    expect(await second.text('files')).toBe(await first.text('files'))
    note('boots from the new image with an emptied overlay, and has every file')
  },
)

layout(
  'compacted-fat',
  'overlay file on FAT, compacted by liveos: every file is there',
  async ({ stick, boot, note }) => {
    const image = await stick({ fs: 'vfat', entries: [PERSISTENT], overlay: { kind: 'store', size: 96 } })
    const script = `report; ${CHANGES}; files > $OUT/files`
    const first = await boot(image, { entry: 1, persist: true, changes: 'kept', script })
    const folder = join(work, 'compacted-fat-files')
    await verb('compact', await takeOut(image, folder))
    await putBack(image, folder, overlayName('vfat'))
    const second = await boot(image, { entry: 1, persist: true, changes: 'kept', script: 'report; files > $OUT/files' })
    expect(await second.text('files')).toBe(await first.text('files'))
    note('boots, and has every file')
  },
)

for (const firmware of ['bios', 'uefi'] as const)
  layout(
    `iso-${firmware}`,
    `ISO by ${firmware.toUpperCase()} and its own menu: a temporary overlay`,
    async ({ boot, note }) => {
      const image = join(system.folder, 'live.iso')
      const { seen, outcome } = await boot(image, { firmware, changes: 'lost', script: 'report; keep lost' })
      const { store, kind } = expectSnapshot(seen)
      expect(kind).toBe('PO')
      expect(store).not.toContain('LiveOS')
      expect(outcome.scratch).toBeNull()
      note('live-rw is a snapshot over the image, its store in memory: all is lost at power-off')
    },
  )

layout('directory-ext4', 'OverlayFS directory on ext4', async ({ stick, boot, note }) => {
  const entries = [`${PERSISTENT} rd.live.overlay.overlayfs=1`]
  const image = await stick({ fs: 'ext4', entries, overlay: { kind: 'directory' } })
  const first = await boot(image, {
    entry: 1,
    persist: true,
    changes: 'kept',
    script: 'report; keep first; rm /srv/base/file2; sync; files > $OUT/files',
  })
  const root = mountAt(first.seen, '/')
  expect(root?.fstype).toBe('overlay')
  expect(mountOption(root, 'upperdir')).toBe('/run/overlayfs')
  const second = await boot(image, { entry: 1, persist: true, changes: 'kept', script: 'report; files > $OUT/files' })
  expect(await second.text('files')).toBe(await first.text('files'))
  note('the root is an OverlayFS, its upper directory on the stick: what was written, changed and deleted stays')
})

layout('embedded-fat', 'OverlayFS inside a file on FAT', async ({ stick, boot, note }) => {
  const image = await stick({ fs: 'vfat', entries: [PERSISTENT], overlay: { kind: 'embedded', size: 96 } })
  const first = await boot(image, {
    entry: 1,
    persist: true,
    changes: 'kept',
    script: 'report; keep first; sync; files > $OUT/files',
  })
  expect(mountAt(first.seen, '/')?.fstype).toBe('overlay')
  const second = await boot(image, { entry: 1, persist: true, changes: 'kept', script: 'report; files > $OUT/files' })
  expect(await second.text('files')).toBe(await first.text('files'))
  note('the root is an OverlayFS, its upper directory in the ext4 of the overlay file: it stays')
})

layout('store-ext4', 'overlay file on ext4', async ({ stick, boot, note }) => {
  const image = await stick({ fs: 'ext4', entries: [PERSISTENT], overlay: { kind: 'store', size: 96 } })
  const first = await boot(image, {
    entry: 1,
    persist: true,
    changes: 'kept',
    script: 'report; keep first; files > $OUT/files',
  })
  expect(expectSnapshot(first.seen).kind).toBe('PO')
  const second = await boot(image, { entry: 1, persist: true, changes: 'kept', script: 'report; files > $OUT/files' })
  expect(await second.text('files')).toBe(await first.text('files'))
  note('live-rw is a snapshot, and what was written stays')
})

layout('uncompressed', 'rootfs.img without compression, with an overlay file', async ({ stick, boot, note }) => {
  const base = { name: 'rootfs.img', path: join(system.folder, 'rootfs.img') } as const
  const image = await stick({ fs: 'ext4', entries: [PERSISTENT, ROOT], base, overlay: { kind: 'store', size: 96 } })
  const first = await boot(image, {
    entry: 1,
    persist: true,
    changes: 'kept',
    script: 'report; keep first; files > $OUT/files',
  })
  expectSnapshot(first.seen)
  const second = await boot(image, { entry: 1, persist: true, changes: 'kept', script: 'report; files > $OUT/files' })
  expect(await second.text('files')).toBe(await first.text('files'))
  note('live-rw is a snapshot over rootfs.img itself, and what was written stays')
})

layout('flat', 'flat squashfs: OverlayFS in memory', async ({ stick, boot, fails, note }) => {
  const base = { name: 'squashfs.img', path: join(system.folder, 'flat.img') } as const
  const image = await stick({ fs: 'vfat', entries: [ROOT], base })
  if (Number.parseInt(system.dracut, 10) < 100) {
    await fails(image, { entry: 1 }, /Can't mount root filesystem/)
    note('it does not boot: the directory for changes is made after systemd has tried to mount the root')
    return
  }
  const { seen, outcome } = await boot(image, { entry: 1, changes: 'lost', script: 'report; keep lost' })
  expect(mountAt(seen, '/')?.fstype).toBe('overlay')
  expect(seen.tables.has('live-rw')).toBe(false)
  expect(outcome.scratch?.chunks).toBe(0)
  note('the root is an OverlayFS over the squashfs, its upper directory in memory; the stick is not written to')
})

layout('home', 'home.img, in a system without livesys', async ({ stick, boot, note }) => {
  const image = await stick({ fs: 'vfat', entries: [PERSISTENT], overlay: { kind: 'store', size: 96 }, home: 16 })
  const { seen, text } = await boot(image, { entry: 1, changes: 'kept', script: 'report; ls -A /home > $OUT/home' })
  expect(mountAt(seen, '/home')).toBeUndefined()
  expect(await text('home')).toBe('')
  note('nothing of dracut mounts home.img: that is the work of livesys in the image, and Debian has none')
})

for (const [id, what, word] of [
  ['device', 'a device', 'LABEL=LIVE'],
  ['path', 'a device and a path', `LABEL=LIVE:/LiveOS/${overlayName('ext4')}`],
] as const)
  layout(
    `renamed-${id}-ext4`,
    `overlay file on ext4, named by the new word rd.overlay of dracut 110: ${what}`,
    async ({ stick, boot, note }) => {
      const entries = [`${ROOT} rw rd.overlay=${word}`]
      const image = await stick({ fs: 'ext4', entries, overlay: { kind: 'store', size: 96 } })
      const script = 'report; keep first; files > $OUT/files'
      const first = await boot(image, { entry: 1, persist: true, changes: 'not shown', script })
      const second = await boot(image, {
        entry: 1,
        persist: true,
        changes: 'not shown',
        script: 'report; files > $OUT/files',
      })
      const stays = (await second.text('files')) === (await first.text('files'))
      note(`the root is ${mountAt(first.seen, '/')?.fstype}, and what was written ${stays ? 'stays' : 'is lost'}`)
      expect(first.predicted.changes).toBe(stays ? 'kept' : 'lost')
    },
    110,
  )

import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { mkdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { openView } from '../../src/liveos/view.js'
import { type DiffEntry, type DiffOutcome, runDiff } from '../../src/ops/diff.js'
import { makeExt4, run } from '../support/ext4-images.js'
import { whileMounted } from '../support/mounting.js'
import {
  editAtRandom,
  kernelTree,
  makeLowerTree,
  needOverlayMount,
  ourTree,
  type Seen,
} from '../support/overlayfs-mount.js'
import { random } from '../support/random.js'
import { finished } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'

const { it } = needOverlayMount('tar', 'mkfs.vfat', 'mcopy', 'mmd')
const path = temporary()

const LABEL = 'OVL'
const ID = 'c0ffee00-1111-4222-8333-444455556666'
const OVERLAY = `overlay-${LABEL}-${ID}`

interface Case {
  readonly base: 'flat squashfs' | 'nested ext4' | 'bare ext4'
  readonly options: string
}

const CASES: readonly Case[] = [
  { base: 'flat squashfs', options: 'redirect_dir=on,metacopy=on' },
  { base: 'flat squashfs', options: 'redirect_dir=on,metacopy=on,index=on' },
  { base: 'nested ext4', options: 'redirect_dir=on' },
  { base: 'bare ext4', options: 'redirect_dir=off,metacopy=off,index=off' },
  { base: 'nested ext4', options: 'userxattr' },
]

/** A stick in an image whose base is made of a tree. */
const makeStick = async (at: string, { base }: Case): Promise<string> => {
  await mkdir(join(at, 'low'), { recursive: true })
  makeLowerTree(join(at, 'low'))
  const live = join(at, 'stick/LiveOS')
  await mkdir(join(live, OVERLAY), { recursive: true })
  await mkdir(join(live, 'ovlwork'))
  const pack = (tree: string) =>
    run('mksquashfs', [tree, join(live, 'squashfs.img'), '-quiet', '-no-progress', '-comp', 'gzip'])
  if (base === 'flat squashfs') await pack(join(at, 'low'))
  else {
    const directory = base === 'bare ext4' ? live : join(at, 'pack/LiveOS')
    await mkdir(directory, { recursive: true })
    await makeExt4(join(directory, 'rootfs.img'), 8, ['-t', 'ext4', '-O', '^has_journal'], join(at, 'low'))
    if (base === 'nested ext4') await pack(join(at, 'pack'))
  }
  return makeExt4(join(at, 'stick.img'), 48, ['-t', 'ext4', '-L', LABEL, '-U', ID], join(at, 'stick'))
}

/** Mounts all layers of a stick as dracut does, and looks at the root before and after `use`. */
const onKernel = async (
  at: string,
  stick: string,
  { base, options }: Case,
  use: (root: string) => void,
): Promise<{ before: Map<string, Seen>; after: Map<string, Seen> }> => {
  const live = join(at, 'mnt/LiveOS')
  const nested = join(at, 'nested')
  const lower = join(at, 'lower')
  const loop = (image: string, to: string, work: () => Promise<void>): Promise<void> =>
    whileMounted(['-o', 'loop,ro', image], to, work)
  let before: Map<string, Seen> = new Map()
  let after: Map<string, Seen> = new Map()
  const overlay = async (): Promise<void> => {
    before = kernelTree(lower)
    const layers = `lowerdir=${lower},upperdir=${live}/${OVERLAY},workdir=${live}/ovlwork,${options}`
    const mount = (work: () => Promise<void>) =>
      whileMounted(['-t', 'overlay', 'overlay', '-o', layers], join(at, 'root'), work)
    await mount(async () => use(join(at, 'root')))
    // mounted anew: nothing of what was edited is remembered
    await mount(async () => {
      after = kernelTree(join(at, 'root'))
    })
  }
  await whileMounted(['-t', 'ext4', '-o', 'loop', stick], join(at, 'mnt'), async () => {
    if (base === 'flat squashfs') await loop(join(live, 'squashfs.img'), lower, overlay)
    else if (base === 'bare ext4') await loop(join(live, 'rootfs.img'), lower, overlay)
    else await loop(join(live, 'squashfs.img'), nested, () => loop(join(nested, 'LiveOS/rootfs.img'), lower, overlay))
  })
  return { before, after }
}

/** Attributes that a mount hides. */
const hidden = ({ options }: Case): string => (options === 'userxattr' ? 'user.overlay.' : 'trusted.overlay.')

/** The base as it is seen below an OverlayFS: without its deletions and marks. */
const seenBelow = (given: Case, base: ReadonlyMap<string, Seen>): Map<string, Seen> =>
  new Map(
    [...base]
      .filter(([, { kind, device }]) => kind !== 'character' || device !== '0')
      .map(([name, seen]) => {
        const xattrs = Object.entries(seen.xattrs).filter(([key]) => !key.startsWith(hidden(given)))
        return [name, { ...seen, xattrs: Object.fromEntries(xattrs) }]
      }),
  )

/** Holds what `diff` tells against both trees: it must lead from one to the other, and tell nothing else. */
const expectDiff = (base: ReadonlyMap<string, Seen>, root: ReadonlyMap<string, Seen>, found: DiffOutcome): void => {
  expect(found.findings).toEqual([])
  const changes = new Map(
    found.changes.map(change => [(change.change === 'deleted' ? '- ' : '') + change.path, change]),
  )
  expect(changes.size).toBe(found.changes.length)
  const renamed = found.changes.filter(({ change }) => change === 'renamed')
  for (const { from, path: to } of renamed) expect([base.has(to), root.has(from!)], to).toEqual([false, false])
  const placeOf = (name: string): string => {
    let best: DiffEntry | undefined
    for (const change of renamed) {
      const inside = name === change.from || (change.before?.kind === 'directory' && name.startsWith(`${change.from}/`))
      if (inside && change.from!.length > (best?.from?.length ?? 0)) best = change
    }
    return best ? best.path + name.slice(best.from!.length) : name
  }
  const explained = new Set<string>()
  for (const [name, was] of base) {
    const place = placeOf(name)
    if (changes.has(`- ${name}`)) {
      expect(root.has(place) && place === name, name).toBe(false)
      changes.delete(`- ${name}`)
      continue
    }
    const is = root.get(place)
    expect(is, `${name}, now ${place}`).toBeDefined()
    expect(explained.has(place), place).toBe(false)
    explained.add(place)
    const change = changes.get(place)
    changes.delete(place)
    if (was.kind !== is!.kind) {
      expect(change?.change, place).toBe('type')
      continue
    }
    const isDirectory = was.kind === 'directory'
    const aspects = [
      ...(was.content === is!.content ? [] : [was.kind === 'symlink' ? 'target' : 'content']),
      ...(was.device === is!.device ? [] : ['device']),
      ...(was.mode === is!.mode ? [] : ['mode']),
      ...(was.owner === is!.owner ? [] : ['owner']),
      // of a directory names may tell it
      ...(was.mtime === is!.mtime || isDirectory ? [] : ['mtime']),
      ...(was.links === is!.links || isDirectory ? [] : ['links']),
      ...(JSON.stringify(Object.entries(was.xattrs).sort()) === JSON.stringify(Object.entries(is!.xattrs).sort())
        ? []
        : ['xattrs']),
    ]
    const told = (change?.changed ?? []).filter(aspect => aspect !== 'mtime' || !isDirectory)
    expect([...told].sort(), place).toEqual(aspects.sort())
  }
  for (const name of root.keys()) {
    if (explained.has(name)) continue
    expect(changes.get(name)?.change, name).toBe('added')
    changes.delete(name)
  }
  expect([...changes.keys()]).toEqual([])
}

/** Unpacks an archive of changes over a copy of the base. */
const replayed = async (at: string, lower: string, archive: string): Promise<Map<string, Seen>> => {
  const copy = join(at, 'copy')
  await run('cp', ['-a', lower, copy])
  await run('tar', ['-C', copy, '-xpf', archive, '--xattrs', '--xattrs-include=*', '--numeric-owner', './.liveos'])
  for (const name of (await readFile(join(copy, '.liveos/deleted'), 'utf8')).split('\0'))
    if (name !== '') await rm(join(copy, name), { recursive: true, force: true })
  await run('tar', ['-C', copy, '-xpf', archive, '--xattrs', '--xattrs-include=*', '--numeric-owner'])
  await rm(join(copy, '.liveos'), { recursive: true })
  const tree = kernelTree(copy)
  await rm(copy, { recursive: true })
  return tree
}

/** What unpacking an archive can bring: contents, modes, owners. */
const unpacked = (tree: ReadonlyMap<string, Seen>): Record<string, unknown> =>
  Object.fromEntries(
    [...tree]
      .filter(([name, { device }]) => device !== '0' && !name.startsWith('/lost+found') && name !== '/')
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, { kind, mode, owner, content }]) => [name, { kind, mode, owner, content }]),
  )

const sorted = (tree: ReadonlyMap<string, Seen>): Record<string, Seen> =>
  Object.fromEntries([...tree].filter(([name]) => !/^\/lost\+found/.test(name)).sort(([a], [b]) => (a < b ? -1 : 1)))

for (const [n, given] of CASES.entries())
  it(`${given.base}, ${given.options}: the tree that the kernel shows`, async () => {
    const numbers = random()
    const at = await path(`case ${n}`)
    const stick = await makeStick(at, given)
    for (let round = 0; round < 2; round++) {
      const { before, after } = await onKernel(at, stick, given, root => editAtRandom(root, numbers, 80))
      const archive = join(at, `changed ${round}.tar`)
      const seed = `seed ${numbers.seed}, round ${round}`
      const view = await openView({ target: stick }, 'root')
      try {
        expect(view.findings).toEqual([])
        expect(sorted(await ourTree(view.fs)), seed).toEqual(sorted(after))
      } finally {
        await view.close()
      }
      try {
        expectDiff(seenBelow(given, before), after, await finished(runDiff({ target: stick }, { output: archive })))
        expect(unpacked(await replayed(at, join(at, 'low'), archive))).toEqual(unpacked(after))
      } catch (error) {
        throw new Error(seed, { cause: error })
      }
    }
    await rm(at, { recursive: true })
  }, 60_000)

/** What no mount of today leaves, and none refuses: marks set by hand in the upper directory. */
const setByHand = (upper: string): void => {
  const mark = (path: string, name: string, value: string): void =>
    void execFileSync('setfattr', ['-n', `trusted.overlay.${name}`, '-v', value, join(upper, path)])
  const directory = (path: string, marks: Readonly<Record<string, string>> = {}): void => {
    mkdirSync(join(upper, path), { recursive: true })
    for (const [name, value] of Object.entries(marks)) mark(path, name, value)
  }
  const empty = (path: string): void => {
    writeFileSync(join(upper, path), '')
    mark(path, 'whiteout', '')
  }
  directory('to nothing', { redirect: '/no/where' })
  directory('to a file', { redirect: '/etc/passwd' })
  directory('to a deletion', { redirect: '/srv/deleted' })
  directory('both', { redirect: '/usr/lib', opaque: 'y' })
  directory('far', { redirect: '/usr/lib/deep' })
  directory('usr/lib', { opaque: 'y' })
  directory('usr/lib/back', { redirect: '/usr/bin' })
  directory('usr/lib/lost', { redirect: 'bin' })
  execFileSync('mknod', [join(upper, 'usr/bin'), 'c', '0', '0'])
  execFileSync('mknod', [join(upper, 'usr/lib/nothing to delete'), 'c', '0', '0'])
  directory('etc', { opaque: 'x' })
  empty('etc/passwd')
  directory('home/user', { opaque: 'n' })
  writeFileSync(join(upper, 'srv'), 'a file over a directory')
}

it('marks set by hand: what the kernel makes of them', async () => {
  const at = await path('by hand')
  const given: Case = { base: 'flat squashfs', options: 'redirect_dir=on,metacopy=on' }
  const stick = await makeStick(at, given)
  await whileMounted(['-t', 'ext4', '-o', 'loop', stick], join(at, 'mnt'), async () =>
    setByHand(join(at, 'mnt/LiveOS', OVERLAY)),
  )
  const { after } = await onKernel(at, stick, given, () => {})
  const view = await openView({ target: stick }, 'root')
  try {
    expect(sorted(await ourTree(view.fs))).toEqual(sorted(after))
  } finally {
    await view.close()
  }
}, 60_000)

it('the same tree of a mounted stick, and of a filesystem in a file on a FAT', async () => {
  const numbers = random()
  const at = await path('elsewhere')
  const given: Case = { base: 'nested ext4', options: 'redirect_dir=on,metacopy=on' }
  const stick = await makeStick(at, given)
  const { after } = await onKernel(at, stick, given, root => editAtRandom(root, numbers, 60))
  const shown = async (target: string): Promise<Record<string, Seen>> => {
    const view = await openView({ target }, 'root')
    try {
      expect(view.findings).toEqual([])
      return sorted(await ourTree(view.fs))
    } finally {
      await view.close()
    }
  }
  const fat = join(at, 'fat.img')
  await whileMounted(['-t', 'ext4', '-o', 'loop,ro', stick], join(at, 'mnt'), async () => {
    const live = join(at, 'mnt/LiveOS')
    expect(await shown(join(at, 'mnt')), `seed ${numbers.seed}`).toEqual(sorted(after))
    await mkdir(join(at, 'none'))
    const overlay = await makeExt4(join(at, 'overlay.img'), 16, ['-t', 'ext4', '-I', '256'], join(at, 'none'))
    await whileMounted(['-t', 'ext4', '-o', 'loop', overlay], join(at, 'inner'), async () => {
      await run('cp', ['-a', join(live, OVERLAY), join(at, 'inner/overlayfs')])
      await mkdir(join(at, 'inner/ovlwork'))
    })
    await writeFile(fat, '')
    await truncate(fat, 40 << 20)
    await run('mkfs.vfat', ['-F', '32', '-s', '1', '-n', 'LIVE', '-i', '1A2B3C4D', fat])
    await run('mmd', ['-i', fat, '::LiveOS'])
    await run('mcopy', ['-i', fat, join(live, 'squashfs.img'), '::LiveOS'])
    await run('mcopy', ['-i', fat, overlay, '::LiveOS/overlay-LIVE-1A2B-3C4D'])
  })
  expect(await shown(fat), `seed ${numbers.seed}`).toEqual(sorted(after))
}, 60_000)

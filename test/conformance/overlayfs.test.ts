import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { openView } from '../../src/liveos/view.js'
import { makeExt4, run } from '../support/ext4-images.js'
import {
  editAtRandom,
  kernelTree,
  makeLowerTree,
  mountedAt,
  needOverlayMount,
  ourTree,
  type Seen,
} from '../support/overlayfs-mount.js'
import { random } from '../support/random.js'
import { temporary } from '../support/temporary.js'

const { it } = needOverlayMount()
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
    mountedAt(['-o', 'loop,ro', image], to, work)
  let before: Map<string, Seen> = new Map()
  let after: Map<string, Seen> = new Map()
  const overlay = async (): Promise<void> => {
    before = kernelTree(lower)
    const layers = `lowerdir=${lower},upperdir=${live}/${OVERLAY},workdir=${live}/ovlwork,${options}`
    const mount = (work: () => Promise<void>) =>
      mountedAt(['-t', 'overlay', 'overlay', '-o', layers], join(at, 'root'), work)
    await mount(async () => use(join(at, 'root')))
    // mounted anew: nothing of what was edited is remembered
    await mount(async () => {
      after = kernelTree(join(at, 'root'))
    })
  }
  await mountedAt(['-t', 'ext4', '-o', 'loop', stick], join(at, 'mnt'), async () => {
    if (base === 'flat squashfs') await loop(join(live, 'squashfs.img'), lower, overlay)
    else if (base === 'bare ext4') await loop(join(live, 'rootfs.img'), lower, overlay)
    else await loop(join(live, 'squashfs.img'), nested, () => loop(join(nested, 'LiveOS/rootfs.img'), lower, overlay))
  })
  return { before, after }
}

const sorted = (tree: ReadonlyMap<string, Seen>): Record<string, Seen> =>
  Object.fromEntries([...tree].filter(([name]) => !/^\/lost\+found/.test(name)).sort(([a], [b]) => (a < b ? -1 : 1)))

for (const [n, given] of CASES.entries())
  it(`${given.base}, ${given.options}: the tree that the kernel shows`, async () => {
    const numbers = random()
    const at = await path(`case ${n}`)
    const stick = await makeStick(at, given)
    for (let round = 0; round < 2; round++) {
      const { after } = await onKernel(at, stick, given, root => editAtRandom(root, numbers, 80))
      const view = await openView({ target: stick }, 'root')
      try {
        expect(view.findings).toEqual([])
        expect(sorted(await ourTree(view.fs)), `seed ${numbers.seed}, round ${round}`).toEqual(sorted(after))
      } finally {
        await view.close()
      }
    }
    await rm(at, { recursive: true })
  }, 60_000)

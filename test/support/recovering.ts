import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Device } from '../../src/block/device.js'
import { openFile } from '../../src/block/file.js'
import { snapshot } from '../../src/block/snapshot/snapshot.js'
import { readStore, type Store } from '../../src/block/snapshot/store.js'
import { openExt4 } from '../../src/fs/ext4/reader.js'
import { walk } from '../../src/fs/walk.js'
import { findTarget, type TargetInput } from '../../src/liveos/target.js'
import { planRecover, type RecoverOptions, type RecoverPlan } from '../../src/ops/recover.js'
import { type RecoverOutcome, runRecover } from '../../src/ops/recover-run.js'
import { planUndo, runUndo, type UndoOutcome } from '../../src/ops/undo.js'
import { finished, sha256 } from './small-stick.js'
import { tool } from './tools.js'

const run = promisify(execFile)

/** A base and an overlay in a folder of their own. */
export interface Pair {
  readonly path: string
  readonly base: string
  readonly overlay: string
  readonly input: TargetInput
}

/** Lays a base and an overlay out. */
export const layPair = async (path: string, base: Uint8Array, overlay: Uint8Array): Promise<Pair> => {
  await rm(path, { recursive: true, force: true })
  await mkdir(path, { recursive: true })
  const files = { base: join(path, 'rootfs.img'), overlay: join(path, 'overlay') }
  await writeFile(files.base, base)
  await writeFile(files.overlay, overlay)
  return { path, ...files, input: files }
}

export const planned = async ({ input }: Pair, options: RecoverOptions = {}): Promise<RecoverPlan> =>
  planRecover(await findTarget(input), options)

/** Recovers, as the verb does; checked on a copy if nothing else is said, which is quicker for something so small. */
export const recovered = async (pair: Pair, options: RecoverOptions = {}): Promise<RecoverOutcome> => {
  const target = await findTarget(pair.input)
  return finished(runRecover(target, await planRecover(target, { fsckOn: 'copy', ...options })))
}

/** Takes back, as the verb does. */
export const takenBack = async ({ input }: Pair): Promise<UndoOutcome> => {
  const target = await findTarget(input)
  return finished(runUndo(target, await planUndo(target)))
}

/** The view of a pair as the kernel would give it, and its store. */
export const withView = async <T>(
  { base, overlay }: Pair,
  look: (root: Device, store: Store) => Promise<T>,
): Promise<T> => {
  const [origin, cow] = [await openFile(base), await openFile(overlay)]
  try {
    const store = await readStore(cow, { originSize: origin.size })
    return await look(await snapshot(origin, cow, { store }), store)
  } finally {
    await Promise.all([origin.close(), cow.close()])
  }
}

/** SHA-256 of all of the view. */
export const viewHash = (pair: Pair): Promise<string> =>
  withView(pair, async root => sha256(await root.read(0, root.size)))

export const fileHash = async (path: string): Promise<string> => sha256(await readFile(path))

/** Exit code of e2fsck -f -n on the view. */
export const fsckCode = async (pair: Pair): Promise<number> => {
  const image = join(pair.path, 'view.img')
  await withView(pair, async root => writeFile(image, await root.read(0, root.size)))
  try {
    await run(tool('e2fsck')!, ['-f', '-n', image])
    return 0
  } catch (error) {
    return (error as { code: number }).code
  } finally {
    await rm(image)
  }
}

/** SHA-256 of each regular file in the view, by its path without the first slash. */
export const treeOf = (pair: Pair): Promise<Record<string, string>> =>
  withView(pair, async root => {
    const fs = await openExt4(root)
    const tree: Record<string, string> = {}
    for await (const { path, stat } of walk(fs, '/')) {
      if (stat.kind !== 'file') continue
      const file = await fs.open(path)
      tree[path.slice(1)] = sha256(await file.read(0, file.size))
    }
    return tree
  })

/** Names beside the overlay. */
export const namesIn = async ({ path }: Pair): Promise<string[]> => (await readdir(path)).sort()

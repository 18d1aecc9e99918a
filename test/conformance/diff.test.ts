import {
  chmod,
  chown,
  copyFile,
  link,
  lstat,
  lutimes,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  unlink,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { judgedChanges, stackOf } from '../support/changes-oracle.js'
import { makeExt4, makeExt4Tree, run } from '../support/ext4-images.js'
import { mounted, needExt4Mount } from '../support/ext4-mount.js'
import { type Random, random } from '../support/random.js'
import { temporary } from '../support/temporary.js'

const path = temporary()

const SETS: readonly (readonly [name: string, args: readonly string[], chunkSectors: number])[] = [
  ['ext4, 4 KiB', ['-t', 'ext4', '-b', '4096'], 8],
  ['ext4, 1 KiB, chunks of 64 KiB', ['-t', 'ext4', '-b', '1024', '-N', '2000'], 128],
  ['inline data, 1 KiB, chunks of a sector', ['-t', 'ext4', '-b', '1024', '-I', '256', '-O', 'inline_data'], 1],
  ['ext3, inodes of 128 bytes', ['-t', 'ext3', '-b', '1024', '-I', '128'], 8],
  ['bigalloc, no checksums', ['-t', 'ext4', '-b', '4096', '-O', 'bigalloc,^metadata_csum', '-C', '16384'], 8],
]

/** Files and directories of a mounted tree, the directories first. */
const contentsOf = async (at: string): Promise<{ directories: string[]; files: string[] }> => {
  const found = await readdir(at, { recursive: true, withFileTypes: true })
  const paths = found
    .map(entry => ({ entry, path: join(entry.parentPath, entry.name) }))
    // names that are no UTF-8 stay as they are
    .filter(({ path }) => !path.includes('lost+found') && !path.includes('\ufffd'))
  return {
    directories: [at, ...paths.filter(({ entry }) => entry.isDirectory()).map(({ path }) => path)],
    files: paths.filter(({ entry }) => !entry.isDirectory()).map(({ path }) => path),
  }
}

/** One random edit of a mounted tree. What can't be done is left. */
const edit = async (at: string, dice: Random, counter: number): Promise<void> => {
  const { directories, files } = await contentsOf(at)
  const pick = (list: readonly string[]): string => list[dice.below(list.length)]!
  const fresh = join(pick(directories), `new ${counter}`)
  const isFile = async (path: string): Promise<boolean> => (await lstat(path)).isFile()
  const file = pick(files)
  switch (dice.below(20)) {
    case 0:
      return writeFile(fresh, dice.bytes(dice.below(20_000)))
    case 1:
    case 2:
      return unlink(file)
    case 3:
      return mkdir(fresh)
    case 4:
      return rm(pick(directories.slice(1)), { recursive: true })
    case 5:
      return rename(file, fresh)
    case 6:
      return rename(pick(directories.slice(1)), fresh)
    case 7:
      return rename(file, pick(files))
    case 8:
      return link(file, fresh)
    case 9:
      return symlink('x'.repeat(1 + dice.below(100)), fresh)
    case 10:
      return (await isFile(file)) ? chmod(file, dice.below(0o10000)) : undefined
    case 11:
      return chown(pick(directories), dice.below(70_000), dice.below(70_000))
    case 12:
      return lutimes(file, dice.below(1e9), dice.below(1e9))
    case 13:
      return (await isFile(file)) ? truncate(file, dice.below(30_000)) : undefined
    case 14:
    case 15: {
      if (!(await isFile(file))) return
      const handle = await open(file, 'r+')
      await handle.write(dice.bytes(1 + dice.below(3000)), 0, undefined, dice.below(60_000))
      return handle.close()
    }
    case 16: {
      // as editors do: another file under the same name
      if (!(await isFile(file))) return
      const bytes = await readFile(file)
      if (bytes.length > 0 && dice.below(2) > 0) bytes[dice.below(bytes.length)]! ^= 1
      await writeFile(fresh, bytes)
      return rename(fresh, file)
    }
    case 17:
      await run('setfattr', ['-h', '-n', `trusted.n${dice.below(3)}`, '-v', 'v'.repeat(dice.below(300)), file])
      return
    case 18:
      await run('mknod', [fresh, 'c', String(dice.below(9)), '3'])
      return
    default: {
      // a file in the place of a directory, or the other way round
      if (dice.below(2) > 0) {
        const directory = pick(directories.slice(1))
        await rm(directory, { recursive: true })
        return writeFile(directory, 'was a directory')
      }
      await unlink(file)
      await mkdir(file)
      return rename(pick(files), join(file, 'moved'))
    }
  }
}

const kernel = needExt4Mount('setfattr', 'mknod', 'getfattr')
kernel.describe('changes that the kernel made, held against both whole trees', () => {
  for (const [name, args, chunkSectors] of SETS)
    kernel.it(`${name}: random edits`, async () => {
      const dice = random()
      const tree = await path(`${name} tree`)
      await mkdir(tree)
      await makeExt4Tree(tree)
      const file = await makeExt4(await path(`${name} image`), 24, args, tree)
      // What the kernel changes by mounting is no difference between the two.
      await mounted(file, 'rw', async at => {
        if (name.startsWith('ext3')) return
        for (const path of ['size 1', 'deep/big', 'many'])
          await run('setfattr', ['-n', 'user.kept', '-v', 'kept', join(at, path)])
      })
      let base: Uint8Array = await readFile(file)
      for (let round = 0; round < 4; round++) {
        await mounted(file, 'rw', async at => {
          for (let n = 0; n < [3, 40, 8, 120][round]!; n++)
            await edit(at, dice, round * 1000 + n).catch((error: NodeJS.ErrnoException) => {
              if (error.code === undefined || typeof error.code !== 'string') throw error
            })
          if (round === 1) {
            // a stick that was pulled out: the journal is yet to be replayed
            await run('sync', ['-f', at])
            await copyFile(file, `${file}.cut`)
          }
        })
        if (round === 1) {
          const cut = await readFile(`${file}.cut`)
          await judgedChanges(await stackOf(base, cut, chunkSectors, 50)).catch(error => {
            throw new Error(`seed ${dice.seed}, cut`, { cause: error })
          })
        }
        const root = await readFile(file)
        const stack = await stackOf(base, root, chunkSectors, round * 30)
        const found = await judgedChanges(stack).catch(error => {
          throw new Error(`seed ${dice.seed}, round ${round}`, { cause: error })
        })
        expect(found.changes.length).toBeGreaterThan(0)
        if (round % 2 === 1) base = root
      }
    })
})

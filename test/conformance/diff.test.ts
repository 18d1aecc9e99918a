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
import { memory } from '../../src/block/memory.js'
import { LiveError } from '../../src/error.js'
import { openReplayed } from '../../src/fs/ext4/journal/replayed.js'
import { readChanges } from '../../src/liveos/changes/read.js'
import { runDiff } from '../../src/ops/diff.js'
import { changedChunks, judgedChanges, lineOf, stackOf } from '../support/changes-oracle.js'
import { debugfs, makeExt4, makeExt4Tree, run, treeOf, withExt4 } from '../support/ext4-images.js'
import { mounted, needExt4Mount } from '../support/ext4-mount.js'
import { type Random, random } from '../support/random.js'
import { finished } from '../support/small-stick.js'
import { storeOf } from '../support/store-writer.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

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
  // now and then a directory is removed that all of them were in
  if (files.length === 0) return writeFile(fresh, dice.bytes(5000))
  const file = pick(files)
  const kind = dice.below(28)
  // Parts of files are rewritten more often than anything else.
  switch (kind < 20 ? kind : kind < 24 ? 14 : 17) {
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
      const { size } = await handle.stat()
      const bytes = dice.bytes(1 + dice.below(3000))
      const inside = size > bytes.length && dice.below(4) > 0
      await handle.write(bytes, 0, undefined, dice.below(inside ? size - bytes.length : 60_000))
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
    case 17: {
      // A long value has a block of its own, which is rewritten where it is.
      const long = dice.below(2) > 0
      const [name, most] = long ? ['long', 600] : [`n${dice.below(3)}`, 60]
      const value = String.fromCharCode(97 + dice.below(26)).repeat(long ? most : dice.below(most))
      await run('setfattr', ['-h', '-n', `trusted.${name}`, '-v', value, long ? pick(files.slice(0, 5)) : file])
      return
    }
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
        for (const file of (await contentsOf(at)).files.slice(0, 5))
          await run('setfattr', ['-h', '-n', 'trusted.long', '-v', '-'.repeat(600), file])
      })
      let base: Uint8Array = await readFile(file)
      for (let round = 0; round < 3; round++) {
        await mounted(file, 'rw', async at => {
          for (let n = 0; n < [3, 40, 120][round]!; n++)
            await edit(at, dice, round * 1000 + n).catch((error: NodeJS.ErrnoException) => {
              if (error.code === undefined || typeof error.code !== 'string') throw error
            })
          if (round === 1) {
            // a stick that was pulled out: what was done last stands in the journal alone
            await writeFile(join(at, 'last'), 'last')
            await run('sync', [join(at, 'last')])
            await copyFile(file, `${file}.cut`)
          }
        })
        if (round === 1) {
          const cut = await readFile(`${file}.cut`)
          expect((await openReplayed(memory(cut))).replayed.blocks).toBeGreaterThan(0)
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

  // Directories that lead to no change are not read: which ones do is told by link counts, groups and "..".
  kernel.it('a few edits among folders and hard links in many groups', async () => {
    const dice = random()
    const file = await makeExt4(await path('groups'), 24, ['-t', 'ext4', '-b', '1024', '-g', '512', '-N', '6000'])
    await mounted(file, 'rw', async at => {
      const folders = ['']
      for (let n = 0; n < 120; n++) {
        const folder = join(folders[dice.below(folders.length)]!, `folder ${n}`)
        await mkdir(join(at, folder))
        folders.push(folder)
        for (let inner = 0; inner < 4; inner++) await writeFile(join(at, folder, `file ${inner}`), dice.bytes(3000))
      }
      const { files } = await contentsOf(at)
      for (let n = 0; n < 60; n++)
        await link(files[dice.below(files.length)]!, join(at, folders[dice.below(folders.length)]!, `link ${n}`))
    })
    const base = await readFile(file)
    for (let round = 0; round < 12; round++) {
      await mounted(file, 'rw', async at => {
        for (let n = 0; n < 3; n++)
          await edit(at, dice, round * 1000 + n).catch((error: NodeJS.ErrnoException) => {
            if (error.code === undefined || typeof error.code !== 'string') throw error
          })
      })
      await judgedChanges(await stackOf(base, await readFile(file))).catch(error => {
        throw new Error(`seed ${dice.seed}, round ${round}`, { cause: error })
      })
    }
  })
})

const tools = needTools('mke2fs', 'debugfs')
tools.it('a directory with a wrong ".." is found by who names it', async () => {
  const tree = await path('dots')
  for (let n = 0; n < 40; n++) await mkdir(join(tree, `folder ${n}`, 'inner'), { recursive: true })
  const sets = ['-t', 'ext4', '-b', '1024', '-g', '512', '-N', '2000', '-O', '^metadata_csum']
  const before = await makeExt4(await path('dots before'), 8, sets, tree)
  const after = await path('dots after')
  await copyFile(before, after)
  await writeFile(join(tree, 'new'), 'new')
  await debugfs(after, [`write "${join(tree, 'new')}" "folder 30/inner/new"`], true)
  const [base, root] = [await readFile(before), await readFile(after)]
  const { start } = await withExt4(before, async fs => {
    const runs = await fs.ownedRuns(await fs.lookup('/folder 30/inner'))
    return runs[0]!
  })
  const DOT_DOT_AT = 12
  for (const image of [base, root]) image.writeUInt32LE(11, start + DOT_DOT_AT)
  const { changes } = await readChanges(await stackOf(base, root))
  expect(changes.map(lineOf).join('\n')).toContain('/folder 30/inner/new')
})

tools.it('where the kernel met errors link counts are not believed', async () => {
  const tree = await path('links')
  for (let n = 0; n < 80; n++) await mkdir(join(tree, `folder ${n}`), { recursive: true })
  await writeFile(join(tree, 'folder 3', 'file'), Buffer.alloc(3000, 'x'))
  await link(join(tree, 'folder 3', 'file'), join(tree, 'folder 70', 'other name'))
  const sets = ['-t', 'ext4', '-b', '1024', '-g', '512', '-N', '2000', '-O', '^metadata_csum']
  const before = await makeExt4(await path('links before'), 8, sets, tree)
  await debugfs(before, ['set_inode_field "folder 3/file" links_count 1', 'set_super_value state 3'], true)
  const [base, root] = [await readFile(before), await readFile(before)]
  const [first] = await withExt4(before, fs => fs.extents('/folder 3/file'))
  root.fill('y', first!.start, first!.start + 10)
  const { changes } = await readChanges(await stackOf(base, root))
  expect(changes.map(({ path }) => path)).toEqual(['/folder 3/file', '/folder 70/other name'])
})

tools.it('what can not be read of a file that had a hole in the base is told with its path', async () => {
  const tree = await path('hole')
  await mkdir(join(tree, 'folder'), { recursive: true })
  await writeFile(join(tree, 'folder', 'full'), Buffer.alloc(40_960, 'x'))
  const after = await makeExt4(await path('hole after'), 8, ['-t', 'ext4', '-b', '4096'], tree)
  const before = await path('hole before')
  await copyFile(after, before)
  await debugfs(before, ['punch "folder/full" 2 5'], true)
  const [base, root] = [await readFile(before), await readFile(after)]
  const [run] = await withExt4(after, fs => fs.extents('/folder/full'))
  const [from, to] = [run!.start + 3 * 4096, run!.start + 4 * 4096]
  const stack = await stackOf(base, root)
  const seen = stack.root
  const read = async (offset: number, length: number): Promise<Uint8Array> => {
    if (offset < to && offset + length > from) throw new LiveError('IO', 'a bad place', {})
    return seen.read(offset, length)
  }
  const failing = { name: seen.name, size: seen.size, read, close: async () => {} }
  const { findings } = await readChanges({ ...stack, root: failing } as typeof stack)
  expect(findings).toMatchObject([{ code: 'DIFF_UNREADABLE', where: '/folder/full' }])
})

/** What `find` and `sha256sum` tell of a mounted tree, by path. */
const foundIn = async (at: string): Promise<Map<string, Record<string, string>>> => {
  const found = new Map<string, Record<string, string>>()
  const told = await run('find', [at, '-mindepth', '1', '-printf', '%P|%y|%m|%U:%G|%s|%T@|%n|%l\\0'])
  for (const line of told.split('\0').filter(line => line !== '' && !line.startsWith('lost+found'))) {
    const [name, kind, mode, owner, size, mtime, links, target] = line.split('|') as [string, ...string[]]
    const content = kind === 'f' ? (await run('sha256sum', [join(at, name)])).slice(0, 64) : ''
    const own = kind === 'd' ? {} : { size: size!, mtime: mtime!, links: links! }
    found.set(`/${name}`, { kind: kind!, mode: mode!, owner: owner!, target: target!, content, ...own })
  }
  return found
}

const judged = needExt4Mount('find', 'sha256sum', 'tar', 'setfattr', 'getfattr', 'xargs')
judged.describe('changes of a stick, judged by other programs', () => {
  const changed = async (name: string) => {
    const folder = await path(name)
    await mkdir(join(folder, 'tree/etc/conf.d'), { recursive: true })
    const tree = join(folder, 'tree')
    for (const name of ['hosts', 'passwd', 'group', 'motd', 'fstab', 'conf.d/a', 'conf.d/b'])
      await writeFile(join(tree, 'etc', name), `${name}\n`.repeat(900))
    await mkdir(join(tree, 'old/deep'), { recursive: true })
    for (let n = 0; n < 30; n++) await writeFile(join(tree, 'old/deep', `${n}`), `${n}`)
    await symlink('etc', join(tree, 'link'))
    await link(join(tree, 'etc/motd'), join(tree, 'etc/motd2'))
    await mkdir(join(tree, 'gone/below'), { recursive: true })
    await writeFile(join(tree, 'gone/below/file'), 'x')
    const base = await makeExt4(join(folder, 'rootfs.img'), 16, ['-t', 'ext4', '-b', '4096'], tree)
    const root = join(folder, 'root.img')
    await copyFile(base, root)
    await mounted(root, 'rw', async at => {
      const etc = join(at, 'etc')
      await writeFile(join(etc, 'passwd'), 'new content')
      await chmod(join(etc, 'group'), 0o600)
      await chown(join(etc, 'fstab'), 1000, 100)
      await run('setfattr', ['-n', 'user.note', '-v', 'mine', join(etc, 'hosts')])
      await rename(join(etc, 'conf.d/a'), join(etc, 'conf.d/c'))
      await rm(join(at, 'gone'), { recursive: true })
      await rename(join(at, 'old'), join(at, 'renamed'))
      await unlink(join(at, 'link'))
      await symlink('renamed', join(at, 'link'))
      await link(join(etc, 'motd'), join(etc, 'motd3'))
      await unlink(join(etc, 'conf.d/b'))
      await mkdir(join(etc, 'conf.d/b'))
      await writeFile(join(etc, 'conf.d/b/inside'), 'was a file')
      await writeFile(join(at, 'added \n name'), 'a'.repeat(10_000))
      const sparse = await open(join(at, 'sparse'), 'w')
      await sparse.write('end', 5_000_000)
      await sparse.close()
    })
    const overlay = join(folder, 'overlay')
    await writeFile(overlay, storeOf(changedChunks(await readFile(base), await readFile(root), 4096), 8))
    return { folder, base, root, overlay }
  }

  judged.it('paths and what differs are what find and sha256sum tell', async () => {
    const { base, root, overlay } = await changed('find')
    const done = await finished(runDiff({ base, overlay }))
    expect(done.findings).toEqual([])
    const was = await mounted(base, 'ro', foundIn)
    const is = await mounted(root, 'ro', foundIn)
    const lines: string[] = []
    for (const [path, before] of was) {
      const after = is.get(path)
      if (!after) lines.push(`D ${path}`)
      else if (JSON.stringify(before) !== JSON.stringify(after)) lines.push(`M ${path}`)
    }
    for (const path of is.keys()) if (!was.has(path)) lines.push(`A ${path}`)
    const ours = done.changes.flatMap(({ path, from, change, changed }) => {
      if (change === 'added') return [`A ${path}`]
      if (change === 'deleted') return [`D ${path}`]
      if (change === 'renamed') return [`D ${from}`, `A ${path}`]
      // find shows no attributes
      return changed.length === 1 && changed[0] === 'xattrs' ? [] : [`M ${path}`]
    })
    const moved = /^(D \/old|A \/renamed)\//
    expect(ours.sort()).toEqual(lines.filter(line => !moved.test(line)).sort())
    expect(done.changes.map(lineOf)).toEqual([
      'added /added \n name',
      'type /etc/conf.d/b',
      'added /etc/conf.d/b/inside',
      'renamed /etc/conf.d/c from /etc/conf.d/a',
      'attributes /etc/fstab owner',
      'attributes /etc/group mode',
      'attributes /etc/hosts xattrs',
      'attributes /etc/motd links',
      'attributes /etc/motd2 links',
      'added /etc/motd3',
      'modified /etc/passwd content mtime',
      'deleted /gone',
      'deleted /gone/below',
      'deleted /gone/below/file',
      'modified /link target mtime',
      'renamed /renamed from /old',
      'added /sparse',
    ])
    const byPath = new Map(done.changes.map(change => [change.path, change]))
    expect(byPath.get('/etc/motd3')).toMatchObject({ linkTo: '/etc/motd', changedBytes: 0 })
    expect(byPath.get('/added \n name')).toMatchObject({ changedBytes: 10_000 })
    expect(byPath.get('/sparse')).toMatchObject({ changedBytes: 5_000_003 % 4096 })
    expect(byPath.get('/link')).toMatchObject({ target: { before: 'etc', after: 'renamed' } })
    expect(byPath.get('/etc/hosts')!.xattrs).toEqual({ added: ['user.note'], removed: [], changed: [] })
    expect(done.totals).toMatchObject({
      count: 17,
      added: 4,
      deleted: 3,
      modified: 2,
      type: 1,
      renamed: 2,
      attributes: 5,
    })

    const below = await finished(runDiff({ base, overlay }, { path: '/link/../etc/conf.d' }))
    expect(below.changes.map(lineOf)).toEqual(done.changes.map(lineOf).filter(line => line.includes('/etc/conf.d/')))
    // Where it was renamed from counts as well.
    const old = await finished(runDiff({ base, overlay }, { path: '/old' }))
    expect(old.changes.map(lineOf)).toEqual(['renamed /renamed from /old'])
    await expect(finished(runDiff({ base, overlay }, { path: '/nowhere' }))).rejects.toMatchObject({
      code: 'NOT_FOUND',
    })
  })

  judged.it('an archive of the changes makes the root out of the base', async () => {
    const { folder, base, root, overlay } = await changed('archive')
    const output = join(folder, 'changed.tar')
    const done = await finished(runDiff({ base, overlay }, { output }))
    expect(done.findings).toEqual([])
    expect(done.archive).toMatchObject({ path: output, deletions: './.liveos/deleted', deleted: 4 })
    const copy = join(folder, 'copy.img')
    await copyFile(base, copy)
    await mounted(copy, 'rw', async at => {
      const list = join(folder, 'deleted')
      await writeFile(list, await run('tar', ['-xOf', output, './.liveos/deleted']))
      expect((await readFile(list, 'utf8')).split('\0').sort()).toEqual([
        '',
        'etc/conf.d/a',
        'etc/conf.d/b',
        'gone',
        'old',
      ])
      await run('sh', ['-c', `cd '${at}' && xargs -0 rm -rf -- <'${list}'`])
      await run('tar', ['--xattrs', '--xattrs-include=*', '-C', at, '-xpf', output])
      await rm(join(at, '.liveos'), { recursive: true })
    })
    const was = await mounted(copy, 'ro', treeOf)
    const is = await mounted(root, 'ro', treeOf)
    expect(was).toEqual(is)
    const told = await mounted(copy, 'ro', at =>
      run('getfattr', ['--only-values', '-n', 'user.note', join(at, 'etc/hosts')]),
    )
    expect(told).toBe('mine')
    await expect(finished(runDiff({ base, overlay }, { output }))).rejects.toMatchObject({ code: 'REFUSED' })
  })
})

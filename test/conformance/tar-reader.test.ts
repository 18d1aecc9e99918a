import { execFile } from 'node:child_process'
import { lstat, mkdir, readFile, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, expect } from 'vitest'
import { type FileDevice, openFile } from '../../src/block/file.js'
import { memory } from '../../src/block/memory.js'
import { encodeTarMember, type TarMember, tarEnd, tarPadding } from '../../src/bytes/tar.js'
import { copyTree } from '../../src/ops/copy-tree.js'
import { openTarTree } from '../../src/ops/restore-tree.js'
import { fileSystemContract, type KnownPath } from '../contract/filesystem.js'
import { failure } from '../support/outcome.js'
import { finished } from '../support/small-stick.js'
import { listDirectory, makeSmallTree, makeTree } from '../support/squashfs-tree.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const execute = promisify(execFile)
const run = async (program: string, ...words: string[]): Promise<string> =>
  (await execute(program, words, { maxBuffer: 1 << 26 })).stdout
const path = temporary()
const tools = needTools('tar', 'bsdtar', 'setfattr', 'getfattr')

/** Unpacks an archive by our reader. */
const unpack = async (archive: string, to: string): Promise<readonly string[]> => {
  const file = await openFile(archive)
  try {
    const fs = await openTarTree(file)
    const options = { sameOwner: true, xattrs: true, setUid: true }
    const { findings } = await finished(copyTree({ from: fs, paths: ['/'], to: { directory: to } }, options))
    return findings.map(({ code, where }) => `${code} ${where}`)
  } finally {
    await file.close()
  }
}

const XATTRS = ['--xattrs', '--xattrs-include=*']

tools.describe('archives of other programs', () => {
  let tree: string
  let small: string
  beforeAll(async () => {
    tree = await path('tree')
    small = await path('small')
    await makeTree(tree)
    await makeSmallTree(small)
    // many holes, for maps that need blocks of their own
    await writeFile(join(tree, 'holes'), '')
    await truncate(join(tree, 'holes'), 8 << 20)
    for (let n = 0; n < 60; n++)
      await run(
        'dd',
        'if=/dev/urandom',
        `of=${join(tree, 'holes')}`,
        'bs=4096',
        'count=1',
        `seek=${n * 31}`,
        'conv=notrunc',
        'status=none',
      )
  })

  for (const [name, program, words] of [
    ['GNU tar, its own format', 'tar', ['--format=gnu']],
    ['GNU tar, its own format, sparse', 'tar', ['--format=gnu', '-S']],
    ['GNU tar, the old one, sparse', 'tar', ['--format=oldgnu', '-S']],
    ['GNU tar, pax, with attributes', 'tar', ['--format=posix', ...XATTRS]],
    ['GNU tar, pax, sparse', 'tar', ['--format=posix', '-S', ...XATTRS]],
    ['bsdtar, pax', 'bsdtar', ['--format=pax', '--xattrs']],
    ['bsdtar, restricted pax', 'bsdtar', ['--format=paxr']],
    ['bsdtar, GNU', 'bsdtar', ['--format=gnutar']],
    ['GNU tar, ustar', 'tar', ['--format=ustar']],
    ['GNU tar, v7', 'tar', ['--format=v7']],
    ['bsdtar, ustar', 'bsdtar', ['--format=ustar']],
  ] as const)
    tools.it(`${name}: we unpack what GNU tar unpacks`, async () => {
      const plain = words.some(word => /ustar|v7/.test(word))
      const archive = await path(`${name}.tar`)
      await run(program, '-c', ...words, '-f', archive, '-C', plain ? small : tree, '.')
      const [theirs, ours] = [await path(`${name} theirs`), await path(`${name} ours`)]
      await mkdir(theirs)
      await run('tar', '-x', '-p', ...XATTRS, '--numeric-owner', '-f', archive, '-C', theirs)
      expect(await unpack(archive, ours)).toEqual([])
      const [ourList, theirList] = [await listDirectory(ours), await listDirectory(theirs)]
      // bsdtar goes through a tree in another order, after which GNU tar leaves directories with the time of unpacking
      const told = (list: ReadonlyMap<string, string>): string[] =>
        [...list].map(([file, line]) =>
          `${file} ${program === 'bsdtar' ? line.replace(/^(directory \S+ \S+) \d+/, '$1') : line}`.replace(
            /(.)\1{20,}/g,
            '$1…',
          ),
        )
      expect(told(ourList)).toEqual(told(theirList))
      if (words.some(word => word === '-S')) {
        const { size, blocks } = await stat(join(ours, 'holes'))
        expect(blocks * 512).toBeLessThan(size / 4)
      }
    })

  fileSystemContract('a tar archive', async () => {
    const made = await path('contract')
    await makeSmallTree(made)
    const archive = await path('contract.tar')
    await run('tar', '-c', '--format=posix', '-f', archive, '-C', made, '.')
    const file: FileDevice = await openFile(archive)
    const mode = async (name: string) => (await lstat(join(made, name))).mode & 0o7777
    const content = async (name: string) => new Uint8Array(await readFile(join(made, name)))
    const known: KnownPath[] = [
      { path: '/', kind: 'directory', mode: await mode('/'), names: ['LiveOS', 'd', 'noise', 'small', 'sparse'] },
      { path: '/d', kind: 'directory', mode: await mode('d'), names: ['empty', 'hard link', 'soft'] },
      { path: '/d/hard link', kind: 'file', mode: await mode('small'), content: await content('small') },
      {
        path: '/LiveOS/rootfs.img',
        kind: 'file',
        mode: await mode('LiveOS/rootfs.img'),
        content: await content('LiveOS/rootfs.img'),
      },
      { path: '/d/soft', kind: 'symlink', mode: 0o777, target: '../small' },
    ]
    return { fs: await openTarTree(file), known, close: () => file.close() }
  })
})

const bytes = (text: string): Uint8Array => Buffer.from(text)
const member = (name: string, more: Partial<TarMember> = {}): TarMember => ({
  path: bytes(name),
  kind: 'file',
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtime: 0,
  mtimeNanoseconds: 0,
  size: 0,
  ...more,
})
const archive = (...members: readonly TarMember[]): Uint8Array =>
  Buffer.concat([
    ...members.flatMap(each => [
      encodeTarMember(each),
      Buffer.alloc(each.size, 'x'),
      new Uint8Array(tarPadding(each.size)),
    ]),
    tarEnd(),
  ])

tools.describe('archives that want to lead elsewhere', () => {
  tools.it('a member below a link is refused, whether it came before or after', async () => {
    const link = member('way', { kind: 'symlink', linkPath: bytes('/tmp') })
    await failure(openTarTree(memory(archive(link, member('way/out', { size: 3 })))), 'CORRUPT')
    await failure(openTarTree(memory(archive(member('way/out', { size: 3 }), link))), 'CORRUPT')
    await failure(openTarTree(memory(archive(member('way'), member('way/out')))), 'CORRUPT')
  })

  tools.it('a hard link to a directory, a later member, itself or nothing is refused', async () => {
    const to = (name: string) => member('new', { kind: 'hardlink', linkPath: bytes(name) })
    for (const name of ['d', 'later', 'new', 'none'])
      await failure(
        openTarTree(memory(archive(member('d', { kind: 'directory' }), to(name), member('later')))),
        'CORRUPT',
      )
  })

  tools.it('unpacked over links that are there, nothing outside is touched', async () => {
    const [outside, inside] = [await path('outside'), await path('inside')]
    await mkdir(outside)
    await mkdir(inside)
    await writeFile(join(outside, 'file'), 'mine')
    await symlink(outside, join(inside, 'way'))
    await symlink(join(outside, 'file'), join(inside, 'link'))
    const fs = await openTarTree(memory(archive(member('way/file', { size: 3 }), member('link', { size: 4 }))))
    await finished(copyTree({ from: fs, paths: ['/'], to: { directory: inside } }, { overwrite: true }))
    expect(await readFile(join(outside, 'file'), 'utf8')).toBe('mine')
  })

  tools.it('of a name that comes twice the last one counts', async () => {
    const fs = await openTarTree(
      memory(
        archive(
          member('a', { size: 1 }),
          member('b', { kind: 'hardlink', linkPath: bytes('a') }),
          member('a', { size: 2 }),
        ),
      ),
    )
    expect((await fs.stat('/a')).size).toBe(2)
    expect(await fs.stat('/b')).toMatchObject({ size: 1, linkCount: 1 })
  })
})

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { isLiveError } from '../../src/error.js'
import type { FileKind, FileSystem } from '../../src/fs/filesystem.js'
import { failure, sameBytes } from '../support/outcome.js'

/** What is known of a path by another judge. */
export interface KnownPath {
  readonly path: string
  readonly kind: FileKind
  readonly mode: number
  /** of a regular file */
  readonly content?: Uint8Array
  /** of a symlink */
  readonly target?: string
  /** of a directory: all names in it */
  readonly names?: readonly string[]
}

/** A filesystem to judge, and paths in it, `/` among them: at least a file, a directory and a symlink. */
export interface FileSystemSubject {
  readonly fs: FileSystem
  readonly known: readonly KnownPath[]
  close(): Promise<void>
}

/** The promises of FileSystem, for any implementation. */
export const fileSystemContract = (name: string, make: () => Promise<FileSystemSubject>): void => {
  describe(`${name} keeps the contract of FileSystem`, () => {
    let subject: FileSystemSubject
    beforeAll(async () => {
      subject = await make()
    })
    afterAll(() => subject.close())
    const of = (kind: FileKind): readonly KnownPath[] => subject.known.filter(known => known.kind === kind)

    test('the subject has what there is to judge', () => {
      for (const kind of ['file', 'directory', 'symlink'] as const) expect(of(kind).length, kind).toBeGreaterThan(0)
      expect(subject.fs.name).not.toBe('')
      expect(subject.fs.type).not.toBe('')
    })

    test('stat tells kind, mode and size of each', async () => {
      for (const { path, kind, mode, content, target } of subject.known) {
        const stat = await subject.fs.stat(path)
        expect({ path, kind: stat.kind, mode: stat.mode }).toEqual({ path, kind, mode })
        if (content) expect(stat.size).toBe(content.length)
        if (target !== undefined) expect(stat.size).toBe(Buffer.byteLength(target))
        expect(stat.linkCount).toBeGreaterThan(0)
      }
    })

    test('list gives each name once, without . and .., with the kind and inode that stat tells', async () => {
      for (const { path, names } of of('directory')) {
        const entries = await subject.fs.list(path)
        expect(entries.map(entry => entry.name).sort()).toEqual([...(names ?? [])].sort())
        for (const { name, kind, inode } of entries.slice(0, 20)) {
          const stat = await subject.fs.stat(`${path}/${name}`)
          expect([stat.kind, stat.inode]).toEqual([kind, inode])
        }
      }
    })

    test('stats tells what stat does of each name, its error too, and openAt opens what it placed', async () => {
      const { fs } = subject
      if (!fs.stats) return
      for (const { path, names } of of('directory')) {
        const wanted = [...(names ?? []).slice(0, 20), 'no such name']
        const found = await fs.stats(path, wanted)
        expect(found.length).toBe(wanted.length)
        for (const [n, name] of wanted.entries()) {
          const one = found[n]!
          if (isLiveError(one)) {
            await failure(fs.stat(`${path}/${name}`), one.code)
            continue
          }
          const { place, ...stat } = one
          expect(stat).toEqual(await fs.stat(`${path}/${name}`))
          if (stat.kind !== 'file' || place === undefined || !fs.openAt) continue
          const [here, there] = [await fs.openAt(place, `${path}/${name}`), await fs.open(`${path}/${name}`)]
          expect([here.name, here.size]).toEqual([there.name, there.size])
          const length = Math.min(here.size, 65_536)
          sameBytes(await here.read(0, length), await there.read(0, length))
        }
        expect(found.at(-1)).toMatchObject({ code: 'NOT_FOUND' })
      }
      await failure(fs.stats('/no such name', ['a']), 'NOT_FOUND')
      await failure(fs.stats(of('file')[0]!.path, ['a']), 'NOT_FOUND')
    })

    test('open gives the content, readLink the target', async () => {
      for (const { path, content } of of('file')) {
        const device = await subject.fs.open(path)
        sameBytes(await device.read(0, device.size), content!)
        await device.close()
      }
      for (const { path, target } of of('symlink')) expect(await subject.fs.readLink(path)).toBe(target)
    })

    test('slashes and dots too many change nothing', async () => {
      const [{ path }] = of('file') as [KnownPath]
      const { inode } = await subject.fs.stat(path)
      for (const other of [path.slice(1), path.replaceAll('/', '//'), path.replaceAll('/', '/./')])
        expect((await subject.fs.stat(other)).inode).toBe(inode)
    })

    test('what is not there, or is of another kind, is NOT_FOUND', async () => {
      const { fs } = subject
      const [file] = of('file') as [KnownPath]
      const [link] = of('symlink') as [KnownPath]
      await failure(fs.stat('/no such name'), 'NOT_FOUND')
      await failure(fs.stat(`${file.path}/below`), 'NOT_FOUND')
      await failure(fs.stat('/../etc'), 'NOT_FOUND')
      // A symlink on the way is not followed.
      await failure(fs.stat(`${link.path}/below`), 'NOT_FOUND')
      await failure(fs.list(file.path), 'NOT_FOUND')
      for (const path of ['/', link.path, '/no such name']) await failure(fs.open(path), 'NOT_FOUND')
      for (const path of ['/', file.path, '/no such name']) await failure(fs.readLink(path), 'NOT_FOUND')
    })
  })
}

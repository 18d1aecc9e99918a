import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { traitsOf } from '../../src/host/folder.js'
import { copyToDirectory } from '../../src/ops/copy-directory.js'
import { copyFindings } from '../../src/ops/copy-findings.js'
import { copySource } from '../../src/ops/copy-source.js'
import { directory, file, mockFileSystem } from '../support/mock-filesystem.js'
import { needMount, whileMounted } from '../support/mounting.js'
import { temporary } from '../support/temporary.js'
import { type Gate, needTools, tool } from '../support/tools.js'

const path = temporary()
const FUSE = 0x65735546

const exfat = (image: string): void => {
  writeFileSync(image, '')
  truncateSync(image, 16 << 20)
  execFileSync(tool('mkfs.exfat')!, [image], { stdio: 'pipe' })
}
/** exFAT by FUSE: its type tells nothing of it, and it takes names for one that differ in their case. */
const needExfat = (): Gate => {
  const tools = needTools('mkfs.exfat', 'mount.exfat-fuse', 'mount', 'umount')
  if (tools.reason !== undefined) return tools
  return needMount('an exFAT by FUSE', scratch => {
    const image = join(scratch, 'img')
    exfat(image)
    return ['-t', 'exfat-fuse', '-o', 'loop,nonempty', image, scratch]
  })
}

needExfat().describe('a copy to a filesystem that takes two names for one', () => {
  test.for([0, Number.POSITIVE_INFINITY])(
    'replaces nothing that it made, in new directories too (a thread after %s files)',
    async patience => {
      const image = await path('exfat.img')
      exfat(image)
      await whileMounted(['-t', 'exfat-fuse', '-o', 'loop', image], `${image}.mounted`, async at => {
        const names = ['One', 'oNE', 'two', 'TWO', 'three', '\u00c9t\u00e9', '\u00e9T\u00c9']
        const files = () => directory(names.map(name => [name, file(name)]))
        const to = join(at, 'new')
        await mkdir(join(at, 'there'))
        const findings = copyFindings()
        const counts = await copyToDirectory({
          source: copySource(
            mockFileSystem(
              directory([
                ['a', files()],
                ['A', directory([['ONE', file('else')]])],
                ['b', files()],
              ]),
            ),
            [
              { path: '/', as: 'new' },
              { path: '/a', as: 'there' },
            ],
            'medium',
            finding => findings.add(finding),
            undefined,
          ),
          to: at,
          keeping: { owners: false, setUid: false, devices: false, xattrs: false, modes: true },
          overwrite: false,
          keepPartial: false,
          traits: traitsOf(FUSE),
          findings,
          signal: undefined,
          writing: { patience },
          onBytes() {},
        })
        for (const folder of [join(to, 'a'), join(to, 'b'), join(at, 'there')]) {
          const made = readdirSync(folder)
          expect(made.sort()).toEqual(['One', 'three', 'two', '\u00c9t\u00e9'].sort())
          for (const name of made) expect(readFileSync(join(folder, name), 'utf8')).toBe(name)
        }
        expect(counts.files).toBe(12)
        const collided = findings
          .all()
          .filter(({ severity }) => severity === 'error')
          .map(({ code, where }) => `${code} ${where}`)
        const each = (code: string, folder: string): string[] =>
          ['oNE', 'TWO', '\u00e9T\u00c9'].map(name => `${code} ${folder}/${name}`)
        // numbers of inodes change here, so that a directory that was made is taken for one that was there
        expect(collided.toSorted()).toEqual(
          [
            ...each('NAMES_COLLIDE', '/a'),
            ...each('NAMES_COLLIDE', '/b'),
            ...each('NOT_COPIED', '/a'),
            'NOT_COPIED /A/ONE',
          ].toSorted(),
        )
      })
    },
  )
})

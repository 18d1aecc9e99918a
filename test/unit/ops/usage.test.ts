import { describe, expect, it } from 'vitest'
import { usageWords } from '../../../src/cli/usage.js'
import { paint } from '../../../src/cli/words.js'
import { isLiveError } from '../../../src/error.js'
import type { OwnerUsage } from '../../../src/liveos/usage/usage.js'
import { runUsage, type Usage } from '../../../src/ops/usage.js'
import { adviseFolders } from '../../../src/ops/usage-advice.js'
import { sumDirectories } from '../../../src/ops/usage-directories.js'
import { sumPackages } from '../../../src/ops/usage-packages.js'
import { parseRpmHeader } from '../../../src/ops/usage-rpm.js'
import { breaches, readSchema } from '../../support/json-schema.js'
import { directory, file, mockFileSystem, symlink } from '../../support/mock-filesystem.js'
import { CHUNK, finished, smallStick } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
const MIB = 1 << 20
const owner = (name: string, bytes: number, more: Partial<OwnerUsage> = {}): OwnerUsage => ({
  inode: 100,
  kind: 'file',
  path: name,
  bytes,
  identicalBytes: 0,
  ...more,
})

const schema = readSchema('usage.json')

/** Words without colours, as a pipe gets them. */
const plain = paint({})

describe('usage of a stick whose root is no ext4', () => {
  it('counts chunks, says why no more, and keeps to the schema', async () => {
    for (const raw of [true, false]) {
      const stick = await smallStick(await path(`small ${raw}`), { raw, packed: false })
      const found = await finished(runUsage({ target: stick.path }))
      expect(found).toMatchObject({
        allocatedBytes: 11 * CHUNK,
        overlay: { state: 'ok', chunkSize: CHUNK, chunks: 9 },
        files: [],
        space: null,
        packages: null,
        findings: [{ code: 'ROOT_UNSUPPORTED', severity: 'warning' }],
      })
      expect(found.categories).toEqual([
        { category: 'unknown', bytes: 9 * CHUNK, identicalBytes: 0 },
        { category: 'header', bytes: CHUNK, identicalBytes: 0 },
        { category: 'lists', bytes: CHUNK, identicalBytes: 0 },
      ])
      expect(breaches(JSON.parse(JSON.stringify(found)), schema)).toEqual([])
      expect(usageWords(found, {}, plain).join('\n')).toContain('unknown')
    }
  })

  it('no overlay is no question', async () => {
    const stick = await smallStick(await path('bare'), { raw: true })
    await expect(finished(runUsage({ target: stick.path, baseOnly: true }))).rejects.toMatchObject({
      code: 'NOT_FOUND',
    })
  })

  it('the schema has no hole: another member, a missing one and a wrong one are seen', async () => {
    const stick = await smallStick(await path('schema'), { raw: true })
    const found = JSON.parse(JSON.stringify(await finished(runUsage({ target: stick.path }))))
    expect(breaches({ ...found, more: 1 }, schema)).toHaveLength(1)
    expect(breaches({ ...found, files: undefined }, schema)).not.toEqual([])
    expect(breaches({ ...found, fileCount: -1 }, schema)).toHaveLength(1)
  })
})

describe('directories', () => {
  it('each has all below it, to the depth that is asked', () => {
    const parents = new Map([
      [10, 2],
      [11, 10],
      [12, 11],
      [13, 12],
    ])
    const names = new Map([
      [2, '/'],
      [10, '/a'],
      [11, '/a/b'],
      [12, '/a/b/c'],
    ])
    const paths = { parentOf: (ino: number) => parents.get(ino), pathOf: (ino: number) => names.get(ino) }
    const owners = [
      owner('/a/b/c/file', 100, { inode: 13, identicalBytes: 40 }),
      owner('/a/b', 7, { inode: 11, kind: 'directory' }),
      owner('/', 1, { inode: 2, kind: 'directory' }),
      { ...owner('', 50), path: undefined },
    ]
    expect(sumDirectories({ owners, paths }, 2)).toEqual([
      { path: '/', depth: 0, bytes: 108, identicalBytes: 40, fileCount: 3 },
      { path: '/a', depth: 1, bytes: 107, identicalBytes: 40, fileCount: 2 },
      { path: '/a/b', depth: 2, bytes: 107, identicalBytes: 40, fileCount: 2 },
    ])
    expect(sumDirectories({ owners, paths }, 0)).toHaveLength(1)
    expect(sumDirectories({ owners, paths: undefined }, 5)).toEqual([])
  })
})

describe('advice', () => {
  const root = mockFileSystem(
    directory({
      home: directory({
        'a b': directory({ '.cache': directory({}, { stat: { mode: 0o700, uid: 1000, gid: 1001 } }) }),
      }),
      var: directory({ log: directory({ journal: directory({}, { stat: { mode: 0o2750, gid: 190 } }) }) }),
    }),
  )

  it('only what takes a MiB or a hundredth, with mode and owner of the folder', async () => {
    const owners = [
      owner('/var/log/journal/x', 9 * MIB),
      owner('/var/log/audit/audit.log', MIB - 1),
      owner('/var/tmp/small', 100),
      owner('/home/a b/.cache/y', 300 * MIB),
      owner('/usr/bin/big', 500 * MIB),
    ]
    expect(await adviseFolders(root, owners, 1000 * MIB, true)).toEqual([
      expect.objectContaining({
        path: '/home/a b/.cache',
        bytes: 300 * MIB,
        fstab: 'tmpfs /home/a\\040b/.cache tmpfs size=512m,mode=0700,uid=1000,gid=1001,nosuid,nodev 0 0',
      }),
      expect.objectContaining({
        path: '/var/log/journal',
        fstab: 'tmpfs /var/log/journal tmpfs size=32m,mode=2750,uid=0,gid=190,nosuid,nodev 0 0',
      }),
    ])
    expect((await adviseFolders(root, owners, 1000 * MIB, false)).map(({ means }) => means)).toContain('home image')
    // a hundredth of a small overlay
    expect((await adviseFolders(root, [owner('/var/tmp/small', 100)], 10_000, true)).map(({ path }) => path)).toEqual([
      '/var/tmp',
    ])
    expect(await adviseFolders(root, [owner('/var/tmp/small', 99)], 10_000, true)).toEqual([])
  })

  it('a folder that is worth it takes those in it along', async () => {
    const owners = [
      owner('/var/log/messages', 2 * MIB),
      owner('/var/log/journal/x', 9 * MIB),
      owner('/var/log/audit/a', 10),
    ]
    expect(await adviseFolders(root, owners, 1000 * MIB, true)).toMatchObject([
      { path: '/var/log', bytes: 11 * MIB + 10, fstab: expect.stringContaining('mode=0755,nosuid') },
    ])
  })
})

describe('packages', () => {
  it('dpkg: lists of paths, links at the top of the tree followed', async () => {
    const fs = mockFileSystem(
      directory({
        bin: symlink('usr/bin'),
        usr: directory({}),
        var: directory({
          lib: directory({
            dpkg: directory({
              info: directory({
                'coreutils.list': file('/.\n/bin\n/bin/ls\n/usr/bin/id\n'),
                'libc6:amd64.list': file('/lib/x.so\n/usr/bin/id\n'),
                'libc6:amd64.md5sums': file('/home/me\n'),
              }),
            }),
          }),
        }),
      }),
    )
    const owners = [
      owner('/usr/bin/ls', 5, { identicalBytes: 2 }),
      owner('/usr/bin/id', 3),
      owner('/lib/x.so', 40),
      owner('/home/me', 100),
      owner('/usr/bin', 9, { kind: 'directory' }),
    ]
    expect(await sumPackages(fs, owners)).toEqual({
      packages: [
        { name: null, bytes: 100, identicalBytes: 0, fileCount: 1 },
        { name: 'libc6', bytes: 40, identicalBytes: 0, fileCount: 1 },
        { name: 'coreutils', bytes: 8, identicalBytes: 2, fileCount: 2 },
      ],
      findings: [],
    })
  })

  it('no database, and one that is none: not told, with a note', async () => {
    const bare = mockFileSystem(directory({}))
    const untold = { packages: null, findings: [{ code: 'PACKAGES_UNTOLD', severity: 'note' }] }
    expect(await sumPackages(bare, [])).toMatchObject(untold)
    const rpm = directory({ rpm: directory({ 'rpmdb.sqlite': file('no database') }) })
    expect(await sumPackages(mockFileSystem(directory({ var: directory({ lib: rpm }) })), [])).toMatchObject(untold)
  })

  const header = (entries: readonly (readonly [tag: number, type: number, count: number, data: Uint8Array])[]) => {
    const index = Buffer.alloc(8 + entries.length * 16)
    const data: Uint8Array[] = []
    let at = 0
    index.writeUInt32BE(entries.length, 0)
    for (const [n, [tag, type, count, bytes]] of entries.entries()) {
      for (const [field, value] of [tag, type, at, count].entries()) index.writeUInt32BE(value, 8 + n * 16 + field * 4)
      data.push(bytes)
      at += bytes.length
    }
    index.writeUInt32BE(at, 4)
    return Buffer.concat([index, ...data])
  }
  const indexes = Buffer.alloc(12)
  indexes.writeUInt32BE(1, 4)
  const whole = header([
    [1000, 6, 1, Buffer.from('bash\0')],
    [1116, 4, 3, indexes],
    [1117, 8, 3, Buffer.from('bash\0README\0sh\0')],
    [1118, 8, 2, Buffer.from('/usr/bin/\0/usr/share/doc/bash/\0')],
  ])

  it('rpm: a header', () => {
    expect(parseRpmHeader(whole, 'db')).toEqual({
      name: 'bash',
      paths: ['/usr/bin/bash', '/usr/share/doc/bash/README', '/usr/bin/sh'],
    })
    expect(parseRpmHeader(header([[1000, 6, 1, Buffer.from('gpg-pubkey\0')]]), 'db').paths).toEqual([])
  })

  it('rpm: cut and flipped headers are CORRUPT or a package', () => {
    const look = (bytes: Uint8Array): void => {
      try {
        parseRpmHeader(bytes, 'db')
      } catch (error) {
        expect(isLiveError(error) && error.code).toBe('CORRUPT')
      }
    }
    for (let length = 0; length < whole.length; length++) look(whole.subarray(0, length))
    for (let bit = 0; bit < whole.length * 8; bit++) {
      const broken = Buffer.from(whole)
      broken[bit >>> 3]! ^= 1 << (bit & 7)
      look(broken)
    }
    expect(() => parseRpmHeader(whole.subarray(0, 40), 'db')).toThrow(/il/)
  })
})

describe('words', () => {
  it('names of a stick never reach a terminal as they are', () => {
    const found: Usage = {
      target: 'stick',
      overlay: { path: '/o', state: 'ok', size: MIB, chunkSize: CHUNK, chunks: 1 },
      allocatedBytes: 3 * CHUNK,
      unusedBytes: MIB - 3 * CHUNK,
      categories: [{ category: 'files', bytes: CHUNK, identicalBytes: CHUNK }],
      fileCount: 2,
      files: [{ path: '/evil\u001b[2J\udcff', inode: 12, kind: 'file', bytes: CHUNK, identicalBytes: 0 }],
      directories: [{ path: '/\u009b', depth: 1, bytes: CHUNK, identicalBytes: 0, fileCount: 1 }],
      packages: [{ name: 'p\u0007', bytes: 1, identicalBytes: 0, fileCount: 1 }],
      space: null,
      advice: [],
      findings: [],
    }
    const words = usageWords(found, {}, plain).join('\n')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
    expect(words).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\ud800-\udfff]/)
    expect(words).toContain('/evil\\x1b[2J\\xff')
    expect(words).toContain('Largest of 2')
  })
})

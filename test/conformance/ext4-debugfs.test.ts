import { readFile, writeFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { memory } from '../../src/block/memory.js'
import { openExt4 } from '../../src/fs/ext4/reader.js'
import { collect } from '../support/collect.js'
import { debugfs, makeExt4, run, withExt4 } from '../support/ext4-images.js'
import { failure } from '../support/outcome.js'
import { random } from '../support/random.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const { describe: describeWithTools, it } = needTools('mke2fs', 'debugfs', 'dumpe2fs', 'e2fsck')
const PLAIN = ['-t', 'ext4', '-b', '1024', '-O', '^has_journal']
const NO_SUMS = [...PLAIN.slice(0, 5), '^has_journal,^metadata_csum']

describeWithTools('filesystems changed by debugfs', () => {
  const path = temporary()

  it('times before 1970, after 2038, after 2446, with nanoseconds', async () => {
    const file = await makeExt4(await path('times'), 4, PLAIN)
    await writeFile(await path('a'), 'a')
    // As the kernel stores it: the low 32 bits, then two bits of epoch and 30 of nanoseconds.
    const times: readonly (readonly [seconds: number, nanoseconds: number])[] = [
      [0, 0],
      [-1, 999_999_999],
      [-(2 ** 31), 1],
      [2 ** 31 - 1, 2],
      [2 ** 31, 3],
      [2 ** 32 + 5, 123_456_789],
      [2 ** 31 + 2 ** 33 - 1, 7],
    ]
    const commands = times.flatMap(([seconds, nanoseconds], n) => {
      const epoch = Math.floor((seconds + 2 ** 31) / 2 ** 32)
      return [
        `write ${file.replace(/times$/, 'a')} f${n}`,
        `set_inode_field f${n} mtime_lo ${((seconds % 2 ** 32) + 2 ** 32) % 2 ** 32}`,
        `set_inode_field f${n} mtime_extra ${nanoseconds * 4 + epoch}`,
      ]
    })
    await debugfs(file, commands, true)
    await withExt4(file, async fs => {
      for (const [n, [seconds, nanoseconds]] of times.entries()) {
        const { mtime, mtimeNanoseconds } = await fs.stat(`/f${n}`)
        expect([n, mtime, mtimeNanoseconds]).toEqual([n, seconds, nanoseconds])
      }
    })
    // the judge's own reading of two of them
    const told = await debugfs(file, ['stat f5', 'stat f1'])
    expect(told).toMatch(/mtime: 0x00000005:1d6f3455 -- .* 2106/)
    expect(told).toMatch(/mtime: 0xffffffff:ee6b27fc -- .* 1969/)
  })

  it('attributes of all kinds, in body, block and inodes of their own', async () => {
    const { bytes } = random(4)
    for (const features of ['^has_journal', '^has_journal,ea_inode']) {
      const file = await makeExt4(await path('attributes'), 8, ['-t', 'ext4', '-b', '4096', '-O', features])
      const large = features.includes('ea_inode')
      const values: Record<string, Uint8Array> = {
        'user.small': Buffer.from('small'),
        'trusted.overlay': Buffer.from('y'),
        'security.selinux': Buffer.from('system_u:object_r:etc_t:s0\0'),
        'user.medium': bytes(900),
        'user.other': bytes(1300),
        ...(large ? { 'user.large': bytes(3900), 'security.large': bytes(4000) } : {}),
        // version 2, owner rwx, user 1000 r, group r, mask rwx, other nothing
        'system.posix_acl_access': Buffer.from(
          '0200000001000700ffffffff02000400e803000004000400ffffffff10000700ffffffff20000000ffffffff',
          'hex',
        ),
      }
      const commands = [`write ${file} f`, 'mkdir d']
      await writeFile(await path('empty'), '')
      commands[0] = `write ${await path('empty')} f`
      for (const [name, value] of Object.entries(values)) {
        await writeFile(await path(`value of ${name}`), value)
        commands.push(`ea_set -f "${await path(`value of ${name}`)}" f ${name}`)
      }
      await debugfs(file, commands, true)
      // debugfs does not count the blocks of inodes of values
      await run('e2fsck', ['-fy', file], [0, 1])
      await withExt4(file, async fs => {
        const found = new Map(
          (await fs.xattrs('/f')).map(({ name, value }) => [name, Buffer.from(value).toString('hex')]),
        )
        expect(found).toEqual(
          new Map(Object.entries(values).map(([name, value]) => [name, Buffer.from(value).toString('hex')])),
        )
        expect(await fs.xattrs('/d')).toEqual([])
        const inodes = (await collect(fs.sweepInodes())).flatMap(inodes => [...inodes])
        expect(inodes.filter(inode => inode.flags & 0x200000).length > 0).toBe(large)
      })
    }
  })

  it('a fragmented file: its extents are those that debugfs tells', async () => {
    const file = await makeExt4(await path('fragments'), 16, NO_SUMS)
    const piece = await path('piece')
    await writeFile(piece, random(9).bytes(1024))
    const names = Array.from({ length: 600 }, (_, n) => `p${n}`)
    await debugfs(
      file,
      names.map(name => `write ${piece} ${name}`),
      true,
    )
    await debugfs(
      file,
      names.filter((_, n) => n % 2).map(name => `rm ${name}`),
      true,
    )
    const content = random(10).bytes(14_800_000)
    await writeFile(await path('content'), content)
    await debugfs(file, [`write ${await path('content')} large`], true)
    await run('e2fsck', ['-fn', file])
    await withExt4(file, async fs => {
      const device = await fs.open('/large')
      expect(Buffer.compare(await device.read(0, device.size), content)).toBe(0)
      const told = [
        ...(await debugfs(file, ['ex large'])).matchAll(
          /^ *(\d+)\/ *(\d+) .* (\d+) - +(\d+) +(\d+) - +(\d+) +(\d+) *$/gm,
        ),
      ]
      const expected = told
        .filter(([, level, depth]) => level === depth)
        .map(([, , , logical, , physical, , length]) => ({
          offset: Number(logical) * 1024,
          length: Math.min(Number(length) * 1024, content.length - Number(logical) * 1024),
          start: Number(physical) * 1024,
        }))
      // Extents end at 32768 blocks and may touch; ours are joined.
      expect(expected.length).toBeGreaterThan(200)
      expect(await fs.extents('/large')).toEqual(expected)
      const map = (await fs.ownedRuns(await fs.lookup('/large'))).filter(run => run.role === 'map')
      expect(map.reduce((sum, run) => sum + run.length, 0) / 1024).toBeGreaterThan(2)
    })
  })

  it('blocks that were never written read as zeros', async () => {
    const file = await makeExt4(await path('unwritten'), 8, PLAIN)
    await debugfs(file, [`write ${await path('empty')} f`, 'fallocate f 5 20', 'sif f size 30000'], true)
    await withExt4(file, async fs => {
      const device = await fs.open('/f')
      expect(device.size).toBe(30_000)
      expect((await device.read(0, device.size)).every(byte => byte === 0)).toBe(true)
      expect(await collect(device.extents(0, device.size))).toEqual([{ offset: 0, length: 30_000, kind: 'hole' }])
      const owned = (await fs.ownedRuns(await fs.lookup('/f'))).filter(run => run.role === 'data')
      expect(owned.reduce((sum, run) => sum + run.length, 0)).toBe(16 * 1024)
    })
  })

  describe('what is refused', () => {
    const changed = async (commands: readonly string[], args: readonly string[] = NO_SUMS) => {
      const file = await makeExt4(await path('changed'), 4, args)
      const a = await path('a')
      await writeFile(a, 'a')
      await debugfs(file, ['mkdir d', 'mkdir d/e', `write ${a} f`, 'symlink l target', ...commands], true)
      return openExt4(memory(await readFile(file), 'image'))
    }
    test('a directory with two names', async () => {
      const fs = await changed(['mkdir other', 'link d/e other/again'])
      await fs.list('/d')
      await failure(fs.list('/other'), 'CORRUPT')
    })
    test('a directory that contains the root, or itself', async () => {
      await failure((await changed(['link <2> d/root'])).list('/d'), 'CORRUPT')
      await failure((await changed(['link d d/self'])).list('/d'), 'CORRUPT')
    })
    test('a name of a deleted inode', async () => {
      const fs = await changed(['sif f links_count 0'])
      expect((await fs.list('/')).map(entry => entry.name)).toContain('f')
      await failure(fs.stat('/f'), 'CORRUPT')
    })
    test('an inode of another kind than its name says', async () => {
      await failure((await changed(['sif f mode 040755'])).stat('/f'), 'CORRUPT')
    })
    test('encrypted files, directories and symlinks; the rest is readable', async () => {
      const fs = await changed(
        ['sif f flags 0x80800', 'sif d flags 0x80800', 'sif l flags 0x800'],
        [...PLAIN.slice(0, 5), '^has_journal,encrypt'],
      )
      for (const [work, feature] of [
        [fs.open('/f'), 'encrypted file'],
        [fs.extents('/f'), 'encrypted file'],
        [fs.list('/d'), 'encrypted directory'],
        [fs.stat('/d/e'), 'encrypted directory'],
        [fs.readLink('/l'), 'encrypted symlink'],
      ] as const)
        expect((await failure(work, 'UNSUPPORTED')).data.feature).toBe(feature)
      expect((await fs.stat('/f')).size).toBe(1)
    })
    test('names in a directory that ignores case are listed, not looked up', async () => {
      const fs = await changed(['sif d flags 0x40080000'], [...PLAIN.slice(0, 5), '^has_journal,casefold'])
      expect((await fs.list('/d')).map(entry => entry.name)).toEqual(['e'])
      expect((await failure(fs.stat('/d/e'), 'UNSUPPORTED')).data.feature).toBe('casefolded directory')
    })
    test('an unknown feature by its name or bit, a journal device', async () => {
      for (const [bits, feature] of [
        ['FEATURE_I20', 'ext4 feature bit 20'],
        ['dirdata', 'ext4 feature dirdata'],
      ] as const)
        expect((await failure(changed([`feature ${bits}`]), 'UNSUPPORTED')).data.feature).toBe(feature)
      const journal = await makeExt4(await path('journal'), 8, ['-O', 'journal_dev', '-b', '1024'])
      expect(
        (
          await failure(
            withExt4(journal, async fs => fs.type),
            'UNSUPPORTED',
          )
        ).data.feature,
      ).toBe('external journal device')
    })
    test('a filesystem whose journal was not replayed is opened, and says so', async () => {
      const fs = await changed(['feature needs_recovery'], ['-t', 'ext4', '-b', '1024'])
      expect(fs.superblock.needsRecovery).toBe(true)
      expect((await fs.check()).map(finding => finding.code)).toContain('EXT4_NEEDS_RECOVERY')
      expect((await fs.stat('/f')).size).toBe(1)
    })
    test('counts that do not agree are findings, not errors', async () => {
      const fs = await changed([
        'set_bg 0 free_blocks_count 17',
        'set_bg 0 used_dirs_count 9',
        'ssv free_inodes_count 3',
      ])
      expect((await fs.check()).map(finding => finding.code).sort()).toEqual([
        'EXT4_DIRECTORIES',
        'EXT4_FREE_BLOCKS',
        'EXT4_FREE_INODES',
      ])
    })
    test('metadata that a bitmap calls free', async () => {
      const fs = await changed(['freeb 3 1'])
      await failure(collect(fs.freeRuns()), 'CORRUPT')
      expect((await fs.check()).map(finding => finding.code)).toContain('EXT4_CORRUPT')
    })
  })
})

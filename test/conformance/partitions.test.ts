import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, truncate, writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { beforeAll, expect, it } from 'vitest'
import { openFile } from '../../src/block/file.js'
import type { Listed } from '../../src/block/partitions/partition.js'
import { type PartitionOptions, type PartitionTable, readPartitions } from '../../src/block/partitions/reader.js'
import { temporary } from '../support/temporary.js'
import { gate, needTools, tool } from '../support/tools.js'

const execute = promisify(execFile)
const path = temporary()
const run = async (name: string, args: readonly string[], input = '', env = {}): Promise<string> => {
  const running = execute(tool(name)!, args, { env: { ...process.env, LC_ALL: 'C', ...env } })
  // A program that reads no input may end first.
  running.child.stdin?.on('error', () => {}).end(input)
  return (await running).stdout
}
const empty = async (name: string, size: number): Promise<string> => {
  const file = await path(name)
  await writeFile(file, '')
  await truncate(file, size)
  return file
}
const read = async (file: string, options?: PartitionOptions): Promise<PartitionTable | undefined> => {
  const device = await openFile(file)
  try {
    return await readPartitions(device, options)
  } finally {
    await device.close()
  }
}

/** One line a partition, from libblkid. */
const byPartx = async (file: string, sectorSize = 512): Promise<readonly string[]> =>
  (await run('partx', ['-S', String(sectorSize), '-P', '-o', 'NR,START,SECTORS,NAME,UUID,TYPE,FLAGS', file]))
    .trim()
    .split('\n')
    .filter(line => line !== '')
    .map(line => {
      const value = (key: string): string => new RegExp(`\\b${key}="([^"]*)"`).exec(line)![1]!
      const name = Buffer.from(
        value('NAME').replace(/\\x(..)/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16))),
        'latin1',
      ).toString()
      const flags = BigInt(value('FLAGS'))
      const type = value('TYPE').replace(/^0x(.)$/, '0x0$1')
      const flagged = type.startsWith('0x') ? flags === 0x80n : (flags & 4n) !== 0n
      return [value('NR'), value('START'), value('SECTORS'), name, value('UUID'), type, flagged].join(' ')
    })
const byUs = ({ partitions }: Listed): readonly string[] =>
  partitions.map(p =>
    [
      p.number,
      p.start / 512,
      p.length / 512,
      p.name ?? '',
      p.uuid ?? '',
      p.type,
      p.type.startsWith('0x') ? p.active : p.legacyBoot,
    ].join(' '),
  )
const agree = async (file: string, sectorSize: 512 | 4096 = 512): Promise<PartitionTable> => {
  const table = await read(file)
  expect(byUs(table!)).toEqual(await byPartx(file, sectorSize))
  expect(table!.partitions.length).toBeGreaterThan(0)
  if (sectorSize === 512) {
    const probed = await run('blkid', ['-p', '-o', 'export', file])
    expect(table!.id).toBe(/^PTUUID=(.*)$/m.exec(probed)?.[1])
  }
  return table!
}
const codes = ({ findings }: PartitionTable): readonly string[] => findings.map(f => `${f.code} ${f.severity}`)

const DOS = `label: dos
label-id: 0x12345678
start=2048, size=2048, type=c, bootable
start=4096, size=2048, type=83
start=8192, size=60000, type=f
start=100000, size=2048, type=ef
start=10240, size=2048, type=83
start=20480, size=2048, type=82
start=30720, size=2048, type=b
`

needTools('sfdisk', 'partx', 'blkid').describe('MBR of sfdisk', () => {
  it('primary, extended and logical partitions, ids and flags', async () => {
    const file = await empty('dos', 64 << 20)
    await run('sfdisk', ['-q', file], DOS)
    const table = await agree(file)
    expect(table).toMatchObject({ scheme: 'mbr', id: '12345678', sectorSize: 512, hidden: undefined, findings: [] })
    expect(table.partitions.map(p => p.role)).toEqual([
      ...['primary', 'primary', 'extended', 'primary'],
      ...['logical', 'logical', 'logical'],
    ])
    const sfdisk = JSON.parse(await run('sfdisk', ['-J', file])).partitiontable.partitions
    expect(sfdisk.map((p: { start: number; size: number }) => [p.start, p.size])).toEqual(
      table.partitions.map(p => [p.start / 512, p.length / 512]),
    )
  })

  it('a chain of logical partitions out of order and with one taken out', async () => {
    const file = await empty('order', 64 << 20)
    await run('sfdisk', ['-q', file], DOS)
    await run('sfdisk', ['-q', '--delete', file, '5'])
    await run('sfdisk', ['-q', '--append', file], 'start=40960, size=100, type=7\nstart=12288, size=100, type=7\n')
    expect((await agree(file)).partitions.map(p => p.number)).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
  })

  it('50 logical partitions', async () => {
    const file = await empty('many', 64 << 20)
    const lines = Array.from({ length: 50 }, (_, n) => `start=${4096 + n * 2100}, size=${n + 1}, type=83\n`)
    await run('sfdisk', ['-q', file], `label: dos\ngrain: 512\nstart=2048, size=129024, type=5\n${lines.join('')}`)
    expect((await agree(file)).partitions.length).toBe(51)
  })

  it('an empty table, with and without id', async () => {
    const file = await empty('none', 4 << 20)
    await run('sfdisk', ['-q', file], 'label: dos\nlabel-id: 0xabcdef01\n')
    expect(await read(file)).toMatchObject({ scheme: 'mbr', id: 'abcdef01', partitions: [] })
  })
})

needTools('sgdisk', 'sfdisk', 'partx', 'blkid').describe('GPT of sgdisk and sfdisk', () => {
  let file: string
  beforeAll(async () => {
    file = await empty('gpt', 16 << 20)
    await run('sgdisk', [
      ...['-o', '-n', '1:2048:+1M', '-t', '1:ef00', '-c', '1:Grüße 🐧', '-n', '5:0:+1M', '-A', '5:set:2'],
      ...['-n', '7:20000:+3M', '-t', '7:8302', '-c', '7:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghij', file],
    ])
  })

  it('partitions, names, ids and attributes', async () => {
    const table = await agree(file)
    expect(table).toMatchObject({ scheme: 'gpt', sectorSize: 512, hidden: undefined, findings: [] })
    expect(table.partitions.map(p => [p.typeName, p.legacyBoot])).toEqual([
      ['EFI System', false],
      ['Linux filesystem', true],
      ['Linux home', false],
    ])
    const { partitiontable } = JSON.parse(await run('sfdisk', ['-J', file]))
    expect(partitiontable.id.toLowerCase()).toBe(table.id)
  })

  it('more entries than usual', async () => {
    const many = await empty('entries', 16 << 20)
    await run('sgdisk', ['-o', '-S', '1024', '-n', '1000:4096:+1M', many])
    expect((await agree(many)).partitions[0]!.number).toBe(1000)
  })

  it.each([
    ['header', 512],
    ['header size', 524],
    ['entries', 1024 + 40],
  ])('reads the backup where the primary has a damaged %s, as sgdisk does', async (what, offset) => {
    const damaged = await path(`damaged-${what.replace(' ', '-')}`)
    await copyFile(file, damaged)
    await run('dd', [`of=${damaged}`, 'bs=1', `seek=${offset}`, 'conv=notrunc', 'status=none'], 'zzz')
    const table = (await read(damaged))!
    expect(codes(table)).toEqual(['GPT_PRIMARY_DAMAGED warning'])
    expect(byUs(table)).toEqual(await byPartx(file))
    // what libblkid makes of the same medium
    expect(byUs(table)).toEqual(await byPartx(damaged))
    // what the finding says to type does it, whatever sgdisk's exit code says of the state before
    expect(table.findings[0]!.remedy).toContain('sgdisk -e DISK')
    await run('sgdisk', ['-e', damaged]).catch(() => undefined)
    expect(codes(await agree(damaged))).toEqual([])
    expect(byUs((await read(damaged))!)).toEqual(byUs(table))
  })

  it('tells of a missing backup', async () => {
    const damaged = await path('no-backup')
    await copyFile(file, damaged)
    await run('dd', [
      'if=/dev/zero',
      `of=${damaged}`,
      'bs=512',
      `seek=${32767}`,
      'count=1',
      'conv=notrunc',
      'status=none',
    ])
    expect(codes(await agree(damaged))).toEqual(['GPT_BACKUP_DAMAGED warning'])
    expect(await run('sgdisk', ['-v', damaged])).toContain('corrupt GPT')
  })

  it('tells of a medium that grew, and of one that shrank', async () => {
    const grown = await path('grown')
    await copyFile(file, grown)
    await truncate(grown, 20 << 20)
    expect(codes((await read(grown))!)).toEqual(['GPT_BACKUP_MISPLACED warning'])
    const cut = await path('cut')
    await copyFile(file, cut)
    await truncate(cut, 11 << 20)
    const table = (await read(cut))!
    expect(codes(table)).toEqual([
      'GPT_BACKUP_DAMAGED warning',
      'GPT_LARGER_THAN_DEVICE error',
      'PARTITION_BEYOND_END error',
    ])
    expect(byUs(table)).toEqual(await byPartx(file))
  })

  it('a hybrid MBR: Linux shows the GPT', async () => {
    const hybrid = await path('hybrid')
    await copyFile(file, hybrid)
    await run('sgdisk', ['-h', '1:5', hybrid])
    const table = await agree(hybrid)
    expect(table).toMatchObject({ scheme: 'hybrid', findings: [] })
    expect(table.hidden!.partitions.map(p => [p.start, p.length])).toEqual(
      table.partitions.slice(0, 2).map(p => [p.start, p.length]),
    )
  })
})

needTools('parted', 'partx').describe('GPT of parted', () => {
  it('sectors of 4096 bytes', async () => {
    const file = await empty('large-sectors', 64 << 20)
    await run(
      'parted',
      ['-s', file, 'mklabel', 'gpt', 'mkpart', 'one', 'fat32', '1MiB', '8MiB', 'mkpart', 'two', '8MiB', '20MiB'],
      '',
      { PARTED_SECTOR_SIZE: '4096' },
    )
    const table = await agree(file, 4096)
    expect(table).toMatchObject({ scheme: 'gpt', sectorSize: 4096, findings: [] })
    expect(table.partitions.map(p => [p.name, p.start, p.length])).toEqual([
      ['one', 1 << 20, 7 << 20],
      ['two', 8 << 20, 12 << 20],
    ])
    expect(await read(file, { sectorSize: 4096 })).toEqual(table)
    await run('dd', [`of=${file}`, 'bs=1', 'seek=4096', 'conv=notrunc', 'status=none'], 'zzz')
    const backup = (await read(file))!
    expect(codes(backup)).toEqual(['GPT_PRIMARY_DAMAGED warning'])
    expect(backup.partitions).toEqual(table.partitions)
  })
})

needTools('mkfs.vfat', 'blkid', 'mkfs.ext4').describe('a filesystem on the whole device', () => {
  it.each([
    ['fat12', 4 << 20, ['-F', '12']],
    ['fat16', 16 << 20, ['-F', '16']],
    ['fat32', 64 << 20, ['-F', '32']],
    ['fake-mbr', 16 << 20, ['--mbr=yes']],
  ])('%s is no partition table, as blkid says', async (name, size, options) => {
    const file = await empty(`whole-${name}`, size)
    await run('mkfs.vfat', [...options, file])
    expect(await run('blkid', ['-p', file])).not.toContain('PTTYPE')
    expect(await read(file)).toBeUndefined()
  })

  it('ext4 is none', async () => {
    const file = await empty('whole-ext4', 4 << 20)
    await run('mkfs.ext4', ['-q', file])
    expect(await read(file)).toBeUndefined()
  })
})

const isohybrid = '/usr/lib/ISOLINUX/isohdpfx.bin'
const isolinux = '/usr/lib/ISOLINUX/isolinux.bin'
const iso = needTools('xorriso', 'partx', 'blkid', 'mkfs.vfat')

iso.describe('ISO images of xorriso', () => {
  let tree: string
  let efi: string
  beforeAll(async () => {
    tree = await path('tree')
    await mkdir(`${tree}/isolinux`, { recursive: true })
    await mkdir(`${tree}/EFI`)
    await writeFile(`${tree}/readme`, 'an ISO\n'.repeat(40_000))
    efi = await empty('tree/EFI/efi.img', 1 << 20)
    await run('mkfs.vfat', [efi])
    if (existsSync(isolinux)) await copyFile(isolinux, `${tree}/isolinux/isolinux.bin`)
  })
  const make = async (name: string, options: readonly string[]): Promise<string> => {
    const file = await path(name)
    await run('xorriso', ['-as', 'mkisofs', '-quiet', '-R', '-V', 'TEST', '-o', file, ...options, tree])
    return file
  }
  const ESP = 'C12A7328-F81F-11D2-BA4B-00A0C93EC93B'

  it('an EFI partition in a GPT, on a stick larger than the ISO and cut', async () => {
    const file = await make('gpt.iso', [
      '-partition_offset',
      '16',
      '-append_partition',
      '2',
      ESP,
      efi,
      '-appended_part_as_gpt',
    ])
    const table = await agree(file)
    expect(table).toMatchObject({ scheme: 'gpt', findings: [] })
    await truncate(file, 8 << 20)
    const onStick = (await read(file))!
    expect(codes(onStick)).toEqual(['GPT_BACKUP_MISPLACED note'])
    expect(onStick.partitions).toEqual(table.partitions)
    // a partition was made behind the ISO: the backup is gone
    const zeroed = await path('zeroed.iso')
    await copyFile(file, zeroed)
    const end = table.partitions.at(-1)!.start + table.partitions.at(-1)!.length
    await truncate(zeroed, end)
    await truncate(zeroed, 8 << 20)
    expect(codes((await read(zeroed))!)).toEqual(['GPT_BACKUP_DAMAGED note'])
  })

  it('an MBR alone', async () => {
    const table = await agree(await make('mbr.iso', ['-append_partition', '2', '0xef', efi]))
    expect(table).toMatchObject({ scheme: 'mbr', findings: [] })
    expect(table.partitions.map(p => [p.start, p.typeName])).toEqual([
      [0, 'Linux filesystem'],
      [expect.any(Number), 'EFI System'],
    ])
  })

  gate(existsSync(isohybrid) ? undefined : `needs ${isohybrid}: apt-get install isolinux`).it(
    'an isohybrid: MBR without protection, and a GPT that Linux does not look at',
    async () => {
      const file = await make('isohybrid.iso', [
        ...['-isohybrid-mbr', isohybrid, '-b', 'isolinux/isolinux.bin', '-c', 'isolinux/boot.cat'],
        ...['-no-emul-boot', '-boot-load-size', '4', '-boot-info-table', '-eltorito-alt-boot'],
        ...['-e', 'EFI/efi.img', '-no-emul-boot', '-isohybrid-gpt-basdat'],
      ])
      const table = await agree(file)
      expect(table.scheme).toBe('hybrid')
      expect(table.partitions[0]).toMatchObject({ start: 0, active: true })
      expect(table.partitions[1]).toMatchObject({ typeName: 'EFI System' })
      expect(table.hidden!.partitions.length).toBe(2)
      expect(codes(table)).toEqual(['GPT_UNPROTECTED note', 'PARTITIONS_OVERLAP note'])
    },
  )
})

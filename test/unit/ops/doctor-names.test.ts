import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Finding } from '../../../src/finding.js'
import { namedDevices } from '../../../src/host/filesystem-names.js'
import type { Source, Volume } from '../../../src/liveos/source.js'
import { checkSameNames } from '../../../src/ops/doctor-names.js'
import { medium } from '../../support/boot-media.js'
import { temporary } from '../../support/temporary.js'

const place = temporary()

describe('namedDevices', () => {
  it('reads what udev knows of devices that are still there', async () => {
    const root = await place('root')
    const put = async (path: string, text: string): Promise<void> => {
      await mkdir(join(root, path, '..'), { recursive: true })
      await writeFile(join(root, path), text)
    }
    await put('run/udev/data/b8:1', 'E:ID_FS_LABEL_ENC=My\\x20Stick\nE:ID_FS_UUID_ENC=1A2B-3C4D\n')
    await put('run/udev/data/b8:16', 'E:ID_BUS=usb\n')
    await put('run/udev/data/b8:33', 'E:ID_FS_UUID_ENC=gone\n')
    await put('run/udev/data/c1:1', 'E:ID_FS_UUID_ENC=no\n')
    await put('sys/dev/block/8:1/uevent', 'MAJOR=8\nDEVNAME=sda1\nDEVTYPE=partition\n')
    expect(await namedDevices(root)).toEqual([{ path: '/dev/sda1', label: 'My Stick', uuid: '1A2B-3C4D' }])
  })

  it('does not know without udev', async () => {
    expect(await namedDevices(await place('nothing'))).toBeUndefined()
  })
})

describe('checkSameNames', () => {
  const volume = (name: string, label: string, uuid: string): Volume => ({
    name,
    partition: undefined,
    device: undefined,
    type: 'vfat',
    fs: { ...medium({ '/a': '' }, 'vfat', label), uuid },
    failure: undefined,
  })
  const told = async (...volumes: readonly Volume[]): Promise<string[]> => {
    const findings: Finding[] = []
    const source = { name: 'stick.img', kind: 'image', volumes } as unknown as Source
    await checkSameNames(
      source,
      (code, severity, where, message) => void findings.push({ code, severity, where, message }),
    )
    return findings.map(({ code }) => code)
  }

  it('tells of two filesystems of one UUID, or of one label', async () => {
    expect(await told(volume('one', 'LIVE', '1'), volume('two', 'ESP', '2'))).toEqual([])
    expect(await told(volume('one', 'LIVE', '1'), volume('two', 'LIVE', '1'))).toEqual(['SAME_UUID'])
    expect(await told(volume('one', 'LIVE', '1'), volume('two', 'LIVE', '2'))).toEqual(['SAME_LABEL'])
  })
})

import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { parseUdev } from '../../../src/host/medium.js'
import { temporary } from '../../support/temporary.js'
import { needTools } from '../../support/tools.js'

const path = temporary()
const run = promisify(execFile)

it('label and UUID as udev keeps them, for any name', () => {
  const text =
    'S:disk/by-uuid/1A2B-3C4D\nE:ID_FS_LABEL=My_Stick\nE:ID_FS_LABEL_ENC=My\\x20Stick\nE:ID_FS_UUID_ENC=1A2B-3C4D\n'
  expect(parseUdev(text)).toEqual({ label: 'My Stick', uuid: '1A2B-3C4D' })
  expect(parseUdev('ID_FS_UUID=x\nID_FS_UUID_ENC=x\n')).toEqual({ label: undefined, uuid: 'x' })
  expect(parseUdev('')).toEqual({ label: undefined, uuid: undefined })
})

const { it: judged } = needTools('mkfs.ext4', 'blkid')
judged('label and UUID as blkid writes them for udev', async () => {
  const image = await path('labelled')
  await writeFile(image, new Uint8Array(1 << 20))
  const uuid = '6a2b9d2e-1f0c-4a53-9d1e-0123456789ab'
  await run('mkfs.ext4', ['-q', '-L', 'Kä se/$x', '-U', uuid, image])
  const { stdout } = await run('blkid', ['-c', '/dev/null', '-o', 'udev', image])
  expect(parseUdev(stdout)).toEqual({ label: 'Kä se/$x', uuid })
})

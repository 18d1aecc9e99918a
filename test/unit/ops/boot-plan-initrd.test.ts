import { gzipSync } from 'node:zlib'
import { expect, it } from 'vitest'
import type { Volume } from '../../../src/liveos/source.js'
import { bootFiles } from '../../../src/ops/boot-plan-initrd.js'
import { medium } from '../../support/boot-media.js'
import { cpioOf } from '../../support/cpio.js'

const volumeOf = (files: Readonly<Record<string, Uint8Array>>): Volume => ({
  name: 'stick',
  partition: undefined,
  device: undefined,
  type: 'ext4',
  fs: medium(files, 'ext4'),
  failure: undefined,
})

it('ends with the initrds of a target where they unpack to more than any stick has', async () => {
  const packed = (version: string): Uint8Array =>
    gzipSync(cpioOf({ path: `usr/lib/dracut/dracut-${version}` }, { path: 'huge', content: Buffer.alloc(1 << 20) }))
  const volume = volumeOf({ '/1': packed('101'), '/2': packed('102'), '/3': packed('103') })
  const files = bootFiles([volume], 2 << 20)
  const told = []
  for (const path of ['/1', '/2', '/3', '/1']) {
    const { initrd, failure } = await files.initrd(volume, [path])
    told.push(failure ?? initrd?.dracutVersion)
  }
  expect(told).toEqual(['101', '102', '/3 is not read: there are more initrds here than a stick has', '101'])
})

it('what can not be read and unpacks to nothing keeps no other from being read', async () => {
  const paths = Array.from({ length: 40 }, (_, n) => `/boot/${n}.img`)
  const good = gzipSync(cpioOf({ path: 'usr/lib/dracut/dracut-107', content: '107' }))
  const volume = volumeOf({ '/good.img': good, ...Object.fromEntries(paths.map(path => [path, Buffer.from('no')])) })
  const files = bootFiles([volume])
  for (const path of paths) expect((await files.initrd(volume, [path])).failure).toContain('something else')
  expect((await files.initrd(volume, ['/good.img'])).initrd?.dracutVersion).toBe('107')
})

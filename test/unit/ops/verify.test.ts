import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { memory } from '../../../src/block/memory.js'
import { openSquashfs } from '../../../src/fs/squashfs/reader.js'
import { findTarget } from '../../../src/liveos/target.js'
import { runVerify } from '../../../src/ops/verify.js'
import { finished, smallStick } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'
import { needTools } from '../../support/tools.js'

const path = temporary({ memory: true })
const { it } = needTools('mksquashfs')

it('a block that is not compressed carries no checksum, so it is never called right', async () => {
  const { path: stick } = await smallStick(await path('raw'), { packed: false })
  const base = join(stick, 'LiveOS/squashfs.img')
  const image = await readFile(base)
  const file = await (await openSquashfs(memory(image))).open('/LiveOS/rootfs.img')
  image[file.stored(1)!.offset + 77]! ^= 1
  await writeFile(base, image)
  const done = await finished(runVerify(await findTarget({ base })))
  expect(done.result).toBe('unverified')
  expect(done.compared.join('\n')).toMatch(/not compressed carry no checksum, so what they hold is unverified: \d+$/)
})

it('compressed blocks are checked by their checksums, and a changed one is told with its place', async () => {
  const { path: stick } = await smallStick(await path('packed'))
  const base = join(stick, 'LiveOS/squashfs.img')
  expect((await finished(runVerify(await findTarget({ base })))).result).not.toBe('damaged')
  const image = await readFile(base)
  const file = await (await openSquashfs(memory(image))).open('/LiveOS/rootfs.img')
  const block = Array.from({ length: file.blockCount }, (_, n) => n).find(n => file.stored(n)?.compressed)!
  const at = file.stored(block)!
  image[at.offset + (at.size >> 1)]! ^= 1
  await writeFile(base, image)
  const done = await finished(runVerify(await findTarget({ base })))
  expect(done.result).toBe('damaged')
  expect(done.findings[0]?.message).toContain(`block ${block} of /LiveOS/rootfs.img in ${base} at byte ${at.offset}`)
})

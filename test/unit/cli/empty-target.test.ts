import { writeFile } from 'node:fs/promises'
import { expect, it, vi } from 'vitest'
import { main } from '../../../src/cli/main.js'
import { findTarget } from '../../../src/liveos/target.js'
import { failure } from '../../support/outcome.js'
import { writePartitions } from '../../support/partitioned.js'
import { bytesOf } from '../../support/small-stick.js'
import { storeOf } from '../../support/store-writer.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()

it.each([['status'], ['reset', '--yes'], ['boot'], ['boot-plan'], ['ls'], ['backup', 'file'], ['mount', 'mnt']])(
  '%s: an empty TARGET is none, and not the current directory',
  async (verb, ...rest) => {
    let said = ''
    const write = vi.spyOn(process.stderr, 'write').mockImplementation(text => {
      said += String(text)
      return true
    })
    try {
      expect(await main([verb!, '', ...rest])).toBe(2)
    } finally {
      write.mockRestore()
    }
    expect(said).toContain('it is empty')
  },
)

it('an overlay in the place of a stick is told as one; an image, how to mount it', async () => {
  const overlay = await path('over lay')
  await writeFile(overlay, storeOf([{ oldChunk: 1, content: bytesOf(1, 4096) }], 8))
  expect((await failure(findTarget({ target: overlay }), 'USAGE')).message).toContain(
    `--base FILE --overlay '${overlay}'`,
  )
  const image = await path('stick.img')
  await writeFile(image, new Uint8Array(4096))
  expect((await failure(findTarget({ target: image }), 'USAGE')).message).toContain(`'sudo mount -o loop ${image} DIR'`)
  const [part] = await writePartitions(image, [bytesOf(2, 1 << 20)])
  expect((await failure(findTarget({ target: image }), 'USAGE')).message).toContain(
    `'sudo mount -o loop,offset=${part!.start} ${image} DIR'`,
  )
  // nobody may look into it, or there is nothing to look at: it is told all the same
  expect((await failure(findTarget({ target: '/dev/null' }), 'USAGE')).message).toContain('sudo mount /dev/null DIR')
})

import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { openFolder } from '../../../src/host/folder.js'
import { advised, calledAs, typedAs } from '../../../src/liveos/advice.js'
import { openStack } from '../../../src/liveos/stack.js'
import { findTarget, type TargetInput } from '../../../src/liveos/target.js'
import { planGrow } from '../../../src/ops/grow.js'
import { findOverlay } from '../../../src/ops/grow-target.js'
import { planMerge } from '../../../src/ops/merge.js'
import { beginChange } from '../../../src/ops/undo-journal.js'
import { failure } from '../../support/outcome.js'
import { bytesOf } from '../../support/small-stick.js'
import { storeOf } from '../../support/store-writer.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()

const OVERLAY = 'overlay-A-B'
/** A stick of a raw base and an overlay, which `spoil` may change. */
const stick = async (
  name: string,
  { image = 'LiveOS', spoil = bytes => bytes }: { image?: string; spoil?: (bytes: Uint8Array) => Uint8Array } = {},
): Promise<string> => {
  const root = await path(name)
  await mkdir(join(root, image), { recursive: true })
  await writeFile(join(root, image, 'rootfs.img'), bytesOf(1, 64 * 4096))
  await writeFile(
    join(root, image, OVERLAY),
    spoil(
      storeOf(
        [1, 2, 3].map(oldChunk => ({ oldChunk, content: bytesOf(oldChunk, 4096) })),
        8,
        8,
      ),
    ),
  )
  return root
}
const called = async (input: TargetInput): Promise<string> => calledAs(await findTarget(input))

it('a target is named as a verb that writes takes it, quoted for a shell', async () => {
  const root = await stick("it's $HOME")
  const quoted = `'${root.replace("'", "'\\''")}'`
  expect(await called({ target: root })).toBe(quoted)
  const live = join(root, 'LiveOS')
  expect(await called({ target: live })).toBe(`'${live.replace("'", "'\\''")}'`)
  const [base, overlay] = [join(live, 'rootfs.img'), join(live, OVERLAY)]
  const words = `--base '${base.replace("'", "'\\''")}' --overlay '${overlay.replace("'", "'\\''")}'`
  expect(await called({ base, overlay })).toBe(words)
  const plain = await stick('plain', { image: 'Fedora 40' })
  expect(await called({ target: plain, image: 'Fedora 40' })).toBe(`${plain} --image 'Fedora 40'`)
  expect(await called({ target: plain })).toBe(`${plain} --image 'Fedora 40'`)
  const own = join(plain, 'Fedora 40', OVERLAY)
  expect(await called({ target: plain, overlay: own })).toBe(`${plain} --image 'Fedora 40' --overlay '${own}'`)
})

it('an overlay that was named alone needs its base for most verbs', async () => {
  const overlay = join(await stick('alone'), 'LiveOS', OVERLAY)
  const target = await findOverlay({ target: overlay })
  expect(advised(target, address => `liveos recover ${address}`)).toBe(
    `with its base image for BASE: liveos recover --base BASE --overlay ${overlay}`,
  )
})

it('what was typed is typed again', () => {
  expect(typedAs({})).toBe('')
  expect(typedAs({ target: '-x y', image: 'a b', partition: 2, overlay: 'o' })).toBe(
    "'./-x y' --image 'a b' --partition 2 --overlay o",
  )
  expect(typedAs({ base: '\u001b[31m' })).toBe("--base $'\\033[31m'")
})

it('an overlay that the kernel gave up: recover is named first, reset with what it loses', async () => {
  const root = await stick('given up', {
    spoil: bytes => {
      bytes[4] = 0
      return bytes
    },
  })
  const { message } = await failure(openStack(await findTarget({ target: root })), 'CORRUPT')
  expect(message).toContain(`run “liveos recover '${root}'”`)
  expect(message.indexOf('recover')).toBeLessThan(message.indexOf('reset'))
})

it('a torn overlay, and one cut off, say what to run', async () => {
  for (const [name, spoil] of [
    ['torn', (bytes: Uint8Array) => bytes.fill(0xee, 4096 + 16, 4096 + 32)],
    ['cut', (bytes: Uint8Array) => bytes.subarray(0, 3 * 4096)],
  ] as const) {
    const root = await stick(name, { spoil })
    for (const error of [
      await failure(openStack(await findTarget({ target: root })), 'CORRUPT'),
      await failure(planGrow({ target: root }, { size: { by: 4096 } }), 'CORRUPT'),
    ]) {
      expect(error.message).toContain(`run 'liveos recover ${root}'`)
      expect(error.data).toMatchObject({ device: join(root, 'LiveOS', OVERLAY) })
    }
  }
  // of another base: nothing that recover could do
  const root = await stick('other')
  await writeFile(join(root, 'LiveOS/rootfs.img'), bytesOf(1, 4096))
  const { message } = await failure(openStack(await findTarget({ target: root })), 'CORRUPT')
  expect(message).toContain('another base')
  expect(message).not.toContain('recover')
})

it('merge to a file beside a change that was cut short names what ends that', async () => {
  for (const [verb, told] of [
    ['recover', 'recover'],
    ['grow', 'undo'],
  ] as const) {
    const root = await stick(`merge beside ${verb}`)
    const begun = await beginChange(await openFolder(join(root, 'LiveOS')), OVERLAY, { verb })
    await begun.file.write(5000, new Uint8Array(100))
    await begun.file.flush()
    await begun.close()
    const { message } = await failure(
      planMerge(await findTarget({ target: root }), { output: join(root, 'merged.img') }),
      'REFUSED',
    )
    expect(message).toContain(`run “liveos ${told} '${root}'”`)
  }
})

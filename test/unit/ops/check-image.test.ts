import { readFile } from 'node:fs/promises'
import { expect } from 'vitest'
import { createFile } from '../../../src/block/file.js'
import { memory } from '../../../src/block/memory.js'
import { isLiveError } from '../../../src/error.js'
import { openSquashfs, type Squashfs } from '../../../src/fs/squashfs/reader.js'
import { writeSquashfs } from '../../../src/fs/squashfs/writer.js'
import { chooseEncoder } from '../../../src/liveos/encoder.js'
import { openMergedRoot } from '../../../src/liveos/merged-root.js'
import { openStack } from '../../../src/liveos/stack.js'
import { findTarget } from '../../../src/liveos/target.js'
import { checkImage } from '../../../src/ops/check-image.js'
import { planImage } from '../../../src/ops/image-plan.js'
import { failure } from '../../support/outcome.js'
import { random } from '../../support/random.js'
import { BLOCK, smallStick } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'
import { needTools } from '../../support/tools.js'

const path = temporary()
const { it: judged } = needTools('mksquashfs')
let count = 0

/** Writes the merged image of a small stick and gives it to `work`, with a check of any other image in its place. */
const withImage = async (
  packed: boolean,
  work: (image: Uint8Array, fs: Squashfs, check: (image: Uint8Array) => ReturnType<typeof checkImage>) => Promise<void>,
): Promise<void> => {
  const stick = await smallStick(await path(`stick${count++}`), { packed })
  const stack = await openStack(await findTarget({ target: stick.path }), { threads: 1 })
  try {
    const plan = await planImage(stack, await openMergedRoot(stack.root), {})
    const encoder = await chooseEncoder(plan.settings.compressor, stack.pool)
    const output = await path(`image${count}`)
    const file = await createFile(output)
    const written = await writeSquashfs(file, plan.root, plan.settings, { encoder: encoder.encode, depth: 2 })
    await file.close()
    const bytes = new Uint8Array(await readFile(output))
    await work(bytes, await openSquashfs(memory(bytes)), image =>
      checkImage(memory(image, 'image'), plan.root, written, {}),
    )
  } finally {
    await stack.close()
  }
}

const flipped = (image: Uint8Array, offset: number, bit = 0): Uint8Array => {
  const copy = image.slice()
  copy[offset]! ^= 1 << bit
  return copy
}

judged('what was written passes, and says how each block was compared', () =>
  withImage(true, async (image, _fs, check) => {
    const { verbatim, encoded, holes, inodes } = await check(image)
    // blocks 0, 2, 5 and 8 have changed chunks in them, 11 is zero now, 3 was before; the end of the file is a block as well
    expect([verbatim.blocks, encoded.blocks, holes.blocks, inodes]).toEqual([7, 4, 2, 3])
    expect(holes.bytes).toBe(2 * BLOCK)
  }),
)

judged('a flipped bit in any block is found with its place', () =>
  withImage(true, async (image, fs, check) => {
    const file = await fs.open('/LiveOS/rootfs.img')
    const { below, seed } = random()
    let blocks = 0
    for (let block = 0; block < file.blockCount; block++) {
      const at = file.stored(block)
      if (!at) continue
      const place = at.offset + below(at.size)
      const error = await failure(check(flipped(image, place)), 'CORRUPT')
      expect(error.data.offset, `block ${block}, byte ${place}, seed ${seed}: ${error.message}`).toBeTypeOf('number')
      blocks++
    }
    expect(blocks).toBe(11)
  }),
)

for (const packed of [true, false])
  judged(
    `a flipped bit anywhere in ${packed ? 'packed' : 'bare'} tables is found, also in fields that nothing reads`,
    () =>
      withImage(packed, async (image, fs, check) => {
        const tables = fs.superblock.inode_table_start
        const places = [...Array(96).keys(), ...[...Array(image.length - tables).keys()].map(n => tables + n)]
        const { below } = random()
        for (const place of places) {
          const error = await check(flipped(image, place, below(8))).then(
            () => undefined,
            (reason: unknown) => reason,
          )
          if (!isLiveError(error) || error.code !== 'UNSUPPORTED')
            expect(error, `byte ${place}`).toMatchObject({ code: 'CORRUPT', data: { offset: expect.any(Number) } })
        }
      }),
  )

judged('a hole turned data, data turned a hole and another count of inodes are found', () =>
  withImage(false, async (image, fs, check) => {
    const file = await fs.open('/LiveOS/rootfs.img')
    // the list of blocks stands bare in the inode table: sizes with the mark of an unpacked block, 0 for a hole
    const view = new DataView(image.buffer)
    const marked = BLOCK | (1 << 24)
    let list = fs.superblock.inode_table_start
    while (view.getUint32(list, true) !== marked || view.getUint32(list + 4, true) !== marked) list++
    expect(file.stored(3)).toBeUndefined()
    expect(view.getUint32(list + 3 * 4, true)).toBe(0)
    for (const [block, size] of [
      [3, marked],
      [11, marked],
      [1, 0],
      [0, 0],
    ] as const) {
      const other = image.slice()
      new DataView(other.buffer).setUint32(list + 4 * block, size, true)
      expect((await failure(check(other), 'CORRUPT')).data.offset).toBeTypeOf('number')
    }
    const counted = await failure(check(flipped(image, 4)), 'CORRUPT')
    expect(counted.data).toMatchObject({ offset: 4, expected: 3, found: 2 })
  }),
)

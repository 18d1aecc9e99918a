import { mkdir, writeFile } from 'node:fs/promises'
import { expect } from 'vitest'
import { openWritableFile } from '../../src/block/file.js'
import { memory } from '../../src/block/memory.js'
import { snapshot } from '../../src/block/snapshot/snapshot.js'
import { statusLine } from '../../src/block/snapshot/status.js'
import { readStore } from '../../src/block/snapshot/store.js'
import { createStore, openWritableSnapshot } from '../../src/block/snapshot/writable.js'
import { isLiveError } from '../../src/error.js'
import { needKernel, runInKernel } from '../support/kernel.js'
import { kernelFixture } from '../support/kernel-fixtures.js'
import { sameBytes } from '../support/outcome.js'
import { random } from '../support/random.js'
import { sha256 } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'

const { it } = needKernel()
const path = temporary()
const { seed, below, bytes } = random()

const SECTOR = 512
/** The last chunk is a partial one, whatever the chunk. */
const SECTORS = 700 * 8 + 5

/** A store that we write: sectors of a chunk, chunks of the store, exceptions. */
const STORES = [
  [1, 400, 31],
  [1, 400, 32],
  [1, 400, 100],
  [8, 600, 0],
  [8, 600, 254],
  [8, 600, 255],
  [8, 600, 256],
  [8, 600, 257],
  [8, 600, 512],
  [64, 60, 30],
  [256, 30, 5],
  // full
  [8, 259, 256],
  [8, 257, 255],
  [8, 258, 255],
  [1, 34, 31],
] as const

/** Shows each store after writing the sectors named for it: `first:count,...`, from the same place of the source. */
const SHOW = `
set -euo pipefail
source=$1; shift
disks=($DISKS)
sz=$(blockdev --getsz \${disks[0]})
for ((n = 1; n < \${#disks[@]}; n++)); do
  echo "0 $sz snapshot \${disks[0]} \${disks[n]} PO 8" | dmsetup create v
  before=$(dmsetup status v)
  hash=$(sha256sum </dev/mapper/v)
  for range in \${1//,/ }; do
    dd if=$source of=/dev/mapper/v bs=$((\${range#*:} * 512)) count=1 skip=$((\${range%:*} * 512)) \\
      seek=$((\${range%:*} * 512)) iflag=skip_bytes oflag=seek_bytes,direct conv=notrunc status=none
  done
  shift
  echo "$before/\${hash%% *}/$(dmsetup status v)"
  dmsetup remove v
done
`

it(`the kernel reads every store that we wrote, writes to it, and we go on (seed ${seed})`, async () => {
  const dir = await path('stores')
  await mkdir(dir)
  const originBytes = bytes(SECTORS * SECTOR)
  const source = bytes(SECTORS * SECTOR)
  await writeFile(`${dir}/origin`, originBytes)
  await writeFile(`${dir}/source`, source)
  const origin = memory(originBytes, 'origin')
  const stores = STORES.map(([chunkSectors, chunkCount, exceptions], n) => ({
    cow: `${dir}/cow${n}`,
    chunkSectors,
    chunkCount,
    exceptions,
    model: originBytes.slice(),
    said: '',
  }))
  const named = (n: number): string => `store ${STORES[n]!.join(' ')}, seed ${seed}`

  for (const store of stores) {
    const { cow, chunkSectors, chunkCount, exceptions, model } = store
    await writeFile(cow, bytes(chunkCount * chunkSectors * SECTOR))
    const file = await openWritableFile(cow)
    await createStore(file, { chunkSectors })
    const device = await openWritableSnapshot(origin, file, { commitBytes: 100_000 })
    const chunkSize = chunkSectors * SECTOR
    const chunks = Math.ceil(originBytes.length / chunkSize)
    const put = async (offset: number, length: number): Promise<void> => {
      const content = bytes(Math.min(length, originBytes.length - offset))
      await device.write(offset, content)
      model.set(content, offset)
    }
    // the partial last chunk, and parts and wholes of others
    if (exceptions > 0) await put(originBytes.length - 100, 100)
    while (device.store.exceptions.count < exceptions) {
      const chunk = below(chunks)
      await put(Math.min(chunk * chunkSize + below(chunkSize), originBytes.length - 1), 1 + below(chunkSize))
      if (device.store.exceptions.count > exceptions - 3) {
        while (device.store.exceptions.count < exceptions) {
          const free = Array.from({ length: chunks }, (_, n) => n).find(
            n => device.store.exceptions.find(n) === undefined,
          )!
          await put(free * chunkSize, chunkSize)
        }
        break
      }
      if (below(30) === 0) await device.flush()
    }
    expect(device.store.exceptions.count).toBe(exceptions)
    await device.close()
    const read = await readStore(file)
    store.said = statusLine(read, originBytes.length)
    await file.close()
  }

  const disks = [
    { path: `${dir}/origin`, readOnly: true },
    ...stores.map(({ cow }) => ({ path: cow, readOnly: false })),
  ]
  const isFull = (n: number): boolean => n >= STORES.length - 4
  // The kernel writes to a full store where it holds chunks already: an exception in each has the last sector.
  const ranges = stores.map((_, n) =>
    isFull(n)
      ? [[SECTORS - 1, 1]]
      : [...Array.from({ length: 3 }, () => [below(SECTORS - 40), 1 + below(40)]), [SECTORS - 1, 1]],
  )
  const args = [`${dir}/source`, ...ranges.map(list => list.map(range => range.join(':')).join(','))]
  const first = await runInKernel({ script: SHOW, scratch: `${dir}/1`, disks, args })
  expect(first.rc, first.log).toBe(0)
  const lines = first.log.trim().split('\n')
  for (const [n, store] of stores.entries()) {
    const [status, hash, after] = parse(lines[n]!)
    expect(status, named(n)).toBe(store.said)
    expect(hash, named(n)).toBe(sha256(store.model))
    for (const [at, count] of ranges[n]!)
      store.model.set(source.subarray(at! * SECTOR, (at! + count!) * SECTOR), at! * SECTOR)

    const file = await openWritableFile(store.cow)
    const device = await openWritableSnapshot(origin, file)
    expect(statusLine(device.store, originBytes.length), named(n)).toBe(after)
    sameBytes(await device.read(0, originBytes.length), store.model)
    try {
      for (let more = 0; more < 40; more++) {
        const offset = below(originBytes.length)
        const content = bytes(Math.min(1 + below(3000), originBytes.length - offset))
        await device.write(offset, content)
        store.model.set(content, offset)
      }
    } catch (error) {
      if (!isLiveError(error) || error.code !== 'NO_SPACE' || !device.store.full) throw error
    }
    await device.close()
    store.said = statusLine(device.store, originBytes.length)
    sameBytes(await (await snapshot(origin, file)).read(0, originBytes.length), store.model)
    await file.close()
  }

  const second = await runInKernel({
    script: SHOW,
    scratch: `${dir}/2`,
    disks,
    args: [`${dir}/source`, ...stores.map(() => '')],
  })
  expect(second.rc, second.log).toBe(0)
  for (const [n, line] of second.log.trim().split('\n').entries()) {
    const [status, hash] = parse(line)
    expect(status, named(n)).toBe(stores[n]!.said)
    expect(hash, named(n)).toBe(sha256(stores[n]!.model))
  }
})

/** A line of SHOW: status, hash, status; a status has a slash of its own. */
const parse = (line: string): string[] => /^(.*?)\/([0-9a-f]{64})\/(.*)$/.exec(line)!.slice(1)

/** Writes chunk after chunk to an empty store until the kernel refuses, and tells how it is then and after activating it again. */
const FILL = `
set -uo pipefail
source=$1
disks=($DISKS)
sz=$(blockdev --getsz \${disks[0]})
for ((n = 1; n < \${#disks[@]}; n++)); do
  echo "0 $sz snapshot \${disks[0]} \${disks[n]} PO 8" | dmsetup create v
  dd if=$source of=/dev/mapper/v bs=4096 count=290 oflag=direct conv=notrunc status=none 2>/dev/null
  echo "$(dmsetup status v)"
  dmsetup remove v
  echo "0 $sz snapshot \${disks[0]} \${disks[n]} PO 8" | dmsetup create v
  echo "$(dmsetup status v)"
  dmsetup remove v
done
`

it('the kernel overflows at 257 chunks and invalidates at 258; we stop before either, and the store stays valid', async () => {
  const dir = await path('borders')
  await mkdir(dir)
  const originBytes = bytes(2400 * SECTOR)
  await writeFile(`${dir}/origin`, originBytes)
  await writeFile(`${dir}/source`, bytes(2400 * SECTOR))
  const sizes = [257, 258, 259]
  for (const size of sizes) await writeFile(`${dir}/${size}`, new Uint8Array(size * 4096))
  const disks = [`${dir}/origin`, ...sizes.map(size => `${dir}/${size}`)]
  const { log } = await runInKernel({ script: FILL, scratch: `${dir}/run`, disks, args: [`${dir}/source`] })
  const said = log.trim().split('\n')
  const [overflows, invalid] = ['border257', 'border258'].map(name => kernelFixture(name).facts)
  expect(said).toEqual([
    overflows!.status,
    overflows!.reactivate_status,
    invalid!.status,
    invalid!.reactivate_status,
    '0 2400 snapshot Overflow',
    '0 2400 snapshot 2072/2072 24',
  ])
  const counts: number[] = []
  for (const size of sizes) {
    const file = await openWritableFile(`${dir}/${size}`)
    const store = await readStore(file)
    counts.push(store.exceptions.count)
    expect([store.state, store.full]).toEqual([size === 258 ? 'invalid' : 'ok', true])
    await file.close()
  }
  expect(counts).toEqual([255, 255, 256])
})

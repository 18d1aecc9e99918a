import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { expect } from 'vitest'
import { openWritableFile } from '../../src/block/file.js'
import { mergeStore } from '../../src/block/snapshot/merge.js'
import { statusLine } from '../../src/block/snapshot/status.js'
import { readStore } from '../../src/block/snapshot/store.js'
import { createStore, openWritableSnapshot } from '../../src/block/snapshot/writable.js'
import { needKernel, runInKernel } from '../support/kernel.js'
import { failure } from '../support/outcome.js'
import { random } from '../support/random.js'
import { sha256 } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'

const { it } = needKernel()
const path = temporary()
const { seed, below, bytes } = random()
const SECTOR = 512
const SECTORS = 1200 * 8

/**
 * Pairs of disks, origin and store, by what is to be done: shown and merged to the end by the kernel (`end`), merged for a
 * moment (`part`), or written to (`write`).
 */
const SCRIPT = `
set -euo pipefail
source=$1; shift
disks=($DISKS)
for ((n = 0; n < \${#disks[@]}; n += 2)); do
  origin=\${disks[n]} cow=\${disks[n + 1]} sz=$(blockdev --getsz \${disks[n]})
  echo "0 $sz snapshot $origin $cow P 8" | dmsetup create v
  said=$(dmsetup status v)
  hash=$(sha256sum </dev/mapper/v)
  [ $1 != write ] || dd if=$source of=/dev/mapper/v bs=20480 count=3 seek=11 skip=11 oflag=direct conv=notrunc status=none
  dmsetup remove v
  if [ $1 != write ]; then
    echo "0 $sz snapshot-merge $origin $cow P 8" | dmsetup create v
    if [ $1 = end ]; then
      for ((wait = 0; wait < 300; wait++)); do
        state=($(dmsetup status v))
        [ "\${state[3]%/*}" != "\${state[4]}" ] || break
        sleep 0.1
      done
    fi
    dmsetup suspend v
    dmsetup remove v
  fi
  shift
  echo "$said|\${hash%% *}"
done
`

it(`the kernel goes on with what we left half merged, and we with what it left (seed ${seed})`, async () => {
  const dir = await path('pairs')
  await mkdir(dir)
  const source = bytes(SECTORS * SECTOR)
  await writeFile(`${dir}/source`, source)
  const pairs = [
    { chunkSectors: 8, exceptions: 700, half: true, kernel: 'end' },
    { chunkSectors: 1, exceptions: 500, half: true, kernel: 'end' },
    { chunkSectors: 8, exceptions: 700, half: true, kernel: 'write' },
    { chunkSectors: 8, exceptions: 1100, half: false, kernel: 'part' },
    { chunkSectors: 1, exceptions: 3000, half: false, kernel: 'part' },
  ].map((each, n) => ({
    ...each,
    origin: `${dir}/origin${n}`,
    cow: `${dir}/cow${n}`,
    model: new Uint8Array(0),
    left: 0,
  }))

  for (const pair of pairs) {
    const { chunkSectors, exceptions, half, origin, cow } = pair
    const originBytes = bytes(SECTORS * SECTOR)
    await writeFile(origin, originBytes)
    await writeFile(cow, bytes((exceptions + 250) * chunkSectors * SECTOR))
    const [under, store] = await Promise.all([openWritableFile(origin), openWritableFile(cow)])
    await createStore(store, { chunkSectors })
    const device = await openWritableSnapshot(under, store)
    const model = originBytes.slice()
    const chunkSize = chunkSectors * SECTOR
    const chunks = (SECTORS * SECTOR) / chunkSize
    while (device.store.exceptions.count < exceptions) {
      const offset = below(chunks) * chunkSize
      const content = bytes(chunkSize * Math.min(1 + below(5), exceptions - device.store.exceptions.count)).subarray(
        0,
        model.length - offset,
      )
      await device.write(offset, content)
      model.set(content, offset)
    }
    await device.flush()
    pair.model = model
    if (half) {
      const stop = new AbortController()
      const onProgress = (done: number): void => {
        if (done > (exceptions / 2) * chunkSize) stop.abort()
      }
      await failure(
        mergeStore(under, store, { batchBytes: 37 * chunkSize, signal: stop.signal, onProgress }),
        'CANCELLED',
      )
    }
    pair.left = (await readStore(store)).exceptions.count
    if (half) expect(pair.left).toBeLessThan(exceptions / 2)
    await under.close()
    await store.close()
  }

  const { rc, log } = await runInKernel({
    script: SCRIPT,
    scratch: `${dir}/run`,
    disks: pairs.flatMap(({ origin, cow }) => [origin, cow]),
    args: [`${dir}/source`, ...pairs.map(({ kernel }) => kernel)],
  })
  expect(rc, log).toBe(0)
  const lines = log.trim().split('\n')
  for (const [n, { kernel, origin, cow, model, left }] of pairs.entries()) {
    const name = `pair ${n}, ${kernel}, seed ${seed}`
    expect(lines[n]!.split('|')[1], name).toBe(sha256(model))
    if (kernel === 'write') model.set(source.subarray(11 * 20480, 14 * 20480), 11 * 20480)
    const [under, store] = await Promise.all([openWritableFile(origin), openWritableFile(cow)])
    const after = await readStore(store)
    const now = after.exceptions.count
    console.log(`${name}: ${left} exceptions before the kernel, ${now} after`)
    if (kernel === 'end') {
      expect(now).toBe(0)
      expect(statusLine(after, model.length)).toMatch(after.chunkSectors === 8 ? / 16\/\d+ 16$/ : / 2\/\d+ 2$/)
    }
    await mergeStore(under, store)
    expect((await readStore(store)).exceptions.count).toBe(0)
    await under.close()
    await store.close()
    expect(sha256(await readFile(origin)), name).toBe(sha256(model))
  }
})

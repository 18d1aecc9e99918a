// What the COW writer costs: random 4 KiB writes with a flush each 64, beside qemu-io on qcow2 and the kernel's own dm-snapshot.
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PATH } from './bench-images.mjs'
import { ROOT } from './ready.mjs'

const CHUNK = 4096
const BURST = 64
const env = { ...process.env, PATH }

const run = ([program, ...args], options = {}) => {
  const result = spawnSync(program, args, { env, encoding: 'utf8', maxBuffer: 1 << 28, ...options })
  if (result.status !== 0) throw new Error(`${program} failed: ${result.error?.message ?? result.stderr.slice(-500)}`)
  return result.stdout
}

const has = program => spawnSync('sh', ['-c', `command -v ${program}`], { env }).status === 0

/** Chunks of the origin, each once, in an order that is the same every time. */
const shuffled = (count, chunks) => {
  const all = Array.from({ length: chunks }, (_, n) => n)
  let state = 1
  for (let n = 0; n < count; n++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    const other = n + Math.floor((state / 2 ** 32) * (chunks - n))
    ;[all[n], all[other]] = [all[other], all[n]]
  }
  return all.slice(0, count)
}

const sparse = (path, size) => {
  writeFileSync(path, '')
  truncateSync(path, size)
}

const seconds = async work => {
  const start = process.hrtime.bigint()
  await work()
  return Number(process.hrtime.bigint() - start) / 1e9
}

/** The writes as commands of qemu-io. */
const commands = (path, order) => {
  const lines = []
  for (const [n, chunk] of order.entries()) {
    lines.push(`write -q -P ${(n % 255) + 1} ${chunk * CHUNK} ${CHUNK}`)
    if (n % BURST === BURST - 1) lines.push('flush')
  }
  writeFileSync(path, `${lines.join('\n')}\nflush\nquit\n`)
  return path
}

/** Runs qemu-io on a device of the guest; the time is the guest's own, without its start. */
const GUEST = `
set -euo pipefail
set -- $DISKS "$@"
echo "0 $(blockdev --getsz $1) snapshot $1 $2 P 8" | dmsetup create cow
start=$(date +%s.%N)
qemu-io -f raw /dev/mapper/cow <"$3" >/dev/null
echo "$start $(date +%s.%N) $(dmsetup status cow)"
dmsetup remove cow
`

/**
 * Runs the part: the same writes by each, in turns, on files in `dir`. Rows of { what, seconds (the median), writesPerSecond,
 * turns }.
 *
 * @param liveos  openFile, openWritableFile, createStore, openWritableSnapshot, readStore
 */
export const benchCow = async ({ dir, liveos, say, count = 16384, turns = 3 }) => {
  const folder = join(dir, 'cow')
  mkdirSync(folder, { recursive: true })
  const at = name => join(folder, name)
  const order = shuffled(count, count * 4)
  const originSize = count * 4 * CHUNK
  const cowSize = (count + Math.ceil(count / 256) + 64) * CHUNK
  sparse(at('origin'), originSize)
  const script = commands(at('commands'), order)

  const ours = async () => {
    sparse(at('overlay'), cowSize)
    const origin = await liveos.openFile(at('origin'))
    const cow = await liveos.openWritableFile(at('overlay'))
    await liveos.createStore(cow)
    const device = await liveos.openWritableSnapshot(origin, cow)
    const took = await seconds(async () => {
      for (const [n, chunk] of order.entries()) {
        await device.write(chunk * CHUNK, new Uint8Array(CHUNK).fill((n % 255) + 1))
        if (n % BURST === BURST - 1) await device.flush()
      }
      await device.flush()
    })
    const { exceptions } = await liveos.readStore(cow)
    if (exceptions.count !== count) throw new Error(`${exceptions.count} exceptions on the medium, not ${count}`)
    await cow.close()
    await origin.close()
    return took
  }
  const qcow2 = clusterSize => async () => {
    const options = ['-o', `cluster_size=${clusterSize}`]
    run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', at('origin'), ...options, at('top.qcow2')])
    const input = readFileSync(script)
    return seconds(() => run(['qemu-io', '-f', 'qcow2', at('top.qcow2')], { input }))
  }
  const kernel = async () => {
    sparse(at('kernel'), cowSize)
    writeFileSync(at('guest'), GUEST)
    const scratch = at('uml')
    rmSync(scratch, { recursive: true, force: true })
    const disks = ['--disk', `${at('origin')},ro`, '--disk', at('kernel')]
    const uml = join(ROOT, 'test', 'kernel', 'uml.sh')
    run(['bash', uml, '--scratch', scratch, '--script', at('guest'), ...disks, '--seconds', '500', '--', script])
    const [begun, ended] = readFileSync(join(scratch, 'log'), 'utf8').trim().split(' ')
    const file = await liveos.openFile(at('kernel'))
    const { exceptions } = await liveos.readStore(file)
    await file.close()
    if (exceptions.count !== count) throw new Error(`the kernel left ${exceptions.count} exceptions, not ${count}`)
    return Number(ended) - Number(begun)
  }

  const contenders = [
    ['COW writer', ours],
    ...(has('qemu-io') && has('qemu-img')
      ? [
          ['qemu-io on qcow2, clusters of 4 KiB', qcow2(4096)],
          ['qemu-io on qcow2, clusters of 64 KiB', qcow2(65536)],
        ]
      : []),
    ...(has('linux.uml') && has('dmsetup') && has('qemu-io')
      ? [["kernel's dm-snapshot in user-mode Linux", kernel]]
      : []),
  ].map(([what, work]) => ({ what, work, turns: [] }))
  for (let turn = 0; turn < turns; turn++)
    for (const { what, work, turns: taken } of contenders) {
      taken.push(await work())
      say(`${what}: ${taken.at(-1).toFixed(2)} s for ${count} writes`)
    }
  rmSync(folder, { recursive: true, force: true })
  return contenders.map(({ what, turns: taken }) => {
    const median = taken.toSorted((a, b) => a - b)[Math.floor(taken.length / 2)]
    return { what, seconds: median, writesPerSecond: count / median, turns: taken }
  })
}

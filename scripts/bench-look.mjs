// What looking costs: inspect of a 2 GiB ISO, diff and usage of a raw and of a squashed 4 GiB root with 300 MiB of real changes.
import { createHash } from 'node:crypto'
import { statSync } from 'node:fs'
import { lookImages } from './bench-look-images.mjs'

const AT_ONCE = 8

/** Seconds that the pool needs for the blocks of the base that a look at it expands, each once, and nothing else. */
const decodingSeconds = async (liveos, base, overlay, look) => {
  const inputs = new Map()
  const pool = liveos.openPool()
  const file = await liveos.openFile(base)
  const cow = await liveos.openFile(overlay)
  let total = 0
  const decode = async (name, input, capacity) => {
    total++
    inputs.set(createHash('sha256').update(input).digest('hex'), [name, input.slice(), capacity])
    return pool.decode(name, input, capacity)
  }
  const fs = await liveos.openSquashfs(file, { decoder: { decode, depth: 6 } })
  const inner = await fs.open('/LiveOS/rootfs.img')
  const store = await liveos.readStore(cow, { originSize: inner.size })
  const target = await liveos.findTarget({ base, overlay })
  await look({
    target,
    base: { file, squashfs: { fs, path: '/LiveOS/rootfs.img', file: inner }, origin: inner },
    overlay: { file: cow, store },
    root: await liveos.snapshot(inner, cow, { store }),
    pool,
    close: async () => {},
  })
  // As quick as it goes: from shared memory to shared memory, which is there already.
  const slots = Array.from({ length: AT_ONCE }, () => [new SharedArrayBuffer(1 << 20), new SharedArrayBuffer(1 << 20)])
  const expandAll = async () => {
    const start = process.hrtime.bigint()
    const waiting = inputs.values()
    await Promise.all(
      slots.map(async ([from, to]) => {
        for (const [name, bytes, capacity] of waiting) {
          const input = new Uint8Array(from, 0, bytes.length)
          input.set(bytes)
          await pool.decodeInto(name, input, new Uint8Array(to, 0, capacity))
        }
      }),
    )
    return Number(process.hrtime.bigint() - start) / 1e9
  }
  const times = [await expandAll(), await expandAll(), await expandAll()]
  await pool.close()
  await cow.close()
  await file.close()
  return { seconds: Math.min(...times), blocks: inputs.size, total }
}

/** Runs the part. `liveos` has the library's functions and the command; `best` measures a command three times. */
export const benchLook = async ({ dir, size, liveos, command, best, once, say, squashed }) => {
  const made = await lookImages({ dir, size, liveos, once, say, squashed })
  const rows = []
  const add = async (what, args, extra = {}) => rows.push({ what, ...(await best(what, command(...args))), ...extra })
  await add(`inspect of an ISO of ${Math.round(statSync(made.iso).size / 2 ** 20)} MiB`, ['inspect', made.iso], {
    target: 0.5,
  })
  const looks = [
    ['diff', stack => liveos.readChanges(stack)],
    ['usage', stack => liveos.readOverlayUsage(stack)],
  ]
  for (const [kind, overlay] of Object.entries(made.overlays)) {
    for (const [verb] of looks)
      await add(`${verb}, ${kind}, raw root`, [verb, '--base', made.root, '--overlay', overlay], { target: 3 })
    for (const { comp, path } of made.squashes)
      for (const [verb, look] of looks) {
        const decoding = await decodingSeconds(liveos, path, overlay, look)
        const what = `${verb}, ${kind}, squashed root, ${comp}`
        await add(what, [verb, '--base', path, '--overlay', overlay], { decoding, raw: `${verb}, ${kind}, raw root` })
      }
  }
  return rows
}

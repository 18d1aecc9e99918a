// Reads the merged root of a base and an overlay from front to back and drops it: node bench-read.mjs BASE [OVERLAY]
import { openFile } from '../dist/block/file.js'
import { readAhead } from '../dist/block/read-ahead.js'
import { snapshot } from '../dist/block/snapshot/snapshot.js'
import { openPool } from '../dist/bytes/pool.js'
import { openBase } from '../dist/liveos/stack.js'

const PIECE = 1 << 20
const [path, overlay] = process.argv.slice(2)
const pool = openPool()
const file = await openFile(path)
const { origin } = await openBase(file, pool)
const cow = overlay && (await openFile(overlay))
const root = cow ? await snapshot(origin, cow) : origin
// The way in which copyData reads, holes included: unsquashfs writes those out too.
async function* pieces() {
  for (let offset = 0; offset < root.size; offset += PIECE)
    yield { offset, length: Math.min(PIECE, root.size - offset) }
}
let bytes = 0
for await (const read of readAhead(root, pieces(), PIECE)) bytes += read.bytes.length
if (bytes !== root.size) throw new Error(`${bytes} bytes of ${root.size}`)
await pool.close()
await cow?.close()
await file.close()

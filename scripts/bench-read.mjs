// Reads the merged root of a base and an overlay from front to back and drops it: node bench-read.mjs BASE [OVERLAY]
import { openFile } from '../dist/block/file.js'
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
for (let at = 0; at < root.size; at += PIECE) await root.read(at, Math.min(PIECE, root.size - at))
await pool.close()
await cow?.close()
await file.close()

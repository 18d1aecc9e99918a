import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { expect } from 'vitest'
import { memory } from '../../src/block/memory.js'
import { LiveError } from '../../src/error.js'
import { openSquashfs } from '../../src/fs/squashfs/reader.js'
import { listSquashfs } from '../support/squashfs-tree.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const run = promisify(execFile)
const path = temporary()
const COMPRESSORS = ['gzip', 'xz', 'zstd', 'lz4', 'lzo'] as const
const tools = needTools('mksquashfs', 'setfattr')

tools.it(
  'squashfs: finds every kind of damage or reads on: flips and cuts of real images',
  async () => {
    const small = await path('small-tree')
    await run('bash', [
      '-c',
      `mkdir -p ${small}/d && seq 3000 > ${small}/small && head -c 70000 /dev/urandom > ${small}/random && : > ${small}/nothing && ln -s x ${small}/d/l && setfattr -n user.a -v b ${small}/small`,
    ])
    let state = Number(process.env.SEED ?? 20261121)
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return Math.floor((state / 2 ** 32) * below)
    }
    const walk = async (bytes: Uint8Array): Promise<string> => {
      try {
        const { files } = await listSquashfs(await openSquashfs(memory(bytes, 'mutated')))
        return [...files].join('\n')
      } catch (error) {
        if (error instanceof LiveError) return error.code
        throw new Error(`seed ${process.env.SEED ?? 20261121}: ${error instanceof Error ? error.stack : String(error)}`)
      }
    }
    for (const comp of [...COMPRESSORS, 'lzma']) {
      const file = await path(`mutate-${comp}`)
      await run('mksquashfs', [small, file, '-noappend', '-no-progress', '-comp', comp, '-b', '4K'])
      const bytes = new Uint8Array(await readFile(file))
      const whole = await walk(bytes)
      const used = new DataView(bytes.buffer).getUint32(40, true)
      const inodes = new DataView(bytes.buffer).getUint32(64, true)
      for (let round = 0; round < 250; round++) {
        const copy = bytes.slice()
        const at = round < 120 ? random(96) : inodes + random(used - inodes)
        copy[at] = copy[at]! ^ (1 << random(8))
        await walk(copy)
      }
      for (let round = 0; round < 60; round++) expect(await walk(bytes.slice(0, random(used)))).not.toBe(whole)
    }
  },
  120_000,
)

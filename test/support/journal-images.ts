import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { memory } from '../../src/block/memory.js'
import { type JournalFile, readJournalFile } from '../../src/fs/ext4/journal/file.js'
import { readExt4Superblock } from '../../src/fs/ext4/superblock.js'
import { sameBytes } from './outcome.js'
import { tool } from './tools.js'

const run = promisify(execFile)
/** the time that e2fsck notes wherever it notes one */
const NOW = '2000000000'

/** Runs a program of e2fsprogs; gives its exit status and what it printed. */
export const e2fs = async (name: string, ...args: string[]): Promise<{ status: number; output: string }> => {
  try {
    const { stdout, stderr } = await run(tool(name) ?? name, args, {
      env: { ...process.env, LC_ALL: 'C', E2FSCK_TIME: NOW },
    })
    return { status: 0, output: stdout + stderr }
  } catch (error) {
    const { code, stdout, stderr } = error as { code?: number; stdout?: string; stderr?: string }
    if (typeof code !== 'number') throw error
    return { status: code, output: `${stdout}${stderr}` }
  }
}

/** Makes an empty filesystem with mke2fs. */
export const madeImage = async (path: string, megabytes: number, ...options: string[]): Promise<Buffer> => {
  await writeFile(path, '')
  const uuid = ['-U', '6a2b9d2e-1f0c-4a53-9d1e-0123456789ab', '-E', 'hash_seed=6a2b9d2e-1f0c-4a53-9d1e-0123456789ab']
  const made = await e2fs('mke2fs', '-q', '-F', ...uuid, ...options, path, `${megabytes}M`)
  if (made.status !== 0) throw new Error(made.output)
  return readFile(path)
}

/** Where the journal of an image lies. */
export const journalFileOf = async (image: Uint8Array): Promise<JournalFile> => {
  const device = memory(image)
  return readJournalFile(device, await readExt4Superblock(device))
}

/** What e2fsck leaves of an image after replaying its journal. */
export const replayedByE2fsck = async (path: string, image: Uint8Array): Promise<{ bytes: Buffer; output: string }> => {
  await writeFile(path, image)
  const { status, output } = await e2fs('e2fsck', '-E', 'journal_only', '-y', path)
  if (status > 1) throw new Error(`e2fsck: ${status}\n${output}`)
  return { bytes: await readFile(path), output }
}

/**
 * Two images that e2fsck may have made different: in the superblock's s_wtime with its high byte, s_kbytes_written and, since it
 * covers them, s_checksum.
 */
export const sameReplay = (ours: Uint8Array, theirs: Uint8Array): void => {
  const masked = [ours, theirs].map(image => {
    const copy = Buffer.from(image)
    copy.fill(0, 1024 + 48, 1024 + 52)
    copy.fill(0, 1024 + 628, 1024 + 629)
    copy.fill(0, 1024 + 376, 1024 + 384)
    copy.fill(0, 1024 + 1020, 1024 + 1024)
    return copy
  })
  sameBytes(masked[0]!, masked[1]!)
}

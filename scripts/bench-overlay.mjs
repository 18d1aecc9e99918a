// What looking after an overlay costs: doctor and compact of 300 MiB of changes over a root of 4 GiB.
import { spawnSync } from 'node:child_process'
import { mkdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { lookImages } from './bench-look-images.mjs'

/**
 * Runs the part. Rows of a measured command with { what, target, overlayBytes }.
 *
 * @param best  measures a command three times and gives the quickest
 */
export const benchOverlay = async ({ dir, size, liveos, command, best, timed, once, say, squashed }) => {
  const { root, squashes, overlays } = await lookImages({ dir, size, liveos, once, say, squashed })
  const overlay = overlays.written
  const rows = []
  const overlayBytes = statSync(overlay).size
  for (const [kind, base] of [
    ['raw', root],
    ['squashed', squashes[0].path],
  ]) {
    const what = `doctor, ${kind} root, without e2fsck`
    const args = ['doctor', '--no-fsck', '--base', base, '--overlay', overlay]
    // what it finds is not this one's business: a fresh image was never unmounted
    rows.push({ what, ...(await best(what, command(...args), [0, 1])), target: 2, overlayBytes })
  }
  const folder = join(dir, 'compact')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
  const copy = join(folder, 'overlay')
  if (spawnSync('cp', ['--reflink=auto', '--sparse=always', overlay, copy]).status !== 0) throw new Error('copying')
  const what = 'compact, raw root'
  const args = ['compact', '--base', root, '--overlay', copy, '--size', '+1M', '--yes']
  rows.push({ what, ...(await timed(what, command(...args))), target: null, overlayBytes })
  rmSync(folder, { recursive: true, force: true })
  return rows
}

import { expect, it } from 'vitest'
import { tellingLines, tellsDirtyLog } from '../../../src/ops/checker-words.js'

it('only what is wrong is cited of a checker', () => {
  const words = `e2fsck 1.47.2 (1-Jan-2025)
Pass 1: Checking inodes, blocks, and sizes
Pass 2: Checking directory structure
Pass 3: Checking directory connectivity
Pass 4: Checking reference counts
Inode 2 ref count is 64, should be 4.  Fix? no

Unattached inode 14
Connect to /lost+found? no

Pass 5: Checking group summary information

root: ********** WARNING: Filesystem still has errors **********

root: 14/2048 files (0.0% non-contiguous), 1500/8192 blocks
`
  expect(tellingLines({ words })).toEqual(['Inode 2 ref count is 64, should be 4.', 'Unattached inode 14'])
  expect(tellingLines({ words }, 1)).toEqual(['Inode 2 ref count is 64, should be 4.', 'and more'])
})

it('where nothing tells, the last words stand', () => {
  expect(
    tellingLines({ words: 'Phase 1 - find and verify superblock...\n\nNo modify flag set, skipping phase 5\n' }),
  ).toEqual(['Phase 1 - find and verify superblock...', 'No modify flag set, skipping phase 5'])
  expect(tellingLines({ words: '' })).toEqual([])
})

it('a log that is dirty, over line ends', () => {
  const words =
    'ALERT: The filesystem has valuable metadata changes in a log which is being\nignored because the -n option was used.\n'
  expect(tellsDirtyLog({ words })).toBe(true)
  expect(tellsDirtyLog({ words: words.replace('in a log which', 'in a\nlog which') })).toBe(true)
  expect(tellsDirtyLog({ words: 'nothing of that kind' })).toBe(false)
})

import { expect, it } from 'vitest'
import { parseSnapshotStatus, parseSnapshotTables } from '../../../src/host/dmsetup.js'
import { parseMounts } from '../../../src/host/medium.js'
import { upperOf } from '../../../src/ops/status-live.js'

it.each([
  [
    'a count',
    'live-rw: 0 229376 snapshot 26864/32768 120',
    { state: 'ok', usage: { allocatedSectors: 26864, totalSectors: 32768, metadataSectors: 120 } },
  ],
  ['without a name', '0 8 snapshot 16/32 16\n', { state: 'ok', line: '0 8 snapshot 16/32 16' }],
  ['a name with a colon', 'a: b: 0 8 snapshot Overflow', { state: 'overflow', line: '0 8 snapshot Overflow' }],
  ['overflow', '0 8 snapshot Overflow', { state: 'overflow', usage: undefined }],
  ['invalid', '0 8 snapshot Invalid', { state: 'invalid', usage: undefined }],
  ['a merge', '0 8 snapshot-merge 16/32 16', { state: 'ok', line: '0 8 snapshot-merge 16/32 16' }],
  ['a merge that failed', '0 8 snapshot-merge Merge failed', { state: 'merge failed' }],
  ['what it does not know itself', '0 8 snapshot Unknown', { state: 'unknown' }],
  ['nothing behind it', '0 8 snapshot ', { state: 'unknown' }],
])('dmsetup status: %s', (_what, text, expected) => {
  expect(parseSnapshotStatus(text)).toMatchObject(expected)
})

it.each(['', '0 8 linear', 'x: 0 8 snapshot-origin ', 'No devices found', '0 8 snapshotter 1/2 3'])(
  'dmsetup status of something else: %j',
  text => expect(parseSnapshotStatus(text)).toBeUndefined(),
)

it('dmsetup table: snapshots among others', () => {
  const text = [
    'live-base: 0 229376 linear 7:1 0',
    'live-rw: 0 229376 snapshot 7:1 7:2 PO 8',
    'odd: name: 0 8 snapshot 253:0 8:17 N 8 2 discard_zeroes_cow discard_passdown_origin',
    'm: 0 8 snapshot-merge 7:1 7:3 P 16',
    'vg-x: 0 8 snapshot-origin 7:1',
    'torn: 0 8 snapshot 7:1',
    'wrong: 0 8 snapshot 7:1 7:2 PO 9',
    'vg-thin: 0 8 thin 253:2 1',
    'empty: ',
    '',
  ].join('\n')
  expect(parseSnapshotTables(text)).toEqual([
    { name: 'live-rw', target: 'snapshot', origin: '7:1', store: '7:2', kind: 'PO', chunkSectors: 8 },
    { name: 'odd: name', target: 'snapshot', origin: '253:0', store: '8:17', kind: 'N', chunkSectors: 8 },
    { name: 'm', target: 'snapshot-merge', origin: '7:1', store: '7:3', kind: 'P', chunkSectors: 16 },
  ])
  expect(parseSnapshotTables('No devices found\n')).toEqual([])
})

it('the upper directory of an OverlayFS, with the characters that the kernel escapes', () => {
  const mount = (options: string) =>
    parseMounts(`30 1 0:25 / / rw,relatime - overlay LiveOS_rootfs rw,${options}\n`)[0]!
  expect(upperOf(mount('lowerdir=/run/rootfsbase,upperdir=/run/overlayfs,workdir=/run/ovlwork'))).toBe('/run/overlayfs')
  expect(upperOf(mount('lowerdir=/a,upperdir=/my\\040stick/a\\,b\\:c,workdir=/w'))).toBe('/my stick/a,b:c')
  expect(upperOf(mount('lowerdir=/a:/b'))).toBeUndefined()
})

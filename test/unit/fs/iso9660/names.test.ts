import { expect, test } from 'vitest'
import { primaryName } from '../../../../src/fs/iso9660/names.js'
import { failure } from '../../../support/outcome.js'

const PLACE = { device: 'names', base: 0 }
const shown = (name: string | Uint8Array): string => primaryName(Buffer.from(name), PLACE)

test('plain names are shown as Linux shows them', () => {
  for (const [name, linux] of [
    ['README.TXT;1', 'readme.txt'],
    ['README.;1', 'readme'],
    ['README;1', 'readme'],
    ['README.', 'readme.'],
    ['README.TXT;2', 'readme.txt.2'],
    ['MiXed_9', 'mixed_9'],
    ['A/B', 'a.b'],
    ['A;11', 'a.11'],
  ] as const)
    expect(shown(name)).toBe(linux)
  expect(shown(Uint8Array.of(0xc4, 0x41))).toBe('\udcc4a')
})

test('names that lead elsewhere are damage', async () => {
  // the last two are . and .. without their version
  for (const name of [';1', '.;1', '.', '..', 'A\0B', '..;1', '...;1'])
    await failure((async () => shown(name))(), 'CORRUPT')
})

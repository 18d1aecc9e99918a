import { expect, it } from 'vitest'
import { shownName } from '../../../src/block/http/shown.js'
import { pathWord, typedAs } from '../../../src/liveos/advice.js'
import { overlayFile } from '../../../src/liveos/overlay-place.js'
import { openSource } from '../../../src/liveos/source.js'
import { findTarget } from '../../../src/liveos/target.js'
import { findMedium } from '../../../src/ops/boot-medium.js'
import { checkBoot } from '../../../src/ops/doctor-boot.js'
import { readStatus } from '../../../src/ops/status.js'
import { planTable } from '../../../src/ops/table.js'
import { failure } from '../../support/outcome.js'

it.each([
  ['stick.img', 'stick.img'],
  ['/run/media/me@home/LIVE', '/run/media/me@home/LIVE'],
  ['https://me:SECRET@example.org:8080/live.iso?token=SECRET#x', 'https://example.org:8080/live.iso?…'],
  ['HTTP://SECRET@example.org/', 'http://example.org/'],
  ['http://me:SECRET@', 'http://'],
  ['http://me:SEC/RET@example.org:99999/live.iso?token=SECRET', 'http://example.org:99999/live.iso?…'],
])('%s is shown as %s', (name, shown) => {
  expect(shownName(name)).toBe(shown)
})

const ADDRESS = 'https://me:SECRET@example.org/live.iso?token=SECRET'
/** no address, as no port is so large */
const WRONG = 'https://me:SECRET@example.org:99999/live.iso?token=SECRET'

it('what is secret in an address is in no advice, no finding and no error', async () => {
  expect(pathWord(ADDRESS) + typedAs({ target: ADDRESS })).not.toContain('SECRET')
  const told: unknown[] = []
  await checkBoot({ target: ADDRESS }, (...finding) => void told.push(finding))
  expect(told).toHaveLength(1)
  expect(JSON.stringify(told)).not.toContain('SECRET')
  for (const error of [
    await failure(findTarget({ target: ADDRESS }), 'USAGE'),
    await failure(planTable({ target: ADDRESS }), 'UNSUPPORTED'),
    await failure(findTarget({ target: WRONG }), 'USAGE'),
    await failure(openSource(WRONG), 'USAGE'),
    await failure(readStatus({ target: WRONG }), 'USAGE'),
    await failure(findTarget({ base: ADDRESS }), 'NOT_FOUND'),
    await failure(findMedium({ target: WRONG }), 'NOT_FOUND'),
    await failure(overlayFile(ADDRESS, undefined), 'NOT_FOUND'),
  ])
    expect(JSON.stringify(error)).not.toContain('SECRET')
})

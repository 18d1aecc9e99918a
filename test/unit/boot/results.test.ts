import { readFile } from 'node:fs/promises'
import { expect, it, vi } from 'vitest'
import { temporary } from '../../support/temporary.js'

const path = temporary()

it('keeps one result a layout and version, and none of a layout that is tested no more', async () => {
  const file = await path('results.json')
  vi.stubEnv('LIVEOS_BOOT_RESULTS', file)
  vi.resetModules()
  const { dropOldLayouts, keepResult } = await import('../../boot/results.js')
  const kept = async () =>
    (JSON.parse(await readFile(file, 'utf8')) as { id: string; kernel: string; outcome: string }[]).map(
      ({ id, kernel, outcome }) => `${id} ${kernel} ${outcome}`,
    )
  const of = (kernel: string) => ({ folder: '', words: '', suite: 'bookworm', kernel, dracut: '059-4' })
  const result = (id: string, outcome: 'as expected' | 'failed') =>
    ({ id, layout: `layout ${id}`, outcome, seconds: 1, seen: [], prediction: 'right' }) as const
  await keepResult(of('6.1'), result('a', 'failed'))
  await keepResult(of('6.1'), result('a', 'as expected'))
  await keepResult(of('6.2'), result('a', 'as expected'))
  await keepResult(of('6.1'), result('b', 'as expected'))
  await keepResult(of('6.1'), result('c', 'as expected'))
  expect(await kept()).toHaveLength(4)
  const titles = new Map([
    ['a', 'layout a'],
    ['b', 'another layout under the old id'],
  ])
  await dropOldLayouts(titles)
  expect(await kept()).toEqual(['a 6.1 as expected', 'a 6.2 as expected'])
  await dropOldLayouts(titles)
  expect(await kept()).toHaveLength(2)
})

import { expect, it } from 'vitest'
import { LiveError } from '../../../src/error.js'
import { type Progress, progressing } from '../../../src/ops/progress.js'
import { failure } from '../../support/outcome.js'

const at = (phase: string, doneBytes: number): Progress => ({ phase, doneBytes, totalBytes: 10 })

it('who stops listening still waits for the work', async () => {
  let done = false
  const running = progressing(async report => {
    report(at('write', 1))
    await new Promise(resolve => setTimeout(resolve, 30))
    done = true
  })
  for await (const progress of running) {
    expect(progress.phase).toBe('write')
    break
  }
  expect(done).toBe(true)
})

it('a slow listener gets the last report of each phase, and the outcome', async () => {
  const running = progressing(async report => {
    for (let n = 0; n <= 10; n++) report(at('write', n))
    report(at('verify', 3))
    report(at('verify', 4))
    return 'outcome'
  })
  expect(await running.next()).toEqual({ done: false, value: at('write', 10) })
  expect(await running.next()).toEqual({ done: false, value: at('verify', 4) })
  expect(await running.next()).toEqual({ done: true, value: 'outcome' })
})

it('a failure comes after the reports that were made before it', async () => {
  const running = progressing(async report => {
    report(at('write', 1))
    throw new LiveError('IO', 'broken')
  })
  expect((await running.next()).value).toEqual(at('write', 1))
  await failure(running.next(), 'IO')
  expect(await running.next()).toEqual({ done: true, value: undefined })
})

it('a failure that nobody listens to any more ends nothing', async () => {
  const running = progressing(async report => {
    report(at('write', 1))
    await Promise.resolve()
    throw new LiveError('IO', 'broken')
  })
  await running.next()
  expect(await running.return('stopped' as never)).toEqual({ done: true, value: 'stopped' })
})

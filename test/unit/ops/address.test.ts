import { mkdir, writeFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { isLiveError } from '../../../src/error.js'
import { oneTarget, parseAddress } from '../../../src/ops/address.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()

describe('parseAddress', () => {
  it.each([
    ['stick.img:/etc', 'stick.img', '/etc'],
    ['stick.img', 'stick.img', '/'],
    ['stick.img:', 'stick.img', '/'],
    ['stick.img:/', 'stick.img', '/'],
    [':/etc', undefined, '/etc'],
    ['', undefined, '/'],
    [':', undefined, '/'],
    ['https://example.org/live.iso', 'https://example.org/live.iso', '/'],
    ['https://example.org/live.iso:/etc', 'https://example.org/live.iso', '/etc'],
    ['https://me:secret@example.org:8080/live.iso:/etc', 'https://me:secret@example.org:8080/live.iso', '/etc'],
    ['/run/media/me/A:B:/home', '/run/media/me/A:B', '/home'],
    ['a:/b:/c', 'a:/b', '/c'],
    ['stick.img:etc', 'stick.img:etc', '/'],
    ['stick.img:/a b', 'stick.img', '/a b'],
  ])('%s', (text, target, path) => {
    expect(parseAddress(text)).toEqual({ target, path })
  })
})

it('a path may have :/ in it where the target is a file of this computer', async () => {
  const stick = await path('stick.img')
  await writeFile(stick, '')
  expect(parseAddress(`${stick}:/d/x:/y`)).toEqual({ target: stick, path: '/d/x:/y' })
  await mkdir(`${stick}:`)
  await writeFile(`${stick}:/d`, '')
  expect(parseAddress(`${stick}:/d:/y`)).toEqual({ target: `${stick}:/d`, path: '/y' })
})

describe('oneTarget', () => {
  it('keeps the paths of one target in their order', () => {
    const { input, paths } = oneTarget(['s:/b', 's:/a'], { image: 'F39' })
    expect(input).toEqual({ image: 'F39', target: 's' })
    expect(paths).toEqual(['/b', '/a'])
  })

  it('takes words for paths where a base is named', () => {
    const { input, paths } = oneTarget(['/etc', ':/home', 'usr', ''], { base: 'root.img' })
    expect(input.target).toBeUndefined()
    expect(paths).toEqual(['/etc', '/home', 'usr', '/'])
  })

  it('refuses two targets, and says which', () => {
    for (const [texts, words] of [
      [['a:/x', 'b:/x'], 'a and b are two targets'],
      [['a:/x', ':/x'], 'a and the running system are two targets'],
    ] as const) {
      let error: unknown
      try {
        oneTarget(texts, {})
      } catch (thrown) {
        error = thrown
      }
      expect(isLiveError(error) && error.code === 'USAGE' && error.message).toContain(words)
    }
  })
})

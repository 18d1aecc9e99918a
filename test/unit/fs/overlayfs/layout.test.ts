import { describe, expect, it } from 'vitest'
import type { Xattr } from '../../../../src/fs/filesystem.js'
import { hasRootMarks, parseIndexName, parseMarks, visibleXattrs } from '../../../../src/fs/overlayfs/layout.js'
import { random } from '../../../support/random.js'

const xattr = (name: string, value: string | Uint8Array): Xattr => ({
  name,
  value: typeof value === 'string' ? Buffer.from(value, 'latin1') : value,
})
const at = { device: 'upper', where: '/dir' }
const marksOf = (...xattrs: Xattr[]) => parseMarks(xattrs, 'trusted', at)

// What Linux 6.18 wrote for a lower inode 5 of a squashfs.
const HANDLE = '00fb1d0001000000000000000000000000000000000500000000000000'

describe('marks', () => {
  it('says what the kernel wrote', () => {
    expect(marksOf()).toEqual({
      isOpaque: false,
      hasXattrWhiteouts: false,
      redirect: undefined,
      isMetacopy: false,
      originInode: undefined,
      nlink: undefined,
    })
    expect(marksOf(xattr('trusted.overlay.opaque', 'y')).isOpaque).toBe(true)
    expect(marksOf(xattr('trusted.overlay.opaque', 'x'))).toMatchObject({ isOpaque: false, hasXattrWhiteouts: true })
    expect(marksOf(xattr('trusted.overlay.redirect', '/d/e')).redirect).toBe('/d/e')
    expect(marksOf(xattr('trusted.overlay.metacopy', '')).isMetacopy).toBe(true)
    expect(marksOf(xattr('trusted.overlay.origin', Buffer.from(HANDLE, 'hex'))).originInode).toBe(5)
    expect(marksOf(xattr('trusted.overlay.nlink', 'U+0')).nlink).toEqual({ of: 'upper', more: 0 })
    expect(marksOf(xattr('trusted.overlay.nlink', 'L-2')).nlink).toEqual({ of: 'lower', more: -2 })
    expect(parseIndexName(HANDLE)).toBe(5)
  })

  it('says nothing of what it is not written for', () => {
    expect(marksOf(xattr('user.overlay.opaque', 'y')).isOpaque).toBe(false)
    for (const value of ['', 'yes', 'n', 'Y'])
      expect(marksOf(xattr('trusted.overlay.opaque', value)).isOpaque).toBe(false)
    for (const value of ['', 'U', '+1', 'X+1', 'U+1e9', 'U+99999999999'])
      expect(marksOf(xattr('trusted.overlay.nlink', value)).nlink).toBeUndefined()
    for (const name of [
      '',
      '#7',
      HANDLE.slice(2),
      HANDLE.toUpperCase().replace('FB', 'fB'),
      `${HANDLE}zz`,
      '00'.repeat(29),
    ])
      expect(parseIndexName(name)).toBeUndefined()
    expect(parseIndexName(HANDLE.replace('00fb1d00', '00fb1d01'))).toBeUndefined()
    expect(parseIndexName(HANDLE.replace('00fb1d', '00fb40'))).toBeUndefined()
    expect(hasRootMarks([xattr('user.overlay.opaque', 'y')], 'user')).toBe(false)
    expect(hasRootMarks([xattr('user.overlay.impure', 'y')], 'user')).toBe(true)
  })

  it.each(['', '/', '//', '/a/', '/a//b', 'a/b', '/a/../b', '..', '.', '/.', 'a\0', `/${'a'.repeat(5000)}`])(
    'takes no redirect %j',
    value => {
      try {
        marksOf(xattr('trusted.overlay.redirect', value))
        expect.unreachable()
      } catch (error) {
        expect(error).toMatchObject({
          code: 'CORRUPT',
          data: { device: 'upper', field: 'trusted.overlay.redirect of /dir' },
        })
      }
    },
  )

  it('is a value or CORRUPT for any bytes', () => {
    const numbers = random()
    for (let n = 0; n < 3000; n++) {
      const name = ['opaque', 'redirect', 'metacopy', 'origin', 'nlink', 'whiteout'][numbers.below(6)]!
      try {
        marksOf(xattr(`trusted.overlay.${name}`, numbers.bytes(numbers.below(60))))
      } catch (error) {
        expect(error, `seed ${numbers.seed}`).toMatchObject({ code: 'CORRUPT' })
      }
    }
  })
})

it('hides its own attributes and gives an inner one its name back', () => {
  const value = Buffer.of(1)
  const names = (...given: string[]): string[] =>
    visibleXattrs(
      given.map(name => ({ name, value })),
      'trusted',
    ).map(({ name }) => name)
  expect(names('user.a', 'trusted.overlay.opaque', 'trusted.overlay.overlay.opaque', 'trusted.b')).toEqual([
    'user.a',
    'trusted.overlay.opaque',
    'trusted.b',
  ])
  expect(names('trusted.overlay.overlay.overlay.x')).toEqual(['trusted.overlay.overlay.x'])
  expect(names('user.overlay.opaque')).toEqual(['user.overlay.opaque'])
  expect(names('trusted.overlay.overlay')).toEqual([])
})

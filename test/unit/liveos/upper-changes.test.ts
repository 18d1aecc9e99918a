import { expect, it } from 'vitest'
import { corrupt } from '../../../src/error.js'
import type { XattrFileSystem } from '../../../src/fs/filesystem.js'
import { openOverlayFs } from '../../../src/fs/overlayfs/reader.js'
import { readUpperChanges } from '../../../src/liveos/changes/upper.js'
import { directory, file, type MockNode, mockFileSystem } from '../../support/mock-filesystem.js'

const whiteout: MockNode = { kind: 'character', stat: { device: { major: 0, minor: 0 } } }
const damage = (field: string) => corrupt({ device: 'base', offset: 0, field, expected: 'an inode', found: 'none' })

const over = async (lower: XattrFileSystem, upper: Record<string, MockNode>) =>
  openOverlayFs({ name: 'root', lower, upper: mockFileSystem(directory(upper), 'upper') })

it('a device of the base that can not be read is told, and all else is compared', async () => {
  const whole = mockFileSystem(
    directory({ dev: directory({ bad: { kind: 'character' }, file: file('x') }), kept: file('y') }),
    'base',
  )
  const base: XattrFileSystem = {
    ...whole,
    stat: async path => {
      if (path === '/dev/bad') throw damage('inode type')
      return whole.stat(path)
    },
  }
  const { changes, findings } = await readUpperChanges(base, await over(base, { dev: whiteout, new: file('z') }))
  expect(changes.map(({ path, change }) => `${change} ${path}`)).toEqual([
    'deleted /dev',
    'deleted /dev/file',
    'added /new',
  ])
  expect(findings).toMatchObject([{ code: 'DIFF_UNREADABLE', where: '/dev/bad' }])
})

it('what was opened to be compared is closed where its copy can not be opened', async () => {
  const whole = mockFileSystem(directory({ file: file('old') }), 'base')
  let open = 0
  const base: XattrFileSystem = {
    ...whole,
    async open(path) {
      const device = await whole.open(path)
      open++
      return {
        ...device,
        async close() {
          open--
        },
      }
    },
  }
  const root = await over(base, { file: file('new', { fails: damage('data') }) })
  const { findings } = await readUpperChanges(base, root)
  expect(findings).toMatchObject([{ code: 'DIFF_UNREADABLE', where: '/file' }])
  expect(open).toBe(0)
})

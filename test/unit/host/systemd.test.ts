import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, it as vitestIt } from 'vitest'
import { escapePath, execWord } from '../../../src/host/systemd.js'
import { tool } from '../../support/tools.js'

const run = promisify(execFile)

// nobody has to have systemd for the tests' sake
const it = vitestIt.skipIf(!tool('systemd-escape'))
it('paths in names of units as systemd escapes them', async () => {
  const paths = ['/', '/run/media/me/LIVE', '/a b/c-d', '/.hidden/.x', '//x//y/', '/ümläut', '/a%b', '/x:y_z.1', '/\\x']
  const { stdout } = await run('systemd-escape', ['--path', '--', ...paths])
  expect(paths.map(escapePath).join(' ')).toBe(stdout.trim())
})

it('words of a command line: quoted, with nothing left to expand', () => {
  expect(execWord('/run/a "b" $c %d \\e')).toBe('"/run/a \\"b\\" $$c %%d \\\\e"')
})

import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { unpackSample } from '../scripts/sample.mjs'
import { modulesBelow } from './support/imports.js'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const text = (name: string): string => readFileSync(join(ROOT, name), 'utf8')
const modules = modulesBelow(join(ROOT, 'src'))

describe('docs/ARCHITECTURE.md', () => {
  const named = new Set(
    [...text('docs/ARCHITECTURE.md').matchAll(/`((?:src|test|scripts|sample)\/[\w/.-]*)\/`/g)].map(match => match[1]!),
  )

  it('names only folders that exist', () => {
    expect(
      [...named].filter(name => !existsSync(join(ROOT, name)) || !statSync(join(ROOT, name)).isDirectory()),
    ).toEqual([])
  })

  it('names every folder of src that holds a file', () => {
    const folders = new Set(
      modules.map(module => posix.dirname(`src/${module.path}`)).filter(folder => folder !== 'src'),
    )
    expect([...folders].filter(folder => !named.has(folder)).sort()).toEqual([])
  })
})

describe('docs/LIMITS.md', () => {
  // A name with ${...} in it must be there with anything in that place.
  const calls = modules.flatMap(module =>
    [...module.text.matchAll(/\bunsupported\(\s*(?:(['"`])((?:(?!\1)[^\\])*)\1|([^\s'"`]))/g)]
      .filter(() => module.path !== 'error.ts')
      .map(match => ({ path: module.path, name: match[2] })),
  )

  it('can be checked: each unsupported() in src has its name written out', () => {
    expect(calls.filter(call => call.name === undefined).map(call => call.path)).toEqual([])
    const direct = modules.filter(
      ({ path, text }) => path !== 'error.ts' && /new LiveError\(\s*'UNSUPPORTED'/.test(text),
    )
    expect(direct.map(({ path }) => path)).toEqual([])
  })

  it('lists each feature that src calls unsupported', () => {
    const limits = text('docs/LIMITS.md')
    const isListed = (name: string): boolean =>
      new RegExp(
        name
          .split(/\$\{[^}]*\}/)
          .map(part => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
          .join('[^\\n]+'),
      ).test(limits)
    expect(
      calls.filter(call => call.name !== undefined && !isListed(call.name)).map(call => `${call.path}: ${call.name}`),
    ).toEqual([])
  })
})

/** The commands of README's blocks that start with ```sh run: one a line, `# exit N` where it isn't 0. They share one stick. */
const runnable = [...text('README.md').matchAll(/^```sh run\n([\s\S]*?)^```$/gm)].flatMap(block =>
  block[1]!
    .replaceAll('\\\n', ' ')
    .split('\n')
    .map(line => line.replace(/^\$ /, '').trim())
    .filter(line => line !== '' && !line.startsWith('#'))
    .map(line => ({ command: line, status: Number(/# exit (\d+)/.exec(line)?.[1] ?? 0) })),
)

describe('README.md', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'liveos-readme-'))
  afterAll(() => rmSync(scratch, { recursive: true, force: true }))
  const env = { ...process.env, PATH: `${join(ROOT, 'bin')}${delimiter}${process.env.PATH}`, NO_COLOR: '1' }

  it('says how to start and how to test', () => {
    expect(text('README.md')).toContain('npm start')
    expect(text('README.md')).toContain('npm test')
  })

  // In a directory that holds the sample stick as `stick`.
  it.each(runnable)('$command', async ({ command, status }) => {
    const stick = join(scratch, 'stick')
    if (!existsSync(stick)) await unpackSample(stick)
    const done = spawnSync('bash', ['-c', command], { cwd: scratch, env, encoding: 'utf8', input: '' })
    expect({ status: done.status, output: done.status === status ? '' : done.stdout + done.stderr }).toEqual({
      status,
      output: '',
    })
  })
})

import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { modulesBelow } from './support/imports.js'
import { temporary } from './support/temporary.js'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

describe('bin/liveos', () => {
  const place = temporary()
  const says = (word: string): string => `export const main = async () => { console.log('${word}'); return 0 }\n`
  /** What is started where these modules have these times, in seconds. */
  const started = async (modules: number, bundle: number | undefined): Promise<string> => {
    const folder = await place(`modules ${modules}, bundle ${bundle}`)
    const put = (name: string, text: string, seconds: number): void => {
      const path = join(folder, name)
      mkdirSync(dirname(path), { recursive: true })
      writeFileSync(path, text)
      utimesSync(path, seconds, seconds)
    }
    put('package.json', '{ "type": "module" }', 1)
    put('bin/liveos', readFileSync(join(ROOT, 'bin', 'liveos'), 'utf8'), 1)
    put('dist/cli/main.js', says('modules'), modules)
    if (bundle !== undefined) put('dist/command/main.js', says('bundle'), bundle)
    return spawnSync(process.execPath, [join(folder, 'bin', 'liveos')], { encoding: 'utf8' }).stdout.trim()
  }

  it('takes the modules where there is no bundle', async () => {
    expect(await started(1000, undefined)).toBe('modules')
  })

  it('takes a bundle that is as new: all files of a package have one time', async () => {
    expect(await started(1000, 1000)).toBe('bundle')
  })

  it('takes the modules where tsc alone has built since', async () => {
    expect(await started(1001, 1000)).toBe('modules')
  })
})

it('finds other modules by a path that is right from dist/command too', () => {
  const paths = modulesBelow(join(ROOT, 'src')).flatMap(({ text }) =>
    [...text.matchAll(/new URL\(([\s\S]{0,200}?),\s*import\.meta\.url/g)].flatMap(([, words]) =>
      [...words!.matchAll(/'([^']+\.js)'/g)].map(([, name]) => name!),
    ),
  )
  expect(paths.length).toBeGreaterThan(1)
  expect(paths.filter(name => !/^(\.\.\/\.\.\/dist|\.\.)\/[a-z]+\/[\w-]+\.js$/.test(name))).toEqual([])
})

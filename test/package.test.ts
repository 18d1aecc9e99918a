import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { modulesBelow } from './support/imports.js'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

interface Manifest {
  readonly engines: Readonly<Record<string, string>>
  readonly files: readonly string[]
  readonly bin: Readonly<Record<string, string>>
  readonly dependencies: Readonly<Record<string, string>>
  readonly devDependencies: Readonly<Record<string, string>>
}
interface Locked {
  readonly version?: string
  readonly resolved?: string
  readonly integrity?: string
  readonly hasInstallScript?: boolean
  readonly dev?: boolean
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly engines?: Readonly<Record<string, string>>
}

const json = <T>(name: string): T => JSON.parse(readFileSync(join(ROOT, name), 'utf8')) as T
const manifest = json<Manifest>('package.json')
const lockfile = json<{ packages: Readonly<Record<string, Locked>> }>('package-lock.json')
const locked = Object.entries(lockfile.packages).filter(([path]) => path !== '')

/** Packages that have an install script and work without it. */
const INSTALL_SCRIPTS: Readonly<Record<string, { reason: string; prebuilds?: string }>> = {
  'node-liblzma': {
    reason: 'its prebuilt binaries lie in the tarball; the script only looks for one',
    prebuilds: 'prebuilds',
  },
  fsevents: { reason: 'optional, macOS only, its binary lies in the tarball' },
}

describe('package.json', () => {
  it('pins every version exactly, and the lockfile has the same', () => {
    for (const [name, version] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })) {
      expect(version, name).toMatch(/^\d+\.\d+\.\d+$/)
      expect(lockfile.packages[`node_modules/${name}`]?.version, name).toBe(version)
    }
  })

  it('asks for Node 20.19 or newer, and so does every package it needs at run time', () => {
    expect(manifest.engines.node).toBe('>=20.19')
    for (const [path, { dev, engines }] of locked) {
      const lowest = /^>=\s*v?(\d+)(?:\.(\d+))?[.\dx]*$/.exec(engines?.node ?? '')
      if (dev || lowest === null) continue
      expect(Number(lowest[1]) * 100 + Number(lowest[2] ?? 0), path).toBeLessThanOrEqual(2019)
    }
  })

  it('names every package that src imports', () => {
    const packageOf = (name: string): string => name.split('/', name.startsWith('@') ? 2 : 1).join('/')
    const used = modulesBelow(join(ROOT, 'src')).flatMap(module =>
      module.imports.filter(name => !/^(\.|node:)/.test(name)).map(packageOf),
    )
    expect(Object.keys(manifest.dependencies)).toEqual(expect.arrayContaining([...new Set(used)]))
  })

  it('ships files that exist, and a launcher that can be run', () => {
    for (const name of manifest.files) if (name !== 'dist') expect(existsSync(join(ROOT, name)), name).toBe(true)
    for (const name of [...Object.values(manifest.bin), '.ci/run'])
      expect(statSync(join(ROOT, name)).mode & 0o111, name).toBe(0o111)
  })
})

describe('package-lock.json', () => {
  it('holds no registry addresses, and a checksum of every package', () => {
    expect(locked.filter(([, entry]) => entry.resolved !== undefined).map(([path]) => path)).toEqual([])
    expect(locked.filter(([, entry]) => entry.integrity === undefined).map(([path]) => path)).toEqual([])
  })

  it('has the packages of every platform: where one is left out, `npm ci` fails', () => {
    const names = new Set(locked.map(([path]) => path.replace(/^.*node_modules\//, '')))
    const wanted = locked.flatMap(([, entry]) => Object.keys(entry.optionalDependencies ?? {}))
    expect(wanted.filter(name => !names.has(name))).toEqual([])
  })

  it('has no package that needs its install script', () => {
    const scripted = locked.filter(([, entry]) => entry.hasInstallScript).map(([path]) => path)
    for (const path of scripted) {
      const allowed = INSTALL_SCRIPTS[path.replace(/^.*node_modules\//, '')]
      expect(allowed, `${path} has an install script`).toBeDefined()
      if (allowed?.prebuilds !== undefined)
        expect(readdirSync(join(ROOT, path, allowed.prebuilds)), path).not.toEqual([])
    }
  })
})

it('the sample stick is small enough to commit', () => {
  const names = readdirSync(join(ROOT, 'sample'), { recursive: true, withFileTypes: true }).filter(entry =>
    entry.isFile(),
  )
  const bytes = names.reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0)
  expect(bytes).toBeLessThanOrEqual(5_000_000)
})

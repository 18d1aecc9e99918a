import { accessSync, constants, readFileSync } from 'node:fs'
import { delimiter, isAbsolute, join } from 'node:path'
import { describe, it } from 'vitest'

const packages: Readonly<Record<string, readonly string[]>> = JSON.parse(
  readFileSync(new URL('../../scripts/judges.json', import.meta.url), 'utf8'),
)

/** Where a program lies; undefined where it is missing. Looks in the sbin folders too, which ordinary users' PATH leaves out. */
export const tool = (name: string): string | undefined => {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin']
  return (isAbsolute(name) ? [name] : folders.map(folder => join(folder, name))).find(path => {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** Vitest's `describe` and `it`, or the same names with nothing behind them but the reason. */
export interface Gate {
  /** why these tests can't run here; undefined where they can */
  readonly reason: string | undefined
  describe(title: string, body: () => void): void
  it(title: string, body: () => void | Promise<void>, timeoutMs?: number): void
}

const told = new Set<string>()

/**
 * Opens where `reason` is undefined. Else each `describe` and `it` becomes one skipped test that names the reason, and one
 * failing test where CONFORM=require (as `npm test` sets it in CI).
 */
export const gate = (reason: string | undefined): Gate => {
  if (reason === undefined)
    return {
      reason,
      describe: (title, body) => void describe(title, body),
      it: (title, body, ms) => it(title, body, ms),
    }
  if (process.env.CONFORM === 'require') {
    const fail = (title: string): void =>
      it(title, () => {
        throw new Error(reason)
      })
    return { reason, describe: fail, it: fail }
  }
  if (!told.has(reason)) console.warn(`skipping: ${reason}`)
  told.add(reason)
  const skip = (title: string): void => it.skip(`${title} (${reason})`, () => {})
  return { reason, describe: skip, it: skip }
}

/** The gate of tests that have these programs as judges. */
export const needTools = (...names: string[]): Gate => {
  const missing = names.filter(name => tool(name) === undefined)
  if (missing.length === 0) return gate(undefined)
  const wanted = missing.map(name => Object.keys(packages).find(key => packages[key]?.includes(name)) ?? name)
  return gate(`needs ${missing.join(', ')}: apt-get install ${[...new Set(wanted)].join(' ')}`)
}

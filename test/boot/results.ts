import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CACHE, type LiveSystem } from './system.js'

/** One booted layout. */
export interface BootResult {
  readonly id: string
  /** what was booted, for the table */
  readonly layout: string
  readonly suite: string
  readonly kernel: string
  readonly dracut: string
  /** day of the run */
  readonly date: string
  readonly outcome: 'as expected' | 'failed'
  /** of all its boots */
  readonly seconds: number
  /** what was seen, a sentence each */
  readonly seen: readonly string[]
  /** how the booted system compares to what `liveos boot-plan` said */
  readonly prediction: string
}

/** Where results are kept: those of layouts that a run leaves out stay. */
export const RESULTS = process.env.LIVEOS_BOOT_RESULTS ?? join(CACHE, 'results.json')

const readResults = async (): Promise<BootResult[]> => {
  try {
    return JSON.parse(await readFile(RESULTS, 'utf8')) as BootResult[]
  } catch {
    return []
  }
}

const writeResults = async (results: readonly BootResult[]): Promise<void> => {
  await writeFile(`${RESULTS}.new`, `${JSON.stringify(results, undefined, 2)}\n`)
  await rename(`${RESULTS}.new`, RESULTS)
}

const key = ({ id, suite, kernel, dracut }: BootResult): string => [suite, dracut, kernel, id].join(' ')

/** Keeps a result in the place of an older one of the same layout and versions. */
export const keepResult = async (
  { suite, kernel, dracut }: LiveSystem,
  result: Omit<BootResult, 'suite' | 'kernel' | 'dracut' | 'date'>,
): Promise<void> => {
  const made: BootResult = { ...result, suite, kernel, dracut, date: new Date().toISOString().slice(0, 10) }
  const others = (await readResults()).filter(other => key(other) !== key(made))
  await writeResults([...others, made])
}

/** Leaves out results of layouts that are tested no more. @param titles  of those that are, by their ids */
export const dropOldLayouts = async (titles: ReadonlyMap<string, string>): Promise<void> => {
  const results = await readResults()
  const kept = results.filter(({ id, layout }) => titles.get(id) === layout)
  if (kept.length < results.length) await writeResults(kept)
}

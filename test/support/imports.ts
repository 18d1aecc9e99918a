import { readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import ts from 'typescript'

/** One module, as the tests of structure see it. */
export interface Module {
  /** below src, with slashes: 'fs/ext4/reader.ts' */
  readonly path: string
  /** as written, type-only ones and worker files too: './layout.js', 'node:fs', 'commander' */
  readonly imports: readonly string[]
  readonly lines: number
  readonly text: string
}

/** All TypeScript modules below a directory, in order of their paths. */
export const modulesBelow = (directory: string): Module[] =>
  readdirSync(directory, { recursive: true })
    .map(name => String(name).replaceAll('\\', '/'))
    .filter(name => name.endsWith('.ts'))
    .sort()
    .map(path => {
      const text = readFileSync(join(directory, path), 'utf8')
      return { path, imports: importsOf(text), lines: text.trimEnd().split('\n').length, text }
    })

const importsOf = (text: string): string[] => {
  const workers = [...text.matchAll(/new URL\(\s*'(\.[^']+)'\s*,\s*import\.meta\.url/g)].map(match => match[1]!)
  return [...ts.preProcessFile(text, true, true).importedFiles.map(file => file.fileName), ...workers]
}

/** The path below src that a relative import means; it starts with '../' where it leaves src. */
export const resolveImport = (from: string, specifier: string): string =>
  posix.normalize(posix.join(posix.dirname(from), specifier)).replace(/\.js$/, '.ts')

// Puts the modules of the command into few files, which Node loads in half the time: node scripts/bundle.mjs DIST
// DIST/cli/main.js and all it imports become DIST/command/main.js and chunks that are loaded with their verbs.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { rolldown } from 'rolldown'
import { ROOT } from './ready.mjs'

/** Packages that go in: each command line needs them. Others have binaries, or are rarely needed. */
const INSIDE = ['commander', '@commander-js/extra-typings']

const dist = process.argv[2]
if (dist === undefined || process.argv.length > 3) {
  process.stderr.write('usage: node scripts/bundle.mjs DIST\n')
  process.exit(2)
}
const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
const outside = Object.keys(dependencies).filter(name => !INSIDE.includes(name))
const folder = join(dist, 'command')

const bundle = await rolldown({
  input: { main: join(dist, 'cli', 'main.js') },
  cwd: ROOT,
  platform: 'node',
  external: name => outside.some(one => name === one || name.startsWith(`${one}/`)),
  logLevel: 'warn',
  // That one verb loads late what another loads early is meant.
  checks: { ineffectiveDynamicImport: false },
})
await bundle.write({
  dir: folder,
  format: 'esm',
  entryFileNames: '[name].js',
  chunkFileNames: '[name]-[hash].js',
  comments: false,
  // What most verbs share is one file, and not one for each set of verbs that share it.
  codeSplitting: { groups: [{ name: 'shared', minShareCount: 16 }] },
})
await bundle.close()

const licences = INSIDE.map(name => {
  const licence = readFileSync(join(ROOT, 'node_modules', name, 'LICENSE'), 'utf8')
  return `${name}\n\n${licence.trim()}\n`
})
mkdirSync(folder, { recursive: true })
writeFileSync(
  join(folder, 'LICENSES.txt'),
  `The files here hold code of these packages too.\n\n${licences.join('\n\n')}`,
)

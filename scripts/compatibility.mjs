// Writes docs/COMPATIBILITY.md from what `npm run test:boot` found: node scripts/compatibility.mjs [results.json]
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const cache = process.env.LIVEOS_BOOT_CACHE ?? join(homedir(), '.cache', 'liveos-test')
const source = process.argv[2] ?? process.env.LIVEOS_BOOT_RESULTS ?? join(cache, 'results.json')
const page = fileURLToPath(new URL('../docs/COMPATIBILITY.md', import.meta.url))

if (!existsSync(source)) {
  console.error(`there is no ${source}: npm run test:boot makes it`)
  process.exit(2)
}
const results = JSON.parse(readFileSync(source, 'utf8'))

const versions = ({ dracut, kernel, suite }) => `dracut ${dracut}, kernel ${kernel} (Debian ${suite})`
const cell = text => String(text).replaceAll('|', '\\|').replaceAll('\n', ' ')
const row = cells => `| ${cells.map(cell).join(' | ')} |`
const byVersion = new Map()
for (const result of results) byVersion.set(versions(result), [...(byVersion.get(versions(result)) ?? []), result])

const lines = [
  '# What was booted',
  '',
  'Made by `node scripts/compatibility.mjs` from a run of `npm run test:boot`: live systems of real packages, booted in QEMU',
  'by `liveos boot`. "As expected" means that every check of the layout held: the device-mapper tables, the mounts, the files',
  'that a later boot found, the bytes that stayed. The last column says whether `liveos boot-plan` had told before what the',
  'booted system then showed.',
]
for (const [version, list] of [...byVersion].sort(([a], [b]) => (a < b ? -1 : 1))) {
  lines.push(
    '',
    `## ${version}`,
    '',
    row(['layout', 'outcome', 'what was seen', 'boot-plan', 'date']),
    row(['---', '---', '---', '---', '---']),
  )
  for (const { layout, outcome, seen, prediction, date } of list.sort((a, b) => (a.id < b.id ? -1 : 1)))
    lines.push(row([layout, outcome, seen.join('; '), prediction, date]))
}
writeFileSync(page, `${lines.join('\n')}\n`)
const failed = results.filter(({ outcome }) => outcome !== 'as expected').length
console.log(`${page}: ${results.length} layouts, ${failed} failed`)

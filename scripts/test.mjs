// `npm test [-- vitest arguments]`: makes everything ready, runs vitest, names what was skipped and ends with a line of counts.
// In CI (CI set, or CONFORM=require) a test whose program is missing fails instead of being skipped.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { build, installJudges, orExplain, ROOT } from './ready.mjs'

orExplain(installJudges)
orExplain(build)

const scratch = mkdtempSync(join(tmpdir(), 'liveos-test-'))
const report = join(scratch, 'counts.json')
const isSet = value => value !== undefined && !['', '0', 'false'].includes(value)
const env = {
  ...process.env,
  LIVEOS_TEST_COUNTS: report,
  // Judges such as e2fsck live there; the PATH of ordinary users often leaves it out.
  PATH: `${process.env.PATH}${delimiter}/usr/sbin${delimiter}/sbin`,
  ...(isSet(process.env.CI) ? { CONFORM: 'require' } : {}),
}
const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs')
const reporters = ['--reporter=default', `--reporter=${join(ROOT, 'scripts', 'count-tests.mjs')}`]
const { status } = spawnSync(process.execPath, [vitest, 'run', ...reporters, ...process.argv.slice(2)], {
  cwd: ROOT,
  env,
  stdio: ['ignore', 'inherit', 'inherit'],
})

const none = { passed: 0, failed: 0, skipped: 0, skippedNames: [] }
const { passed, failed, skipped, skippedNames } = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : none
rmSync(scratch, { recursive: true, force: true })

for (const name of skippedNames) console.log(`skipped: ${name}`)
// Where vitest itself gave up, nothing was counted.
console.log(`${passed} passed, ${status === 0 ? failed : Math.max(failed, 1)} failed, ${skipped} skipped`)
process.exitCode = status ?? 1

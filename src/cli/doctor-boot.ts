import { type BootFixPlan, planBootFix, runBootFix } from '../ops/boot-fix.js'
import type { TargetInput } from '../ops/target.js'
import { type Consent, confirm, drive, print } from './run.js'
import { type Paint, paint, safe } from './words.js'

/** A unified diff in lines, as it is kept: one character a byte. */
export const diffLines = (diff: string, p: Paint): string[] =>
  Buffer.from(diff, 'latin1')
    .toString('utf8')
    .split('\n')
    .slice(0, -1)
    .map(line => {
      // of lines as DOS ends them
      const text = safe(line.replace(/\r$/, ''))
      return line.startsWith('+') ? p.good(text) : line.startsWith('-') ? p.bad(text) : p.faint(text)
    })

const planWords = ({ files }: BootFixPlan, p: Paint): string[] => [
  ...files.flatMap(({ path, diff, leftover }) =>
    leftover === undefined ? diffLines(diff, p) : [`${safe(path)}.old, left of an earlier change, is removed`],
  ),
  'On a FAT stick there is no menu for a moment between two renames: run this again if it is cut short there.',
]

/** The part of `liveos doctor --fix` that changes boot configurations. */
export const fixBoot = async (input: TargetInput, consent: Consent): Promise<number> => {
  const plan = await planBootFix(input)
  if (plan.files.length === 0) return 0
  if (consent.dryRun) {
    print(consent.json, plan, () => planWords(plan, paint(process.stdout)))
    return 0
  }
  process.stderr.write(`${planWords(plan, paint(process.stderr)).join('\n')}\n`)
  await confirm('Change these boot configurations?', consent)
  const done = await drive(signal => runBootFix(plan, { signal }))
  const said = [...done.changed.map(path => `${path} is changed.`), ...done.removed.map(path => `${path} is removed.`)]
  process.stderr.write(said.map(line => `${safe(line)}\n`).join(''))
  return 0
}

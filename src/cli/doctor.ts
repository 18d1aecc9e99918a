import { type Checkup, type DoctorOptions, type Remedy, remedyInput, runDoctor } from '../ops/doctor.js'
import { type TargetInput, typedAs } from '../ops/target.js'
import { diffLines, fixBoot } from './doctor-boot.js'
import { type Consent, drive, print } from './run.js'
import { ATTENTION, EXIT, findingLines, type Paint, paint, rows, safe, size } from './words.js'

/** What has to be typed to have it mended: as it was typed to have it looked at. */
const fixCommand = (input: TargetInput, { fsck }: DoctorOptions): string =>
  ['liveos doctor', typedAs(input), ...(fsck === undefined ? [] : [fsck ? '--fsck' : '--no-fsck']), '--fix']
    .filter(Boolean)
    .join(' ')

/** How an overlay stands, in a word. */
const damageWord = ({ overlay, findings }: Checkup): string =>
  overlay?.damage === 'invalid' && findings.some(({ code }) => code === 'CHANGE_INTERRUPTED')
    ? 'held by a change that was cut short'
    : (overlay?.damage ?? '')

/**
 * A checkup in words.
 *
 * @param fix  what has to be typed to have it mended
 */
export const checkupWords = (found: Checkup, p: Paint, fix: string): string[] => {
  const { base, overlay, fsck, rootType, findings, health, remedies, bootFixes } = found
  const name = safe(found.target)
  const serious = findings.filter(({ severity }) => severity !== 'note').length
  return [
    health === 'healthy'
      ? p.good(`${name}: nothing is wrong.`)
      : health === 'unreadable'
        ? p.bad(`${name}: the base image ${base ? 'is damaged' : 'can’t be read'}.`)
        : p.warn(`${name}: ${serious} ${serious === 1 ? 'finding needs' : 'findings need'} attention.`),
    ...rows([
      base ? ['base', `${base.path}, ${base.kind}`] : undefined,
      overlay
        ? [
            'overlay',
            `${overlay.path}, ${size(overlay.size)}: ${damageWord(found)}, ${overlay.exceptions} changed chunks${overlay.percent === null ? '' : `, ${overlay.percent} % full`}`,
          ]
        : undefined,
      rootType
        ? [
            'root',
            `${rootType}, ${fsck ? `${fsck.program} ${fsck.code === 0 ? 'finds nothing wrong' : `exits with ${fsck.code}`}` : 'tables looked at'}`,
          ]
        : undefined,
    ]),
    ...findingLines(findings, p),
    ...bootFixes.flatMap(({ diff }) => diffLines(diff, p)),
    ...(remedies.length > 0
      ? [
          `To mend it (${remedies.map(({ verb }) => (verb === 'boot' ? 'change the boot menu' : verb)).join(', ')}): ${fix}`,
        ]
      : []),
  ]
}

/** Runs the verb that mends something, with its own plan and question. */
const mend = async ({ verb }: Remedy, input: TargetInput, consent: Consent): Promise<number> => {
  const target = await remedyInput(input)
  if (verb === 'recover') return (await import('./recover.js')).recover(target, {}, consent)
  if (verb === 'boot') return fixBoot(target, consent)
  if (verb === 'undo') return (await import('./recover.js')).undo(target, consent)
  if (verb === 'compact') return (await import('./compact.js')).compact(target, {}, consent)
  const { refresh, reset } = await import('./verbs.js')
  return verb === 'reset' ? reset(target, consent) : refresh(target, {}, consent)
}

const MOST_REMEDIES = 5

/** `liveos doctor`; exit code 1 where something needs attention, 3 where the base can't be read. */
export const doctor = async (
  input: TargetInput,
  options: DoctorOptions,
  { fix, ...consent }: Consent & { readonly fix?: boolean | undefined },
): Promise<number> => {
  const look = () => drive(signal => runDoctor(input, options, { signal }))
  const typed = fixCommand(input, options)
  let found = await look()
  const done = new Set<string>()
  for (let n = 0; fix && n < MOST_REMEDIES; n++) {
    const next = found.remedies.find(({ verb }) => !done.has(verb))
    if (!next) break
    process.stderr.write(`${checkupWords(found, paint(process.stderr), typed).join('\n')}\n\n`)
    done.add(next.verb)
    await mend(next, input, { yes: consent.yes, dryRun: consent.dryRun })
    if (consent.dryRun) return ATTENTION
    found = await look()
  }
  print(consent.json, found, () => checkupWords(found, paint(process.stdout), typed))
  return found.health === 'healthy' ? 0 : found.health === 'unreadable' ? EXIT.CORRUPT : ATTENTION
}

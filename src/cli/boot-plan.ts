import { type BootPlanOptions, bootPlans, type EntryPlan, type PlacedStep } from '../ops/boot-plan.js'
import { marked, type TargetInput, typedAs } from '../ops/target.js'
import { print } from './run.js'
import { ATTENTION, findingLines, type Paint, paint, rows, safe, size } from './words.js'

const placeWords = ({ argument, place }: PlacedStep): string => {
  if (argument === null) return ''
  if (!place) return `${argument}  (--args)`
  return `${argument}  (${place.inInitrd ? 'built into the initrd, ' : ''}${place.path}:${place.line})`
}

const headline = ({ plan, missing }: EntryPlan, p: Paint): string => {
  if (missing.length > 0)
    return p.bad(safe(`This boot fails: ${missing.join(' and ')} ${missing.length > 1 ? 'are' : 'is'} not there.`))
  if (plan.outcome === 'fails') return p.bad('This boot fails.')
  if (plan.outcome === 'waits') return p.bad('This boot waits for a device that is not there, and ends in a shell.')
  if (plan.outcome === 'unknown') return p.warn('What this boot does is not known here.')
  if (plan.changes === 'kept') return p.good('It boots, and what is changed is kept.')
  if (plan.changes === 'emptied') return p.warn('It boots, and the next start throws away what was changed.')
  return p.warn('It boots, and what is changed is lost at power-off.')
}

const titleOf = ({ firmware, entry, menu }: EntryPlan): string => {
  const started = firmware.map(word => word.toUpperCase()).join(' and ')
  if (!entry || !menu) return 'Arguments alone'
  const instead = entry.insteadOf === null ? '' : ` (by itself the menu starts "${entry.insteadOf}")`
  return `${started}: "${entry.title}"${instead}`
}

const rootWords = ({ plan }: EntryPlan): string => {
  const { kind, image, upper } = plan.root
  if (kind === 'none') return 'none'
  const under = image === undefined ? '' : ` over ${image}`
  const to = upper === undefined ? '' : `, changes in ${upper}`
  return `${kind === 'overlayfs' ? 'OverlayFS' : kind}${under}${to}`
}

/** A plan of one entry in words. */
export const entryPlanWords = (found: EntryPlan, p: Paint): string[] => {
  const { plan, entry, menu, kernel, initrd, steps, versionAssumed } = found
  const { overlay } = plan
  return [
    p.bold(safe(titleOf(found))),
    headline(found, p),
    ...rows([
      entry && menu
        ? [
            'entry',
            `${entry.place.path}:${entry.place.line} (${menu.kind}${entry.number === null ? '' : `, number ${entry.number}`})`,
          ]
        : undefined,
      kernel ? ['kernel', `${kernel.path}${kernel.version === null ? '' : `  ${kernel.version}`}`] : undefined,
      initrd.paths.length > 0
        ? [
            'initrd',
            `${initrd.paths.join(', ')}  ${initrd.maker ?? 'not known'}${initrd.dracutVersion === null ? '' : ` ${initrd.dracutVersion}`}`,
          ]
        : undefined,
      versionAssumed && plan.outcome !== 'unknown'
        ? ['rules', `of dracut ${plan.version}, taken for granted`]
        : undefined,
      plan.root.kind === 'none' ? undefined : ['root', rootWords(found)],
      [
        'overlay',
        `${overlay.path === undefined ? '' : `${overlay.path}: `}${overlay.used ? `used, ${overlay.why}` : `not used, ${overlay.why}`}`,
      ],
      plan.memoryBytes > 0 ? ['memory', `${size(plan.memoryBytes)} for copies of images`] : undefined,
    ]),
    ...steps.flatMap(step => {
      const rests = placeWords(step)
      return [
        safe(`${String(steps.indexOf(step) + 1).padStart(3)}. ${step.text}`),
        ...(rests === '' ? [] : [p.faint(safe(`     ${rests}`))]),
      ]
    }),
    ...plan.tables.map(({ name, readOnly, table }) =>
      p.faint(safe(`     ${name}: ${table}${readOnly ? '  (read-only)' : ''}`)),
    ),
    ...plan.mounts.map(({ source, target, type, options }) =>
      p.faint(
        safe(
          `     ${target} ← ${source}${type === undefined ? '' : `  ${type}`}${options === '' ? '' : `  ${options}`}`,
        ),
      ),
    ),
    ...plan.prompts.map(prompt => p.warn(safe(`asks: ${prompt}`))),
    ...plan.kept.map(text => p.good(safe(`kept: ${text}`))),
    ...plan.lost.map(text => p.warn(safe(`lost at power-off: ${text}`))),
    ...findingLines(found.findings, p),
  ]
}

/** `liveos boot-plan`; exit code 1 where a boot fails or loses what somebody wanted kept. */
export const bootPlan = async (
  input: TargetInput,
  options: BootPlanOptions,
  { json }: { readonly json?: boolean | undefined },
): Promise<number> => {
  const found = await bootPlans(input, options)
  const p = paint(process.stdout)
  print(json, found, () => [
    ...found.plans.flatMap((plan, n) => [...(n > 0 ? [''] : []), ...entryPlanWords(plan, p)]),
    ...findingLines(found.findings, p),
    ...(found.plans.every(({ plan }) => plan.outcome === 'boots' && plan.changes === 'kept')
      ? []
      : [
          p.faint(
            `${marked(`liveos doctor ${typedAs(input)}`.trimEnd())} looks for what keeps changes from being kept, and for what to do`,
          ),
        ]),
  ])
  const attention = found.plans.some(
    ({ plan, findings }) => plan.outcome !== 'boots' || findings.some(({ severity }) => severity !== 'note'),
  )
  return attention ? ATTENTION : 0
}

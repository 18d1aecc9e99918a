import { type ServeOptions, type ServeOutcome, type Serving, serveView } from '../ops/serve.js'
import { openPlanned, planView, type ViewChoice, type ViewPlan } from '../ops/serve-plan.js'
import type { TargetInput } from '../ops/target.js'
import { type Consent, confirm, print } from './run.js'
import { ATTENTION, findingLines, type Paint, paint, rows, size } from './words.js'

/** Where writes of a view go, for a person. */
export const writesWords = ({ writesTo, overlay, scratch }: ViewPlan, p: Paint): string => {
  if (writesTo === 'none') return 'read-only'
  if (overlay) return p.warn(`into the overlay ${overlay.file.path}, with room for about ${size(overlay.roomBytes)}`)
  return scratch === null ? 'into a scratch overlay that is thrown away at the end' : `into ${scratch}, which stays`
}

/** What is to be served or mounted, before it is. */
export const viewPlanWords = (plan: ViewPlan, p: Paint): string[] => [
  p.bold(`Plan: ${plan.verb} ${plan.target}`),
  ...rows([
    ['part', `${plan.part}, ${size(plan.size)}`],
    ['writes', writesWords(plan, p)],
  ]),
  ...findingLines(plan.findings, p),
]

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`

/** How other programs reach it. */
const useLines = ({ uri }: Serving, plan: ViewPlan): string[] => [
  `copy it      nbdcopy ${quoted(uri)} ${plan.part}.img`,
  `mount it     mkdir mnt && nbdfuse${plan.writesTo === 'none' ? ' -r' : ''} mnt ${quoted(uri)} &   # then mnt/nbd is the image`,
  `in qemu      -drive file=${quoted(uri)},format=raw${plan.writesTo === 'none' ? ',readonly=on' : ''}`,
]

const endWords = ({ store, clients, findings }: ServeOutcome, plan: ViewPlan, p: Paint): string[] => {
  const held = store ? `${store.chunks} changed chunks (${size(store.bytes)})` : ''
  const state =
    plan.writesTo === 'overlay'
      ? `the overlay holds ${held} now, all of them on the medium`
      : plan.scratch !== null
        ? `${plan.scratch} holds ${held}`
        : plan.writesTo === 'scratch'
          ? 'what was written is thrown away, the stick is as it was'
          : 'nothing was changed'
  return [
    `Stopped after ${clients} ${clients === 1 ? 'client' : 'clients'}: ${state}.`,
    ...(store?.full ? [p.warn('It is full: the next new chunk has no room.')] : []),
    ...findingLines(findings, p),
  ]
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

const tell = (lines: readonly string[]): void => {
  process.stderr.write(lines.map(line => `${line}\n`).join(''))
}

/** `liveos serve`; runs until it is stopped. */
export const serve = async (
  input: TargetInput,
  choice: ViewChoice,
  options: ServeOptions,
  consent: Consent,
): Promise<number> => {
  const plan = await planView('serve', input, choice)
  if (consent.dryRun) {
    print(consent.json, plan, () => viewPlanWords(plan, paint(process.stdout)))
    return 0
  }
  const p = paint(process.stderr)
  if (plan.writesTo === 'overlay') {
    if (!consent.yes) tell(viewPlanWords(plan, p))
    await confirm('Let clients write into the overlay of this stick?', consent)
  }
  const serving = await serveView(await openPlanned(input, plan), options)
  const stop = (): void => {
    if (!consent.json) tell(['', 'stopping …'])
    serving.stop().catch(() => undefined)
  }
  for (const signal of SIGNALS) process.on(signal, stop)
  // whoever reads our words may go; clients go on
  const ignore = (): void => {}
  process.stdout.on('error', ignore)
  process.stderr.on('error', ignore)
  try {
    const { uri, socket } = serving
    print(consent.json, { ...plan, uri, socket: socket ?? null, pid: process.pid }, () => [
      uri,
      ...rows([
        ['serves', `${plan.part} of ${plan.target}, ${size(plan.size)}`],
        ['writes', writesWords(plan, paint(process.stdout))],
      ]),
      ...useLines(serving, plan),
      options.once ? 'It ends after its last client.' : 'Ctrl-C stops it.',
      ...findingLines(plan.findings, paint(process.stdout)),
    ])
    const outcome = await serving.ended
    tell(endWords(outcome, plan, p))
    return outcome.findings.some(({ severity }) => severity !== 'note') ? ATTENTION : 0
  } finally {
    for (const signal of SIGNALS) process.off(signal, stop)
  }
}

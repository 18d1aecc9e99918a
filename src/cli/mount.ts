import { type MountOptions, type MountOutcome, type MountPlan, mountView, planMount } from '../ops/mount.js'
import { marked, pathWord, type TargetInput } from '../ops/target.js'
import { type UmountOutcome, umountView } from '../ops/umount.js'
import { type Consent, confirm, print } from './run.js'
import { viewPlanWords } from './serve.js'
import { ATTENTION, findingLines, type Paint, paint, rows, size } from './words.js'

const HOW = {
  kernel: 'its files, by the kernel',
  fuse2fs: 'its files, by fuse2fs',
  file: 'the image itself, as the file nbd',
} as const

const planWords = (plan: MountPlan, p: Paint): string[] => [
  ...viewPlanWords(plan, p),
  ...rows([
    ['at', plan.mountPoint],
    ['shows', `${HOW[plan.how]}${plan.readOnly ? ', read-only' : ''}`],
  ]),
]

const outcomeWords = (done: MountOutcome, p: Paint): string[] => [
  p.good(`Mounted at ${done.mountPoint}${done.readOnly ? ', read-only' : ''}: ${HOW[done.how]}.`),
  ...(done.how === 'file' ? [] : [`The image is ${done.image}, by ${done.by}.`]),
  `${marked(`liveos umount ${pathWord(done.mountPoint)}`)} takes it away again.`,
  ...findingLines(done.findings, p),
]

const attention = (findings: MountOutcome['findings']): number =>
  findings.some(({ severity }) => severity !== 'note') ? ATTENTION : 0

/** `liveos mount`. */
export const mount = async (
  input: TargetInput,
  mountPoint: string,
  options: MountOptions,
  consent: Consent,
): Promise<number> => {
  const plan = await planMount(input, mountPoint, options)
  if (consent.dryRun) {
    print(consent.json, plan, () => planWords(plan, paint(process.stdout)))
    return 0
  }
  if (plan.writesTo === 'overlay') {
    if (!consent.yes) process.stderr.write(`${planWords(plan, paint(process.stderr)).join('\n')}\n`)
    await confirm('Let what is written there go into the overlay of this stick?', consent)
  }
  const done = await mountView(input, plan)
  print(consent.json, done, () => outcomeWords(done, paint(process.stdout)))
  return attention(done.findings)
}

const keptWords = ({ writesTo, scratch, store, target }: UmountOutcome): string => {
  const held = store ? `${store.chunks} changed chunks (${size(store.bytes)})` : 'what was flushed'
  if (writesTo === 'overlay')
    return `the overlay of ${target} holds ${held} now${store ? ', all of them on the medium' : ''}`
  if (scratch !== null) return `${scratch} holds ${held}`
  return writesTo === 'scratch' ? 'what was written is thrown away' : 'nothing was changed'
}

/** `liveos umount`. */
export const umount = async (
  mountPoint: string,
  { json }: { readonly json?: boolean | undefined },
): Promise<number> => {
  const done = await umountView(mountPoint)
  const p = paint(process.stdout)
  print(json, done, () => [
    p.good(`Unmounted ${done.mountPoint}: ${keptWords(done)}.`),
    ...findingLines(done.findings, p),
  ])
  return attention(done.findings)
}

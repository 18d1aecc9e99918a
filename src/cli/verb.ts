import { Command, Help, InvalidArgumentError } from '@commander-js/extra-typings'
import { parseNumber } from './words.js'

/** What most verbs work on. */
export const ANY = 'mounted stick, disk, partition, image, ISO or http(s) address of one'
/** The same, where nothing means the running system. */
export const TARGET = `${ANY}; inside a running live system it may be left out`
/** The verbs that change a stick. */
export const MOUNTED = 'directory where the stick is mounted'

/** An option's value by a function that throws a sentence. */
export const argument =
  <T>(parse: (text: string) => T) =>
  (text: string): T => {
    try {
      return parse(text)
    } catch (error) {
      throw new InvalidArgumentError(error instanceof Error ? error.message : String(error))
    }
  }

/** A TARGET. One that is empty is mostly a variable that was never set, and would mean where the caller stands. */
export const given = (text: string): string => {
  if (text === '') throw new InvalidArgumentError('it is empty: was a variable of the shell not set?')
  return text
}

/** An option's value out of a few words. */
export const oneOf =
  <T extends string>(...allowed: T[]) =>
  (text: string): T => {
    const found = allowed.find(word => word === text)
    if (!found) throw new InvalidArgumentError(`choose one of ${allowed.join(', ')}.`)
    return found
  }

/** Options of many verbs, which help shows behind a verb's own. */
const SHARED = [
  '--base-only',
  '--home',
  '--medium',
  '--image',
  '--partition',
  '--overlay',
  '--base',
  '--json',
  '--help',
]

/** A verb with its summary and examples, arguments and options still to be added. */
export const bare = (name: string, summary: string, examples: readonly string[]) =>
  new Command(name)
    .summary(summary)
    .showHelpAfterError(`(liveos ${name} --help shows what there is)`)
    .configureHelp({
      visibleOptions(command) {
        const rank = ({ long }: { readonly long?: string | undefined }): number => SHARED.indexOf(long ?? '')
        return [...new Help().visibleOptions(command)].sort((a, b) => rank(a) - rank(b))
      },
    })
    .description(`${summary[0]!.toUpperCase()}${summary.slice(1)}.`)
    .addHelpText('after', `\nExamples:\n${examples.map(line => `  $ ${line}`).join('\n')}\n`)

/** A verb with a TARGET and the options that say what in it is meant. */
export const verb = (name: string, summary: string, examples: readonly string[], target = TARGET) =>
  bare(name, summary, examples)
    .argument('[target]', target, given)
    .option('--image <dir>', 'live directory, where a stick holds several images')
    .option('--partition <n>', 'partition, where several hold a live system', argument(parseNumber))
    .option('--overlay <file>', 'overlay elsewhere than the stick keeps it')
    .option('--base <file>', 'in the place of TARGET: a bare base image, squashed or not')
    .option('--json', 'print one JSON document and nothing else')

/** A verb on files of a TARGET; its arguments are still to be added. */
export const fileVerb = (name: string, summary: string, examples: readonly string[]) =>
  bare(name, summary, examples)
    .option('--base-only', 'as the base image has it, without the overlay')
    .option('--home', 'from the home image')
    .option('--medium', "from the stick's own filesystem: boot files, images")
    .option('--image <dir>', 'live directory, where a stick holds several images')
    .option('--partition <n>', 'partition, where several hold a live system', argument(parseNumber))
    .option('--overlay <file>', 'overlay elsewhere than the stick keeps it')
    .option('--base <file>', 'a bare base image, squashed or not; paths are then paths alone')

/** Options that say what is meant. */
export interface Where {
  readonly image?: string | undefined
  readonly partition?: number | undefined
  readonly overlay?: string | undefined
  readonly base?: string | undefined
  readonly baseOnly?: boolean | undefined
}

/** A TargetInput of a target and its options. */
export const where = (target: string | undefined, { image, partition, overlay, base, baseOnly }: Where) => ({
  target,
  image,
  partition,
  overlay,
  base,
  baseOnly,
})

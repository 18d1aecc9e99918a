import { LiveError } from '../../error.js'
import { type Argument, type ArgumentChange, type ArgumentSlot, argumentEdits, parseArguments } from './arguments.js'
import { type GrubCommand, type GrubScript, type GrubStatement, type GrubWord, grubCommands, grubOf } from './grub.js'
import { grubCommandLine } from './grub-expand.js'
import { applyEdits, checkedText, type Edit, lineBreakOf, shown, stored } from './text.js'

const LINUX = /^(linux|linux16|linuxefi|kernel|\$linux|\$\{linux\})$/

/** A word as GRUB must find it in a script to read this text. */
export const grubWord = (text: string): string => {
  if (/^[A-Za-z0-9_=:,./@%+^~-]+$/.test(text)) return text
  if (!text.includes("'")) return `'${text}'`
  return `"${text.replace(/[\\"$]/g, '\\$&')}"`
}

/** The word's text where no variable is in it. */
const literal = (word: GrubWord): string | undefined =>
  word.parts.every(({ kind }) => kind === 'text') ? word.parts.map(({ text }) => text).join('') : undefined

/** The words that a variable stands for, as far as the script itself sets it. */
const valuesSet = (script: GrubScript, name: string): string | undefined => {
  let value: string | undefined
  for (const { words } of grubCommands(script.body)) {
    const [first, second] = words
    const assignment = first && literal(first) === 'set' ? second : first
    const text = assignment && literal(assignment)
    if (text?.startsWith(`${name}=`)) value = text.slice(name.length + 1)
  }
  return value
}

const slotsOf = (script: GrubScript, word: GrubWord): ArgumentSlot[] => {
  const place = { start: word.start, end: word.end }
  const text = literal(word)
  const raw = shown(script.text.slice(word.start, word.end))
  const [only] = word.parts
  /** slots of one word: an edit replaces all of it, so only a word that is one argument can be edited */
  const slots = (found: readonly Argument[]): ArgumentSlot[] =>
    (found.length === 0 ? [{ name: '', raw: '' }] : found).map(argument => ({
      ...place,
      argument,
      editable: found.length === 1,
    }))
  if (text !== undefined) return slots(parseArguments(grubCommandLine([shown(text)])))
  // `root=live:UUID=$id` may be replaced as a whole; `$options` stands for arguments of which nobody knows here.
  if (only?.kind === 'text' && only.text.includes('=')) return slots([...parseArguments(raw)])
  const value = word.parts.length === 1 && only ? valuesSet(script, only.text) : undefined
  const known = value === undefined ? [{ name: raw, raw }] : parseArguments(shown(value))
  return known.map(argument => ({ ...place, argument, editable: false }))
}

/** The command of an entry that loads its kernel. */
const kernelCommand = (script: GrubScript, entry: GrubCommand): GrubCommand | undefined =>
  [...grubCommands(entry.block?.body ?? [])].findLast(({ words: [first] }) => {
    const name = first && script.text.slice(first.start, first.end)
    return name !== undefined && LINUX.test(name)
  })

/** The menuentry that begins at a byte, as `BootEntry.place` tells it. */
export const grubEntryAt = (script: GrubScript, offset: number): GrubCommand | undefined => {
  for (const command of grubCommands(script.body)) if (command.start === offset) return command
  return undefined
}

const spelled = ({ name, value }: Argument): string => grubWord(value === undefined ? name : `${name}=${value}`)

/**
 * The script with other kernel arguments for an entry; nothing but the words concerned changes.
 *
 * @throws NOT_FOUND  the entry loads no kernel; USAGE  no kernel argument; REFUSED  it comes from a variable
 */
export const changeGrubArguments = (
  script: GrubScript,
  entry: GrubCommand,
  changes: readonly ArgumentChange[],
): GrubScript => {
  const command = kernelCommand(script, entry) ?? (entry.block ? undefined : entry)
  const [, kernel, ...rest] = command?.words ?? []
  if (!kernel) throw new LiveError('NOT_FOUND', 'the entry loads no kernel', { offset: entry.start })
  const slots = rest.flatMap(word => slotsOf(script, word))
  const title = entry.words[1]
  const where = title ? shown(script.text.slice(title.start, title.end)) : 'the entry'
  return grubOf(applyEdits(script.text, argumentEdits(slots, kernel.end, changes, where, spelled)))
}

/** Commands that run before the menu shows: not those inside entries. */
function* menuCommands(body: readonly GrubStatement[]): Generator<GrubCommand> {
  for (const statement of body)
    if (statement.kind === 'command') yield statement
    else if (statement.kind === 'if')
      for (const part of [...statement.branches.map(branch => branch.body), statement.otherwise])
        yield* menuCommands(part)
    else if (statement.kind !== 'function') yield* menuCommands(statement.body)
}

/**
 * The script with another value of a variable of the menu, wherever it sets one; where it sets none, at its front.
 *
 * @throws USAGE  a value that no script can hold
 */
export const setGrubVariableIn = (script: GrubScript, name: 'timeout' | 'default', value: string): GrubScript => {
  const word = grubWord(stored(checkedText(value, name)))
  const edits: Edit[] = []
  for (const { words } of menuCommands(script.body)) {
    const [first, second] = words
    if (!first) continue
    const assigned = literal(first) === 'set' ? second : first
    const [part] = assigned?.parts ?? []
    if (!assigned || part?.kind !== 'text' || !part.text.startsWith(`${name}=`)) continue
    // In quotes as a whole, the word is written anew.
    const plain = script.text.startsWith(`${name}=`, assigned.start)
    const start = plain ? assigned.start + name.length + 1 : assigned.start
    edits.push({ start, end: assigned.end, text: plain ? word : `${name}=${word}` })
  }
  if (edits.length > 0) return grubOf(applyEdits(script.text, edits))
  const start = script.body[0]?.start ?? script.text.length
  const ending = lineBreakOf(script.text, start)
  const gap = start > 0 && script.text[start - 1] !== '\n' && script.body.length === 0 ? ending : ''
  return grubOf(applyEdits(script.text, [{ start, end: start, text: `${gap}set ${name}=${word}${ending}` }]))
}

/** The script with another time before the default starts, in seconds; undefined to wait for ever. @throws USAGE */
export const setGrubTimeout = (script: GrubScript, seconds: number | undefined): GrubScript => {
  if (seconds !== undefined && !(seconds >= 0 && seconds <= 86_400))
    throw new LiveError('USAGE', `${seconds} is no time in seconds from 0 to 86400`, { seconds })
  return setGrubVariableIn(script, 'timeout', seconds === undefined ? '-1' : String(Math.round(seconds)))
}

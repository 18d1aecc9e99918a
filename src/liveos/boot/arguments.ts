import { LiveError } from '../../error.js'
import { checkedText, type Edit, type Span, stored } from './text.js'

/** One argument of a kernel's command line. */
export interface Argument {
  readonly name: string
  /** what stands behind the first `=`, without its double quotes; left out where there is no `=` */
  readonly value?: string
  /** as it stands in the command line, quotes and all */
  readonly raw: string
}

const SPACE = /[\t-\r ]/

/**
 * Cuts a command line as the kernel does: at white space outside double quotes; the quotes around a value or around a whole
 * argument are taken off. An unterminated quote reaches to the end.
 *
 * @see linux lib/cmdline.c, next_arg
 */
export const parseArguments = (text: string): Argument[] => {
  const found: Argument[] = []
  for (let at = 0; at < text.length; ) {
    if (SPACE.test(text[at]!)) {
      at++
      continue
    }
    let end = at
    for (let quoted = false; end < text.length && (quoted || !SPACE.test(text[end]!)); end++)
      if (text[end] === '"') quoted = !quoted
    found.push(parseArgument(text.slice(at, end)))
    at = end
  }
  return found
}

const parseArgument = (raw: string): Argument => {
  const quoted = raw.startsWith('"')
  let body = quoted ? raw.slice(1) : raw
  // As in the kernel, a `=` in the first place divides nothing.
  const equals = body.indexOf('=', 1)
  const bare = equals < 0 || !body.startsWith('"', equals + 1)
  if (quoted && bare && body.endsWith('"')) body = body.slice(0, -1)
  if (equals < 0) return { name: body, raw }
  const value = body.slice(equals + 1)
  if (bare) return { name: body.slice(0, equals), value, raw }
  return { name: body.slice(0, equals), value: value.slice(1).replace(/"$/, ''), raw }
}

/** A command line of these arguments, one space between them. */
export const printArguments = (list: readonly Argument[]): string => list.map(argument => argument.raw).join(' ')

/**
 * An argument that the kernel reads as this name and value.
 *
 * @throws USAGE  the kernel has no way to write it: a double quote in it, white space in the name, a control character
 */
export const argument = (name: string, value?: string): Argument => {
  checkedText(name, 'a kernel argument')
  if (value !== undefined) checkedText(value, `the value of ${name}`)
  if (name === '' || /[\s"]/.test(name) || name.includes('=', 1) || value?.includes('"'))
    throw new LiveError('USAGE', `${name}${value === undefined ? '' : `=${value}`} is no kernel argument`, { name })
  if (value === undefined) return { name, raw: name }
  return { name, value, raw: SPACE.test(value) ? `${name}="${value}"` : `${name}=${value}` }
}

/** The last argument of a name, which is the one that dracut heeds. */
export const lastArgument = (list: readonly Argument[], ...names: readonly string[]): Argument | undefined =>
  list.findLast(({ name }) => names.includes(name))

/** What to do to an entry's arguments. */
export type ArgumentChange =
  /** afterwards it stands there once, with this value; where the first one stood, else at the end */
  | { readonly set: string; readonly value?: string }
  /** no argument of this name stays; with `value` only those of that value go */
  | { readonly remove: string; readonly value?: string }
  /** one more, behind the last one named `after`, else at the end */
  | { readonly insert: string; readonly value?: string; readonly after?: string }

/** Where an argument stands in a boot text. */
export interface ArgumentSlot extends Span {
  readonly argument: Argument
  /** false where the text holds something else in its place, such as a variable */
  readonly editable: boolean
}

interface Item {
  readonly slot?: ArgumentSlot
  argument: Argument
  state: 'kept' | 'changed' | 'gone' | 'new'
}

/** What follows `--` goes to init, and what follows `---` to an installed system. */
const isTail = ({ name }: Argument): boolean => name === '--' || name === '---'

const change = (items: Item[], wanted: ArgumentChange, where: string): void => {
  const alive = (name: string): Item[] => items.filter(item => item.state !== 'gone' && item.argument.name === name)
  const drop = (item: Item): void => {
    if (item.state === 'new') items.splice(items.indexOf(item), 1)
    else item.state = 'gone'
  }
  const insert = (added: Argument, after?: string): void => {
    const behind = after === undefined ? undefined : alive(after).at(-1)
    const tail = items.findIndex(item => item.state !== 'gone' && isTail(item.argument))
    const at = behind ? items.indexOf(behind) + 1 : tail < 0 ? items.length : tail
    items.splice(at, 0, { argument: added, state: 'new' })
  }
  if ('insert' in wanted) {
    insert(argument(wanted.insert, wanted.value), wanted.after)
    return
  }
  if ('remove' in wanted) {
    const gone = alive(wanted.remove).filter(item => wanted.value === undefined || item.argument.value === wanted.value)
    if (gone.some(item => item.slot?.editable === false))
      throw new LiveError(
        'REFUSED',
        `${where}: ${wanted.remove} comes from a variable there, so it can't be taken out of this entry alone`,
        { where, argument: wanted.remove },
      )
    for (const item of gone) drop(item)
    return
  }
  const added = argument(wanted.set, wanted.value)
  const [first, ...rest] = alive(wanted.set)
  // The last one counts: one that comes from a variable can only be outdone behind it.
  const fixed = [first, ...rest].some(item => item?.slot?.editable === false)
  for (const item of fixed ? [first, ...rest] : rest) if (item && item.slot?.editable !== false) drop(item)
  if (!first || fixed) insert(added)
  else if (first.argument.value !== added.value) {
    first.argument = added
    if (first.state === 'kept') first.state = 'changed'
  }
}

/**
 * The edits that change the arguments of an entry, and nothing else.
 *
 * @param slots  the arguments as they stand in the text, in order
 * @param at     where the first argument would stand: the end of the word before it
 * @param write  how this loader wants an argument spelled
 * @throws USAGE    no kernel argument; REFUSED  it comes from a variable
 */
export const argumentEdits = (
  slots: readonly ArgumentSlot[],
  at: number,
  changes: readonly ArgumentChange[],
  where: string,
  write: (argument: Argument) => string = ({ raw }) => raw,
): Edit[] => {
  const items: Item[] = slots.map(slot => ({ slot, argument: slot.argument, state: 'kept' }))
  for (const wanted of changes) change(items, wanted, where)
  const edits: Edit[] = []
  let end = at
  for (const item of items) {
    const { slot, state } = item
    if (state === 'new') edits.push({ start: end, end, text: ` ${stored(write(item.argument))}` })
    if (!slot) continue
    if (state === 'gone') edits.push({ start: end, end: slot.end, text: '' })
    if (state === 'changed') edits.push({ start: slot.start, end: slot.end, text: stored(write(item.argument)) })
    end = slot.end
  }
  return edits
}

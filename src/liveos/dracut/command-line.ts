import type { Argument } from '../boot/arguments.js'

/** A value of a command line, and the argument that gives it; undefined where it is a default. */
export interface Setting<T> {
  readonly value: T
  readonly from: Argument | undefined
}

/**
 * The last argument of a name. Dracut compares names byte for byte; one without `=` has an empty value.
 *
 * @see dracut src/util/util.c, getarg
 */
export const getArg = (list: readonly Argument[], name: string): Setting<string> | undefined => {
  const from = list.findLast(argument => argument.name === name)
  return from && { value: from.value ?? '', from }
}

/** The first of several names that is given. */
export const getFirst = (list: readonly Argument[], ...names: readonly string[]): Setting<string> | undefined => {
  for (const name of names) {
    const found = getArg(list, name)
    if (found) return found
  }
  return undefined
}

/** Everything but `0`, `no` and `off` is yes, so a device's name is too. @see dracut-lib.sh, getargbool */
export const isYes = (value: string): boolean => !['0', 'no', 'off'].includes(value)

/**
 * A switch: the first of several names that is given counts, and without one it is off.
 *
 * @param old  names whose presence alone is a yes, whatever their value
 */
export const getBool = (
  list: readonly Argument[],
  names: readonly string[],
  old: readonly string[] = [],
): Setting<boolean> => {
  const found = getFirst(list, ...names)
  if (found) return { value: isYes(found.value), from: found.from }
  const present = getFirst(list, ...old)
  return present ? { value: true, from: present.from } : { value: false, from: undefined }
}

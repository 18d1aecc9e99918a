import type { EntryDraft } from './entry.js'
import type { GrubField } from './grub-expand.js'

/** The variables that a command is told to fill, such as `--set=root`. */
export const targetsOf = (rest: readonly GrubField[]): string[] =>
  rest.flatMap(({ text }, n) => {
    const joined = /^--set=(?:\d+:)?(\w+)$/.exec(text)?.[1]
    if (joined !== undefined) return [joined]
    const next = rest[n + 1]?.text ?? ''
    return (text === '--set' || text === '-s') && /^(?:\d+:)?\w+$/.test(next) ? [next.replace(/^\d+:/, '')] : []
  })

/** The title and options of menuentry and submenu. */
export const entryWords = (rest: readonly GrubField[]): { title: string; id?: string; hotkey?: string } => {
  const found: { title?: string; id?: string; hotkey?: string } = {}
  for (let n = 0; n < rest.length; n++) {
    const { text } = rest[n]!
    const option = /^--(class|id|hotkey|users|source|args)(?:=(.*))?$/s.exec(text)
    if (!option && text.startsWith('--')) continue
    if (!option) {
      found.title ??= text
      continue
    }
    const value = option[2] ?? rest[++n]?.text ?? ''
    if (option[1] === 'id') found.id = value
    if (option[1] === 'hotkey') found.hotkey = value
  }
  return { ...found, title: found.title ?? '' }
}

/** Marks the entry that a `default` of GRUB means: a number, id or title, with `>` between those of submenus. */
export const markGrubDefault = (drafts: readonly EntryDraft[], wanted: string): void => {
  let left = drafts.filter(draft => !(draft.hidden && draft.id === ''))
  const steps = wanted.split('>')
  for (const [depth, step] of steps.entries()) {
    /** entries and submenus of this level, each submenu once */
    const level = new Map<string, EntryDraft[]>()
    for (const [n, draft] of left.entries()) {
      const key = draft.submenu.length > depth ? `>${draft.submenu[depth]}` : `${n}`
      level.set(key, [...(level.get(key) ?? []), draft])
    }
    const groups = [...level.values()]
    const fits = ([draft]: readonly EntryDraft[]): boolean =>
      draft!.submenu.length > depth ? draft!.submenu[depth] === step : draft!.id === step || draft!.title === step
    const chosen = /^\d+$/.test(step) ? groups[Number(step)] : groups.find(fits)
    if (!chosen) return
    const [first] = chosen
    if (first!.submenu.length <= depth) {
      if (depth === steps.length - 1) first!.isDefault = true
      return
    }
    left = chosen
  }
}

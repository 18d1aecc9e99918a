import { oneTarget } from '../ops/address.js'
import { type DiffEntry, type DiffOptions, type DiffOutcome, runDiff } from '../ops/diff.js'
import { printableName, type TargetInput } from '../ops/target.js'
import { drive, print } from './run.js'
import { ATTENTION, findingLines, type Paint, paint, safe, size } from './words.js'

/** How `liveos diff` shows what it found. */
export interface DiffWords {
  readonly json?: boolean | undefined
  /** counts by directory in the place of paths */
  readonly stat?: boolean | undefined
}

/**
 * `liveos diff`; exit code 1 where something could not be compared, or the kernel has given the overlay up.
 *
 * @param text  TARGET, or TARGET:/path for what is below a path
 */
export const diff = async (
  text: string | undefined,
  where: TargetInput,
  { json, stat, depth, output }: DiffWords & Pick<DiffOptions, 'depth' | 'output'>,
): Promise<number> => {
  const { input, paths } = oneTarget([text ?? ''], where)
  const path = paths[0] || '/'
  const done = await drive(signal => runDiff(input, { path, depth, output, signal }))
  const p = paint(process.stdout)
  print(json, done, () => (stat ? statWords(done, p) : diffWords(done, p)))
  return done.findings.some(({ severity }) => severity !== 'note') ? ATTENTION : 0
}

const LETTERS: Readonly<Record<DiffEntry['change'], string>> = {
  added: 'A',
  deleted: 'D',
  modified: 'M',
  type: 'T',
  renamed: 'R',
  attributes: 'a',
}

const sizes = ({ before, after, changed }: DiffEntry): string => {
  if (before?.kind === 'file' && after?.kind === 'file')
    return changed.includes('content')
      ? before.size === after.size
        ? size(after.size)
        : `${size(before.size)} → ${size(after.size)}`
      : ''
  const one = before ?? after
  return one?.kind === 'file' && !(before && after) ? size(one.size) : ''
}

/** What else differs, with both values where they are short. */
const details = (entry: DiffEntry): string[] => {
  const { before, after, changed, target, xattrs, change, linkTo } = entry
  if (change === 'type') return [`${before!.kind} → ${after!.kind}`]
  if (change === 'deleted') return before!.kind === 'file' ? [] : [before!.kind]
  if (change === 'added') {
    const what = after!.kind === 'file' ? [] : [after!.kind]
    const to = target?.after ? [`→ ${printableName(target.after)}`] : []
    return [...what, ...to, ...(linkTo === undefined ? [] : [`link to ${printableName(linkTo)}`])]
  }
  return changed.flatMap(aspect => {
    switch (aspect) {
      case 'content':
        return []
      case 'target':
        return [`→ ${printableName(target?.after ?? '')} (was ${printableName(target?.before ?? '')})`]
      case 'mode':
        return [`mode ${before!.mode} → ${after!.mode}`]
      case 'owner':
        return [`owner ${before!.uid}:${before!.gid} → ${after!.uid}:${after!.gid}`]
      case 'device':
        return [`device ${before!.device} → ${after!.device}`]
      case 'links':
        return [`links ${before!.linkCount} → ${after!.linkCount}`]
      case 'mtime':
        // With other content it goes without saying.
        return changed.length === 1 ? ['mtime'] : []
      case 'xattrs':
        return [
          `xattrs ${[
            ...(xattrs?.added ?? []).map(name => `+${printableName(name)}`),
            ...(xattrs?.removed ?? []).map(name => `-${printableName(name)}`),
            ...(xattrs?.changed ?? []).map(printableName),
          ].join(' ')}`,
        ]
      default:
        return aspect satisfies never
    }
  })
}

const coloured = (entry: DiffEntry, p: Paint): string => {
  const letter = LETTERS[entry.change]
  if (entry.change === 'added') return p.good(letter)
  return entry.change === 'deleted' ? p.bad(letter) : entry.change === 'attributes' ? p.faint(letter) : p.warn(letter)
}

const line = (entry: DiffEntry, p: Paint): string => {
  const { path, from, change, after, before } = entry
  const slash = (after ?? before)?.kind === 'directory' && path !== '/' ? '/' : ''
  const names =
    change === 'renamed' && from !== undefined
      ? `${printableName(from)}${slash} → ${printableName(path)}${slash}`
      : `${printableName(path)}${slash}${from === undefined ? '' : ` (was ${printableName(from)})`}`
  const rest = [sizes(entry), ...details(entry)].filter(Boolean).join(', ')
  return `${coloured(entry, p)} ${names}${rest === '' ? '' : p.faint(`  ${rest}`)}`
}

const counts = (done: DiffOutcome['totals']): string =>
  (
    [
      [done.added, 'added'],
      [done.deleted, 'deleted'],
      [done.modified, 'modified'],
      [done.type, 'of another type'],
      [done.renamed, 'renamed'],
      [done.attributes, 'attributes'],
    ] as const
  )
    .filter(([count]) => count > 0)
    .map(([count, word]) => `${count} ${word}`)
    .join(', ')

const summary = (done: DiffOutcome, p: Paint): string[] => {
  const { totals, archive, findings } = done
  const words =
    totals.count === 0
      ? 'Nothing was changed.'
      : `${totals.count} ${totals.count === 1 ? 'path' : 'paths'}: ${counts(totals)}; ${size(totals.changedBytes)} of content in ${size(done.touchedBytes)} of the overlay`
  const written = archive
    ? [
        `Written to ${safe(archive.path)}: ${archive.members} members, ${size(archive.bytes)}; ${archive.deleted} deleted names in ${archive.deletions}`,
      ]
    : []
  return [p.bold(words), ...written, ...findingLines(findings, p)]
}

/** What changed, a line for each path. */
export const diffWords = (done: DiffOutcome, p: Paint): string[] => [
  ...done.changes.map(entry => line(entry, p)),
  ...summary(done, p),
]

/** What changed, a line for each directory. */
export const statWords = (done: DiffOutcome, p: Paint): string[] => {
  const { directories } = done
  const names = directories.map(({ directory }) => printableName(directory))
  const width = Math.max(0, ...names.map(name => name.length))
  return [
    ...directories.map(
      (sums, n) => `${names[n]!.padEnd(width)}  ${size(sums.changedBytes).padStart(10)}  ${p.faint(counts(sums))}`,
    ),
    ...summary(done, p),
  ]
}

import type { TargetInput } from '../ops/target.js'
import { printableName, runUsage, type Usage, type UsageCategory, type UsageOptions } from '../ops/usage.js'
import { drive, print } from './run.js'
import { ATTENTION, findingLines, type Paint, paint, safe, size } from './words.js'

/** `liveos usage`; exit code 1 where not all could be told. */
export const usage = async (
  input: TargetInput,
  { json, ...options }: UsageOptions & { readonly json?: boolean | undefined },
): Promise<number> => {
  const found = await drive(signal => runUsage(input, options, { signal }))
  print(json, found, () => usageWords(found, options, paint(process.stdout)))
  return found.findings.some(({ severity }) => severity !== 'note') ? ATTENTION : 0
}

const WORDS: Readonly<Record<UsageCategory, string>> = {
  files: 'files',
  directories: 'directories',
  maps: 'maps of files',
  xattrs: 'extended attributes',
  'inode tables': 'inode tables',
  bitmaps: 'bitmaps',
  superblocks: 'superblocks, groups',
  journal: 'journal',
  quota: 'quota, orphans',
  deleted: 'deleted while open',
  freed: 'deleted files',
  outside: 'behind the filesystem',
  unknown: 'unknown',
  identical: 'same as the base',
  header: "overlay's header",
  lists: "overlay's lists",
  gaps: "overlay's gaps",
  filesystem: "overlay's filesystem",
}

const BAR = 24
const DEPTH_STEP = '  '

const percentOf = (part: number, whole: number): string => `${whole > 0 ? Math.round((part / whole) * 100) : 0} %`

const bar = (part: number, whole: number, p: Paint): string => {
  const full = whole > 0 ? Math.min(BAR, Math.round((part / whole) * BAR)) : 0
  return p.good('█'.repeat(full)) + p.faint('░'.repeat(BAR - full))
}

/** Numbers to the right in one column, words behind. */
const table = (lines: readonly (readonly [bytes: number, words: string])[]): string[] => {
  const width = Math.max(0, ...lines.map(([bytes]) => size(bytes).length))
  return lines.map(([bytes, words]) => `  ${size(bytes).padStart(width)}  ${words}`)
}

const section = (title: string, lines: readonly string[], p: Paint): string[] =>
  lines.length > 0 ? ['', p.bold(title), ...lines] : []

const same = (identicalBytes: number, p: Paint): string =>
  identicalBytes > 0 ? p.faint(`  (${size(identicalBytes)} same as the base)`) : ''

/** What an overlay is made of. */
const holds = ({ overlay: { chunkSize, chunks, deletions = 0 }, fileCount }: Usage): string =>
  chunkSize === null
    ? `${fileCount} ${fileCount === 1 ? 'file' : 'files'} with data, ${deletions} deleted ${deletions === 1 ? 'name' : 'names'} of the base`
    : `${chunks} chunks of ${size(chunkSize)}`

/** What `liveos usage` says to a person. */
export const usageWords = (found: Usage, { top = 20 }: UsageOptions, p: Paint): string[] => {
  const { overlay, allocatedBytes, categories, files, directories, packages, space, advice } = found
  const name = Math.max(0, ...categories.map(({ category }) => WORDS[category].length))
  const number = Math.max(0, ...categories.map(({ bytes }) => size(bytes).length))
  const shown = categories.filter(({ bytes }) => bytes > 0)
  return [
    p.bold(safe(found.target)) + p.faint(safe(`  ${overlay.path}, ${overlay.state}`)),
    `${size(allocatedBytes)} of ${size(overlay.size)} taken, ${holds(found)}`,
    ...section(
      'What it holds',
      shown.map(
        ({ category, bytes, identicalBytes }) =>
          `  ${WORDS[category].padEnd(name)}  ${bar(bytes, allocatedBytes, p)}  ${size(bytes).padStart(number)}  ${percentOf(bytes, allocatedBytes).padStart(5)}${identicalBytes > 0 ? p.faint(`  + ${size(identicalBytes)} same as the base`) : ''}`,
      ),
      p,
    ),
    ...section(
      found.fileCount > files.length ? `Largest of ${found.fileCount}` : 'Files',
      table(
        files.map(({ path, inode, bytes, identicalBytes }) => [
          bytes,
          `${path === null ? `inode ${inode}, which no directory names` : printableName(path)}${same(identicalBytes, p)}`,
        ]),
      ),
      p,
    ),
    ...section(
      'Directories, with all below them',
      table(
        directories
          .slice(0, top)
          .map(({ path, depth, bytes, identicalBytes }) => [
            bytes,
            `${DEPTH_STEP.repeat(depth)}${printableName(path)}${same(identicalBytes, p)}`,
          ]),
      ),
      p,
    ),
    ...section(
      'Packages',
      table(
        (packages ?? [])
          .slice(0, top)
          .map(({ name: packageName, bytes, fileCount }) => [
            bytes,
            `${packageName === null ? 'of no package' : printableName(packageName)}${p.faint(`  ${fileCount} ${fileCount === 1 ? 'file' : 'files'}`)}`,
          ]),
      ),
      p,
    ),
    ...(space
      ? section(
          'What is left',
          [
            `  df:      ${size(space.availableBytes)} available, ${size(space.freeBytes)} free of ${size(space.totalBytes)}`,
            `  overlay: ${space.overlayBytes === null ? 'not known' : `${size(space.overlayBytes)}${space.limitedBy === 'stick' && overlay.chunkSize !== null ? ', limited by the free space of the stick' : ''}`}`,
            `  ${safe(space.explanation)}`,
          ],
          p,
        )
      : []),
    ...section(
      'Worth keeping out of the overlay',
      advice.flatMap(({ path, bytes, means, fstab, loses }) => [
        `  ${printableName(path)}: ${size(bytes)}, ${means === 'tmpfs' ? 'by a tmpfs' : 'by a home image'}; costs: ${loses}`,
        ...(fstab === null ? [] : [`    ${p.good(safe(fstab))}`]),
      ]),
      p,
    ),
    ...(advice.some(({ fstab }) => fstab !== null)
      ? [
          p.faint(
            `  Lines that begin with tmpfs go into /etc/fstab of the live system. What is in the overlay already ${overlay.chunkSize === null ? 'is free again once it is deleted in the booted system' : 'comes back with a refresh'}.`,
          ),
        ]
      : []),
    ...(found.findings.length > 0 ? ['', ...findingLines(found.findings, p)] : []),
  ]
}

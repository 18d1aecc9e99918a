import { oneTarget } from '../ops/address.js'
import { checkNotOnto, checkStream } from '../ops/copy-onto.js'
import { type CopyTreeOutcome, checkPlace, copyOut } from '../ops/copy-out.js'
import { type FileStat, type Layer, type ListedFile, listFiles, statFile, withView, writeFileTo } from '../ops/files.js'
import { type Finding, printableName as printable, type TargetInput } from '../ops/target.js'
import { quietPipe } from './pipe.js'
import { drive, print } from './run.js'
import { ATTENTION, findingLines, paint, rows, size } from './words.js'

/** Which of a target's filesystems is meant. */
export interface LayerOptions {
  readonly baseOnly?: boolean | undefined
  readonly home?: boolean | undefined
  readonly medium?: boolean | undefined
  readonly json?: boolean | undefined
}

const layerOf = ({ baseOnly, home, medium }: LayerOptions): Layer =>
  medium ? 'medium' : home ? 'home' : baseOnly ? 'base' : 'root'

const tell = (findings: readonly Finding[]): void => {
  for (const line of findingLines(findings, paint(process.stderr))) process.stderr.write(`${line}\n`)
}

const attention = (findings: readonly Finding[]): number =>
  findings.some(({ severity }) => severity !== 'note') ? ATTENTION : 0

const LETTERS = { file: '-', directory: 'd', symlink: 'l', block: 'b', character: 'c', fifo: 'p', socket: 's' } as const

/** Permission bits as ls draws them. */
const drawMode = (kind: ListedFile['kind'], octal: string): string => {
  const mode = Number.parseInt(octal, 8)
  const triple = (shift: number, special: number, set: string): string => {
    const bits = (mode >> shift) & 7
    const x = mode & special ? (bits & 1 ? set : set.toUpperCase()) : bits & 1 ? 'x' : '-'
    return `${bits & 4 ? 'r' : '-'}${bits & 2 ? 'w' : '-'}${x}`
  }
  return `${LETTERS[kind]}${triple(6, 0o4000, 's')}${triple(3, 0o2000, 's')}${triple(0, 0o1000, 't')}`
}

const longLine = (file: ListedFile, name: string): string =>
  [
    drawMode(file.kind, file.mode),
    String(file.linkCount).padStart(3),
    `${file.uid}:${file.gid}`.padEnd(9),
    (file.device ?? String(file.size)).padStart(11),
    file.modified.slice(0, 16).replace('T', ' '),
    name + (file.kind === 'symlink' ? ` -> ${file.target === null ? '?' : printable(file.target ?? '')}` : ''),
  ].join(' ')

const written = (text: string): Promise<void> =>
  new Promise((resolve, reject) => process.stdout.write(text, error => (error ? reject(error) : resolve())))

export interface ListVerbOptions extends LayerOptions {
  readonly long?: boolean | undefined
  readonly recursive?: boolean | undefined
  readonly directory?: boolean | undefined
}

/** `liveos ls`: one line a file, or a JSON array that is printed as it is found. */
export const list = async (text: string | undefined, where: TargetInput, options: ListVerbOptions): Promise<number> => {
  quietPipe()
  const { input, paths } = oneTarget([text ?? ''], where)
  const view = { paths, recursive: options.recursive }
  return withView(input, layerOf(options), view, async (fs, findings) => {
    const told: Finding[] = [...findings]
    const base = paths[0]!
    let lines: string[] = []
    let first = true
    for await (const file of listFiles(fs, base, { ...options, onFinding: finding => told.push(finding) })) {
      if (options.json) {
        // The bracket comes with the first file: a path that is not there leaves the whole of stdout to its error.
        lines.push(`${first ? '[' : ','}\n  ${JSON.stringify(file)}`)
        first = false
      } else {
        const name = printable(options.recursive || options.directory ? file.path : file.path.split('/').at(-1) || '/')
        lines.push(`${options.long ? longLine(file, name) : name}\n`)
      }
      if (lines.length >= 1000) {
        await written(lines.join(''))
        lines = []
      }
    }
    await written(lines.join('') + (options.json ? (first ? '[]\n' : '\n]\n') : ''))
    tell(told)
    return attention(told)
  })
}

/** `liveos cat`. */
export const cat = async (texts: readonly string[], where: TargetInput, options: LayerOptions): Promise<number> => {
  quietPipe()
  const { input, paths } = oneTarget(texts, where)
  return withView(input, layerOf(options), { paths }, async (fs, findings, files) => {
    await checkStream(1, files)
    tell(findings)
    for (const path of paths) await writeFileTo(fs, path, process.stdout)
    return attention(findings)
  })
}

const statWords = (file: FileStat): string[] => {
  const runs = file.runs ?? []
  return [
    printable(file.path) + (file.kind === 'symlink' ? ` -> ${printable(file.target ?? '?')}` : ''),
    ...rows([
      ['kind', file.device === undefined ? file.kind : `${file.kind} device ${file.device}`],
      ['size', `${file.size} bytes${file.size >= 1024 ? `, ${size(file.size)}` : ''}`],
      file.dataBytes !== null && file.dataBytes < file.size
        ? ['data', `${file.dataBytes} bytes, the rest are holes`]
        : undefined,
      ['mode', `${file.mode} ${drawMode(file.kind, file.mode)}`],
      ['owner', `${file.uid}:${file.gid}`],
      ['changed', file.modified],
      ['inode', `${file.inode}, ${file.linkCount} ${file.linkCount === 1 ? 'name' : 'names'}`],
      runs.length > 0 ? ['runs', `${runs.length}, the first at byte ${runs[0]!.start}`] : undefined,
      ...(file.xattrs ?? []).map(({ name, value }) => [printable(name), value] as const),
    ]),
  ]
}

/** `liveos stat`. */
export const stat = async (texts: readonly string[], where: TargetInput, options: LayerOptions): Promise<number> => {
  quietPipe()
  const { input, paths } = oneTarget(texts, where)
  return withView(input, layerOf(options), { paths }, async (fs, findings) => {
    const found: FileStat[] = []
    for (const path of paths) found.push(await statFile(fs, path))
    print(options.json, found, () => found.flatMap((file, n) => [...(n > 0 ? [''] : []), ...statWords(file)]))
    tell(findings)
    return attention(findings)
  })
}

export interface CopyVerbOptions extends LayerOptions {
  readonly recursive?: boolean | undefined
  readonly tar?: boolean | undefined
  readonly overwrite?: boolean | undefined
  readonly sameOwner?: boolean | undefined
  readonly xattrs?: boolean | undefined
  readonly keepPartial?: boolean | undefined
}

const counted = (count: number, one: string, many: string): string => `${count} ${count === 1 ? one : many}`

/** What was copied, as far as there was any of it. */
const copiedWords = (
  { files, directories, symlinks, hardLinks, special, bytes }: CopyTreeOutcome,
  to: string,
): string =>
  [
    counted(files, 'file', 'files'),
    directories > 0 ? counted(directories, 'directory', 'directories') : '',
    symlinks > 0 ? counted(symlinks, 'link', 'links') : '',
    hardLinks > 0 ? counted(hardLinks, 'further name', 'further names') : '',
    special > 0 ? counted(special, 'device or pipe', 'devices and pipes') : '',
    `${size(bytes)} copied to ${to === '-' ? 'standard output' : printable(to)}`,
  ]
    .filter(Boolean)
    .join(', ')

/** `liveos cp`; the last word is where to. */
export const copy = async (words: readonly string[], where: TargetInput, options: CopyVerbOptions): Promise<number> => {
  const to = words.at(-1)!
  if (to === '-') quietPipe()
  const { input, paths } = oneTarget(words.slice(0, -1), where)
  await checkPlace(to, process.stdout, options)
  const view = { paths, recursive: true, homeSeverity: 'warning' as const }
  return withView(input, layerOf(options), view, async (fs, findings, files) => {
    await checkNotOnto({ from: fs, paths, to, files }, options.overwrite === true)
    const done = await drive(signal => copyOut(fs, paths, to, { ...options, signal }, process.stdout))
    const all = [...findings, ...done.findings]
    const outcome = { ...done, findings: all }
    const lines = [copiedWords(done, to), ...findingLines(all, paint(to === '-' ? process.stderr : process.stdout))]
    // An archive on stdout leaves no room for words there.
    if (to === '-') process.stderr.write(lines.map(line => `${line}\n`).join(''))
    else print(options.json, outcome, () => lines)
    return attention(all)
  })
}

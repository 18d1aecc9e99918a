import { type InspectInput, inspect as runInspect } from '../ops/inspect.js'
import type { Detail, InspectNode } from '../ops/inspect-node.js'
import { printableName } from '../ops/target.js'
import { quietPipe } from './pipe.js'
import { print } from './run.js'
import { ATTENTION, findingLines, type Paint, paint, size } from './words.js'

const shown = (value: Detail): string =>
  typeof value === 'object' && value !== null ? value.join(', ') : String(value)

/** Details that stand on the node's own line, in this order and these words. */
const INLINE: Readonly<Record<string, (value: Detail) => string>> = {
  kind: shown,
  table: value => (value === 'hybrid' ? 'MBR and GPT partitions' : `${shown(value).toUpperCase()} partitions`),
  partitionType: shown,
  partitionName: value => `"${shown(value)}"`,
  fatVariant: shown,
  filesystem: value => `on ${shown(value)}`,
  compressor: shown,
  blockSize: value => `${size(Number(value))} blocks`,
  state: shown,
  percent: value => `${shown(value)} %`,
  encrypted: () => 'encrypted',
  use: shown,
  workDirectory: value => (value === true ? '' : 'without its work directory'),
  distribution: shown,
  variant: shown,
  architecture: shown,
  firmware: value => (value === 'both' ? 'BIOS and UEFI' : shown(value).toUpperCase()),
  timeoutSeconds: value => `starts by itself after ${shown(value)} s`,
  platform: value => (value === 'efi' ? 'UEFI' : value === 'x86' ? 'BIOS' : shown(value)),
  loader: shown,
  default: value => (value === true ? 'default' : `default ${shown(value)}`),
  conditional: () => 'under a condition',
  dirty: () => 'not unmounted',
  errors: () => 'marked with errors',
  bootable: value => (value === true ? 'bootable' : ''),
}
/** Details that get lines of their own below the node. */
const BELOW = [
  'mounts',
  'kernels',
  'kernel',
  'initrds',
  'missing',
  'arguments',
  'md5',
  'loaders',
  'freeBytes',
  'leftBytes',
]

const isSame = (a: InspectNode, b: InspectNode | undefined): boolean =>
  b !== undefined && a.size !== null && a.size === b.size && a.type === b.type && a.uuid === b.uuid

/** A node in one line; what its parent has said of the same bytes is left out. */
const headline = (node: InspectNode, p: Paint, parent?: InspectNode): string => {
  const { kind, name, size: bytes, type, label, uuid, details } = node
  const own = isSame(node, parent)
    ? []
    : [bytes === null ? '' : size(bytes), type ?? '', label ? `"${label}"` : '', uuid ?? '']
  const hidden = (key: string): boolean => key === 'kind' && (kind !== 'target' || details.kind === 'image')
  const words = [
    ...own,
    ...Object.entries(INLINE).map(([key, words]) => {
      const value = details[key]
      return value === undefined || value === null || hidden(key) ? '' : words(value)
    }),
  ].filter(word => word !== '')
  return `${p.bold(printableName(name))}${words.length > 0 ? `  ${words.map(printableName).join('  ')}` : ''}`
}

const belowWords = (key: string, value: Detail, details: InspectNode['details']): string => {
  if (key === 'freeBytes') return `${size(Number(value))} free`
  if (key === 'leftBytes') return `${size(Number(value))} left`
  const version = key === 'kernel' && details.kernelVersion ? `  ${shown(details.kernelVersion)}` : ''
  return `${key} ${shown(value)}${version}`
}

const below = ({ details }: InspectNode): string[] =>
  BELOW.flatMap(key => {
    const value = details[key]
    if (value === undefined || value === null) return []
    const lines = key === 'mounts' && Array.isArray(value) ? value.map(String) : [belowWords(key, value, details)]
    return lines.map(printableName)
  })

const draw = (tree: InspectNode, p: Paint, prefix = ''): string[] => {
  const more = tree.children.length > 0
  return [
    ...below(tree).map(line => `${prefix}${more ? '│' : ' '}    ${p.faint(line)}`),
    ...tree.children.flatMap((child, n) => {
      const last = n === tree.children.length - 1
      return [
        `${prefix}${last ? '└─' : '├─'} ${headline(child, p, tree)}`,
        ...draw(child, p, `${prefix}${last ? '   ' : '│  '}`),
      ]
    }),
  ]
}

/** `liveos inspect`; exit code 1 where something needs attention. */
export const inspect = async (
  input: InspectInput,
  { json }: { readonly json?: boolean | undefined },
): Promise<number> => {
  quietPipe()
  const found = await runInspect(input)
  const p = paint(process.stdout)
  print(json, found, () => [headline(found.tree, p), ...draw(found.tree, p), ...findingLines(found.findings, p)])
  return found.findings.some(({ severity }) => severity !== 'note') ? ATTENTION : 0
}

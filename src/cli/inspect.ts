import { type InspectInput, inspect as runInspect } from '../ops/inspect.js'
import type { Detail, InspectNode } from '../ops/inspect-node.js'
import { printableName } from '../ops/target.js'
import { print } from './run.js'
import { ATTENTION, findingLines, type Paint, paint, size } from './words.js'

const shown = (value: Detail): string =>
  typeof value === 'object' && value !== null ? value.join(', ') : String(value)

/** Details that stand on the node's own line, in this order and these words. */
const INLINE: Readonly<Record<string, (value: Detail) => string>> = {
  kind: value => (value === 'image' ? '' : shown(value)),
  table: value => `${shown(value).toUpperCase()} partitions`,
  partitionType: shown,
  variant: shown,
  compressor: shown,
  blockSize: value => `${size(Number(value))} blocks`,
  state: shown,
  percent: value => `${shown(value)} %`,
  distribution: shown,
  architecture: shown,
  firmware: value => (value === 'both' ? 'BIOS and UEFI' : shown(value).toUpperCase()),
  timeoutSeconds: value => `starts by itself after ${shown(value)} s`,
  platform: shown,
  loader: shown,
  default: value => (value === true ? 'default' : `default ${shown(value)}`),
  conditional: () => 'under a condition',
  dirty: () => 'not unmounted',
  errors: () => 'marked with errors',
  bootable: value => (value === true ? 'bootable' : ''),
}
/** Details that get lines of their own below the node. */
const BELOW = ['kernels', 'kernel', 'initrds', 'missing', 'arguments', 'mounts', 'md5', 'freeBytes', 'leftBytes']

const headline = ({ kind, name, size: bytes, type, label, uuid, details }: InspectNode, p: Paint): string => {
  const words = [
    bytes === null ? '' : size(bytes),
    type ?? '',
    label ? `"${printableName(label)}"` : '',
    uuid ?? '',
    ...Object.entries(INLINE).map(([key, words]) => {
      const value = details[key]
      return value === undefined || value === null || (key === 'kind' && kind !== 'target') ? '' : words(value)
    }),
  ].filter(word => word !== '')
  return `${p.bold(printableName(name))}${words.length > 0 ? `  ${words.map(printableName).join('  ')}` : ''}`
}

const below = ({ details }: InspectNode): string[] =>
  BELOW.flatMap(key => {
    const value = details[key]
    if (value === undefined || value === null) return []
    if (key === 'mounts' && typeof value === 'object') return value.map(line => printableName(line))
    if (key === 'freeBytes') return [`${size(Number(value))} free`]
    if (key === 'leftBytes') return [`${size(Number(value))} left`]
    return [`${key} ${printableName(shown(value))}`]
  })

const draw = (tree: InspectNode, p: Paint, prefix = ''): string[] => {
  const more = tree.children.length > 0
  return [
    ...below(tree).map(line => `${prefix}${more ? '│' : ' '}    ${p.faint(line)}`),
    ...tree.children.flatMap((child, n) => {
      const last = n === tree.children.length - 1
      return [
        `${prefix}${last ? '└─' : '├─'} ${headline(child, p)}`,
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
  const found = await runInspect(input)
  const p = paint(process.stdout)
  print(json, found, () => [headline(found.tree, p), ...draw(found.tree, p), ...findingLines(found.findings, p)])
  return found.findings.some(({ severity }) => severity !== 'note') ? ATTENTION : 0
}

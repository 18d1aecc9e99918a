import { LiveError, unsupported } from '../error.js'
import type { NamedTable, TableLine } from './table.js'
import { targetDevices, withDevices } from './table-target.js'

/** A device of a graph: its lines name other devices of the graph, or devices outside of it by a word. */
export interface TableNode {
  readonly name: string
  readonly lines: readonly TableLine<TableNode | string>[]
}

/** How devices of a set of tables name each other. */
export interface GraphOptions {
  /** other words for tables of the set, such as `253:0` → `live-base`; `/dev/mapper/NAME` is known by itself */
  readonly aliases?: ReadonlyMap<string, string> | undefined
}

/** Layers of devices on devices. Real ones have five; each may read a little more than it was asked for. */
const MAX_DEPTH = 16

/** Where udev puts a device: characters that are not plain are written as `\x20`. @see libdevmapper, mangling of names */
const mapperPath = (name: string): string =>
  `/dev/mapper/${name.replace(/[^\w#+\-.:=@]/gu, odd => [...Buffer.from(odd)].map(byte => `\\x${byte.toString(16).padStart(2, '0')}`).join(''))}`

const twice = (name: string): LiveError =>
  new LiveError('USAGE', `two tables are called ${name}: each device has one name of its own`, { table: name })

const tooDeep = (path: readonly string[]): LiveError =>
  unsupported(
    'device-mapper tables deeper than 16 layers',
    path[0]!,
    `it is made from tables in more than ${MAX_DEPTH} layers (${path.join(' → ')} …)`,
  )

/**
 * Checks a device before what it is made from is looked at.
 *
 * @param path    names of the devices that are made from it, the topmost first
 * @param height  layers that it has itself, as far as they are known
 */
const checkPath = (path: readonly string[], name: string, height = 1): void => {
  const from = path.indexOf(name)
  if (from >= 0) {
    const circle = [...path.slice(from), name]
    throw new LiveError(
      'USAGE',
      `the tables go round in a circle: ${circle.join(' → ')}; a device can't be made from itself`,
      { table: name, path: circle },
    )
  }
  if (path.length + height > MAX_DEPTH) throw tooDeep([...path, name])
}

/**
 * Finds which tables of a set are made from which.
 *
 * @returns each table by its name
 * @throws USAGE  two have one name, they go round in a circle, or an alias names none; UNSUPPORTED  more than 16 layers
 */
export const graphOf = (
  tables: readonly NamedTable[],
  { aliases = new Map() }: GraphOptions = {},
): ReadonlyMap<string, TableNode> => {
  const byName = new Map<string, NamedTable>()
  for (const table of tables) {
    if (byName.has(table.name)) throw twice(table.name)
    byName.set(table.name, table)
  }
  const names = new Map([...byName.keys()].map(name => [mapperPath(name), name] as const))
  const tableOf = (word: string): NamedTable | undefined => byName.get(aliases.get(word) ?? names.get(word) ?? '')
  for (const name of aliases.values())
    if (!byName.has(name)) throw new LiveError('USAGE', `there is no table called ${name}`, { table: name })

  const nodes = new Map<string, { readonly node: TableNode; readonly height: number }>()
  const layOut = ({ name, lines }: NamedTable, path: readonly string[]): { node: TableNode; height: number } => {
    const known = nodes.get(name)
    checkPath(path, name, known?.height)
    if (known) return known
    let height = 1
    const within = [...path, name]
    const node = {
      name,
      lines: lines.map(line => ({
        ...line,
        ...withDevices<string, TableNode | string>(line, word => {
          const below = tableOf(word)
          if (!below) return word
          const found = layOut(below, within)
          height = Math.max(height, found.height + 1)
          return found.node
        }),
      })),
    }
    const found = { node, height }
    nodes.set(name, found)
    return found
  }
  for (const table of tables) layOut(table, [])
  return new Map(tables.map(({ name }) => [name, nodes.get(name)!.node]))
}

/**
 * The tables that a graph needs, what lies below first: made in this order, each finds its devices as `/dev/mapper/NAME`.
 *
 * @param tops  devices that are wanted; all that they are made from comes with them
 * @throws USAGE  two devices have one name, or they go round in a circle; UNSUPPORTED  more than 16 layers
 */
export const tablesOf = (tops: Iterable<TableNode>): readonly NamedTable[] => {
  const tables: NamedTable[] = []
  const nodes = new Map<string, TableNode>()
  const add = (node: TableNode, path: readonly string[]): void => {
    checkPath(path, node.name)
    const known = nodes.get(node.name)
    if (known && known !== node) throw twice(node.name)
    if (known) return
    for (const line of node.lines)
      for (const device of targetDevices<TableNode | string>(line))
        if (typeof device !== 'string') add(device, [...path, node.name])
    nodes.set(node.name, node)
    const lines = node.lines.map(line => ({
      ...line,
      ...withDevices<TableNode | string, string>(line, device =>
        typeof device === 'string' ? device : mapperPath(device.name),
      ),
    }))
    tables.push({ name: node.name, lines })
  }
  for (const top of tops) add(top, [])
  return tables
}

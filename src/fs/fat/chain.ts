import { cutShort } from '../../block/cut-short.js'
import type { Device } from '../../block/device.js'
import type { Segment } from '../../block/linear.js'
import { corrupt, type LiveError } from '../../error.js'
import { type BootSector, END_OF_CHAIN, FIRST_CLUSTER } from './layout.js'
import type { Table } from './table.js'

/** Clusters one behind the other on the device. */
export interface ClusterRun {
  /** number of the first one */
  readonly first: number
  readonly count: number
}

/** An opened volume: what is known before any directory is read. */
export interface Volume {
  readonly device: Device
  readonly boot: BootSector
  readonly table: Table
}

/** A chain to follow, and what must be true of it. */
export interface Chain {
  readonly firstCluster: number
  /** byte offset on the device of the field that names the first cluster */
  readonly position: number
  /** whose it is, for messages */
  readonly owner: string
  /** clusters that it must have; undefined where only `most` is known */
  readonly exactly?: number | undefined
  /** clusters that it may have */
  readonly most: number
}

/** First byte on the device of a cluster. */
export const clusterStart = ({ dataStart, clusterSize }: BootSector, cluster: number): number =>
  dataStart + (cluster - FIRST_CLUSTER) * clusterSize

const valueName = (value: number, variant: BootSector['variant']): string =>
  value === 0 ? '0, a free cluster' : value === END_OF_CHAIN[variant] - 1 ? `${value}, a bad cluster` : String(value)

/**
 * Follows a chain in the table. Its runs come as they are found, those before a fault too.
 *
 * @throws CORRUPT  the chain comes back to itself, leaves the volume, holds a free or bad cluster, is of another length than asked, or
 *   lies behind the device's end
 */
export async function* followChain({ device, boot, table }: Volume, chain: Chain): AsyncGenerator<ClusterRun, void> {
  const { owner, exactly, most } = chain
  const { variant } = boot
  const end = boot.clusterCount + FIRST_CLUSTER
  const wrong = (offset: number, field: string, expected: string, found: string | number): LiveError =>
    corrupt({ device: device.name, offset, field: `${field} of ${owner}`, expected, found })
  const aCluster = `a cluster from ${FIRST_CLUSTER} to ${end - 1}`
  if (exactly === 0) {
    if (chain.firstCluster !== 0)
      throw wrong(chain.position, 'first cluster', '0, as it has no bytes', chain.firstCluster)
    return
  }
  const isCluster = (value: number): boolean => value >= FIRST_CLUSTER && value < end
  if (!isCluster(chain.firstCluster)) throw wrong(chain.position, 'first cluster', aCluster, chain.firstCluster)

  const inside = (run: ClusterRun): ClusterRun => {
    const behind = clusterStart(boot, run.first + run.count)
    if (behind > device.size)
      throw cutShort({
        device: device.name,
        offset: table.place(run.first),
        field: `clusters of ${owner}`,
        size: device.size,
        needed: behind,
      })
    return run
  }
  const faultAt = (cluster: number, next: number, ends: boolean): LiveError => {
    const place = table.place(cluster)
    const field = `table entry of cluster ${cluster}`
    if (!ends && !isCluster(next)) return wrong(place, field, `${aCluster}, or the end`, valueName(next, variant))
    if (next === mark) return wrong(place, field, 'a chain that ends', `${next}, where it was before`)
    const expected = exactly === undefined ? `at most ${most} clusters` : `${exactly} clusters, as its size says`
    return wrong(place, 'chain', expected, ends ? total : 'more')
  }

  let cluster = chain.firstCluster
  let window = await table.window(cluster)
  let first = cluster
  let total = 1
  // Brent's way to see a loop with no memory: a mark that moves up whenever the steps since have doubled.
  let mark = cluster
  let steps = 0
  let limit = 1
  for (;;) {
    if (cluster < window.first || cluster >= window.end) window = await table.window(cluster)
    const next = window.entry(cluster)
    const ends = next >= END_OF_CHAIN[variant]
    const right = ends
      ? exactly === undefined || total === exactly
      : isCluster(next) && next !== mark && total < (exactly ?? most)
    const fault = right ? undefined : faultAt(cluster, next, ends)
    if (ends || fault || next !== cluster + 1) yield inside({ first, count: cluster + 1 - first })
    if (fault) throw fault
    if (ends) return
    total++
    if (next !== cluster + 1) first = next
    cluster = next
    if (++steps === limit) {
      mark = cluster
      steps = 0
      limit *= 2
    }
  }
}

/** All runs of a chain. @throws CORRUPT  as `followChain` */
export const readChain = async (volume: Volume, chain: Chain): Promise<readonly ClusterRun[]> => {
  const runs: ClusterRun[] = []
  for await (const run of followChain(volume, chain)) runs.push(run)
  return runs
}

/** Runs as parts of the device, cut after `size` bytes. */
export const segmentsOf = ({ boot, device }: Volume, runs: readonly ClusterRun[], size: number): readonly Segment[] => {
  let left = size
  return runs.map(({ first, count }) => {
    const length = Math.min(left, count * boot.clusterSize)
    left -= length
    return { device, deviceOffset: clusterStart(boot, first), length }
  })
}

/** Bytes of a device from some sector on. */
export interface LinearTarget<D> {
  readonly type: 'linear'
  readonly device: D
  readonly deviceSector: number
}

/** Zeros, or nothing but read errors. */
export interface EmptyTarget {
  readonly type: 'zero' | 'error'
}

/** An origin with the chunks of a store over it; of `snapshot-merge` the kernel writes them back into the origin meanwhile. */
export interface SnapshotTarget<D> {
  readonly type: 'snapshot' | 'snapshot-merge'
  readonly origin: D
  readonly cow: D
  /** `P` keeps its list on the store, `PO` too and tells an overflow from damage, `N` keeps it in memory alone */
  readonly store: 'P' | 'PO' | 'N'
  /** 0: as the store's header says, 32 where it is new */
  readonly chunkSectors: number
  readonly features: readonly SnapshotFeature[]
}

/** What a snapshot does with discards. */
export type SnapshotFeature = 'discard_zeroes_cow' | 'discard_passdown_origin'

/** An origin whose snapshots get the old bytes of what is written to it. */
export interface OriginTarget<D> {
  readonly type: 'snapshot-origin'
  readonly device: D
}

/** The same bytes on several devices. */
export interface MirrorTarget<D> {
  readonly type: 'mirror'
  readonly log: MirrorLog<D>
  readonly legs: readonly MirrorLeg<D>[]
  readonly features: readonly MirrorFeature[]
}

/** How a mirror treats a leg that fails, and its log then. */
export type MirrorFeature = 'handle_errors' | 'keep_log'

/** Which regions of a mirror are alike on all legs: kept in memory, or on a device. */
export interface MirrorLog<D> {
  readonly type: 'core' | 'disk'
  /** of `disk` */
  readonly device?: D
  readonly regionSectors: number
  /** `nosync`: all are alike from the start; `sync`: none is, whatever the log says */
  readonly sync?: 'sync' | 'nosync'
}

/** A device of a mirror, from some sector on. */
export interface MirrorLeg<D> {
  readonly device: D
  readonly deviceSector: number
}

/** What a line of a table maps its sectors to. `D` is how devices are named: words in a parsed table. */
export type TableTarget<D = string> =
  | LinearTarget<D>
  | EmptyTarget
  | SnapshotTarget<D>
  | OriginTarget<D>
  | MirrorTarget<D>

/** The devices that a target names, in the order of its line. */
export const targetDevices = <D>(target: TableTarget<D>): readonly D[] => {
  switch (target.type) {
    case 'linear':
    case 'snapshot-origin':
      return [target.device]
    case 'zero':
    case 'error':
      return []
    case 'snapshot':
    case 'snapshot-merge':
      return [target.origin, target.cow]
    case 'mirror': {
      const legs = target.legs.map(({ device }) => device)
      return target.log.device === undefined ? legs : [target.log.device, ...legs]
    }
  }
}

/** The same target with its devices named otherwise. */
export const withDevices = <D, E>(target: TableTarget<D>, name: (device: D) => E): TableTarget<E> => {
  switch (target.type) {
    case 'linear':
    case 'snapshot-origin':
      return { ...target, device: name(target.device) }
    case 'zero':
    case 'error':
      return target
    case 'snapshot':
    case 'snapshot-merge':
      return { ...target, origin: name(target.origin), cow: name(target.cow) }
    case 'mirror': {
      const { device, ...log } = target.log
      const legs = target.legs.map(leg => ({ ...leg, device: name(leg.device) }))
      return { ...target, log: device === undefined ? log : { ...log, device: name(device) }, legs }
    }
  }
}

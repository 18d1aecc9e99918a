/**
 * The library's public names. A file opened in a filesystem is a Device, so a stick is put together by recursion:
 * `openFile` → `openFs` → `open` → `snapshot`. The verbs are plan and run pairs over that.
 */

export { cache } from './block/cache.js'
export { copyData } from './block/copy.js'
export { type Device, type Extent, extentsOf, type SparseDevice, type WritableDevice } from './block/device.js'
export { openReadBack, type ReadBackDevice } from './block/direct.js'
export { errorTarget } from './block/error-target.js'
export { createFile, type FileDevice, type GrowingFile, openFile, openWritableFile } from './block/file.js'
export { type HttpDevice, openHttp } from './block/http.js'
export { linear, type Segment, slice } from './block/linear.js'
export { memory } from './block/memory.js'
export { mirror } from './block/mirror.js'
export { openPartition, type Partition } from './block/partitions/partition.js'
export { type PartitionTable, readPartitions } from './block/partitions/reader.js'
export { createStore } from './block/snapshot/create.js'
export { mergeStore } from './block/snapshot/merge.js'
export { type Salvage, salvageStore } from './block/snapshot/salvage.js'
export { snapshot } from './block/snapshot/snapshot.js'
export { statusLine } from './block/snapshot/status.js'
export { readStore, type Store } from './block/snapshot/store.js'
export { openWritableSnapshot, type WritableSnapshot } from './block/snapshot/writable.js'
export { parseTable, parseTables, printTable, printTables } from './block/table.js'
export { graphOf, tablesOf } from './block/table-graph.js'
export { openTables } from './block/table-open.js'
export { zero } from './block/zero.js'
export { openPool } from './bytes/pool.js'
export { type ErrorCode, type ErrorData, isLiveError, LiveError } from './error.js'
export type { Finding } from './finding.js'
export { detectFs, type FsType } from './fs/detect.js'
export { openReplayed, type ReplayedDevice } from './fs/ext4/journal/replayed.js'
export { type Ext4, openExt4 } from './fs/ext4/reader.js'
export { checkFat } from './fs/fat/check.js'
export { type Fat, openFat } from './fs/fat/reader.js'
export {
  type Entry,
  type FileKind,
  type FileSystem,
  type FreeRun,
  hasXattrs,
  isMapped,
  type MappedFileSystem,
  type Run,
  type Stat,
  type Xattr,
  type XattrFileSystem,
} from './fs/filesystem.js'
export { readBootCatalog } from './fs/iso9660/boot-catalog.js'
export { type Iso9660, openIso9660 } from './fs/iso9660/reader.js'
export { decodeName, encodeName, printableName } from './fs/name.js'
export { type OpenOptions, openFs } from './fs/open.js'
export { resolvePath } from './fs/resolve.js'
export { openSquashfs, type Squashfs } from './fs/squashfs/reader.js'
export { type Walked, walk } from './fs/walk.js'
export { type DirectoryFileSystem, openDirectory } from './host/directory.js'
export type { BootConfig, BootEntry } from './liveos/boot/config.js'
export { findBootConfigs } from './liveos/boot/find.js'
export { planBoot } from './liveos/dracut/plan.js'
export { type Initrd, readInitrd } from './liveos/initrd/read.js'
export { installedKernels, kernelVersion } from './liveos/kernel-version.js'
export { type OpenTarget, openTarget } from './liveos/open-target.js'
export { type Release, readRelease } from './liveos/release.js'
export { openSource, type Source, type Volume } from './liveos/source.js'
export { openStack, type Stack } from './liveos/stack.js'
export { findTarget, type Target, type TargetInput } from './liveos/target.js'
export { type Layer, openView, type View } from './liveos/view.js'
export { type NbdServer, openServer } from './nbd/server.js'
export { planBoot as planTestDrive, startBoot } from './ops/boot.js'
export { bootPlans } from './ops/boot-plan.js'
export { type CompactOutcome, type CompactPlan, planCompact, runCompact } from './ops/compact.js'
export { type CopyTreeOutcome, copyTree } from './ops/copy-tree.js'
export { type Checkup, runDoctor } from './ops/doctor.js'
export { type GrowOutcome, type GrowPlan, planGrow, runGrow } from './ops/grow.js'
export { isLive, planGrowLive, runGrowLive } from './ops/grow-live.js'
export { type Inspection, inspect } from './ops/inspect.js'
export { type MergeOptions, type MergeOutcome, type MergePlan, planMerge, runMerge } from './ops/merge.js'
export {
  type MergeInPlaceOutcome,
  type MergeInPlacePlan,
  planMergeInPlace,
  runMergeInPlace,
} from './ops/merge-in-place.js'
export type { Progress } from './ops/progress.js'
export { planRecover, type RecoverPlan } from './ops/recover.js'
export { type RecoverOutcome, runRecover } from './ops/recover-run.js'
export { planRefresh, type RefreshOptions, type RefreshPlan } from './ops/refresh.js'
export { type RefreshOutcome, runRefresh } from './ops/refresh-run.js'
export { planReset, type ResetOutcome, type ResetPlan, runReset } from './ops/reset.js'
export { type OverlayStatus, readStatus, type Status } from './ops/status.js'
export { planTable } from './ops/table.js'
export { planUndo, runUndo, type UndoOutcome, type UndoPlan } from './ops/undo.js'
export { runVerify, type VerifyOutcome } from './ops/verify.js'
export { openWatch } from './ops/watch.js'

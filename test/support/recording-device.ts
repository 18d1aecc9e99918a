import type { WritableDevice } from '../../src/block/device.js'

/** One step of a writer, of any of the devices that share a log. */
export type LogEntry =
  | { readonly device: string; readonly kind: 'write'; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly device: string; readonly kind: 'flush' }

/** Writes through to `device` and notes each write and flush, in order, in a log that several devices may share. */
export const recordingDevice = (
  device: WritableDevice,
  log: LogEntry[],
): WritableDevice & { readonly log: readonly LogEntry[] } => ({
  name: device.name,
  size: device.size,
  log,
  read: (offset, length) => device.read(offset, length),
  async write(offset, bytes) {
    // Copied with care: the slice of a Buffer would be a view.
    log.push({ device: device.name, kind: 'write', offset, bytes: new Uint8Array(bytes) })
    await device.write(offset, bytes)
  },
  async flush() {
    log.push({ device: device.name, kind: 'flush' })
    await device.flush()
  },
  close: () => device.close(),
})

/** What a medium holds after some of a log's writes to it, in their order. */
export const replay = (before: Uint8Array, log: readonly LogEntry[], device: string): Uint8Array => {
  const after = new Uint8Array(before)
  for (const entry of log) if (entry.device === device && entry.kind === 'write') after.set(entry.bytes, entry.offset)
  return after
}

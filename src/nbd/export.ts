import type { Device, WritableDevice } from '../block/device.js'

/** A device that clients can have. */
export interface Export {
  /** '' where left out, the one that clients get that name none */
  readonly name?: string
  readonly device: Device | WritableDevice
  /** true: clients may not write, though the device could be written */
  readonly readOnly?: boolean
  readonly description?: string | undefined
  /** bytes, a power of two: requests of multiples of it cost least */
  readonly preferredBlockSize?: number | undefined
}

/** True where a device can be written. */
export const canWrite = (device: Device): device is WritableDevice => 'write' in device

/** True where clients may write to an export. */
export const isWritableExport = ({ device, readOnly = false }: Export): boolean => !readOnly && canWrite(device)

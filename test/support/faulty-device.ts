import { type Device, type PlacingDevice, readInto, type WritableDevice } from '../../src/block/device.js'
import { LiveError } from '../../src/error.js'

/** A bad spot: bytes from `from` to before `to`. */
export interface Fault {
  readonly from: number
  readonly to: number
}

const check = (name: string, faults: readonly Fault[], offset: number, length: number): void => {
  if (faults.some(({ from, to }) => offset < to && offset + length > from))
    throw new LiveError('IO', `${name}: injected EIO at ${offset}`, { errno: 'EIO', offset, length })
}

/** Fails with IO every read that touches a bad spot. `faults` may change while it is in use. */
export const faultyDevice = (device: Device, faults: readonly Fault[]): PlacingDevice => ({
  name: device.name,
  size: device.size,
  async read(offset, length) {
    check(device.name, faults, offset, length)
    return device.read(offset, length)
  },
  // Named even where the device has none: who spreads a device below this one must not keep its way around the faults.
  async readInto(offset, target) {
    check(device.name, faults, offset, target.length)
    await readInto(device, offset, target)
  },
  close: () => device.close(),
})

/** Fails with IO every read and write that touches a bad spot. */
export const faultyWritable = (device: WritableDevice, faults: readonly Fault[]): WritableDevice => ({
  ...faultyDevice(device, faults),
  async write(offset, bytes) {
    check(device.name, faults, offset, bytes.length)
    await device.write(offset, bytes)
  },
  flush: () => device.flush(),
})

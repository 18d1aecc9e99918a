import { canReadInto, type Device } from './device.js'

/**
 * A device whose reads pass a guard, whichever way they come: one that counts, or gives errors another shape. All else is the
 * device's own. Laying a `read` over a device by hand would leave its `readInto` as a way around.
 *
 * @param guard  does the read, or throws
 */
export const guardReads = <D extends Device>(
  device: D,
  guard: <T>(offset: number, length: number, read: () => Promise<T>) => Promise<T>,
): D => ({
  ...device,
  read: (offset: number, length: number) => guard(offset, length, () => device.read(offset, length)),
  ...(canReadInto(device)
    ? {
        readInto: (offset: number, target: Uint8Array) =>
          guard(offset, target.length, () => device.readInto(offset, target)),
      }
    : {}),
})

import type { WritableDevice } from '../../block/device.js'

const BUFFER = 1 << 20

/** Writes a device from front to back in pieces of 1 MiB, one of them under way while the next is filled. */
export interface Output {
  /** position behind what was appended, bytes */
  readonly position: number
  /** copies the bytes: they are the caller's again afterwards */
  append(bytes: Uint8Array): Promise<void>
  /** writes what is left and waits for it; flushes nothing */
  drain(): Promise<void>
  /** waits for a write under way, whatever becomes of it: nobody may close the device before */
  settle(): Promise<void>
}

/** Opens an Output at `start`. */
export const openOutput = (device: WritableDevice, start: number): Output => {
  let buffer = new Uint8Array(BUFFER)
  let spare = new Uint8Array(BUFFER)
  let filled = 0
  let base = start
  let writing: Promise<void> = Promise.resolve()

  const send = async (): Promise<void> => {
    await writing
    if (filled === 0) return
    const [bytes, offset] = [buffer.subarray(0, filled), base]
    ;[buffer, spare] = [spare, buffer]
    base += filled
    filled = 0
    writing = device.write(offset, bytes)
    // the failure is told by the next append or drain
    writing.catch(() => undefined)
  }
  return {
    get position() {
      return base + filled
    },
    async append(bytes) {
      for (let at = 0; at < bytes.length; ) {
        const part = bytes.subarray(at, at + BUFFER - filled)
        buffer.set(part, filled)
        filled += part.length
        at += part.length
        if (filled === BUFFER) await send()
      }
    },
    async drain() {
      await send()
      await writing
    },
    settle: () => writing.catch(() => undefined),
  }
}

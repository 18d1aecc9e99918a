import { checkRange, type Device } from '../device.js'
import type { UndoJournal } from './journal.js'

/** A target as it was before a change, read through the journal; nothing is written. Closing it closes neither. */
export const undone = (target: Device, journal: Device, { header, saved }: UndoJournal): Device => {
  const ranges = [...saved].sort((a, b) => a.offset - b.offset)
  const device: Device = {
    name: target.name,
    size: header.oldSize,
    async read(offset, length) {
      checkRange(device, offset, length)
      const bytes = new Uint8Array(length)
      // what was cut off lies in the journal
      const there = Math.min(length, Math.max(0, target.size - offset))
      if (there > 0) bytes.set(await target.read(offset, there))
      let [low, high] = [0, ranges.length]
      while (low < high) {
        const middle = (low + high) >>> 1
        const { offset: start, length: size } = ranges[middle]!
        if (start + size <= offset) low = middle + 1
        else high = middle
      }
      for (; low < ranges.length && ranges[low]!.offset < offset + length; low++) {
        const range = ranges[low]!
        const from = Math.max(range.offset, offset)
        const to = Math.min(range.offset + range.length, offset + length)
        bytes.set(await journal.read(range.at + from - range.offset, to - from), from - offset)
      }
      return bytes
    },
    async close() {},
  }
  return device
}

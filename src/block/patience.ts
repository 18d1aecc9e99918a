/** Decides whether a call that may wait for a medium is made in this thread. */
export interface Patience {
  /**
   * What `read` gives; undefined where it is better given to another thread.
   *
   * @param length  bytes that it moves
   */
  wait<T>(length: number, read: () => T): T | undefined
}

/** Longest time in which memory gives bytes, in milliseconds: for each call, and for a byte. Others want the processor too. */
const CALL_MS = 0.4
const BYTE_MS = 5e-7
/** Larger ones are copied while this thread does something else. */
const MOST_BYTES = 1 << 19
/** Calls that go elsewhere after one that took longer; twice as many each time in a row, up to the most. */
const LEAST_AWAY = 1
const MOST_AWAY = 64
/** So often another thread has a turn in any case, in milliseconds: signals, timers and other threads are heard only then. */
const TURN_MS = 10

/**
 * Most of what is read lies in memory already, by the kernel's reading ahead above all. Then to ask another thread, and to be
 * woken by it, takes longer than the read does itself. Where the medium makes one wait, the next ones go to another thread.
 *
 * @param now  a clock in milliseconds
 */
export const openPatience = (now: () => number = () => performance.now()): Patience => {
  let away = 0
  let next = LEAST_AWAY
  let turned = Number.NEGATIVE_INFINITY
  return {
    wait(length, read) {
      if (length > MOST_BYTES) return undefined
      const begun = now()
      if (away > 0 || begun - turned > TURN_MS) {
        away = Math.max(0, away - 1)
        turned = begun
        return undefined
      }
      try {
        return read()
      } finally {
        // A bad place makes one wait too, the longest of all.
        if (now() - begun <= CALL_MS + length * BYTE_MS) next = LEAST_AWAY
        else {
          away = next
          next = Math.min(next * 2, MOST_AWAY)
        }
      }
    },
  }
}

/** What may be under way at a time, in bytes and in number. One larger than all is let through when nothing else is under way. */
export interface Budget {
  /** Waits for room and takes it. One call at a time. */
  take(bytes: number): Promise<void>
  give(bytes: number): void
  /** Waits until all is given back. */
  idle(): Promise<void>
}

/** A budget of so many bytes in so many pieces. */
export const budget = (maxBytes: number, maxCount: number): Budget => {
  let used = 0
  let count = 0
  let waiter: { readonly bytes: number; readonly resolve: () => void } | undefined
  let idlers: (() => void)[] = []
  const fits = (bytes: number): boolean => count === 0 || (count < maxCount && used + bytes <= maxBytes)
  const enter = (bytes: number): void => {
    used += bytes
    count++
  }
  return {
    async take(bytes) {
      if (!fits(bytes)) await new Promise<void>(resolve => (waiter = { bytes, resolve }))
      else enter(bytes)
    },
    give(bytes) {
      used -= bytes
      count--
      if (waiter && fits(waiter.bytes)) {
        const { bytes: wanted, resolve } = waiter
        waiter = undefined
        enter(wanted)
        resolve()
      }
      if (count > 0) return
      const all = idlers
      idlers = []
      for (const resolve of all) resolve()
    },
    async idle() {
      if (count > 0) await new Promise<void>(resolve => idlers.push(resolve))
    },
  }
}

/**
 * Runs `work` for 0 to `count` - 1, at most `limit` of them at a time. After a failure no further one starts.
 *
 * @throws  what the first failing `work` threw
 */
export const parallel = async (count: number, limit: number, work: (index: number) => Promise<void>): Promise<void> => {
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < count) {
      try {
        await work(next++)
      } catch (error) {
        next = count
        throw error
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(limit, count) }, worker))
}

/**
 * Waits for all of them, whatever becomes of them: none may write into memory that is somebody else's by then.
 *
 * @throws  what the first of them that failed threw
 */
export const settled = async (all: readonly Promise<void>[]): Promise<void> => {
  for (const result of await Promise.allSettled(all)) if (result.status === 'rejected') throw result.reason
}

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

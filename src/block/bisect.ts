/** More than any medium holds, and far below 2^53. */
const LIMIT = 2 ** 50

/**
 * Finds the size of a medium that can only be read: first doubling, then halving the gap.
 *
 * @param readable  true where the byte at this offset exists
 * @returns bytes, 0 where not even byte 0 exists
 */
export const bisectSize = async (readable: (offset: number) => Promise<boolean>): Promise<number> => {
  if (!(await readable(0))) return 0
  let inside = 0
  let outside = 512
  while (outside < LIMIT && (await readable(outside))) {
    inside = outside
    outside *= 2
  }
  while (outside - inside > 1) {
    const middle = inside + Math.floor((outside - inside) / 2)
    if (await readable(middle)) inside = middle
    else outside = middle
  }
  return outside
}

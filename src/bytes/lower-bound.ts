/** Index of the first of `count` things, in order, that is not before what is sought; `count` where all are. */
export const lowerBound = (count: number, isBefore: (index: number) => boolean): number => {
  let [low, high] = [0, count]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (isBefore(middle)) low = middle + 1
    else high = middle
  }
  return low
}

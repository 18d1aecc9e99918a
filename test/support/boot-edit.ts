import { expect } from 'vitest'

/** What an edit changed: the lines that went and those that came, all others being the same in the same places. */
export const lineChanges = (before: string, after: string): { gone: string[]; came: string[] } => {
  const [old, now] = [before.split('\n'), after.split('\n')]
  let front = 0
  while (front < Math.min(old.length, now.length) && old[front] === now[front]) front++
  let back = 0
  while (back < Math.min(old.length, now.length) - front && old.at(-1 - back) === now.at(-1 - back)) back++
  const gone = old.slice(front, old.length - back)
  const came = now.slice(front, now.length - back)
  expect([...old.slice(0, front), ...came, ...old.slice(old.length - back)]).toEqual(now)
  return { gone, came }
}

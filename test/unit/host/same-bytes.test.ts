import { execFileSync } from 'node:child_process'
import { link, stat, writeFile } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { deviceNumber } from '../../../src/host/medium.js'
import { writesOver } from '../../../src/host/same-bytes.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
const look = (file: string) => stat(file, { bigint: true })

it('a file is written over by any of its names, and by no other file', async () => {
  const [one, other, third] = [await path('one'), await path('other'), await path('third')]
  await writeFile(one, 'x')
  await writeFile(third, 'x')
  await link(one, other)
  expect(await writesOver(await look(one), await look(other))).toBe(true)
  expect(await writesOver(await look(third), await look(one))).toBe(false)
})

/** A device node; its device need not be there. Undefined where nobody may make one. */
const node = async (name: string, major: number, minor: number): Promise<string | undefined> => {
  const file = await path(name)
  try {
    execFileSync('mknod', [file, 'b', String(major), String(minor)], { stdio: 'ignore' })
    return file
  } catch {
    return undefined
  }
}

it('a device by any of its nodes, and what lies on it', async ({ skip }) => {
  const [one, other, third] = [await node('a', 240, 77), await node('b', 240, 77), await node('c', 240, 78)]
  const file = await path('lies')
  await writeFile(file, 'x')
  const [major = 0, minor = 0] = deviceNumber(Number((await look(file)).dev))
    .split(':')
    .map(Number)
  const below = await node('below', major, minor)
  if (!one || !other || !third || !below) return skip('no device nodes can be made here')
  expect(await writesOver(await look(one), await look(other))).toBe(true)
  expect(await writesOver(await look(third), await look(one))).toBe(false)
  expect(await writesOver(await look(below), await look(file))).toBe(true)
  expect(await writesOver(await look(file), await look(below))).toBe(false)
  expect(await writesOver(await look(one), await look(file))).toBe(false)
})

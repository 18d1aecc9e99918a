import { access, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { Kind } from '../support/power-cut.js'
import { BARE, checkEnd, EMPTY, judge, record, seed, USUAL } from '../support/power-cut-restore.js'

// in memory where that can be: no device has to be asked for its name each time
const place = access('/dev/shm').then(
  () => '/dev/shm',
  () => tmpdir(),
)
const directory = place.then(at => mkdtemp(join(at, 'liveos-test-')))
afterAll(async () => rm(await directory, { recursive: true, force: true }))
const path = async (name: string): Promise<string> => join(await directory, name)
let count = 0
const KINDS: readonly Kind[] = ['posix', 'fat']

describe.each(KINDS)(`%s: a power cut at any step of a restore (seed ${seed})`, kind => {
  it.each([
    ['usual', USUAL],
    ['files of no bytes', EMPTY],
    ['nothing there before', BARE],
  ] as const)('%s: each file is the old or the new one, and a second run finishes', async (name, contents) => {
    const recorded = await record(await path(`stick${count++}`), kind, contents)
    expect(await checkEnd(recorded)).toBeUndefined()
    const { wrong, states } = await judge(recorded)
    console.log(`${name}, ${kind}: ${recorded.log.length} steps, ${states} states, seed ${seed}`)
    expect(wrong).toEqual([])
    expect(states).toBeGreaterThan(30)
  })
})

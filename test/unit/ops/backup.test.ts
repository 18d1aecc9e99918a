import { appendFile, mkdir, open, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openFile } from '../../../src/block/file.js'
import {
  type BackupOptions,
  type BackupOutcome,
  type BackupPlan,
  planBackup,
  runBackup,
} from '../../../src/ops/backup.js'
import { openBackup } from '../../../src/ops/backup-archive.js'
import { findWritten } from '../../../src/ops/backup-write.js'
import type { Progress } from '../../../src/ops/progress.js'
import { failure, sameBytes } from '../../support/outcome.js'
import { random } from '../../support/random.js'
import { finished, OVERLAY, sha256, smallStick } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'

const path = temporary({ memory: true })
let count = 0

const MIB = 1 << 20
const CONFIG = 'label one\n  kernel vmlinuz\n  append root=live:LABEL=LIVE rd.live.image\n'

/** A stick with a home image of so many bytes. */
const makeStick = async (home = 0): Promise<{ stick: string; file: string }> => {
  const stick = await path(`stick${count++}`)
  await smallStick(stick, { raw: true })
  await mkdir(join(stick, 'syslinux'))
  await writeFile(join(stick, 'syslinux/vmlinuz'), 'a kernel')
  await writeFile(join(stick, 'syslinux/syslinux.cfg'), CONFIG)
  if (home > 0) await writeFile(join(stick, 'LiveOS/home.img'), random(home).bytes(home))
  return { stick, file: `${stick}.tar.zst` }
}

const backup = async (stick: string, file: string, options: BackupOptions = {}): Promise<BackupOutcome> =>
  finished(runBackup({ target: stick }, await planBackup({ target: stick }, file, options)))

/** Runs a backup until `stop` says so, and gives the error. */
const stopped = async (stick: string, plan: BackupPlan, stop: (progress: Progress) => boolean): Promise<unknown> => {
  const control = new AbortController()
  const running = runBackup({ target: stick }, plan, { signal: control.signal })
  try {
    for (let step = await running.next(); !step.done; step = await running.next()) if (stop(step.value)) control.abort()
  } catch (error) {
    return error
  }
  throw new Error('it was not stopped')
}

const parts = async (file: string): Promise<Map<string, string>> => {
  const device = await openFile(file)
  try {
    const { manifest, open } = await openBackup(device)
    const found = new Map<string, string>()
    for (const part of manifest.parts) {
      const content = open(part)
      const bytes = await content.read(0, content.size)
      expect(sha256(bytes)).toBe(part.sha256)
      found.set(part.path, part.sha256)
    }
    return found
  } finally {
    await device.close()
  }
}

describe('what a backup holds', () => {
  it('boot configuration, home image and overlay, each as it is', async () => {
    const { stick, file } = await makeStick(5000)
    const done = await backup(stick, file)
    expect(done.parts.map(({ kind, path: name, size }) => [kind, name, size])).toEqual([
      ['boot', 'syslinux/syslinux.cfg', CONFIG.length],
      ['home', 'LiveOS/home.img', 5000],
      ['overlay', `LiveOS/${OVERLAY}`, (await stat(join(stick, 'LiveOS', OVERLAY))).size],
    ])
    const found = await parts(file)
    for (const [name, hash] of found) expect(sha256(await readFile(join(stick, name)))).toBe(hash)
    expect((await readdir(join(stick, 'LiveOS'))).sort()).toEqual(['home.img', OVERLAY, 'rootfs.img'].sort())
  })

  it('only what is wanted', async () => {
    const { stick, file } = await makeStick(5000)
    expect((await backup(stick, file, { only: ['home'] })).parts.map(({ kind }) => kind)).toEqual(['home'])
    await failure(planBackup({ target: stick }, `${file}2`, { only: ['home'], changedOnly: true }), 'USAGE')
    await failure(planBackup({ target: stick, baseOnly: true }, `${file}2`, { only: ['overlay'] }), 'NOT_FOUND')
  })

  it('files of no bytes, of zeros alone, and of one byte', async () => {
    for (const [size, content] of [
      [0, ''],
      [3 * MIB, ''],
      [1, 'x'],
    ] as const) {
      const { stick, file } = await makeStick()
      const home = join(stick, 'LiveOS/home.img')
      await writeFile(home, content)
      await truncate(home, size)
      await backup(stick, file)
      expect((await parts(file)).get('LiveOS/home.img')).toBe(sha256(await readFile(home)))
      expect((await stat(file)).size).toBeLessThan(100_000)
    }
  })

  it('of a pair of files the overlay', async () => {
    const { stick, file } = await makeStick()
    const input = { base: join(stick, 'LiveOS/rootfs.img'), overlay: join(stick, 'LiveOS', OVERLAY) }
    const done = await finished(runBackup(input, await planBackup(input, file)))
    expect(done.parts.map(({ path: name }) => name)).toEqual([OVERLAY])
  })
})

describe('a backup that was cut short', () => {
  it('is gone on with, and ends in the very same file', async () => {
    const { stick, file } = await makeStick(11 * MIB)
    const plan = await planBackup({ target: stick }, file)
    const error = await stopped(stick, plan, ({ phase, doneBytes }) => phase === 'write' && doneBytes >= 5 * MIB)
    expect(error).toMatchObject({ code: 'CANCELLED' })
    expect(String(error)).toContain(`${file}.part`)
    const left = await openFile(`${file}.part`)
    const written = await findWritten(left)
    const begin = await left.read(0, written.fileBytes)
    await left.close()
    expect(written.contentBytes).toBeGreaterThanOrEqual(4 * MIB)
    // whatever lies behind the last checkpoint is not believed
    await appendFile(`${file}.part`, random(1).bytes(70_000))
    const again = await planBackup({ target: stick }, file)
    expect(again.resumeBytes).toBeGreaterThan(4 * MIB)
    const done = await finished(runBackup({ target: stick }, again))
    expect(done.resumedBytes).toBe(written.fileBytes)
    await parts(file)
    sameBytes((await readFile(file)).subarray(0, written.fileBytes), begin)
    await failure(planBackup({ target: stick }, file), 'REFUSED')
  })

  it('starts again where a byte before the last checkpoint differs, or the stick has changed', async () => {
    for (const spoil of [
      async (_: string, part: string) => {
        const bytes = await readFile(part)
        bytes[1000]! ^= 1
        await writeFile(part, bytes)
      },
      async (stick: string) => appendFile(join(stick, 'LiveOS/home.img'), 'more'),
      async (_: string, part: string) => writeFile(part, 'no archive at all'),
      async (_: string, part: string) => writeFile(part, ''),
    ]) {
      const { stick, file } = await makeStick(6 * MIB)
      const plan = await planBackup({ target: stick }, file)
      await stopped(stick, plan, ({ phase, doneBytes }) => phase === 'write' && doneBytes >= 5 * MIB)
      await spoil(stick, `${file}.part`)
      const done = await backup(stick, file)
      expect(done.resumedBytes).toBe(0)
      await parts(file)
    }
  })
})

describe('a backup is refused', () => {
  it('beside what other verbs left', async () => {
    for (const [name, says] of [
      ['rootfs.img.refresh', 'liveos refresh'],
      [`compact-${OVERLAY}.state`, 'liveos compact'],
      [`${OVERLAY}.reset`, 'liveos reset'],
      ['liveos-restore.state', 'liveos restore'],
    ] as const) {
      const { stick, file } = await makeStick()
      const plan = await planBackup({ target: stick }, file)
      await writeFile(join(stick, 'LiveOS', name), 'left')
      expect((await failure(planBackup({ target: stick }, file), 'REFUSED')).message).toContain(says)
      await failure(finished(runBackup({ target: stick }, plan)), 'REFUSED')
    }
  })

  it('where the stick has changed since the plan', async () => {
    for (const name of [OVERLAY, 'rootfs.img', '../syslinux/syslinux.cfg']) {
      const { stick, file } = await makeStick()
      const plan = await planBackup({ target: stick }, file)
      await appendFile(join(stick, 'LiveOS', name), 'more')
      expect((await failure(finished(runBackup({ target: stick }, plan)), 'REFUSED')).message).toContain('to plan anew')
    }
  })

  it('where the file is there, or has no directory', async () => {
    const { stick, file } = await makeStick()
    await failure(planBackup({ target: stick }, join(file, 'x')), 'NOT_FOUND')
    const plan = await planBackup({ target: stick }, file)
    await writeFile(file, 'mine')
    await failure(finished(runBackup({ target: stick }, plan)), 'REFUSED')
    expect(await readFile(file, 'utf8')).toBe('mine')
    await failure(planBackup({ target: stick }, stick), 'USAGE')
  })
})

it('a stick that changes while it is read is told, and nothing wrong is kept', async () => {
  const { stick, file } = await makeStick(3 * MIB)
  const running = runBackup({ target: stick }, await planBackup({ target: stick }, file))
  const home = join(stick, 'LiveOS/home.img')
  let spoilt = false
  const work = (async () => {
    for (let step = await running.next(); !step.done; step = await running.next())
      if (step.value.phase === 'read' && step.value.doneBytes > 2.9 * MIB && !spoilt) {
        spoilt = true
        // In place: a file that is cut short first would be found too, as an error of reading.
        const other = await open(home, 'r+')
        const byte = new Uint8Array(1)
        await other.read(byte, 0, 1, 2 * MIB)
        await other.write(Uint8Array.of(byte[0]! ^ 1), 0, 1, 2 * MIB)
        await other.close()
      }
  })()
  const error = await failure(work, 'CORRUPT')
  expect(error.message).toContain('changed while it was read')
  expect((await readdir(join(file, '..'))).filter(name => name.startsWith(`stick${count - 1}.tar`))).toEqual([])
})

it('on the stick itself it is warned of', async () => {
  const { stick } = await makeStick()
  const { findings } = await planBackup({ target: stick }, join(stick, 'b.tar.zst'))
  expect(findings.map(({ code }) => code)).toContain('BACKUP_ON_THE_STICK')
})

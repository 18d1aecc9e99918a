import { exec } from 'node:child_process'
import { appendFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { liveos } from '../support/cli.js'
import { makeStick, OVERLAY } from '../support/target-images.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const path = temporary()
const { it: withTar } = needTools('tar', 'zstd', 'bash')
let count = 0

const make = async (): Promise<{ stick: string; file: string }> => {
  const stick = await makeStick(await path(`stick${count++}`))
  return { stick, file: `${stick}.tar.zst` }
}

describe('liveos backup and restore, as a person runs them', () => {
  it('show a plan, write, put back, and say what was verified', async () => {
    const { stick, file } = await make()
    const overlay = join(stick, 'LiveOS', OVERLAY)
    const before = await readFile(overlay)
    const dry = await liveos(['backup', stick, file, '--dry-run'])
    expect([dry.code, dry.stderr]).toEqual([0, ''])
    expect(dry.stdout).toContain('Plan: write a backup')
    expect((await readdir(join(stick, '..'))).filter(name => name.includes('tar'))).toEqual([])
    const kept = await liveos(['backup', stick, file, '--json'])
    expect(kept.code).toBe(0)
    expect(JSON.parse(kept.stdout)).toMatchObject({ verb: 'backup', output: file, resumedBytes: 0 })
    await writeFile(overlay, 'spoilt')
    const asked = await liveos(['restore', stick, file])
    expect(asked.code).toBe(4)
    expect(asked.stderr).toContain('add --yes')
    expect(asked.stderr).toContain('lost')
    expect(await readFile(overlay, 'utf8')).toBe('spoilt')
    const done = await liveos(['restore', stick, file, '--yes'])
    expect([done.code, done.stdout.includes('every checksum, before anything was replaced')]).toEqual([0, true])
    expect(Buffer.compare(await readFile(overlay), before)).toBe(0)
    const again = await liveos(['restore', stick, file, '--only', 'boot', '--json'])
    expect([again.code, JSON.parse(again.stdout).files]).toEqual([0, []])
  })

  it('refuse in words', async () => {
    const { stick, file } = await make()
    await liveos(['backup', stick, file])
    expect((await liveos(['backup', stick, file])).code).toBe(4)
    expect((await liveos(['backup', stick])).code).toBe(2)
    expect((await liveos(['backup', stick, `${file}2`, '--only', 'house'])).code).toBe(2)
    expect((await liveos(['restore', stick, join(stick, 'syslinux/syslinux.cfg'), '--yes'])).code).toBe(3)
    await appendFile(join(stick, 'LiveOS/squashfs.img'), 'more')
    const other = await liveos(['restore', stick, file, '--yes', '--json'])
    expect(other.code).toBe(4)
    expect(JSON.parse(other.stdout).error.message).toContain('belongs to another base')
    expect((await liveos(['restore', stick, '--abandon', '--yes'])).code).toBe(2)
  })

  it('put changed files back below a directory', async () => {
    const { stick, file } = await make()
    expect((await liveos(['backup', stick, file, '--changed-only'])).code).toBe(0)
    const root = await path('root')
    await mkdir(join(root, 'usr/share/doc/package-01'), { recursive: true })
    const dry = await liveos(['restore', file, '--root', root, '--dry-run'])
    expect([dry.code, dry.stdout.includes('Plan: put changed files back')]).toEqual([0, true])
    const done = await liveos(['restore', file, '--root', root, '--yes'])
    expect([done.code, done.stdout.includes('1 name removed')]).toEqual([0, true])
    expect(await readdir(join(root, 'usr/share/doc'))).not.toContain('package-01')
    expect(await readdir(join(root, 'etc'))).toContain('hostname')
    const told = await liveos(['restore', stick, file, '--yes'])
    expect([told.code, told.stdout.includes('--root DIR')]).toEqual([1, true])
    expect((await liveos(['restore', stick, file, '--root', root, '--yes'])).code).toBe(2)
  })

  withTar('say how changed files are had without a mount, in a command that works when it is pasted', async () => {
    const { stick, file } = await make()
    expect((await liveos(['backup', stick, file, '--changed-only'])).code).toBe(0)
    const told = await liveos(['restore', stick, file, '--yes'])
    const said = JSON.parse((await liveos(['restore', stick, file, '--dry-run', '--json'])).stdout)
    const { remedy } = said.findings.find(({ code }: { code: string }) => code === 'CHANGES_NOT_RESTORED')
    const command = /(mkdir rescued && .*--xattrs-include='\*')/.exec(remedy)?.[1]
    expect(told.stdout.replace(/\s+/g, ' ')).toContain(command)
    const cwd = await path('elsewhere')
    await mkdir(cwd)
    await promisify(exec)(command!, { cwd, shell: '/bin/bash' })
    const unpacked = join(cwd, 'rescued')
    const hostname = await liveos(['cat', `${stick}:/etc/hostname`])
    expect(await readFile(join(unpacked, 'etc/hostname'), 'utf8')).toBe(hostname.stdout)
    expect((await readFile(join(unpacked, '.liveos/deleted'), 'utf8')).split('\0')).toContain(
      'usr/share/doc/package-01',
    )
  })
})

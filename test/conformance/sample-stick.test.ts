import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFile, open, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { sampleFacts, unpackSample } from '../../scripts/sample.mjs'
import { liveos, ROOT } from '../support/cli.js'
import { needKernel, runInKernel } from '../support/kernel.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const path = temporary()
let count = 0
const stick = async (): Promise<string> => unpackSample(await path(`stick${count++}`))
const OVERLAY = 'LiveOS/overlay-LIVE-1A2B-3C4D'
const BASE = 'LiveOS/squashfs.img'
const sha256 = async (file: string) =>
  createHash('sha256')
    .update(await readFile(file))
    .digest('hex')
const run = promisify(execFile)

/** SHA-256 of a file in a squashfs, as unsquashfs reads it. */
const unsquashed = (image: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const hash = createHash('sha256')
    const child = spawn('unsquashfs', ['-cat', image, 'LiveOS/rootfs.img'], { stdio: ['ignore', 'pipe', 'inherit'] })
    child.stdout.on('data', (bytes: Buffer) => hash.update(bytes))
    child.on('error', reject)
    child.on('close', code =>
      code === 0 ? resolve(hash.digest('hex')) : reject(new Error(`unsquashfs: exit ${code}`)),
    )
  })

describe('the sample stick, which the kernel made', () => {
  it('status: the line of dmsetup, warning level and numbers', async () => {
    const facts = await sampleFacts()
    const dir = await stick()
    const line = await liveos(['status', dir, '--dmsetup'])
    expect(line).toEqual({ code: 1, stdout: `${facts.status}\n`, stderr: '' })
    const json = await liveos(['status', dir, '--json'])
    expect(json.code).toBe(1)
    expect(json.stderr).toBe('')
    const found = JSON.parse(json.stdout)
    expect(found.overlay).toMatchObject({ state: 'ok', kind: 'dm-snapshot', percent: 82, chunkSectors: 8 })
    expect(found.overlay.left.bytes).toBe((found.overlay.totalSectors - found.overlay.allocatedSectors) * 512)
    expect(found.base).toMatchObject({
      kind: 'squashfs',
      compressor: 'xz',
      blockSize: 131072,
      rootType: 'ext4',
      rootLabel: 'LiveRoot',
    })
    expect(found.home).toMatchObject({ type: 'ext4' })
    expect(found.level).toBe('warning')
    expect((await liveos(['status', dir, '--warn', '90'])).code).toBe(0)
    expect(JSON.parse((await liveos(['status', dir, '--critical', '81', '--json'])).stdout).level).toBe('critical')
  })

  it('merge writes what the kernel shows', async () => {
    const facts = await sampleFacts()
    const dir = await stick()
    const output = await path('merged.img')
    const done = await liveos(['merge', '--no-trim', dir, '--output', output, '--json'])
    expect(done.code).toBe(0)
    expect(JSON.parse(done.stdout)).toMatchObject({
      verb: 'merge',
      size: facts.originBytes,
      verified: { bytes: facts.originBytes },
    })
    expect(await sha256(output)).toBe(facts.mergedSha256)
    expect((await stat(output)).blocks * 512).toBeLessThan(facts.originBytes / 2)
    const base = await path('base.img')
    expect((await liveos(['merge', '--no-trim', dir, '--base-only', '--output', base])).code).toBe(0)
    expect(await sha256(base)).toBe(facts.originSha256)
    const again = await liveos(['merge', '--no-trim', dir, '--output', output])
    expect(again).toMatchObject({ code: 4, stdout: '' })
    expect(again.stderr).toContain('is there already')
  })

  const judged = needTools('unsquashfs', 'mksquashfs', 'e2fsck')
  judged.it('refresh, verify and status: unsquashfs reads the merged root, e2fsck finds it clean', async () => {
    const facts = await sampleFacts()
    const dir = await stick()
    const done = await liveos(['refresh', '--no-trim', dir, '--yes', '--json'])
    expect(done.code).toBe(0)
    const outcome = JSON.parse(done.stdout)
    expect(outcome.blocks.verbatim).toBeGreaterThan(50)
    expect(outcome.verified.verbatim.blocks).toBe(outcome.blocks.verbatim)
    expect(outcome.verified.encoded.blocks).toBe(outcome.blocks.encoded)
    expect(outcome.overlayReset).toBe(true)
    expect(await unsquashed(join(dir, BASE))).toBe(facts.mergedSha256)
    expect((await run('ls', [join(dir, 'LiveOS')])).stdout.split('\n').filter(Boolean)).toEqual([
      'home.img',
      'overlay-LIVE-1A2B-3C4D',
      'squashfs.img',
    ])
    const verified = await liveos(['verify', dir, '--json'])
    expect(verified.code).toBe(0)
    expect(JSON.parse(verified.stdout)).toMatchObject({ result: 'ok', findings: [] })
    expect((await liveos(['status', dir, '--dmsetup'])).stdout).toBe('0 229376 snapshot 16/32768 16\n')
    expect((await liveos(['status', dir])).code).toBe(0)
    const root = await path('refreshed.img')
    await liveos(['merge', '--no-trim', dir, '--output', root])
    await run('e2fsck', ['-f', '-n', root])
    const second = await liveos(['refresh', '--no-trim', dir, '--yes'])
    expect(second.code).toBe(2)
    expect(second.stderr).toContain('nothing to merge')
  })

  judged.describe('transcode', () => {
    it.each([
      ['zstd', '1M', '3'],
      ['gzip', '16K', '1'],
      ['lzo', '128K', undefined],
      ['lz4', '4K', undefined],
    ])('refresh --comp %s --block-size %s --level %s', async (comp, blockSize, level) => {
      const facts = await sampleFacts()
      const dir = await stick()
      const done = await liveos([
        'refresh',
        '--no-trim',
        dir,
        '--yes',
        '--json',
        '--comp',
        comp,
        '--block-size',
        blockSize,
        ...(level ? ['--level', level] : []),
      ])
      expect(done.code).toBe(0)
      expect(JSON.parse(done.stdout).blocks.verbatim).toBe(0)
      expect(await unsquashed(join(dir, BASE))).toBe(facts.mergedSha256)
      const found = JSON.parse((await liveos(['status', dir, '--json'])).stdout)
      expect(found.base.compressor).toBe(comp)
      const verified = JSON.parse((await liveos(['verify', dir, '--json'])).stdout)
      // with gzip as well: some blocks of this size do not get smaller and are kept as they are, without a checksum
      expect(verified.result).toBe('unverified')
      expect(verified.compared.join('\n')).toMatch(
        comp === 'gzip' ? /Adler-32 of those that are compressed/ : /no checksum/,
      )
    })
  })

  judged.it('a raw base is refreshed by copy', async () => {
    const facts = await sampleFacts()
    const dir = await stick()
    const raw = await path('raw.img')
    await liveos(['merge', '--no-trim', dir, '--base-only', '--output', raw])
    await run('cp', ['--sparse=always', raw, join(dir, 'LiveOS/rootfs.img')])
    await run('rm', [join(dir, BASE)])
    const done = await liveos(['refresh', '--no-trim', dir, '--yes', '--json'])
    expect(done.code).toBe(0)
    expect(await sha256(join(dir, 'LiveOS/rootfs.img'))).toBe(facts.mergedSha256)
  })

  it('refresh with a stage elsewhere', async () => {
    const facts = await sampleFacts()
    const dir = await stick()
    const stage = await path('stage')
    await run('mkdir', [stage])
    const done = await liveos(['refresh', '--no-trim', dir, '--yes', '--json', '--stage', stage])
    expect(done.code).toBe(0)
    expect((await run('ls', [stage])).stdout).toBe('')
    const root = await path('staged.img')
    await liveos(['merge', '--no-trim', dir, '--output', root])
    expect(await sha256(root)).toBe(facts.mergedSha256)
  })

  needKernel().it('the real kernel mounts what a refresh wrote, and shows the merged root', async () => {
    const facts = await sampleFacts()
    const dir = await stick()
    expect((await liveos(['refresh', '--no-trim', dir, '--yes'])).code).toBe(0)
    const script = `
set -euo pipefail
set -- $DISKS
mkdir -p squash
mount -t squashfs -o ro "$1" squash
base=$(losetup -f --show -r squash/LiveOS/rootfs.img)
echo "0 $(blockdev --getsz "$base") snapshot $base $2 PO 8" | dmsetup create view
dmsetup status view
sha256sum <"$base"
sha256sum </dev/mapper/view
`
    const disks = [
      { path: join(dir, BASE), readOnly: true },
      { path: join(dir, OVERLAY), readOnly: false },
    ]
    const scratch = await path('kernel')
    await run('mkdir', [scratch])
    const { rc, log } = await runInKernel({ script, scratch, disks })
    expect(log).toBe(`0 229376 snapshot 16/32768 16\n${facts.mergedSha256}  -\n${facts.mergedSha256}  -\n`)
    expect(rc).toBe(0)
  })
})

describe('bad input: a sentence, an exit code, nothing lost', () => {
  const refused = async (args: readonly string[], code: number, words: string): Promise<void> => {
    const done = await liveos(args)
    expect({ code: done.code, stdout: done.stdout }).toEqual({ code, stdout: '' })
    expect(done.stderr).toContain(words)
  }

  it('no such directory, no stick, no overlay, two overlays', async () => {
    await refused(['status', await path('nowhere')], 2, 'there is no ')
    await refused(['status', ROOT], 2, 'is no LiveOS stick')
    const dir = await stick()
    await copyFile(join(dir, OVERLAY), join(dir, 'LiveOS/overlay-OTHER-1111-2222'))
    await refused(['refresh', '--no-trim', dir, '--yes'], 2, 'choose one with --overlay')
    await refused(['status', dir], 2, 'several overlays')
    expect((await liveos(['status', dir, '--overlay', join(dir, OVERLAY), '--dmsetup'])).code).toBe(1)
    await run('rm', [join(dir, OVERLAY), join(dir, 'LiveOS/overlay-OTHER-1111-2222')])
    await refused(['refresh', '--no-trim', dir, '--yes'], 2, 'no persistent overlay')
    expect(JSON.parse((await liveos(['status', dir, '--json'])).stdout).overlay.state).toBe('none')
  })

  it('nobody to ask, wrong options', async () => {
    const dir = await stick()
    await refused(['refresh', '--no-trim', dir], 4, 'add --yes')
    await refused(['reset', dir], 4, 'add --yes')
    await refused(['refresh', '--no-trim', dir, '--yes', '--comp', 'rar'], 2, '--comp is one of')
    await refused(['refresh', '--no-trim', dir, '--yes', '--block-size', '3000'], 2, 'power of two')
    await refused(['refresh', '--no-trim', dir, '--yes', '--level', '99', '--comp', 'zstd'], 2, '--level of zstd')
    await refused(['merge', '--no-trim', dir], 2, '--output')
    await refused(['refresh', dir, '--yes', '--keep-old', '--output', 'x'], 2, '--keep-old')
    await refused(['frobnicate'], 2, 'unknown command')
    const facts = await sampleFacts()
    expect(await sha256(join(dir, BASE))).toBe(facts.images[BASE]?.sha256)
    expect(await sha256(join(dir, OVERLAY))).toBe(facts.images[OVERLAY]?.sha256)
  })

  it('a truncated squashfs, an overlay of another base, an invalid and a damaged overlay', async () => {
    const cut = await stick()
    await truncate(join(cut, BASE), 1_000_000)
    await refused(['refresh', '--no-trim', cut, '--yes'], 3, 'bytes_used')
    const status = JSON.parse((await liveos(['status', cut, '--json'])).stdout)
    expect(status.findings.map((finding: { code: string }) => finding.code)).toContain('BASE_DAMAGED')

    const foreign = await stick()
    const small = await path('small.img')
    await writeFile(small, Buffer.alloc(1 << 20, 7))
    await refused(
      ['merge', '--no-trim', '--base', small, '--overlay', join(foreign, OVERLAY), '--output', await path('never.img')],
      3,
      'another base',
    )

    const invalid = await stick()
    const file = await open(join(invalid, OVERLAY), 'r+')
    await file.write(Buffer.from([0]), 0, 1, 4)
    await file.close()
    await refused(['refresh', '--no-trim', invalid, '--yes'], 3, 'invalid')
    expect((await liveos(['status', invalid, '--dmsetup'])).stdout).toBe('0 229376 snapshot Invalid\n')
    expect(JSON.parse((await liveos(['status', invalid, '--json'])).stdout)).toMatchObject({
      overlay: { state: 'invalid' },
      level: 'critical',
    })

    const torn = await stick()
    await truncate(join(torn, OVERLAY), 2_000_000)
    expect(JSON.parse((await liveos(['status', torn, '--json'])).stdout).overlay.state).toBe('damaged')
    await refused(['refresh', '--no-trim', torn, '--yes'], 3, 'LiveOS/overlay')
  })

  it('errors are JSON too where that was asked for', async () => {
    const done = await liveos(['status', await path('nowhere'), '--json'])
    expect(JSON.parse(done.stdout)).toMatchObject({ error: { code: 'NOT_FOUND' } })
  })

  it('Ctrl-C stops, says so, and leaves the stick as it was', async () => {
    const dir = await stick()
    const facts = await sampleFacts()
    const done = await liveos(
      ['refresh', '--no-trim', dir, '--yes', '--comp', 'xz', '--block-size', '1M'],
      (child, stderr) => {
        if (stderr.includes('write') && !stderr.includes('stopping')) child.kill('SIGINT')
      },
    )
    expect(done.code).toBe(130)
    expect(done.stderr).toContain('this run has changed nothing on the stick')
    expect(await sha256(join(dir, BASE))).toBe(facts.images[BASE]?.sha256)
    expect((await run('ls', [join(dir, 'LiveOS')])).stdout.split('\n').filter(Boolean)).toEqual([
      'home.img',
      'overlay-LIVE-1A2B-3C4D',
      'squashfs.img',
    ])
  })
})

describe('the program', () => {
  it('npm start shows the main job without a terminal', async () => {
    const { stdout } = await run(process.execPath, [join(ROOT, 'scripts/start.mjs')], { cwd: ROOT, maxBuffer: 1 << 22 })
    expect(stdout).toContain('Refreshed. Everything is on the medium')
    expect(stdout).toContain('nothing wrong was found')
    expect(stdout).toContain('0 229376 snapshot 16/32768 16')
    await run('rm', ['-rf', /now lies in (\S+)/.exec(stdout)![1]!])
  })

  it('the committed manual page is the one that the program prints', async () => {
    expect((await liveos(['man'])).stdout).toBe(await readFile(join(ROOT, 'man/liveos.1'), 'utf8'))
  })

  it('completion for bash completes verbs and options', async () => {
    const { stdout } = await liveos(['completion', 'bash'])
    const script = `${stdout}\nCOMP_WORDS=(liveos refresh --st); COMP_CWORD=2; _liveos; echo "\${COMPREPLY[@]}"; COMP_WORDS=(liveos re); COMP_CWORD=1; _liveos; echo "\${COMPREPLY[@]}"`
    expect((await run('bash', ['-c', script])).stdout).toBe('--stage\nrefresh reset recover restore\n')
  })
})

import { execFile } from 'node:child_process'
import { appendFile, cp, mkdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, expect } from 'vitest'
import { openView } from '../../src/liveos/view.js'
import { type BackupOptions, type BackupOutcome, planBackup, runBackup } from '../../src/ops/backup.js'
import { copyTree } from '../../src/ops/copy-tree.js'
import { planRestore, type RestoreOutcome, runRestore } from '../../src/ops/restore.js'
import { planRestoreChanges, runRestoreChanges } from '../../src/ops/restore-changes.js'
import { failure } from '../support/outcome.js'
import { random } from '../support/random.js'
import { finished, sha256 } from '../support/small-stick.js'
import { listDirectory } from '../support/squashfs-tree.js'
import { FAT_ID, IMAGE_TOOLS, LABEL, makeStick, mbrDisk, OVERLAY } from '../support/target-images.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const execute = promisify(execFile)
const run = async (program: string, ...words: string[]): Promise<string> =>
  (await execute(program, words, { maxBuffer: 1 << 26 })).stdout
const path = temporary()
const tools = needTools('tar', 'zstd', 'sha256sum', 'bsdtar', 'getfattr', ...IMAGE_TOOLS)

const backup = async (target: string, file: string, options: BackupOptions = {}): Promise<BackupOutcome> =>
  finished(runBackup({ target }, await planBackup({ target }, file, options)))
const restore = async (target: string, file: string): Promise<RestoreOutcome> =>
  finished(runRestore({ target }, file, await planRestore({ target }, file)))

const NAMES = [`LiveOS/${OVERLAY}`, 'LiveOS/home.img', 'EFI/BOOT/grub.cfg', 'syslinux/syslinux.cfg']

tools.describe('a backup', () => {
  let stick: string
  let file: string
  let before: Map<string, string>
  const hashes = async (root: string): Promise<Map<string, string>> => {
    const found = new Map<string, string>()
    for (const name of NAMES) found.set(name, sha256(await readFile(join(root, name))))
    return found
  }
  beforeAll(async () => {
    stick = await makeStick(await path('stick'))
    const home = join(stick, 'LiveOS/home.img')
    await writeFile(home, random(3).bytes(3 << 20))
    await truncate(home, 20 << 20)
    file = await path('backup.tar.zst')
    await backup(stick, file)
    before = await hashes(stick)
  })

  const spoil = async (at: string): Promise<void> => {
    for (const name of NAMES.slice(0, 2)) await writeFile(join(at, name), 'spoilt')
    for (const name of NAMES.slice(2)) await appendFile(join(at, name), '# changed\n')
  }

  tools.it('is unpacked by tar and bsdtar, and sha256sum finds it right', async () => {
    await run('zstd', '-q', '-t', file)
    for (const words of [
      ['tar', '--zstd', '-S', '-xf'],
      ['bsdtar', '-xf'],
    ] as const) {
      const out = await path(`unpacked by ${words[0]}`)
      await mkdir(out)
      await run(words[0], ...words.slice(1), file, '-C', out)
      expect(await hashes(out)).toEqual(before)
      await execute('sha256sum', ['--strict', '--status', '-c', 'liveos-backup.sha256'], { cwd: out })
      const { size, blocks } = await stat(join(out, 'LiveOS/home.img'))
      expect([size, blocks * 512 < size / 4]).toEqual([20 << 20, true])
    }
  })

  tools.it('comes back as it was, holes and all', async () => {
    const copy = await path('spoilt stick')
    await cp(stick, copy, { recursive: true })
    await spoil(copy)
    const done = await restore(copy, file)
    expect(done.findings).toEqual([])
    expect(await hashes(copy)).toEqual(before)
    const { size, blocks } = await stat(join(copy, 'LiveOS/home.img'))
    expect(blocks * 512).toBeLessThan(size / 4)
    expect((await restore(copy, file)).unchanged.length).toBe(2)
  })

  for (const [name, words] of [
    ['GNU tar, its own sparse format', ['--format=gnu', '-S', '-cf']],
    ['GNU tar, pax, sparse', ['--format=posix', '-S', '-cf']],
    ['GNU tar, no holes', ['-cf']],
  ] as const)
    tools.it(`comes back when it was packed anew by ${name}`, async () => {
      const [out, copy] = [await path(`${name} unpacked`), await path(`${name} stick`)]
      await mkdir(out)
      await run('tar', '--zstd', '-S', '-xf', file, '-C', out)
      const packed = await path(`${name}.tar`)
      await run('tar', ...words, packed, '-C', out, '.')
      await cp(stick, copy, { recursive: true })
      await spoil(copy)
      await restore(copy, packed)
      expect(await hashes(copy)).toEqual(before)
    })

  tools.it('packed in one piece by zstd it says how to go on; in small pieces it is read', async () => {
    const [tar, one, small] = [await path('one.tar'), await path('one.tar.zst'), await path('small.tar.zst')]
    await run('zstd', '-q', '-d', file, '-o', tar)
    await run('zstd', '-q', tar, '-o', one)
    const error = await failure(planRestore({ target: stick }, one), 'UNSUPPORTED')
    expect(error.message).toContain('zstd -d')
    await run('sh', '-c', `split -b 1M --filter='zstd -q' ${tar} > ${small}`)
    const copy = await path('small stick')
    await cp(stick, copy, { recursive: true })
    await spoil(copy)
    await restore(copy, small)
    expect(await hashes(copy)).toEqual(before)
    // and plain, without zstd
    await restore(copy, tar)
    expect(await hashes(copy)).toEqual(before)
  })

  tools.it('of a disk image knows what the stick was called, and goes back on a directory', async () => {
    const [image, copy, of] = [await path('disk.img'), await path('from image'), await path('image.tar.zst')]
    const source = await path('for the image')
    await cp(stick, source, { recursive: true })
    await writeFile(join(source, 'LiveOS/home.img'), 'a little home')
    await mbrDisk(image, source)
    const { parts } = await backup(image, of)
    const manifest = JSON.parse(await run('tar', '--zstd', '-xOf', of, 'liveos-backup.json'))
    expect(manifest.medium).toEqual({ type: 'vfat', label: LABEL, uuid: FAT_ID })
    expect(parts.map(({ path: name }) => name).sort()).toEqual([...NAMES].sort())
    await cp(source, copy, { recursive: true })
    await spoil(copy)
    const done = await restore(copy, of)
    expect(done.findings.map(({ code }) => code)).toEqual(['BOOT_IDENTITY_UNKNOWN'])
    expect(await hashes(copy)).toEqual(await hashes(source))
  })

  tools.it('of changed files makes the system out of its base again', async () => {
    const of = await path('changed.tar.zst')
    const { parts } = await backup(stick, of, { changedOnly: true })
    expect(parts.map(({ kind }) => kind)).toEqual(['boot', 'boot', 'home', 'changes'])
    const copyOut = async (layer: 'base' | 'root', to: string): Promise<void> => {
      const view = await openView({ target: stick }, layer)
      const options = { sameOwner: true, xattrs: true, setUid: true, flush: false }
      await finished(copyTree({ from: view.fs, paths: [{ path: '/', as: '' }], to: { directory: to } }, options))
      await view.close()
    }
    const [base, root] = [await path('base'), await path('root')]
    await copyOut('base', base)
    await copyOut('root', root)
    expect(await listDirectory(base)).not.toEqual(await listDirectory(root))
    const done = await finished(runRestoreChanges(await planRestoreChanges(of, base)))
    expect(done.removed).toBeGreaterThan(0)
    expect(await listDirectory(base)).toEqual(await listDirectory(root))
    // and once more, as after a cut
    await rm(join(base, 'etc/hostname'))
    await finished(runRestoreChanges(await planRestoreChanges(of, base)))
    expect(await listDirectory(base)).toEqual(await listDirectory(root))
    // tar does the same with the archive in the archive
    const names = await run('sh', '-c', `tar --zstd -xOf ${of} liveos-changes.tar | tar -t`)
    expect(names).toContain('./etc/hostname')
  })
})

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { cp, mkdir, readdir, readFile, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, expect, it } from 'vitest'
import { openFile } from '../../src/block/file.js'
import { snapshot } from '../../src/block/snapshot/snapshot.js'
import { readStore } from '../../src/block/snapshot/store.js'
import { openFolder } from '../../src/host/folder.js'
import { isMountPoint, unmount } from '../../src/host/mounting.js'
import { awaitGone } from '../../src/host/nbd-file.js'
import { mountView, planMount } from '../../src/ops/mount.js'
import { openExportFile, startExport } from '../../src/ops/serve-process.js'
import { umountView } from '../../src/ops/umount.js'
import { beginChange } from '../../src/ops/undo-journal.js'
import { LIVEOS, liveos } from '../support/cli.js'
import { failure, sameBytes } from '../support/outcome.js'
import { smallStick } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'
import { gate, needTools, tool } from '../support/tools.js'

const run = promisify(execFile)
const at = temporary()
const running: ChildProcess[] = []
let made = 0

/** Runs `liveos serve` until `work` is done, then stops it as Ctrl-C does. */
const serving = async (
  args: readonly string[],
  work: (uri: string, told: Record<string, unknown>) => Promise<void>,
): Promise<{ code: number | null; stderr: string }> => {
  const child = spawn(process.execPath, [LIVEOS, 'serve', ...args, '--json'], { stdio: ['ignore', 'pipe', 'pipe'] })
  running.push(child)
  const ended = once(child, 'close')
  let stdout = ''
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const told = await new Promise<Record<string, unknown>>((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
      if (stdout.endsWith('}\n')) resolve(JSON.parse(stdout) as Record<string, unknown>)
    })
    child.once('close', () => reject(new Error(`serve ended: ${stderr}`)))
  })
  await work(String(told.uri), told)
  child.kill('SIGINT')
  const [code] = (await ended) as [number | null]
  return { code, stderr }
}

/** A stick with an ext4 root and an overlay that is new. */
const ext4Stick = async (): Promise<string> => {
  const path = await at(`stick${made++}`)
  const live = join(path, 'LiveOS')
  const tree = `${path}.tree`
  await mkdir(join(tree, 'etc'), { recursive: true })
  await mkdir(live, { recursive: true })
  await writeFile(join(tree, 'etc/hostname'), 'live\n')
  await writeFile(join(tree, 'large'), Buffer.alloc(300_000, 'x'))
  await truncateNew(join(live, 'rootfs.img'), 16 << 20)
  await run('mke2fs', ['-q', '-F', '-t', 'ext4', '-d', tree, join(live, 'rootfs.img')])
  await truncateNew(join(live, 'overlay-TEST-0001'), 4 << 20)
  return path
}

const truncateNew = async (path: string, size: number): Promise<void> => {
  await writeFile(path, '')
  await truncate(path, size)
}

const mounts: string[] = []

afterEach(async () => {
  for (const child of running.splice(0)) child.kill('SIGKILL')
  // what a test that failed has left
  for (const mnt of mounts.splice(0)) if (await isMountPoint(mnt)) await liveos(['umount', mnt])
})

const clients = needTools('nbdcopy', 'nbdinfo', 'qemu-io', 'mksquashfs')

clients.describe('liveos serve', () => {
  it('serves what a boot would see, in a private socket that is gone afterwards', async () => {
    const { path, merged } = await smallStick(await at('squashed'))
    const copy = await at('root.img')
    let socket = ''
    const { code, stderr } = await serving([path], async (uri, told) => {
      socket = String(told.socket)
      expect(told).toMatchObject({ verb: 'serve', target: path, part: 'root', size: merged.length, writesTo: 'none' })
      expect((await stat(socket)).mode & 0o777).toBe(0o600)
      expect((await stat(dirname(socket))).mode & 0o777).toBe(0o700)
      await run('nbdcopy', [uri, copy])
      await expect(run('qemu-io', ['-f', 'raw', '-c', 'write 0 512', uri])).rejects.toThrow()
    })
    sameBytes(await readFile(copy), merged)
    expect(code).toBe(0)
    expect(stderr).toContain('nothing was changed')
    await expect(stat(dirname(socket))).rejects.toThrow()
  })

  it('serves each part: base, overlay, and the home image where there is one', async () => {
    const { path, root } = await smallStick(await at('parts'))
    const copy = async (...args: string[]): Promise<Buffer> => {
      const to = await at(`part${made++}`)
      await serving([path, ...args], async uri => void (await run('nbdcopy', [uri, to])))
      return readFile(to)
    }
    sameBytes(await copy('--base-only'), root)
    sameBytes(await copy('--part', 'overlay'), await readFile(join(path, 'LiveOS/overlay-TEST-0001')))
    const { code, stderr } = await liveos(['serve', path, '--part', 'home'])
    expect(code).toBe(2)
    expect(stderr).toContain('no home image')
    expect((await liveos(['serve', path, '--part', 'medium'])).stderr).toContain('is mounted')
  })

  it('takes nothing for a scratch store that is none, that belongs to the stick, or that is in use', async () => {
    const stick = await ext4Stick()
    const live = join(stick, 'LiveOS')
    const [home, overlay] = [join(live, 'home.img'), join(live, 'overlay-TEST-0001')]
    // An ext4 image begins with zeros, as a store does that is new.
    await truncateNew(home, 4 << 20)
    await run('mke2fs', ['-q', '-F', '-t', 'ext4', home])
    const alone = await at('alone.img')
    await cp(home, alone)
    const before = await readFile(home)
    for (const [path, words] of [
      [home, 'a part of what is opened'],
      [join(live, 'rootfs.img'), 'a part of what is opened'],
      [alone, 'is no scratch store'],
    ] as const) {
      const { code, stderr } = await liveos(['serve', stick, '--scratch', path])
      expect(code).toBe(4)
      expect(stderr).toContain(words)
      expect(stderr, 'no advice to remove what is a part of the stick').not.toMatch(/part of what.* rm /s)
    }
    sameBytes(await readFile(home), before)
    const scratch = await at('used.cow')
    await serving([stick, '--scratch', scratch], async () => {
      const { code, stderr } = await liveos(['serve', stick, '--scratch', scratch])
      expect(code).toBe(4)
      expect(stderr).toContain('another run of liveos')
    })
    await cp(scratch, overlay)
    for (const part of ['root', 'home']) {
      const { code, stderr } = await liveos(['serve', stick, '--part', part, '--scratch', overlay])
      expect(code).toBe(4)
      expect(stderr).toContain('a part of what is opened')
    }
  })

  it('takes writes into a scratch overlay, which stays where it was named', async () => {
    const { path, merged } = await smallStick(await at('scratched'))
    const before = await readFile(join(path, 'LiveOS/overlay-TEST-0001'))
    const scratch = await at('scratch.cow')
    const write = ['-f', 'raw', '-c', 'write -P 9 4096 10000', '-c', 'flush']
    await serving([path, '--writable'], async uri => void (await run('qemu-io', [...write, uri])))
    const { stderr } = await serving([path, '--scratch', scratch], async uri => {
      await run('qemu-io', [...write, uri])
    })
    expect(stderr).toContain('3 changed chunks')
    sameBytes(await readFile(join(path, 'LiveOS/overlay-TEST-0001')), before)
    const [origin, cow] = [await at('merged.img'), await openFile(scratch)]
    await writeFile(origin, merged)
    const base = await openFile(origin)
    const store = await readStore(cow, { originSize: merged.length })
    const view = await snapshot(base, cow, { store })
    const expected = Buffer.from(merged)
    expected.fill(9, 4096, 14096)
    sameBytes(await view.read(0, view.size), expected)
    await Promise.all([base.close(), cow.close()])
  })

  it('writes into the stick only when it is told to, and one at a time', async () => {
    const { path, merged } = await smallStick(await at('persistent'))
    const refused = await liveos(['serve', path, '--persist'])
    expect(refused.code).toBe(4)
    expect(refused.stderr).toContain('--yes')
    const plan = await liveos(['serve', path, '--persist', '--dry-run', '--json'])
    expect(JSON.parse(plan.stdout)).toMatchObject({ writesTo: 'overlay', overlay: { roomBytes: expect.any(Number) } })
    // one chunk is there already, the other is new
    const { code, stderr } = await serving([path, '--persist', '--yes'], async uri => {
      const second = await liveos(['serve', path, '--persist', '--yes'])
      expect(second.code).toBe(4)
      expect(second.stderr).toContain('another run of liveos')
      await run('qemu-io', [
        '-f',
        'raw',
        '-c',
        'write -P 5 4096 4096',
        '-c',
        'write -P 6 65536 100',
        '-c',
        'flush',
        uri,
      ])
    })
    expect(code).toBe(0)
    expect(stderr).toContain('all of them on the medium')
    const expected = Buffer.from(merged)
    expected.fill(5, 4096, 8192)
    expected.fill(6, 65536, 65636)
    const out = await at('after.img')
    await liveos(['merge', path, '--no-trim', '--output', out])
    sameBytes(await readFile(out), expected)
  })

  it('ends the undo of an earlier change when it lets clients write, and says so before', async () => {
    const { path } = await smallStick(await at('undoable'))
    const [overlay, undo] = ['overlay-TEST-0001', join(path, 'LiveOS/overlay-TEST-0001.undo')]
    const change = await beginChange(await openFolder(join(path, 'LiveOS')), overlay, { verb: 'recover' })
    await change.finish()
    await change.close()
    const { stdout } = await liveos(['serve', path, '--persist', '--dry-run', '--json'])
    expect((JSON.parse(stdout) as { findings: object[] }).findings).toMatchObject([{ code: 'UNDO_ENDS' }])
    await serving([path], async () => void (await stat(undo)))
    await serving([path, '--persist', '--yes'], async () => {
      await expect(stat(undo)).rejects.toThrow()
    })
  })

  it('refuses a stick on which another verb was cut short', async () => {
    const { path } = await smallStick(await at('cut'))
    await writeFile(join(path, 'LiveOS/overlay-TEST-0001.reset'), '')
    const { code, stderr } = await liveos(['serve', path, '--persist', '--yes'])
    expect(code).toBe(4)
    expect(stderr).toContain('liveos reset')
  })

  it('goes where it is told, and leaves what is there alone', async () => {
    const { path } = await smallStick(await at('places'))
    const socket = await at('named.sock')
    await serving([path, '--socket', socket], async uri => {
      expect(uri).toBe(`nbd+unix:///?socket=${socket}`)
      expect((await stat(socket)).mode & 0o777).toBe(0o600)
      await run('nbdinfo', [uri])
      const second = await liveos(['serve', path, '--socket', socket])
      expect(second.code).toBe(4)
    })
    await expect(stat(socket)).rejects.toThrow()
    await writeFile(socket, 'mine')
    expect((await liveos(['serve', path, '--socket', socket])).code).toBe(4)
    expect(await readFile(socket, 'utf8')).toBe('mine')
    expect((await readdir(dirname(socket))).filter(name => name.startsWith('.liveos'))).toEqual([])
    expect((await liveos(['serve', path, '--socket', await at('x'.repeat(120))])).stderr).toContain('too long')
    await serving([path, '--port', '0'], async uri => {
      expect(uri).toMatch(/^nbd:\/\/127\.0\.0\.1:\d+\/$/)
      await run('nbdinfo', [uri])
    })
    const open = await liveos(['serve', path, '--writable', '--port', '0', '--bind', '0.0.0.0'])
    expect(open.code).toBe(2)
    expect(open.stderr).toContain('--tls-ca')
  })

  it('ends with its last client where it is told to', async () => {
    const { path, merged } = await smallStick(await at('once'))
    const socket = await at('once.sock')
    const copy = await at('once.img')
    const ended = liveos(['serve', path, '--socket', socket, '--exit-with-last'])
    await expect.poll(() => stat(socket).catch(() => undefined), { timeout: 10_000 }).toBeDefined()
    await run('nbdcopy', [`nbd+unix:///?socket=${socket}`, copy])
    const { code, stdout } = await ended
    expect(code).toBe(0)
    expect(stdout).toContain('nbdcopy')
    sameBytes(await readFile(copy), merged)
  })
})

const canFuse = (): string | undefined => {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK)
  } catch {
    return 'needs a /dev/fuse that can be used'
  }
  return process.getuid?.() === 0 ? undefined : 'needs root'
}
const tools = needTools('nbdfuse', 'fusermount3', 'mke2fs', 'e2fsck')
const fuse = gate(tools.reason ?? canFuse())

fuse.describe('an export in a process of its own', () => {
  it('lets e2fsck work on a view, and the writes land in the scratch store', async () => {
    const stick = await ext4Stick()
    const scratch = await at('e2fsck.cow')
    const base = join(stick, 'LiveOS/rootfs.img')
    const before = await readFile(base)
    const export_ = await startExport({ input: { target: stick }, layer: 'root', scratch })
    const file = (await openExportFile(export_))!
    // a wrong count of free blocks, as a crash leaves it
    await run('debugfs', ['-w', '-R', 'set_super_value free_blocks_count 7', file.path])
    const repaired = await run('e2fsck', ['-f', '-y', file.path]).catch(
      (error: { code: number; stdout: string }) => error,
    )
    expect(repaired).toMatchObject({ code: 1 })
    await run('e2fsck', ['-f', '-n', file.path])
    await file.stop()
    const outcome = await export_.stop()
    expect(outcome?.store?.chunks).toBeGreaterThan(0)
    await expect(stat(file.path)).rejects.toThrow()
    sameBytes(await readFile(base), before)
    const [origin, cow] = [await openFile(base), await openFile(scratch)]
    const store = await readStore(cow, { originSize: origin.size })
    expect(store.exceptions.count).toBe(outcome?.store?.chunks)
    const fixed = await at('fixed.img')
    const view = await snapshot(origin, cow, { store })
    await writeFile(fixed, await view.read(0, view.size))
    await run('e2fsck', ['-f', '-n', fixed])
    await Promise.all([origin.close(), cow.close()])
  })

  it('tells what failed there in the words of here', async () => {
    const missing = await at('nothing-here')
    expect((await failure(startExport({ input: { target: missing }, layer: 'root' }), 'NOT_FOUND')).message).toContain(
      'nothing-here',
    )
  })

  it('ends when its parent is killed, and takes its mount with it', async () => {
    const stick = await ext4Stick()
    const script = await at('parent.mjs')
    const dist = new URL('../../dist/ops/serve-process.js', import.meta.url).href
    await writeFile(
      script,
      `const { startExport, openExportFile } = await import(${JSON.stringify(dist)})
const running = await startExport({ input: { target: ${JSON.stringify(stick)} }, layer: 'root' })
const file = await openExportFile(running)
process.stdout.write(JSON.stringify({ pid: running.pid, mountPoint: file.mountPoint, socket: running.socket }) + '\\n')
setInterval(() => {}, 1000)`,
    )
    const parent = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] })
    running.push(parent)
    const [text] = (await once(parent.stdout.setEncoding('utf8'), 'data')) as [string]
    const { pid, mountPoint, socket } = JSON.parse(text) as { pid: number; mountPoint: string; socket: string }
    expect(await isMountPoint(mountPoint)).toBe(true)
    parent.kill('SIGKILL')
    expect(await awaitGone(pid)).toBe(true)
    expect(await isMountPoint(mountPoint)).toBe(false)
    await expect(stat(socket)).rejects.toThrow()
    await expect(stat(mountPoint)).rejects.toThrow()
  })
})

fuse.describe('liveos mount', () => {
  const place = async (): Promise<string> => {
    const path = await at(`mnt${made++}`)
    await mkdir(path)
    mounts.push(path)
    return path
  }
  /** What is below a mount is read by other programs only. */
  const cat = async (path: string): Promise<string> => (await run('cat', [path])).stdout

  it('shows the files read-only, and umount undoes it', async () => {
    const [stick, mnt] = [await ext4Stick(), await place()]
    const overlay = await readFile(join(stick, 'LiveOS/overlay-TEST-0001'))
    const mounted = await liveos(['mount', stick, mnt, '--json'])
    expect(mounted.stderr).toBe('')
    const { image, how } = JSON.parse(mounted.stdout) as { image: string; how: string }
    try {
      expect(['kernel', 'fuse2fs']).toContain(how)
      expect(await cat(join(mnt, 'etc/hostname'))).toBe('live\n')
      await expect(run('touch', [join(mnt, 'x')])).rejects.toThrow()
      const again = await liveos(['mount', stick, mnt])
      expect(again.code).toBe(4)
      expect(again.stderr).toContain('liveos umount')
    } finally {
      const done = await liveos(['umount', mnt])
      expect(done.stdout).toContain('nothing was changed')
    }
    expect(await isMountPoint(mnt)).toBe(false)
    await expect(stat(dirname(image))).rejects.toThrow()
    sameBytes(await readFile(join(stick, 'LiveOS/overlay-TEST-0001')), overlay)
    expect((await liveos(['umount', mnt])).code).toBe(2)
  })

  it('what is written goes into the overlay where it is told to, and is whole after umount', async () => {
    const [stick, mnt] = [await ext4Stick(), await place()]
    expect((await liveos(['mount', stick, mnt, '--persist', '--yes'])).code).toBe(0)
    await run('sh', ['-c', `echo new > ${mnt}/etc/new; rm ${mnt}/large`])
    const second = await liveos(['serve', stick, '--persist', '--yes'])
    expect(second.code).toBe(4)
    expect(second.stderr).toContain('another run of liveos')
    const { stdout, code } = await liveos(['umount', mnt])
    expect(code).toBe(0)
    expect(stdout).toContain('on the medium')
    expect(await isMountPoint(mnt)).toBe(false)
    expect((await liveos(['cat', `${stick}:/etc/new`])).stdout).toBe('new\n')
    expect((await liveos(['stat', `${stick}:/large`])).code).toBe(2)
    const out = await at('persistent.img')
    await liveos(['merge', stick, '--output', out])
    await run('e2fsck', ['-f', '-n', out])
  })

  it('refuses while it is in use, and has changed nothing then', async () => {
    const [stick, mnt] = [await ext4Stick(), await place()]
    expect((await liveos(['mount', stick, mnt])).code).toBe(0)
    const user = spawn('sleep', ['30'], { cwd: mnt })
    running.push(user)
    await once(user, 'spawn')
    const busy = await liveos(['umount', mnt])
    expect(busy.code).toBe(4)
    expect(await cat(join(mnt, 'etc/hostname'))).toBe('live\n')
    user.kill('SIGKILL')
    await once(user, 'exit')
    expect((await liveos(['umount', mnt])).code).toBe(0)
  })

  it('clears away what a server that was killed has left', async () => {
    const [stick, mnt] = [await ext4Stick(), await place()]
    const { stdout } = await liveos(['mount', stick, mnt, '--writable', '--json'])
    const { server, image } = JSON.parse(stdout) as { server: number; image: string }
    process.kill(server, 'SIGKILL')
    expect(await awaitGone(server)).toBe(true)
    const done = await liveos(['umount', mnt])
    expect(done.code).toBe(1)
    expect(done.stdout).toContain('had ended before')
    expect(await isMountPoint(mnt)).toBe(false)
    expect(await isMountPoint(dirname(image))).toBe(false)
    expect((await liveos(['mount', stick, mnt])).code).toBe(0)
    expect((await liveos(['umount', mnt])).code).toBe(0)
  })

  it('follows a symlink to the mount point, and umount does by either name', async () => {
    const [stick, mnt, link] = [await ext4Stick(), await place(), await at('link')]
    await symlink(mnt, link)
    for (const [by, off] of [
      [link, link],
      [link, mnt],
      [mnt, link],
    ] as const) {
      expect((await liveos(['mount', stick, by])).stdout).toContain(`Mounted at ${mnt},`)
      expect((await liveos(['umount', off])).code).toBe(0)
      expect(await isMountPoint(mnt)).toBe(false)
    }
  })

  it('gives the image itself as a file', async () => {
    const [stick, mnt] = [await ext4Stick(), await place()]
    const copy = await at('file.img')
    expect((await liveos(['mount', stick, mnt, '--file', '--base-only'])).code).toBe(0)
    await run('cp', [join(mnt, 'nbd'), copy])
    expect((await liveos(['umount', mnt])).code).toBe(0)
    sameBytes(await readFile(copy), await readFile(join(stick, 'LiveOS/rootfs.img')))
  })

  it('refuses a place that is taken, and one that is none', async () => {
    const stick = await ext4Stick()
    const taken = await place()
    await writeFile(join(taken, 'x'), '')
    expect((await liveos(['mount', stick, taken])).stderr).toContain('not empty')
    expect((await liveos(['mount', stick, `${taken}-none`])).stderr).toContain('mkdir')
    expect((await liveos(['umount', taken])).stderr).toContain('nothing is mounted')
  })

  if (tool('fuse2fs'))
    it('goes by fuse2fs where the kernel can not, also with a journal to replay', async () => {
      const [stick, mnt] = [await ext4Stick(), await place()]
      await cp(new URL('../../README.md', import.meta.url), join(stick, 'x'))
      const input = { target: stick }
      const plan = await planMount(input, mnt, { part: 'root', writesTo: 'overlay' })
      const done = await mountView(input, { ...plan, how: 'fuse2fs' })
      try {
        expect(done.how).toBe('fuse2fs')
        await run('sh', ['-c', `echo by fuse > ${mnt}/etc/by`])
        expect(await cat(join(mnt, 'etc/by'))).toBe('by fuse\n')
      } finally {
        const outcome = await umountView(mnt).finally(() => unmount(mnt, { force: true }))
        expect(outcome.store?.chunks).toBeGreaterThan(0)
        expect(outcome.findings).toEqual([])
      }
      expect((await liveos(['cat', `${stick}:/etc/by`])).stdout).toBe('by fuse\n')
      const out = await at('fuse2fs.img')
      await liveos(['merge', stick, '--output', out])
      await run('e2fsck', ['-f', '-n', out])
    })
})

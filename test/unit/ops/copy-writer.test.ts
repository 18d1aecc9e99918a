import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { chmod, lstat, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Device } from '../../../src/block/device.js'
import { memory } from '../../../src/block/memory.js'
import { traitsOf } from '../../../src/host/folder.js'
import { copyToDirectory } from '../../../src/ops/copy-directory.js'
import { copyFindings } from '../../../src/ops/copy-findings.js'
import { copySource } from '../../../src/ops/copy-source.js'
import type { WriteTask } from '../../../src/ops/copy-write.js'
import { openWriter, type WriterOptions, type Written } from '../../../src/ops/copy-writer.js'
import { directory, file, symlink as link, type MockNode, mockFileSystem } from '../../support/mock-filesystem.js'
import { failure } from '../../support/outcome.js'
import { random } from '../../support/random.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
let count = 0
const fresh = (): Promise<string> => path(`out${count++}`)
const EXT4 = 0xef53

const script = (body: string): URL => new URL(`data:text/javascript,${encodeURIComponent(body)}`)
const ready = 'import { parentPort as port } from "node:worker_threads"; port.postMessage("ready");'

/** Copies into a directory; with `patience` 0 a thread of its own writes as soon as it is up. */
const copyTo = async (
  to: string,
  root: MockNode,
  writing: WriterOptions,
  { overwrite = false, signal }: { overwrite?: boolean; signal?: AbortSignal } = {},
) => {
  const findings = copyFindings()
  const counts = await copyToDirectory({
    source: copySource(mockFileSystem(root), ['/'], 'medium', finding => findings.add(finding), signal),
    to,
    keeping: { owners: false, setUid: false, devices: false, xattrs: false, modes: true },
    overwrite,
    keepPartial: false,
    traits: traitsOf(EXT4),
    findings,
    signal,
    writing,
    onBytes() {},
  })
  return { counts, worse: findings.all().filter(({ severity }) => severity !== 'note') }
}

const { bytes } = random(5)
/** Some batches. */
const MANY = 300
const many = (n = MANY): [string, MockNode][] =>
  Array.from({ length: n }, (_, at) => [
    `f${at}`,
    file(bytes(at % 50 === 0 ? 20_000 : at % 300), { stat: { mode: 0o640 } }),
  ])
const partsIn = (at: string): string[] =>
  readdirSync(at, { recursive: true }).filter(name => String(name).includes('.liveos-part')) as string[]

describe('a thread that writes', () => {
  test('makes what is made without it, links and names that collide too', async () => {
    const hard = file('twice', { stat: { linkCount: 2 } })
    const entries = (): [string, MockNode][] => [
      ['hard', hard],
      ...many(),
      ['big', file(bytes(1_600_000))],
      ['soft', link('no/such \udcff')],
      ['dir', directory(many(100))],
      ['dir', file('in the way of a directory')],
      ['f7', file('once more')],
      ['odd \udcff', file('odd')],
      ['again', hard],
    ]
    const tree = directory(entries())
    const [here, there] = [await fresh(), await fresh()]
    const one = await copyTo(here, tree, { patience: Number.POSITIVE_INFINITY })
    const other = await copyTo(there, tree, { patience: 0 })
    expect(other).toEqual(one)
    expect(one.worse.map(({ code, where }) => `${code} ${where}`).sort()).toEqual([
      'NAMES_COLLIDE /dir',
      'NAMES_COLLIDE /f7',
    ])
    expect(readdirSync(there, { recursive: true }).sort()).toEqual(readdirSync(here, { recursive: true }).sort())
    for (const name of readdirSync(here, { recursive: true }) as string[]) {
      const [a, b] = [
        lstatSync(join(here, name), { throwIfNoEntry: false }),
        lstatSync(join(there, name), { throwIfNoEntry: false }),
      ]
      if (!a || !b) continue
      expect([name, b.mode, b.size, b.mtimeMs]).toEqual([name, a.mode, a.size, a.mtimeMs])
      if (a.isSymbolicLink())
        expect(readlinkSync(join(there, name), 'buffer')).toEqual(readlinkSync(join(here, name), 'buffer'))
      else if (a.isFile() && readFileSync(join(here, name)).compare(readFileSync(join(there, name))) !== 0)
        throw new Error(`${name} differs`)
    }
    expect((await lstat(join(there, 'again'))).ino).toBe((await lstat(join(there, 'hard'))).ino)
    expect([...partsIn(here), ...partsIn(there)]).toEqual([])
  })

  test('replaces what was there, and nothing that this copy made', async () => {
    const to = await fresh()
    await mkdir(join(to, 'sub'), { recursive: true })
    for (const name of ['f3', 'f290', 'last']) await writeFile(join(to, name), 'old')
    const root = directory([...many(), ['last', file('new')], ['f200', file('once more')], ['sub', file('no')]])
    const kept = await copyTo(to, root, { patience: 0 })
    expect(kept.worse.map(({ where }) => where).sort()).toEqual(['/f200', '/f290', '/f3', '/last', '/sub'])
    expect(await readFile(join(to, 'f290'), 'utf8')).toBe('old')
    const replaced = await copyTo(to, root, { patience: 0 }, { overwrite: true })
    expect(replaced.worse.map(({ code, where }) => `${code} ${where}`).sort()).toEqual([
      'NAMES_COLLIDE /f200',
      'NOT_COPIED /sub',
    ])
    expect(await readFile(join(to, 'last'), 'utf8')).toBe('new')
    expect(partsIn(to)).toEqual([])
  })

  test('what somebody else put into a directory of this copy meanwhile is not replaced, and is told', async () => {
    const to = await fresh()
    const content = bytes(500)
    const device: Device = {
      ...memory(content, 'f299'),
      async read(offset, length) {
        await writeFile(join(to, 'f299'), 'theirs')
        return content.slice(offset, offset + length)
      },
    }
    const slow = directory([...many(299), ['f299', { ...file(content), device }]])
    const { worse } = await copyTo(to, slow, { patience: 0 })
    expect(worse.map(({ code, where }) => `${code} ${where}`)).toEqual(['NAMES_COLLIDE /f299'])
    expect(await readFile(join(to, 'f299'), 'utf8')).toBe('theirs')
    expect(readdirSync(to).length).toBe(300)
    expect(partsIn(to)).toEqual([])
  })

  test.runIf(process.getuid?.() !== 0)('tells of each file that it may not write', async () => {
    const to = await fresh()
    await mkdir(to)
    await chmod(to, 0o500)
    const { worse } = await copyTo(to, directory(many()), { patience: 0 })
    await chmod(to, 0o700)
    expect(worse.filter(({ code }) => code === 'NOT_COPIED').length).toBe(MANY)
  })

  test('is stopped by a signal; whole files stay', async () => {
    const to = await fresh()
    const stop = new AbortController()
    const entries = many()
    const cut = file('x')
    const slow = {
      ...cut,
      device: {
        ...cut.device!,
        name: 'slow',
        size: 1,
        read: async () => {
          stop.abort()
          return Uint8Array.of(1)
        },
        close: async () => {},
      },
    } as MockNode
    entries.splice(250, 0, ['slow', slow])
    await failure(copyTo(to, directory(entries), { patience: 0 }, { signal: stop.signal }), 'CANCELLED')
    expect(partsIn(to)).toEqual([])
    const made = readdirSync(to)
    expect(made.length).toBeLessThanOrEqual(251)
    const sizes = new Map(entries.map(([name, node]) => [name, node.device?.size ?? node.content?.length]))
    for (const name of made) expect([name, lstatSync(join(to, name)).size]).toEqual([name, sizes.get(name)])
  })

  test('that never comes up is done without', async () => {
    const to = await fresh()
    const { counts } = await copyTo(to, directory(many()), { patience: 0, script: script('throw new Error("no")') })
    expect(counts.files).toBe(MANY)
    expect((await readdir(to)).length).toBe(MANY)
  })

  test('that dies ends the copy with IO and leaves no file that is not whole', async () => {
    const to = await fresh()
    const dies = script(`${ready} import { openSync, writeSync } from 'node:fs'
      import { workerData } from 'node:worker_threads'
      port.on('message', ({ strings }) => {
        // the first is whole, the second is in work, and at the third's name is somebody else's
        for (const [n, text] of ['whole', 'half', 'theirs'].entries()) {
          if (n < 2) Atomics.add(workerData.stop, 1, 1)
          writeSync(openSync(strings[n * 4] + strings[n * 4 + 1], 'wx'), text)
        }
        process.exit(1)
      })`)
    // all in one batch
    await failure(copyTo(to, directory(many()), { patience: 0, script: dies }), 'IO')
    expect(partsIn(to)).toEqual([])
    for (const name of readdirSync(to)) expect(['whole', 'theirs']).toContain(await readFile(join(to, name), 'utf8'))
  })

  test.each([
    ['ENOSPC', 'NO_SPACE'],
    ['EIO', 'IO'],
    ['EROFS', 'READ_ONLY'],
  ] as const)('that meets %s ends the copy with %s', async (code, wanted) => {
    const to = await fresh()
    const full = script(`${ready}
      port.on('message', message => {
        if (message === 'end') return port.close()
        const results = Array.from({ length: message.numbers.length / 8 }, (_, n) =>
          n === 0 ? { failure: { message: '${code}: told by a test', code: '${code}', syscall: 'write' } } : { skipped: true })
        port.postMessage({ data: message.data, results }, [message.data])
      })`)
    await failure(copyTo(to, directory(many()), { patience: 0, script: full }), wanted)
    expect(partsIn(to)).toEqual([])
  })
})

describe('tasks', () => {
  const task = (to: string, n: number): WriteTask => ({
    kind: 'file',
    place: 1,
    directory: `${to}/`,
    part: `.part-${n}`,
    name: `f${n}`,
    target: '',
    isFresh: true,
    isFree: n % 3 === 0,
    overwrite: false,
    owner: undefined,
    mode: 0o600,
    hasMode: n % 5 === 0,
    time: '-1.5000005',
    tellInode: n % 2 === 0,
  })

  test('are answered once each, in their order, here and by the thread', async () => {
    const to = await fresh()
    await mkdir(to)
    const writer = openWriter({ patience: 10 })
    const told: [number, Written][] = []
    for (let n = 0; n < 3000; n++)
      await writer.write(task(to, n), Buffer.from(`${n}`), result => told.push([n, result]))
    await writer.drain()
    await writer.close()
    expect(told.map(([n]) => n)).toEqual(Array.from({ length: 3000 }, (_, n) => n))
    for (const [n, result] of told.slice(-100)) {
      const { ino, mtimeMs } = lstatSync(join(to, `f${n}`), { bigint: false })
      expect(result).toEqual({ landing: 'done', ...(n % 2 === 0 ? { inode: BigInt(ino) } : {}) })
      expect(mtimeMs).toBe(-1500)
      expect(readFileSync(join(to, `f${n}`), 'utf8')).toBe(`${n}`)
    }
  })

  test('that come after a stop are skipped', async () => {
    const to = await fresh()
    await mkdir(to)
    const writer = openWriter()
    writer.stop()
    const told: Written[] = []
    await writer.write(task(to, 1), Buffer.from('x'), result => told.push(result))
    await writer.close()
    expect(told).toEqual([{ skipped: true }])
    expect(await readdir(to)).toEqual([])
  })
})

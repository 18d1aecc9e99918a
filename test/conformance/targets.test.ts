import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, copyFile, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it as plain } from 'vitest'
import { sampleFacts } from '../../scripts/sample.mjs'
import { isLiveError } from '../../src/error.js'
import { shellWord } from '../../src/host/shell-word.js'
import { openTarget } from '../../src/liveos/open-target.js'
import { openStack } from '../../src/liveos/stack.js'
import type { TargetInput } from '../../src/liveos/target.js'
import { listFiles, statFile, withView } from '../../src/ops/files.js'
import { inspect } from '../../src/ops/inspect.js'
import type { InspectNode } from '../../src/ops/inspect-node.js'
import { planMerge, runMerge } from '../../src/ops/merge.js'
import { readStatus } from '../../src/ops/status.js'
import { runVerify } from '../../src/ops/verify.js'
import { liveos } from '../support/cli.js'
import { kernelFixture } from '../support/kernel-fixtures.js'
import { failure } from '../support/outcome.js'
import { finished } from '../support/small-stick.js'
import {
  altered,
  EXT4_ID,
  emptyFile,
  fatPartition,
  gptDisk,
  IMAGE_TOOLS,
  type ImageServer,
  makeExt4,
  makeIsoTarget,
  makeStick,
  makeSystem,
  mbrDisk,
  multiStick,
  OVERLAY,
  partition,
  resized,
  rootImage,
  run,
  serveImages,
  squash,
} from '../support/target-images.js'
import { temporary } from '../support/temporary.js'
import { needTools, tool } from '../support/tools.js'

const execute = promisify(execFile)
const path = temporary()
const { it, describe } = needTools(...IMAGE_TOOLS, 'unsquashfs')
const PARTITION_START = 1 << 20

let at: (name: string) => string
let server: ImageServer | undefined
let facts: { originSha256: string; mergedSha256: string }

const ready = IMAGE_TOOLS.every(name => tool(name) !== undefined)
beforeAll(async () => {
  if (!ready) return
  const first = await path('stick')
  at = name => join(dirname(first), name)
  facts = await sampleFacts()
  const stick = await makeStick(first)
  const base = join(stick, 'LiveOS/squashfs.img')
  await fatPartition(at('fat.img'), stick)
  await mbrDisk(at('mbr.img'), stick)
  await gptDisk(at('gpt.img'), stick)
  await makeIsoTarget(at('f36.iso'), base, { layout: 'f36' })
  await makeIsoTarget(at('f42.iso'), base, { layout: 'f42' })
  await makeIsoTarget(at('dvd.iso'), undefined, { layout: 'f36', bare: true })
  await rootImage(at('rootfs.img'), stick)
  await multiStick(at('multi'), stick)
  await copyFile(base, at('squashfs.img'))
  await copyFile(join(stick, 'LiveOS', OVERLAY), at('elsewhere'))
  await squash(at('flat.img'), await makeSystem(at('system')))
  server = await serveImages(dirname(first))
}, 60_000)
afterAll(() => server?.close())

/** Names of this computer become addresses of the server. */
const remote = (name: string): string => `${server!.url}/${name}`

const hashOf = async (input: TargetInput): Promise<string> => {
  const { target, close } = await openTarget(input)
  try {
    const stack = await openStack(target)
    try {
      const hash = createHash('sha256')
      const { root } = stack
      for (let offset = 0; offset < root.size; offset += 1 << 22)
        hash.update(await root.read(offset, Math.min(1 << 22, root.size - offset)))
      return hash.digest('hex')
    } finally {
      await stack.close()
    }
  } finally {
    await close()
  }
}

/** What a target is, in ways of naming it. `merged`: with the overlay's changes. */
interface Case {
  readonly name: string
  readonly input: () => TargetInput
  readonly merged: boolean
}

const CASES: readonly Case[] = [
  { name: 'a directory', input: () => ({ target: at('stick') }), merged: true },
  { name: 'the live directory itself', input: () => ({ target: at('stick/LiveOS') }), merged: true },
  { name: 'a FAT partition', input: () => ({ target: at('fat.img') }), merged: true },
  { name: 'a disk with an MBR', input: () => ({ target: at('mbr.img') }), merged: true },
  { name: 'a disk with a GPT, an ESP and ext4', input: () => ({ target: at('gpt.img') }), merged: true },
  { name: 'a multi-image stick, the usual one', input: () => ({ target: at('multi') }), merged: true },
  { name: 'a multi-image stick, the other', input: () => ({ target: at('multi'), image: 'F39' }), merged: false },
  { name: 'a disk without its overlay', input: () => ({ target: at('mbr.img'), baseOnly: true }), merged: false },
  { name: 'an ISO like F36', input: () => ({ target: at('f36.iso') }), merged: false },
  { name: 'an ISO like F42', input: () => ({ target: at('f42.iso') }), merged: false },
  {
    name: 'an ISO with an overlay elsewhere',
    input: () => ({ target: at('f36.iso'), overlay: at('elsewhere') }),
    merged: true,
  },
  { name: 'a bare squashfs', input: () => ({ target: at('squashfs.img') }), merged: false },
  {
    name: 'a bare squashfs with an overlay',
    input: () => ({ target: at('squashfs.img'), overlay: at('elsewhere') }),
    merged: true,
  },
  { name: 'a bare root', input: () => ({ target: at('rootfs.img') }), merged: false },
  {
    name: 'a bare root with an overlay',
    input: () => ({ base: at('rootfs.img'), overlay: at('elsewhere') }),
    merged: true,
  },
  { name: 'a URL of an ISO', input: () => ({ target: remote('f36.iso') }), merged: false },
  { name: 'a URL of a disk', input: () => ({ target: remote('mbr.img') }), merged: true },
  { name: 'a URL of a GPT disk', input: () => ({ target: remote('gpt.img') }), merged: true },
  {
    name: 'a URL of a squashfs with an overlay here',
    input: () => ({ target: remote('squashfs.img'), overlay: at('elsewhere') }),
    merged: true,
  },
]

/** Cases that a merge is written of, and those whose every block is read: more would take long and show nothing new. */
const MERGED = [
  'a directory',
  'a disk with an MBR',
  'a disk with a GPT, an ESP and ext4',
  'an ISO with an overlay elsewhere',
  'a URL of a GPT disk',
]
const VERIFIED = [
  'a directory',
  'a disk with an MBR',
  'a disk with a GPT, an ESP and ext4',
  'an ISO like F36',
  'a bare squashfs',
  'a bare root',
  'a URL of a disk',
]

/** What the overlay of the sample changed, among much else. */
const hostOf = (input: TargetInput, layer: 'root' | 'base' = 'root'): Promise<string> =>
  withView(input, layer, { paths: [] }, async fs => {
    const file = await fs.open('/etc/hostname')
    return Buffer.from(await file.read(0, file.size)).toString()
  })
const CHANGED = 'kitchen-table\n'
const UNCHANGED = 'sample-live\n'

const nodesOf = (tree: InspectNode): InspectNode[] => [tree, ...tree.children.flatMap(nodesOf)]

describe('every kind of target, on every verb', () => {
  plain.each(CASES)('$name', async ({ name, input: make, merged }) => {
    const input = make()
    // of the others the merged file is summed below
    if (!MERGED.includes(name)) expect(await hashOf(input)).toBe(merged ? facts.mergedSha256 : facts.originSha256)
    expect(await hostOf(input)).toBe(merged ? CHANGED : UNCHANGED)
    const status = await readStatus(input)
    expect(status.base?.rootSize).toBe(117_440_512)
    expect(status.overlay.state).toBe(merged ? 'ok' : 'none')
    expect(status.overlay.percent).toBe(merged ? 82 : null)
    const names: string[] = []
    const onFinding = (finding: unknown) => expect(finding).toBeUndefined()
    await withView(input, 'root', { paths: ['/'] }, async fs => {
      for await (const file of listFiles(fs, '/', { recursive: true, onFinding })) names.push(file.path)
      const host = await statFile(fs, '/etc/hostname')
      expect({ ...host, size: 0 }).toMatchObject({ kind: 'file', mode: '0644', uid: 0, gid: 0 })
      expect(host.runs).toHaveLength(1)
    })
    expect(names.length).toBeGreaterThan(100)
    const found = await inspect(input)
    const root = nodesOf(found.tree).find(({ kind }) => kind === 'root')
    expect(root).toMatchObject({ type: 'ext4', label: 'LiveRoot', details: { distribution: 'Sample Live 1' } })
    expect(found.findings.filter(({ severity }) => severity === 'error')).toEqual([])
  })

  plain.each(CASES.filter(({ name }) => VERIFIED.includes(name)))('verify of $name', async ({ input: make }) => {
    const input = make()
    const { target, close } = await openTarget(input)
    try {
      const verified = await finished(runVerify(target))
      expect(verified.result).toBe(input.target?.includes('rootfs') ? 'unverified' : 'ok')
      expect(verified.findings).toEqual([])
    } finally {
      await close()
    }
  })

  plain.each([0, 3, 5, 11, 18].map(n => CASES[n]!))(
    'merge --output of $name',
    async ({ input: make, merged, name }) => {
      const { target, close } = await openTarget(make())
      const output = await path(`merged ${name}`)
      try {
        await finished(runMerge(target, await planMerge(target, { output, trim: false })))
        const made = createHash('sha256')
          .update(await readFile(output))
          .digest('hex')
        expect(made).toBe(merged ? facts.mergedSha256 : facts.originSha256)
      } finally {
        await close()
        await rm(output, { force: true })
      }
    },
  )

  it('a flat squashfs: its files, its release', async () => {
    for (const target of [at('flat.img'), remote('flat.img')]) {
      await withView({ target }, 'root', { paths: ['/'] }, async fs => {
        expect((await fs.list('/home/ada')).map(({ name }) => name)).toEqual(['letter.txt'])
      })
      const { tree } = await inspect({ target })
      expect(nodesOf(tree).find(({ kind }) => kind === 'base')?.details).toMatchObject({
        nested: false,
        distribution: 'Fedora Linux 39 (Flat)',
        sugarOnAStick: true,
        kernels: ['6.5.6-300.fc39.x86_64'],
        architecture: 'x86_64',
      })
    }
  })

  it('a root with a journal that was not replayed shows what the kernel would', async () => {
    const fixture = kernelFixture('fs-ext4')
    const base = await path('origin.img')
    const overlay = await path('cow.img')
    await writeFile(base, await fixture.image('origin.img'))
    await writeFile(overlay, await fixture.image('cow.img'))
    const tree = fixture.facts.tree as Readonly<Record<string, string>>
    const { target, close } = await openTarget({ target: base, overlay })
    const merged = await path('merged.img')
    await finished(runMerge(target, await planMerge(target, { output: merged, trim: false, verify: false })))
    await close()
    for (const input of [{ target: base, overlay }, { target: merged }])
      await withView(input, 'root', { paths: ['/'] }, async fs => {
        const seen: Record<string, string> = {}
        const onFinding = (finding: unknown) => expect(finding).toBeUndefined()
        for await (const { path: name, kind } of listFiles(fs, '/', { recursive: true, onFinding })) {
          if (kind !== 'file') continue
          const file = await fs.open(name)
          seen[name.slice(1)] = createHash('sha256')
            .update(await file.read(0, file.size))
            .digest('hex')
        }
        for (const [name, hash] of Object.entries(tree)) expect([name, seen[name]]).toEqual([name, hash])
      })
  })
})

describe('which of a target is meant', () => {
  const names = (input: TargetInput, layer: 'root' | 'base' | 'home' | 'medium', where = '/') =>
    withView(input, layer, { paths: [where] }, async fs => (await fs.list(where)).map(({ name }) => name).sort())

  it('--home, --medium, --base-only', async () => {
    for (const name of ['mbr.img', 'gpt.img']) {
      for (const target of [at(name), remote(name)]) {
        expect(await names({ target }, 'home')).toEqual(['liveuser', 'lost+found'])
        expect(await names({ target }, 'medium', '/LiveOS')).toContain('home.img')
        expect(await hostOf({ target }, 'base')).toBe(UNCHANGED)
        expect(await hostOf({ target, baseOnly: true })).toBe(UNCHANGED)
        expect(await hostOf({ target })).toBe(CHANGED)
      }
    }
    expect(await names({ target: at('stick') }, 'medium')).toEqual(['EFI', 'LiveOS', 'syslinux'])
    expect(await names({ target: at('gpt.img'), partition: 1 }, 'medium')).toEqual(['EFI', 'syslinux'])
    expect((await failure(names({ target: at('f36.iso') }, 'home'), 'NOT_FOUND')).message).toContain('no home image')
    await failure(names({ base: at('rootfs.img') }, 'medium'), 'USAGE')
  })

  it('--partition: one that is not there is told with those that are', async () => {
    const error = await failure(openTarget({ target: at('gpt.img'), partition: 7 }), 'USAGE')
    expect(error.message).toContain('there are 1, 2')
    expect((await failure(openTarget({ target: at('fat.img'), partition: 1 }), 'USAGE')).message).toContain(
      'no partitions',
    )
    await failure(openTarget({ target: at('gpt.img'), partition: 1 }), 'NOT_FOUND')
  })

  it('two partitions with live systems: one must be named, and either can be', async () => {
    const image = await path('twins.img')
    const size = 64 << 20
    await emptyFile(image, PARTITION_START + 2 * size)
    await partition(image, `label: dos\nstart=2048, size=${size / 512}, type=83\nsize=${size / 512}, type=83\n`)
    await makeExt4(image, at('gpt.img.tree'), { offset: PARTITION_START, size })
    await makeExt4(image, at('gpt.img.tree'), { offset: PARTITION_START + size, size })
    const error = await failure(openTarget({ target: image }), 'USAGE')
    expect(error.message).toMatch(/1, 2.*--partition/)
    await failure(names({ target: image }, 'medium'), 'USAGE')
    for (const partition of [1, 2])
      expect(await names({ target: image, partition }, 'root', '/home')).toEqual(['liveuser'])
    await rm(image)
  })

  it('--image: a directory that holds none is told with those that do, on a mounted stick and in an image', async () => {
    const image = await path('multi.img')
    await emptyFile(image, 64 << 20)
    await makeExt4(image, at('multi'), { size: 64 << 20, id: EXT4_ID })
    for (const target of [at('multi'), image]) {
      const error = await failure(openTarget({ target, image: 'F38' }), 'NOT_FOUND')
      expect(error.message).toContain('F39, LiveOS')
    }
    expect(await hostOf({ target: image, image: 'F39' })).toBe(UNCHANGED)
    expect(await hostOf({ target: image, image: 'LiveOS' })).toBe(CHANGED)
  })

  it('two overlays, neither of the stick’s name: USAGE until one is chosen or left out', async () => {
    const tree = await path('two')
    await mkdir(join(tree, 'LiveOS'), { recursive: true })
    await copyFile(at('squashfs.img'), join(tree, 'LiveOS/squashfs.img'))
    for (const name of ['overlay-A-1', 'overlay-B-2']) await copyFile(at('elsewhere'), join(tree, 'LiveOS', name))
    const image = await path('two.img')
    await emptyFile(image, 64 << 20)
    await makeExt4(image, tree, { size: 64 << 20 })
    const error = await failure(openTarget({ target: image }), 'USAGE')
    expect(error.message).toContain('overlay-A-1, overlay-B-2')
    expect(error.message).toContain('--base-only')
    expect(await hostOf({ target: image, baseOnly: true })).toBe(UNCHANGED)
    expect(await hostOf({ target: image, overlay: join(tree, 'LiveOS/overlay-B-2') })).toBe(CHANGED)
  })

  it('an overlay that can’t be read is never left out without being asked to', async () => {
    const tree = await path('ofs')
    await mkdir(join(tree, 'LiveOS'), { recursive: true })
    await copyFile(at('squashfs.img'), join(tree, 'LiveOS/squashfs.img'))
    // swap: known by its mark, and nothing that could hold changes
    const swap = Buffer.alloc(1 << 20)
    swap.write('SWAPSPACE2', 4086, 'latin1')
    await writeFile(join(tree, 'LiveOS/overlay-X-1'), swap)
    const error = await failure(names({ target: tree }, 'root'), 'UNSUPPORTED')
    expect(error.message).toContain('--base-only')
    expect(await names({ target: tree }, 'base', '/home')).toEqual(['liveuser'])
    expect(await names({ target: tree, baseOnly: true }, 'root', '/home')).toEqual(['liveuser'])
    await copyFile(at('flat.img'), join(tree, 'LiveOS/squashfs.img'))
    await copyFile(at('elsewhere'), join(tree, 'LiveOS/overlay-X-1'))
    await failure(names({ target: tree }, 'root'), 'UNSUPPORTED')
    expect(await names({ target: tree }, 'base', '/home')).toEqual(['ada'])
  })
})

describe('broken and strange targets', () => {
  const VERBS = ['ls', 'status', 'verify', 'inspect'] as const

  /** Exit code and words of a verb. */
  const ends = async (
    verb: string,
    target: string,
    ...more: string[]
  ): Promise<{ code: number | null; text: string }> => {
    const { code, stdout, stderr } = await liveos([verb, target, ...more])
    expect(stderr, 'no mistake of liveos itself').not.toContain('mistake of liveos')
    return { code, text: stdout + stderr }
  }

  it('exit codes and a word of what is wrong', async () => {
    const made = {
      fifo: at('fifo'),
      empty: at('empty.img'),
      garbage: at('garbage.img'),
      plain: at('plain directory'),
      'cut squashfs': await resized(at('cut.sqfs'), at('squashfs.img'), 300_000),
      'bad superblock': await altered(at('bad.sqfs'), at('squashfs.img'), 48, Buffer.alloc(48, 0xee)),
      'no live image': at('dvd.iso'),
      overlay: at('elsewhere'),
      missing: at('nothing'),
    }
    await execute('mkfifo', [made.fifo])
    await emptyFile(made.empty, 0)
    await writeFile(made.garbage, createHash('sha256').update('x').digest().toString('hex').repeat(1000))
    await mkdir(made.plain)
    const expected: Readonly<Record<keyof typeof made, readonly [string, ...number[]]>> = {
      fifo: ['neither a directory nor a file', 2, 2, 2, 2],
      empty: ['is empty', 2, 2, 2, 1],
      garbage: ['garbage.img holds no', 2, 2, 2, 1],
      plain: ['no LiveOS stick', 2, 2, 2, 1],
      'cut squashfs': ['cut short', 3, 1, 1, 1],
      'bad superblock': ['bad.sqfs', 3, 1, 1, 1],
      // an installer's ISO is in good health
      'no live image': ['no live system', 2, 2, 2, 0],
      overlay: ['overlay', 2, 2, 2, 1],
      missing: ['there is no', 2, 2, 2, 2],
    }
    for (const [name, [words, ...codes]] of Object.entries(expected)) {
      const results = await Promise.all(VERBS.map(verb => ends(verb, made[name as keyof typeof made])))
      expect([name, ...results.map(({ code }) => code)]).toEqual([name, ...codes])
      expect(results[0]!.text).toContain(words)
    }
  })

  it('a disk image cut short: what is whole is read, and inspect tells the rest', async () => {
    const cut = await resized(await path('cut.img'), at('mbr.img'), 40 << 20)
    const found = await inspect({ target: cut })
    const codes = found.findings.map(({ code }) => code)
    expect(codes).toContain('PARTITION_BEYOND_END')
    expect(nodesOf(found.tree).map(({ kind }) => kind)).toContain('root')
    // the files lie at the front
    expect(await hostOf({ target: cut })).toBe(CHANGED)
    const more = await resized(await path('cut more.img'), at('mbr.img'), 8 << 20)
    const rest = await inspect({ target: more })
    expect(rest.findings.some(({ severity }) => severity === 'error')).toBe(true)
    expect(isLiveError(await hashOf({ target: more }).catch((error: unknown) => error))).toBe(true)
  })

  it('a partition that starts beyond the end is told and passed over', async () => {
    const image = await path('beyond.img')
    await copyFile(at('mbr.img'), image)
    const bytes = await readFile(image)
    bytes.copy(bytes, 462, 446, 462)
    bytes.writeUInt32LE(0x7000_0000, 462 + 8)
    await writeFile(image, bytes)
    const { findings, tree } = await inspect({ target: image })
    expect(findings.map(({ code }) => code)).toContain('PARTITION_BEYOND_END')
    expect(nodesOf(tree).map(({ kind }) => kind)).toContain('root')
    expect(await hostOf({ target: image })).toBe(CHANGED)
  })

  it('a directory that can’t be read takes nothing from the one with the live system', async () => {
    // the first cluster of /syslinux, which is the last name of the root, is torn
    const image = await path('torn.img')
    const listing = await run('mdir', '-i', at('fat.img'), '-b', '::')
    expect(listing).toContain('syslinux')
    const bytes = await readFile(at('fat.img'))
    const entry = bytes.indexOf('SYSLINUX   ', 0, 'latin1')
    const lower = entry >= 0 ? entry : bytes.indexOf('SYSLINUX', 1 << 19, 'latin1')
    expect(lower).toBeGreaterThan(0)
    bytes.writeUInt16LE(0x0fff, lower + 20)
    await writeFile(image, bytes)
    const { findings, tree } = await inspect({ target: image })
    expect(findings.some(({ severity, message }) => severity === 'error' && message.includes('syslinux'))).toBe(true)
    expect(nodesOf(tree).map(({ kind }) => kind)).toContain('root')
    expect(await hostOf({ target: image })).toBe(CHANGED)
  })

  it('a path where a target belongs is told how to be written', async () => {
    for (const target of [`${at('mbr.img')}/etc`, `${at('mbr.img')}:etc`, `${at('stick')}/home`]) {
      const { code, text } = await ends('ls', target)
      expect(code).toBe(2)
      expect(text).toMatch(/is written \S+:\/(etc|home)\n/)
    }
  })

  it('servers: no such file, no ranges', async () => {
    expect((await ends('ls', remote('nothing.iso'))).code).toBe(2)
    expect((await ends('verify', remote('mbr.img'))).text).toContain('read from the server')
    expect((await ends('verify', at('mbr.img'))).text).toContain('read through the page cache')
    expect((await ends('ls', 'http://127.0.0.1:1/x.iso')).code).toBe(5)
  })
})

const isRoot = process.getuid?.() === 0
const closedOff = isRoot && tool('setpriv') ? plain : plain.skip

closedOff('no permission: who owns it and what to type, on every verb (setpriv)', async () => {
  const stick = await path('closed')
  await makeStick(stick)
  await chmod(dirname(stick), 0o755)
  const image = await path('closed.img')
  await copyFile(at('mbr.img'), image)
  const asNobody = async (...words: string[]) => {
    const { LIVEOS } = await import('../support/cli.js')
    return execute(tool('setpriv')!, [
      ...['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, LIVEOS, ...words],
    ]).then(
      ({ stdout }) => ({ code: 0, text: stdout }),
      (error: { code: number; stdout: string; stderr: string }) => ({
        code: error.code,
        text: error.stdout + error.stderr,
      }),
    )
  }
  const overlay = join(stick, 'LiveOS', OVERLAY)
  for (const [file, target, verbs] of [
    [image, image, ['inspect', 'ls', 'status', 'verify']],
    [overlay, stick, ['ls', 'status', 'verify']],
    [join(stick, 'LiveOS'), stick, ['ls', 'status', 'verify']],
    [stick, stick, ['inspect', 'ls', 'status']],
  ] as const) {
    const mode = file === stick || file.endsWith('LiveOS') ? 0o755 : 0o644
    await chmod(file, 0o700)
    for (const verb of verbs) {
      const { code, text } = await asNobody(verb, target)
      expect([verb, file, code]).toEqual([verb, file, 2])
      expect(text).toContain(`${file} belongs to root and its mode is 0700`)
      expect(text).toContain(`sudo liveos ${verb} ${shellWord(target)}\n`)
    }
    if (file === overlay) {
      // inspect tells and goes on
      const { code, text } = await asNobody('inspect', target)
      expect(code).toBe(1)
      expect(text).toContain('belongs to root')
      expect(text).toContain('LiveOS/rootfs.img')
      expect(text).toContain('home.img')
    }
    await chmod(file, mode)
  }
})

it('names with control characters never reach a terminal raw, and come out byte for byte', async () => {
  const tree = await path('odd names')
  const odd = 'a\nb\u001b[31mc\u0007'
  await mkdir(join(tree, 'etc'), { recursive: true })
  await mkdir(join(tree, odd))
  await writeFile(join(tree, odd, odd), 'inside')
  await writeFile(join(tree, 'etc/os-release'), 'PRETTY_NAME="Evil \u001b[2J Linux"\n')
  await symlink(odd, join(tree, 'link'))
  const image = await path('odd.img')
  await emptyFile(image, 8 << 20)
  await makeExt4(image, tree, { size: 8 << 20, label: 'E\u001b[1mVIL' })
  const isClean = (text: string) => expect(/[^\n\P{Cc}]/u.test(text), JSON.stringify(text)).toBe(false)
  for (const words of [
    ['ls', `${image}:/`],
    ['ls', '-lR', `${image}:/`],
    ['stat', `${image}:/${odd}`, `${image}:/link`],
    ['cat', `${image}:/${odd}`],
    ['cat', `${image}:/none\u001b[31m`],
    ['ls', `${image}\u001b[31m`],
    ['cp', `${image}:/${odd}`, await path('target')],
    ['cp', '-r', `${image}:/${odd}`, await path('tar\u001b[31mget')],
    ['inspect', image],
    ['status', image],
  ]) {
    const { stdout, stderr } = await liveos(words)
    isClean(stdout)
    isClean(stderr)
    expect(stdout + stderr).not.toContain('a\nb')
  }
  const { stdout } = await liveos(['ls', '--json', `${image}:/`])
  const files = JSON.parse(stdout) as { path: string }[]
  expect(files.map(file => file.path)).toContain(`/${odd}`)
  const out = await path('odd out')
  expect((await liveos(['cp', '-r', `${image}:/${odd}`, out])).code).toBe(0)
  expect(await readdir(out)).toEqual([odd])
})

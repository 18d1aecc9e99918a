import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  copyFile,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { beforeAll, expect } from 'vitest'
import { LIVEOS, liveos, type Ran } from '../support/cli.js'
import { breaches, readSchema } from '../support/json-schema.js'
import { OVERLAY, smallStick } from '../support/small-stick.js'
import { altered, emptyFile, IMAGE_TOOLS, makeExt4, makeFat, resized, run, squash } from '../support/target-images.js'
import { temporary } from '../support/temporary.js'
import { needTools, tool } from '../support/tools.js'

const MIB = 1 << 20
const path = temporary()
const { it, describe } = needTools(...IMAGE_TOOLS, 'debugfs')
const ready = [...IMAGE_TOOLS, 'debugfs'].every(name => tool(name) !== undefined)

let at: (name: string) => string
let made = 0

/** An ext4 of its own with a few files, one with the image's own name. */
const image = async (directory: string): Promise<string> => {
  await mkdir(directory)
  const stick = join(directory, 'stick.img')
  await emptyFile(stick, 4 * MIB)
  await makeExt4(stick, at('tree'), { size: 4 * MIB })
  return stick
}
const fresh = async (): Promise<string> => image(at(`place${made++}`))

beforeAll(async () => {
  if (!ready) return
  const tree = await path('tree')
  at = name => join(dirname(tree), name)
  await mkdir(join(tree, 'sub'), { recursive: true })
  await writeFile(join(tree, 'file'), 'what is in the file\n')
  await writeFile(join(tree, 'stick.img'), 'a file of the same name\n')
  await writeFile(join(tree, 'sub/other'), 'another\n')
  await link(join(tree, 'file'), join(tree, 'sub/second name'))
  await symlink('sub/other', join(tree, 'link'))
  await writeFile(join(tree, 'sparse'), 'x')
  await truncate(join(tree, 'sparse'), 2 * MIB)
  for (const bytes of [236, 245, 255]) await writeFile(join(tree, 'n'.repeat(bytes)), String(bytes))
  execFileSync('mkfifo', [join(tree, 'pipe')])
  await image(at('shared'))
})

const parsed = ({ stdout }: Ran): unknown => JSON.parse(stdout)

describe('what --json prints, held against docs/schema', () => {
  it('ls, stat and cp of an ext4 with all kinds of inodes', async () => {
    const stick = at('shared/stick.img')
    await run('debugfs', '-w', '-R', 'mknod disk b 8 3', stick)
    await run('debugfs', '-w', '-R', 'ea_set /file user.note hello', stick)
    await run('debugfs', '-w', '-R', 'ea_set /file user.raw \\001\\002\\033', stick)
    const ls = parsed(await liveos(['ls', '--json', '-R', `${stick}:/`])) as Record<string, unknown>[]
    expect(breaches(ls, readSchema('ls.json'))).toEqual([])
    const kinds = new Set(ls.map(({ kind }) => kind))
    expect([...kinds].sort()).toEqual(['block', 'directory', 'fifo', 'file', 'symlink'])
    expect(ls.find(({ path }) => path === '/disk')).toMatchObject({ device: '8:3' })
    expect(parsed(await liveos(['ls', '--json', `${stick}:/lost+found`]))).toEqual([])

    const names = ['/file', '/link', '/pipe', '/disk', '/sub', '/sparse'].map(name => `${stick}:${name}`)
    const told = parsed(await liveos(['stat', '--json', ...names])) as Record<string, unknown>[]
    const schema = readSchema('stat.json')
    expect(breaches(told, schema)).toEqual([])
    expect(told[0]).toMatchObject({ linkCount: 2, xattrs: expect.arrayContaining([expect.anything()]) })
    expect(told[5]).toMatchObject({ size: 2 * MIB, dataBytes: 1024, runs: [{ offset: 0, length: 1024 }] })
    expect(breaches([{ ...told[0], more: 1 }], schema)).toHaveLength(1)
    expect(breaches([{ ...told[0], runs: undefined }], schema)).not.toEqual([])

    const cp = parsed(await liveos(['cp', '--json', '-r', `${stick}:/`, at('copied')]))
    expect(breaches(cp, readSchema('cp.json'))).toEqual([])
    expect(cp).toMatchObject({ hardLinks: 1, symlinks: 1, special: 1 })
    expect(breaches({ ...(cp as object), findings: [{ code: 'X' }] }, readSchema('cp.json'))).not.toEqual([])
    const archive = parsed(await liveos(['cp', '--json', '-r', `${stick}:/`, at('copied.tar')]))
    expect(breaches(archive, readSchema('cp.json'))).toEqual([])
  })

  it('ls and stat where the filesystem keeps neither owners nor attributes', async () => {
    const fat = at('fat.img')
    await mkdir(at('few'))
    await writeFile(join(at('few'), 'a file.txt'), 'x')
    await emptyFile(fat, 36 * MIB)
    await makeFat(fat, at('few'), { size: 36 * MIB })
    const words = ['--json', '--medium', `${fat}:/a file.txt`]
    expect(breaches(parsed(await liveos(['ls', ...words])), readSchema('ls.json'))).toEqual([])
    const told = parsed(await liveos(['stat', ...words]))
    expect(breaches(told, readSchema('stat.json'))).toEqual([])
    expect(told).toMatchObject([{ xattrs: null, size: 1 }])
  })

  it('diff, usage and inspect as the program prints them', async () => {
    const { path: stick } = await smallStick(at('printed'), { raw: true })
    const usage = await liveos(['usage', '--json', stick])
    expect(breaches(parsed(usage), readSchema('usage.json'))).toEqual([])
    const inspect = await liveos(['inspect', '--json', at('shared/stick.img')])
    expect(breaches(parsed(inspect), readSchema('inspect.json'))).toEqual([])
  })
})

describe('what status and verify print', () => {
  const SCHEMAS = { status: readSchema('status.json'), verify: readSchema('verify.json') }
  const printed = async (verb: keyof typeof SCHEMAS, ...words: string[]): Promise<Record<string, unknown>> => {
    const told = parsed(await liveos([verb, '--json', ...words])) as Record<string, unknown>
    expect(breaches(told, SCHEMAS[verb])).toEqual([])
    return told
  }

  it('of a stick, one of which the base is cut, an OverlayFS, and a base alone', async () => {
    const { path: stick } = await smallStick(at('told'))
    const status = await printed('status', stick)
    expect(status).toMatchObject({ overlay: { kind: 'dm-snapshot', state: 'ok' }, base: { kind: 'squashfs' } })
    expect(await printed('verify', stick)).toMatchObject({ result: 'unverified', blocks: { holes: 1 } })
    expect(breaches({ ...status, level: 'fine' }, SCHEMAS.status)).toHaveLength(1)
    expect(breaches({ ...status, overlay: {} }, SCHEMAS.status)).toHaveLength(12)
    await truncate(join(stick, 'LiveOS/squashfs.img'), 1000)
    expect(await printed('status', stick)).toMatchObject({ base: null, level: 'critical' })
    expect(await printed('verify', stick)).toMatchObject({ result: 'damaged', blocks: null })

    const { path: other } = await smallStick(at('upper'))
    await rm(join(other, 'LiveOS', OVERLAY))
    await mkdir(join(other, 'LiveOS', OVERLAY, 'etc'), { recursive: true })
    await mkdir(join(other, 'LiveOS/ovlwork'))
    expect(await printed('status', other)).toMatchObject({ overlay: { kind: 'OverlayFS directory' } })

    const bare = await printed('status', at('shared/stick.img'))
    expect(bare).toMatchObject({ liveDir: null, overlay: { kind: 'none' }, base: { kind: 'raw', rootLabel: 'LIVE' } })
    expect(await printed('verify', at('shared/stick.img'))).toMatchObject({ result: 'unverified' })
  })
})

describe('cat of a file with a bad block', () => {
  it('gives what stands before it, then says where it is', async () => {
    const tree = at('large')
    await mkdir(tree)
    let text = ''
    for (let n = 0; text.length < 3 * MIB; n++) text += createHash('sha256').update(String(n)).digest('hex')
    await writeFile(join(tree, 'text'), text)
    const whole = await squash(at('whole.img'), tree, '-comp', 'gzip', '-b', '131072')
    const { size } = await stat(whole)
    const bad = await altered(at('bad.img'), whole, Math.floor(size * 0.2), Buffer.alloc(64, 0xff))
    const { code, stdout, stderr } = await liveos(['cat', '--medium', `${bad}:/text`])
    expect(code).toBe(3)
    expect(stdout.length).toBeGreaterThanOrEqual(131_072)
    expect(stdout.length).toBeLessThan(MIB)
    expect(stdout.length % 131_072).toBe(0)
    expect(text.startsWith(stdout)).toBe(true)
    expect(stderr).toContain('/text: only its first')
    expect(stderr).toContain('at byte')
    expect((await liveos(['cat', '--medium', `${whole}:/text`])).stdout).toBe(text)
  })
})

describe('what is being read is never written over', () => {
  const hashOf = async (file: string): Promise<string> =>
    createHash('sha256')
      .update(await readFile(file))
      .digest('hex')

  /** Runs with a file as standard output. */
  const into = async (file: string, flags: string, words: readonly string[]): Promise<Ran> => {
    const handle = await open(file, flags)
    try {
      return await new Promise((resolve, reject) => {
        const child = spawn(process.execPath, [LIVEOS, ...words], { stdio: ['ignore', handle.fd, 'pipe'] })
        let stderr = ''
        child.stderr!.setEncoding('utf8').on('data', (text: string) => {
          stderr += text
        })
        child.on('error', reject)
        child.on('close', code => resolve({ code, stdout: '', stderr }))
      })
    } finally {
      await handle.close()
    }
  }

  it('an image, by any of its names', async () => {
    const stick = await fresh()
    const here = dirname(stick)
    const before = await hashOf(stick)
    await mkdir(join(here, 'out/sub'), { recursive: true })
    await link(stick, join(here, 'hard'))
    await link(stick, join(here, 'out/sub/other'))
    await symlink('stick.img', join(here, 'soft'))
    const refused = [
      ...['stick.img', 'hard', 'soft'].flatMap(name => [
        ['cp', `${stick}:/file`, join(here, name)],
        ['cp', '--overwrite', `${stick}:/file`, join(here, name)],
        ['cp', '--overwrite', '-r', '--tar', `${stick}:/sub`, join(here, name)],
      ]),
      // a directory in which one of the names is the image
      ['cp', '--overwrite', `${stick}:/stick.img`, here],
      ['cp', '--overwrite', '-r', `${stick}:/`, here],
      ['cp', '--overwrite', '-r', `${stick}:/sub`, join(here, 'out')],
      ['cp', '--overwrite', '-r', '--medium', `${stick}:/sub`, join(here, 'out')],
      ['diff', stick, '--output', join(here, 'hard')],
      ['merge', stick, '--output', stick],
      ['refresh', stick, '--output', join(here, 'hard')],
      ['backup', stick, stick],
    ]
    for (const words of refused) {
      const { code, stdout, stderr } = await liveos(words)
      expect([words.join(' '), code], stderr + stdout).toEqual([words.join(' '), 4])
      if (words[0] === 'cp') expect(stderr).toContain('being read')
      expect(await hashOf(stick)).toBe(before)
    }
    for (const flags of ['a', 'r+'])
      for (const words of [
        ['cat', `${stick}:/file`],
        ['cp', '-r', `${stick}:/`, '-'],
      ]) {
        const { code, stderr } = await into(join(here, 'hard'), flags, words)
        expect([code, stderr]).toEqual([4, expect.stringContaining('standard output')])
      }
    expect(await hashOf(stick)).toBe(before)
    expect((await readdir(here)).sort()).toEqual(['hard', 'out', 'soft', 'stick.img'])
    expect(await readdir(join(here, 'out'))).toEqual(['sub'])
    expect(await readdir(join(here, 'out/sub'))).toEqual(['other'])
  })

  it('base and overlay of a stick that is mounted', async () => {
    const { path: stick } = await smallStick(at('mounted'), { raw: true })
    const live = join(stick, 'LiveOS')
    await run('mke2fs', '-q', '-F', '-t', 'ext4', '-d', at('tree'), join(live, 'rootfs.img'), '4m')
    const before = await Promise.all(['rootfs.img', OVERLAY].map(name => hashOf(join(live, name))))
    for (const words of [
      ['cp', '--overwrite', '--base-only', `${stick}:/file`, join(live, 'rootfs.img')],
      ['cp', '--overwrite', '--medium', `${stick}:/LiveOS/rootfs.img`, join(live, OVERLAY)],
      ['cp', '--overwrite', '--medium', `${stick}:/LiveOS/rootfs.img`, live],
    ]) {
      const { code, stderr } = await liveos(words)
      expect([words.join(' '), code, stderr]).toEqual([words.join(' '), 4, expect.stringContaining('being read')])
    }
    expect(await Promise.all(['rootfs.img', OVERLAY].map(name => hashOf(join(live, name))))).toEqual(before)
  })

  it('and what stands beside it is, where that is asked for', async () => {
    const stick = await fresh()
    const here = dirname(stick)
    await writeFile(join(here, 'file'), 'old')
    await writeFile(join(here, 'other'), 'old')
    expect((await liveos(['cp', '--overwrite', `${stick}:/file`, here])).code).toBe(0)
    expect((await liveos(['cp', '--overwrite', '-r', `${stick}:/sub/`, here])).code).toBe(0)
    expect(await readFile(join(here, 'file'), 'utf8')).toBe('what is in the file\n')
    expect(await readFile(join(here, 'other'), 'utf8')).toBe('old')
    expect(await readFile(join(here, 'sub/other'), 'utf8')).toBe('another\n')
    expect((await into(join(here, 'other'), 'w', ['cat', `${stick}:/file`])).code).toBe(0)
  })
})

it('names of 255 bytes are copied, also to an archive with such a name', async () => {
  const stick = await fresh()
  const out = join(dirname(stick), 'out')
  expect((await liveos(['cp', '-r', `${stick}:/`, out])).code).toBe(0)
  for (const bytes of [236, 245, 255]) expect(await readFile(join(out, 'n'.repeat(bytes)), 'utf8')).toBe(String(bytes))
  const archive = join(dirname(stick), `${'a'.repeat(251)}.tar`)
  for (const more of [[], ['--overwrite']]) {
    const { code, stderr } = await liveos(['cp', '-r', ...more, `${stick}:/`, archive])
    expect(code, stderr).toBe(0)
  }
  const listed = execFileSync('tar', ['-tf', archive], { encoding: 'utf8' }).split('\n')
  expect(listed).toContain(`./${'n'.repeat(255)}`)
  expect((await readdir(dirname(stick))).sort()).toEqual([archive.split('/').at(-1), 'out', 'stick.img'])
})

describe('an image that ends too early is told as one, by every verb that reads it', () => {
  /** Exit codes of verbs, and what they say. */
  const saying = async (
    image: string,
    size: number,
  ): Promise<readonly (readonly [string, number | null, string])[]> => {
    const cut = await resized(at(`cut ${made++} ${image}`), at(image), size)
    return Promise.all(
      ['inspect', 'status', 'verify', 'ls'].map(async verb => {
        const { code, stdout, stderr } = await liveos([verb, cut])
        return [verb, code, stdout + stderr] as const
      }),
    )
  }

  beforeAll(async () => {
    if (!ready) return
    await mkdir(at('live/LiveOS'), { recursive: true })
    await writeFile(at('live/a text'), 'x'.repeat(400_000))
    await copyFile(at('shared/stick.img'), at('root.img'))
    await mkdir(at('nest/LiveOS'), { recursive: true })
    await copyFile(at('shared/stick.img'), at('nest/LiveOS/rootfs.img'))
    await squash(at('live/LiveOS/squashfs.img'), at('nest'))
    await copyFile(at('live/LiveOS/squashfs.img'), at('base.img'))
    await run('xorriso', '-as', 'mkisofs', '-quiet', '-o', at('live.iso'), '-R', '-J', '-V', 'LIVE', at('live'))
    await emptyFile(at('stick.fat'), 36 * MIB)
    await makeFat(at('stick.fat'), at('live'), { size: 36 * MIB })
  })

  for (const [image, size] of [
    ['root.img', 1500],
    ['root.img', 3 * MIB],
    ['base.img', 1000],
    ['stick.fat', 512],
    ['live.iso', 33_000],
    ['live.iso', 40_000],
  ] as const)
    it(`${image} of ${size} bytes`, async () => {
      for (const [verb, code, text] of await saying(image, size)) {
        expect([verb, text.includes('is cut short')], text).toEqual([verb, true])
        expect(code, `${verb}: ${text}`).toBeGreaterThan(0)
        expect(text).toMatch(/(copy|download)\b.* again/)
        // once
        expect(text.split('is cut short').length, `${verb}: ${text}`).toBe(2)
      }
    })

  it('a base of no bytes is told as that, and not as one of another overlay', async () => {
    const { path: stick } = await smallStick(at('emptied'))
    await truncate(join(stick, 'LiveOS/squashfs.img'), 0)
    for (const verb of ['ls', 'status', 'verify', 'usage', 'diff']) {
      const { code, stdout, stderr } = await liveos([verb, stick])
      expect([verb, stdout + stderr]).toEqual([verb, expect.stringContaining('squashfs.img is empty')])
      expect(stdout + stderr).not.toContain('another base')
      expect(code).toBe(verb === 'status' || verb === 'verify' ? 1 : 3)
    }
  })

  it('inspect tells of an ISO and a FAT of which only the end is missing, and what is whole is read', async () => {
    for (const [image, size, words] of [
      ['live.iso', (await stat(at('live.iso'))).size - 4096, 'the volume has'],
      ['stick.fat', 30 * MIB, 'larger than its device'],
    ] as const) {
      const cut = await resized(at(`end of ${image}`), at(image), size)
      const told = await liveos(['inspect', cut])
      expect([told.code, told.stdout]).toEqual([1, expect.stringContaining(words)])
      expect((await liveos(['ls', cut])).stdout).toContain('file')
    }
  })
})

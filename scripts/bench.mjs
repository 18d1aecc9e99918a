// `npm run bench`: what a refresh costs beside mksquashfs. Linux only; see usage below.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, release, tmpdir, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { benchCopy } from './bench-copy.mjs'
import { benchCow } from './bench-cow.mjs'
import { benchImages, FORMS, PATH, READ_FORMS, squashCommand } from './bench-images.mjs'
import { benchLook } from './bench-look.mjs'
import { measure, observe } from './bench-measure.mjs'
import { benchNbd } from './bench-nbd.mjs'
import { benchOverlay } from './bench-overlay.mjs'
import { printed, writeReport } from './bench-report.mjs'
import { build, missingJudges, orExplain, ROOT } from './ready.mjs'
import { unpackSample } from './sample.mjs'

const PARTS = ['refresh', 'transcode', 'read', 'look', 'copy', 'status', 'overlay', 'cow', 'nbd']
const PERCENTS = [1, 5, 25]
const USAGE = `usage: npm run bench -- [--quick] [--only PART[,PART]] [--dir DIR] [--node22 FILE]
  --quick    a root filesystem of 256 MiB in the place of 2 GiB; docs/PERFORMANCE.md stays as it is
  --only     ${PARTS.join(', ')}
  --dir      where images are made and kept: 14 GiB at full size, 2 GiB with --quick (${join(tmpdir(), 'liveos-bench')})
  --node22   a node of version 22.15 or later, to read zstd with it too
`

const say = text => process.stderr.write(`bench: ${text}\n`)
const env = { ...process.env, PATH }

const readOptions = () => {
  try {
    const { values } = parseArgs({
      options: {
        quick: { type: 'boolean', default: false },
        only: { type: 'string' },
        dir: { type: 'string', default: join(tmpdir(), 'liveos-bench') },
        node22: { type: 'string' },
      },
    })
    const parts = values.only?.split(',') ?? PARTS
    if (!parts.every(part => PARTS.includes(part))) throw new Error(`--only knows ${PARTS.join(', ')}`)
    return { ...values, parts }
  } catch (error) {
    process.stderr.write(`bench: ${error.message}\n${USAGE}`)
    process.exit(2)
  }
}

const options = readOptions()
if (process.platform !== 'linux') {
  say('it reads /proc, so it runs on Linux only')
  process.exit(2)
}
orExplain(build)
const lacking = missingJudges().filter(name => ['squashfs-tools', 'e2fsprogs'].includes(name))
if (lacking.length > 0) {
  say(`install ${lacking.join(' and ')} first`)
  process.exit(2)
}

const size = (options.quick ? 256 : 2048) * 2 ** 20
const sizeName = options.quick ? '256M' : '2G'
const dir = join(options.dir, sizeName)
mkdirSync(dir, { recursive: true })
const images = benchImages(
  dir,
  size,
  {
    layout: await import('../dist/block/snapshot/layout.js'),
    openFile: (await import('../dist/block/file.js')).openFile,
    openSquashfs: (await import('../dist/fs/squashfs/reader.js')).openSquashfs,
  },
  say,
)
const liveos = (...args) => [process.execPath, join(ROOT, 'bin', 'liveos'), ...args]
const timed = async (what, command, codes = [0, 1]) => {
  // a warning, such as of a root full of made-up bytes, is no failure of what is measured
  const { words: _, ...result } = await measure(command, { env, codes })
  say(
    `${what}: ${result.cpu.toFixed(1)} s CPU, ${result.wall.toFixed(1)} s, ${Math.round(result.memory / 2 ** 20)} MiB`,
  )
  return result
}
const work = join(dir, 'work')
const inWork = name => join(work, name)
const emptyWork = () => {
  rmSync(work, { recursive: true, force: true })
  mkdirSync(work)
}

/** The merged root of a form's overlay as a raw image, in a folder that mksquashfs can take. */
const mergedFolder = async (form, percent) => {
  const folder = images.mergedFolder(form, percent)
  const [base, overlay] = [await images.image(form), await images.overlay(form, percent)]
  await images.once(join(folder, 'LiveOS', 'rootfs.img'), say, async path => {
    await measure(liveos('merge', '--base', base, '--overlay', overlay, '--output', path, '--no-verify'), {
      env,
      codes: [0, 1],
    })
  })
  return folder
}

const whole = new Map()
/** mksquashfs of the whole root as `form`'s overlay of 5 % changes it, measured once for each setting. */
const wholeSquash = async (form, more = []) => {
  const key = [form, ...more].join(' ')
  if (!whole.has(key)) {
    const folder = await mergedFolder(form, 5)
    emptyWork()
    const command = squashCommand(folder, inWork('whole.img'), [...FORMS[form].args, ...more])
    whole.set(key, await timed(`mksquashfs of all, ${key}`, command))
  }
  return whole.get(key)
}

const refresh = async (what, base, overlay, more) => {
  emptyWork()
  const cloned = name => ({ from: name, to: inWork(name === base ? 'base.img' : 'overlay') })
  for (const { from, to } of [base, overlay].map(cloned))
    if (spawnSync('cp', ['--reflink=auto', '--sparse=always', from, to]).status !== 0)
      throw new Error(`copying ${from}`)
  spawnSync('sync', [work])
  const result = await timed(
    what,
    liveos('refresh', '--base', inWork('base.img'), '--overlay', inWork('overlay'), '--yes', ...more),
  )
  const size = statSync(inWork('base.img')).size
  emptyWork()
  return { ...result, size }
}

const READER = join(import.meta.dirname, 'bench-read.mjs')

const benchRefresh = async () => {
  const forms = []
  for (const form of Object.keys(FORMS)) {
    const all = await wholeSquash(form)
    const [base, overlay5] = [await images.image(form), await images.overlay(form, 5)]
    emptyWork()
    const merge = ['merge', '--base', base, '--overlay', overlay5, '--output', inWork('raw.img'), '--no-verify']
    const copy = await timed(`copy of the merged root, ${form}`, liveos(...merge))
    const rows = []
    for (const percent of PERCENTS) {
      const overlay = await images.overlay(form, percent)
      const what = `refresh, ${form}, ${percent} %`
      rows.push({
        percent,
        plain: await refresh(`${what}, no verification`, base, overlay, ['--no-verify']),
        verified: await refresh(what, base, overlay, []),
      })
    }
    forms.push({ form, label: FORMS[form].label, imageBytes: statSync(base).size, whole: all, copy, rows })
  }
  return forms
}

/** Every block anew. The overlay is the one of the form that comes out, so mksquashfs has the very same work. */
const benchTranscode = async () => {
  const rows = []
  for (const [from, to, level] of [
    ['zstd', 'zstd', '12'],
    ['xz', 'zstd'],
    ['zstd', 'xz'],
  ]) {
    const all = await wholeSquash(to, level ? ['-Xcompression-level', level] : [])
    const [base, overlay] = [await images.image(from), await images.overlay(to, 5)]
    const label = FORMS[to].label + (level ? ` level ${level}` : '')
    const ours = await refresh(`transcode ${from} to ${label}`, base, overlay, [
      ...['--comp', to, '--block-size', String(FORMS[to].blockSize), '--no-verify'],
      ...(level ? ['--level', level] : []),
    ])
    // What no program can leave out that starts from the old image: expanding it.
    const decoding = await timed(`expanding ${from} alone`, [process.execPath, READER, base, overlay])
    rows.push({ from: FORMS[from].label, to: label, whole: all, ours, decoding })
  }
  return rows
}

const TARGETS = { xz: 0.8, gzip: 0.8, zstd: 0.4 }

/** The quickest of three runs. */
const best = async (what, command, codes) => {
  const runs = []
  for (let n = 0; n < 3; n++) runs.push(await timed(what, command, codes))
  return runs.sort((a, b) => a.wall - b.wall)[0]
}

const forLooks = async () => ({
  layout: await import('../dist/block/snapshot/layout.js'),
  ...(await import('../dist/index.js')),
  ...(await import('../dist/liveos/changes/read.js')),
  ...(await import('../dist/liveos/usage/usage.js')),
  ...(await import('../dist/fs/ext4/reader.js')),
})
const look = async () =>
  benchLook({
    dir,
    size,
    liveos: await forLooks(),
    command: liveos,
    best,
    once: images.once,
    say,
    squashed: await images.image('xz'),
  })

const copy = () => benchCopy({ dir: join(dir, 'copy'), say, measure, liveos, size: size / 2 })

const overlay = async () =>
  benchOverlay({
    dir,
    size,
    liveos: await forLooks(),
    command: liveos,
    best,
    timed,
    once: images.once,
    say,
    squashed: await images.image('xz'),
  })

const cow = async () =>
  benchCow({
    dir,
    liveos: {
      ...(await import('../dist/block/file.js')),
      ...(await import('../dist/block/snapshot/create.js')),
      ...(await import('../dist/block/snapshot/store.js')),
      ...(await import('../dist/block/snapshot/writable.js')),
    },
    say,
    count: options.quick ? 2048 : 16384,
  })

const nbd = () => benchNbd({ dir, size: size / 2, say, liveos })

const benchRead = async () => {
  const rows = []
  for (const form of Object.keys(READ_FORMS)) {
    const image = await images.image(form)
    const overlay = FORMS[form] ? [await images.overlay(form, 5)] : []
    const theirs = await best(
      `unsquashfs -cat, ${form}`,
      // the shell is there for the redirection only
      ['sh', '-c', 'exec unsquashfs -cat "$0" LiveOS/rootfs.img > /dev/null', image],
    )
    const nodes = [{ node: process.execPath, version: process.version }]
    if (form === 'zstd' && options.node22) {
      const version = spawnSync(options.node22, ['--version'], { encoding: 'utf8' }).stdout.trim()
      nodes.push({ node: options.node22, version })
    }
    for (const { node, version } of nodes) {
      const ours = await best(`reading, ${form}, Node ${version}`, [node, READER, image, ...overlay])
      const [major, minor] = version.slice(1).split('.').map(Number)
      const native = form === 'zstd' && (major > 22 || (major === 22 && minor >= 15))
      rows.push({
        label: READ_FORMS[form].label,
        node: version,
        target: native ? 0.8 : (TARGETS[form] ?? null),
        overlay: overlay.length > 0,
        bytes: size,
        theirs,
        ours,
      })
    }
  }
  return rows
}

const benchStatus = async () => {
  const stick = join(dir, 'stick')
  rmSync(stick, { recursive: true, force: true })
  await unpackSample(stick)
  const walls = []
  const observed = observe()
  for (let n = 0; n < 11; n++) {
    const start = process.hrtime.bigint()
    const { status } = spawnSync(process.execPath, [join(ROOT, 'bin', 'liveos'), 'status', stick], { stdio: 'ignore' })
    if (status !== 0 && status !== 1) throw new Error(`liveos status ended with ${status}`)
    walls.push(Number(process.hrtime.bigint() - start) / 1e9)
  }
  // The first run may fill Node's cache of compiled code, which later ones, also after a reboot, find on the disk.
  const [first, ...rest] = walls
  rest.sort((a, b) => a - b)
  return { first, median: (rest[4] + rest[5]) / 2, slowest: rest[9], others: observed().others }
}

const versionOf = (program, ...args) => {
  const { stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', env })
  return /\d+\.\d+(\.\d+)?/.exec(stdout + stderr)?.[0] ?? 'unknown'
}
const machine = () => ({
  cpu: cpus()[0]?.model.trim() ?? 'unknown',
  cores: availableParallelism(),
  memory: totalmem(),
  kernel: release(),
  node: process.version,
  mksquashfs: versionOf('mksquashfs', '-version'),
  mke2fs: versionOf('mke2fs', '-V'),
  date: new Date().toISOString().slice(0, 10),
})

const WORK = {
  refresh: benchRefresh,
  transcode: benchTranscode,
  read: benchRead,
  look,
  copy,
  status: benchStatus,
  overlay,
  cow,
  nbd,
}
const kept = join(dir, 'results.json')
// A part that is not run again keeps its numbers, with the machine and date they were measured on.
const results = existsSync(kept) ? JSON.parse(readFileSync(kept, 'utf8')) : {}
for (const part of options.parts) {
  results[part] = { machine: machine(), size, result: await WORK[part]() }
  mkdirSync(dirname(kept), { recursive: true })
  writeFileSync(kept, `${JSON.stringify(results, null, 2)}\n`)
  if (!options.quick) writeReport(join(ROOT, 'docs', 'PERFORMANCE.md'), results)
}
rmSync(work, { recursive: true, force: true })
process.stdout.write(printed(Object.fromEntries(options.parts.map(part => [part, results[part]]))))

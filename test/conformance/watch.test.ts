import { execFile, spawn } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { uptime } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { unpackSample } from '../../scripts/sample.mjs'
import { openFile } from '../../src/block/file.js'
import { statusLine } from '../../src/block/snapshot/status.js'
import { readStore } from '../../src/block/snapshot/store.js'
import { LIVEOS } from '../support/cli.js'
import { storeOf } from '../support/store-writer.js'
import { temporary } from '../support/temporary.js'
import { tool } from '../support/tools.js'

const path = temporary()
const run = promisify(execFile)
const OVERLAY = 'LiveOS/overlay-LIVE-1A2B-3C4D'
const HISTORY = 'LiveOS/watch-overlay-LIVE-1A2B-3C4D.jsonl'
let count = 0
let runtime: string
let bin: string

beforeAll(async () => {
  // must be in memory, as /run is
  runtime = await mkdtemp('/dev/shm/liveos-test-')
  bin = await path('bin')
  await mkdir(bin)
  for (const name of ['wall', 'systemd-cat', 'notify-send', 'systemctl']) {
    await writeFile(join(bin, name), `#!/bin/sh\n{ echo "${name} $*"; [ ${name} = systemctl ] || cat; } >>"$TOLD"\n`)
    await chmod(join(bin, name), 0o755)
  }
})
afterAll(() => rm(runtime, { recursive: true, force: true }))

/** A stick, and the program on it in an environment of its own. */
const fresh = async () => {
  const name = `watched${count++}`
  const stick = await unpackSample(await path(name))
  const told = await path(`${name}.told`)
  const config = await path(`${name}.config`)
  const env = {
    ...process.env,
    NO_COLOR: '1',
    PATH: `${bin}:${process.env.PATH}`,
    RUNTIME_DIRECTORY: join(runtime, name),
    XDG_CONFIG_HOME: config,
    TOLD: told,
  }
  const liveos = (...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> =>
    run(process.execPath, [LIVEOS, ...args], { env }).then(
      ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
      ({ code, stdout, stderr }) => ({ code, stdout, stderr }),
    )
  const said = async () => (await readFile(told, 'utf8').catch(() => '')).split('\n').filter(Boolean)
  const json = async (...args: string[]) =>
    JSON.parse((await liveos('watch', stick, '--json', '--once', ...args)).stdout)
  return { stick, liveos, said, json, env, runtime: join(runtime, name), units: join(config, 'systemd/user') }
}

it('--once: what it sees, exit code, one warning a level over many runs', async () => {
  const { stick, liveos, said, json } = await fresh()
  const first = await liveos('watch', stick, '--once')
  expect(first).toMatchObject({ code: 1 })
  expect(first.stdout).toMatch(/ 82\.0 % {2}13\.1 MiB used, 2\.9 MiB left\n$/)
  expect(first.stderr).toContain('is 82 % full')
  const wall = (await said()).filter(line => line.startsWith('wall'))
  expect(wall).toHaveLength(1)
  const again = await json()
  expect(again).toMatchObject({
    level: 'warning',
    say: null,
    state: 'ok',
    isRunning: false,
    keptIn: 'overlay of the stick',
  })
  const store = await openFile(join(stick, OVERLAY))
  const { allocatedSectors, totalSectors } = await readStore(store)
  await store.close()
  expect(again.room).toMatchObject({
    usedBytes: allocatedSectors * 512,
    leftBytes: (totalSectors - allocatedSectors) * 512,
  })
  expect((await said()).filter(line => line.startsWith('wall'))).toHaveLength(1)
  expect(await json('--critical', '82')).toMatchObject({ level: 'critical', say: 'level' })
  const calm = await liveos('watch', stick, '--once', '--warn', '90', '--quiet')
  expect(calm).toEqual({ code: 0, stdout: '', stderr: '' })
})

it('--quiet prints what could be told in no other way', async () => {
  const { stick, liveos } = await fresh()
  const silent = await liveos('watch', stick, '--once', '--quiet', '--tell', 'none')
  expect(silent).toMatchObject({ code: 1, stdout: '' })
  expect(silent.stderr).toContain('is 82 % full')
  const other = await fresh()
  expect(await other.liveos('watch', other.stick, '--once', '--quiet')).toEqual({ code: 1, stdout: '', stderr: '' })
})

it('a history beside the overlay, small and written seldom; none with --no-history', async () => {
  const { stick, json } = await fresh()
  expect((await json('--no-history')).history).toBeNull()
  expect(await readdir(join(stick, 'LiveOS'))).not.toContain('watch-overlay-LIVE-1A2B-3C4D.jsonl')
  for (let n = 0; n < 4; n++) expect((await json()).history).toBe(join(stick, HISTORY))
  const lines = (await readFile(join(stick, HISTORY), 'utf8')).split('\n').filter(line => line.trim())
  expect(lines).toHaveLength(1)
  expect(JSON.parse(lines[0]!)).toMatchObject({ n: 1, percent: 82, level: 'warning', usedBytes: 13_754_368 })
  expect((await stat(join(stick, HISTORY))).size).toBe(512)
  // other verbs do not take it for an overlay
  const status = await run(process.execPath, [LIVEOS, 'status', stick, '--json']).catch(error => error)
  expect(JSON.parse(status.stdout).overlay.state).toBe('ok')
  await writeFile(join(stick, HISTORY), 'spoilt')
  expect((await json()).percent).toBeUndefined()
  expect((await json()).level).toBe('warning')
})

it('a forecast, by what earlier runs have seen', async () => {
  const { stick, json, said, runtime: folder } = await fresh()
  const many = (changes: number) =>
    Array.from({ length: changes }, (_, oldChunk) => ({ oldChunk, content: new Uint8Array(4096) }))
  const store = async (changes: number): Promise<void> => {
    await writeFile(join(stick, OVERLAY), storeOf(many(changes), 8))
    await truncate(join(stick, OVERLAY), 16 << 20)
  }
  await store(1000)
  expect((await json()).forecast).toBeNull()
  const [name] = await readdir(folder)
  const ring = join(folder, name!)
  const line = JSON.parse((await readFile(ring, 'utf8')).slice(0, 511))
  // ten runs, a minute apart, with 100 chunks a minute more
  let text = ''
  for (let n = 1; n <= 10; n++) {
    const usedBytes = line.usedBytes + (n - 1) * 100 * 4096
    const seconds = Math.floor(uptime()) - (11 - n) * 60
    text += `${JSON.stringify({ ...line, n, seconds, usedBytes, tail: null, told: { level: 'ok', forecast: null } }).padEnd(511)}\n`
  }
  await writeFile(ring, text)
  await store(2000)
  const sample = await json()
  expect(sample).toMatchObject({ level: 'ok', say: 'forecast' })
  expect(Math.abs(sample.forecast.rate / ((100 * 4096) / 60) - 1)).toBeLessThan(0.02)
  // 4096 chunks, 2000 and their lists used
  expect(Math.abs(sample.forecast.secondsLeft / (20.9 * 60) - 1)).toBeLessThan(0.05)
  expect((await said()).join('\n')).toContain('is full in about 20 minutes')
  expect(await json()).toMatchObject({ say: null })
  expect((await json('--forecast', '0')).say).toBeNull()
})

it('--metrics tells nobody, and takes no warning away', async () => {
  const { stick, liveos, said, json } = await fresh()
  const metrics = await liveos('watch', stick, '--metrics')
  expect(metrics).toMatchObject({ code: 0, stderr: '' })
  expect(metrics.stdout).toMatch(/^liveos_overlay_used_bytes\{.*\} 13754368$/m)
  expect(await said()).toEqual([])
  expect((await json()).say).toBe('level')
})

// Prometheus is no small thing to ask for, nor is systemd: these judges are taken where they are.
it.skipIf(!tool('promtool'))('promtool takes the metrics', async () => {
  const { stick, liveos } = await fresh()
  const { stdout } = await liveos('watch', stick, '--metrics')
  const child = spawn('promtool', ['check', 'metrics'], { stdio: ['pipe', 'inherit', 'inherit'] })
  child.stdin.end(stdout)
  expect(await new Promise(resolve => child.on('close', resolve))).toBe(0)
})

it('goes on until it is stopped; a stick that goes away ends it', async () => {
  const { stick, env } = await fresh()
  const start = () =>
    spawn(process.execPath, [LIVEOS, 'watch', stick, '--interval', '1s', '--json', '--tell', 'none'], { env })
  const watching = start()
  let out = ''
  await new Promise<void>(resolve =>
    watching.stdout.setEncoding('utf8').on('data', text => {
      out += text
      if (out.split('\n').length > 2) resolve()
    }),
  )
  watching.kill('SIGINT')
  expect(await new Promise(resolve => watching.on('close', resolve))).toBe(0)
  const says = out
    .trim()
    .split('\n')
    .map(line => JSON.parse(line).say)
  expect([says[0], says[1]]).toEqual(['level', null])
  const losing = start()
  await new Promise(resolve => losing.stdout.once('data', resolve))
  await rename(stick, `${stick}.gone`)
  expect(await new Promise(resolve => losing.on('close', resolve))).toBe(2)
})

it('damaged, full, invalid, new', async () => {
  const { stick, json } = await fresh()
  const overlay = join(stick, OVERLAY)
  const whole = await readFile(overlay)
  const spoil = async (change: (bytes: Buffer) => void) => {
    const bytes = Buffer.from(whole)
    change(bytes)
    await writeFile(overlay, bytes)
    return json()
  }
  expect(await spoil(bytes => bytes.writeUInt32LE(0, 4))).toMatchObject({ state: 'invalid', level: 'lost' })
  expect(await spoil(bytes => bytes.fill(0xee, 4096, 4200))).toMatchObject({
    state: 'damaged',
    level: 'critical',
    room: null,
  })
  expect(await spoil(bytes => bytes.fill(0))).toMatchObject({ state: 'new', level: 'ok', room: { usedBytes: 8192 } })
  await writeFile(overlay, whole)
  await truncate(overlay, 26_864 * 512)
  expect(await json()).toMatchObject({ state: 'full', level: 'critical', room: { leftBytes: 0, percent: 100 } })
  const file = await openFile(overlay)
  expect(statusLine(await readStore(file), 0)).toBe('0 0 snapshot 26864/26864 120')
  await file.close()
})

it('wrong words', async () => {
  const { stick, liveos } = await fresh()
  for (const words of [
    ['--warn', '90', '--critical', '80'],
    ['--warn', '101'],
    ['--interval', '0'],
    ['--interval', '25h'],
    ['--interval', 'soon'],
    ['--tell', 'pigeon'],
    ['--metrics', '--json'],
    ['--install', '--uninstall'],
    ['--install', '--once'],
    ['--dry-run'],
  ])
    expect(await liveos('watch', stick, ...words), words.join(' ')).toMatchObject({ code: 2 })
  expect(await liveos('watch', join(stick, 'nowhere'), '--once')).toMatchObject({ code: 2 })
  await rm(join(stick, OVERLAY))
  const none = await liveos('watch', stick, '--once')
  expect(none).toMatchObject({ code: 2 })
  expect(none.stderr).toContain('has no overlay')
})

it('--install writes two units and starts the timer, --uninstall takes them away', async () => {
  const { stick, liveos, said, units } = await fresh()
  const install = (...more: string[]) => liveos('watch', stick, '--install', '--user', ...more)
  const plan = JSON.parse(
    (await install('--dry-run', '--json', '--interval', '5m', '--warn', '70', '--tell', 'none')).stdout,
  )
  expect(plan).toMatchObject({ action: 'install', scope: 'user', target: stick })
  expect(plan.files.map(({ change }: { change: string }) => change)).toEqual(['write', 'write'])
  expect(plan.files[0].text).toContain(`"watch" "${stick}" "--warn" "70" "--tell" "none" "--once" "--quiet"\n`)
  expect(plan.files[1].text).toContain('OnUnitActiveSec=300s\n')
  await expect(readdir(units)).rejects.toThrow()
  expect(await install()).toMatchObject({ code: 4 })
  expect(await install('--yes')).toMatchObject({ code: 0 })
  const names = await readdir(units)
  expect(names).toEqual([plan.timer.replace('.timer', '.service'), plan.timer].sort())
  expect(await said()).toEqual([
    'systemctl --user daemon-reload',
    `systemctl --user enable --now ${plan.timer}`,
    `systemctl --user restart ${plan.timer}`,
  ])
  const again = JSON.parse((await install('--dry-run', '--json')).stdout)
  expect(again.files.map(({ change }: { change: string }) => change)).toEqual(['none', 'none'])
  // also when the stick is not there any more
  await rm(join(stick, 'LiveOS'), { recursive: true })
  expect(await liveos('watch', stick, '--uninstall', '--user', '--yes')).toMatchObject({ code: 0 })
  expect(await readdir(units)).toEqual([])
  expect((await said()).slice(3)).toEqual([
    `systemctl --user disable --now ${plan.timer}`,
    'systemctl --user daemon-reload',
  ])
  const nothing = await liveos('watch', stick, '--uninstall', '--user')
  expect(nothing).toMatchObject({ code: 0 })
  expect(nothing.stdout).toContain('was not installed')
})

it('a unit that somebody else wrote is left alone; what systemd does not take is told', async () => {
  const { stick, liveos, units, env } = await fresh()
  const { timer } = JSON.parse((await liveos('watch', stick, '--install', '--user', '--dry-run', '--json')).stdout)
  await mkdir(units, { recursive: true })
  await writeFile(join(units, timer), '[Timer]\n')
  for (const verb of ['--install', '--uninstall'])
    expect(await liveos('watch', stick, verb, '--user', '--yes')).toMatchObject({ code: 4 })
  expect(await readFile(join(units, timer), 'utf8')).toBe('[Timer]\n')
  await rm(join(units, timer))
  const failing = await path('failing')
  await mkdir(failing)
  await writeFile(join(failing, 'systemctl'), '#!/bin/sh\necho "no bus" >&2\nexit 1\n')
  await chmod(join(failing, 'systemctl'), 0o755)
  const failed = await run(process.execPath, [LIVEOS, 'watch', stick, '--install', '--user', '--yes', '--json'], {
    env: { ...env, PATH: `${failing}:${process.env.PATH}` },
  }).catch(error => error)
  expect(failed.code).toBe(1)
  const { findings } = JSON.parse(failed.stdout)
  expect(findings[0]).toMatchObject({
    code: 'SYSTEMD_FAILED',
    remedy: "run 'systemctl --user daemon-reload' where systemd is running",
  })
})

const systemd = it.skipIf(!tool('systemd-analyze'))
systemd('systemd takes the units, for names of any kind', async () => {
  const { stick, liveos, units } = await fresh()
  const odd = join(stick, '..', `odd "n$me" 100% ü\\${count}`)
  await rename(stick, odd)
  expect(await liveos('watch', odd, '--install', '--user', '--yes', '--overlay', join(odd, OVERLAY))).toMatchObject({
    code: 0,
  })
  const files = (await readdir(units)).map(name => join(units, name))
  expect(files).toHaveLength(2)
  const { stdout, stderr } = await run('systemd-analyze', ['verify', ...files])
  expect(stdout + stderr).toBe('')
})

it.each(['\\', ' ', ' \\ '])('a name that ends in %j keeps the lines of its unit apart', async end => {
  const { stick, liveos, units } = await fresh()
  const odd = `${stick}${end}`
  await rename(stick, odd)
  expect(await liveos('watch', odd, '--install', '--user', '--yes')).toMatchObject({ code: 0 })
  const name = (await readdir(units)).find(found => found.endsWith('.service'))!
  const text = await readFile(join(units, name), 'utf8')
  expect(text).toContain(`\nConditionPathExists=${odd}/.\n`)
  // each line but that of the condition ends in what it ends in
  expect(text.split('\n').filter(line => /[\s\\]$/.test(line))).toEqual([])
  if (tool('systemd-analyze'))
    expect(await run('systemd-analyze', ['verify', join(units, name)])).toMatchObject({ stderr: '' })
})

// What serving costs: nbdcopy of a raw file from `liveos serve` beside nbdkit's file plugin, in turns.
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PATH } from './bench-images.mjs'

const MIB = 2 ** 20
const RUNS = 9
const TICKS = 100
const START_MS = 20_000
export const NBD_TARGET = 0.6

const env = { ...process.env, PATH }

/** A file without holes or zeros. */
const makeFile = async (path, size) => {
  if (existsSync(path) && statSync(path).size === size) return
  const file = await open(path, 'w')
  try {
    for (let at = 0; at < size; at += 16 * MIB) await file.write(randomBytes(16 * MIB), 0, 16 * MIB, at)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Seconds of CPU that a process has taken so far. */
const cpuOf = pid => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS
}

/** Starts a server and waits for its socket. */
const start = async ([program, ...args], socket) => {
  const child = spawn(program, args, { env, stdio: ['ignore', 'ignore', 'inherit'] })
  const ended = new Promise(resolve => child.once('close', resolve))
  for (const end = Date.now() + START_MS; !existsSync(socket); ) {
    if (child.exitCode !== null || Date.now() > end) throw new Error(`${program} did not start`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  return {
    pid: child.pid,
    stop: () => {
      child.kill('SIGTERM')
      return ended
    },
  }
}

/** Copies all of an export to nowhere; seconds of wall time, and of the server's CPU. */
const copy = (socket, { pid }) =>
  new Promise((resolve, reject) => {
    const before = cpuOf(pid)
    const from = process.hrtime.bigint()
    const child = spawn('nbdcopy', [`nbd+unix:///?socket=${socket}`, 'null:'], {
      env,
      stdio: ['ignore', 'inherit', 'inherit'],
    })
    child.once('error', reject)
    child.once('close', code => {
      const wall = Number(process.hrtime.bigint() - from) / 1e9
      if (code === 0) resolve({ wall, cpu: cpuOf(pid) - before })
      else reject(new Error(`nbdcopy ended with ${code}`))
    })
  })

const median = (runs, key) => runs.map(result => result[key]).sort((a, b) => a - b)[runs.length >> 1]

/**
 * Runs the part. `liveos` gives the command; `ratio` is the throughput as a part of nbdkit's.
 *
 * @returns {Promise<{ bytes: number, theirs: object, ours: object, ratio: number, target: number }>}
 */
export const benchNbd = async ({ dir, size, say, liveos }) => {
  mkdirSync(dir, { recursive: true })
  const image = join(dir, 'served.img')
  say(`a file of ${size / MIB} MiB to be served`)
  await makeFile(image, size)
  const sockets = mkdtempSync(join(tmpdir(), 'liveos-nbd-'))
  const [theirSocket, ourSocket] = ['nbdkit', 'liveos'].map(name => join(sockets, name))
  const running = []
  try {
    const theirs = await start(['nbdkit', '-f', '-r', '-U', theirSocket, 'file', image], theirSocket)
    running.push(theirs)
    const ours = await start(liveos('serve', '--base', image, '--socket', ourSocket), ourSocket)
    running.push(ours)
    const runs = { theirs: [], ours: [] }
    // The first of each is not counted: the file comes into the page cache, and code gets compiled.
    for (let n = 0; n <= RUNS; n++)
      for (const [who, socket, server] of [
        ['theirs', theirSocket, theirs],
        ['ours', ourSocket, ours],
      ]) {
        const result = await copy(socket, server)
        if (n > 0) runs[who].push(result)
      }
    const [their, our] = [runs.theirs, runs.ours].map(of => ({ wall: median(of, 'wall'), cpu: median(of, 'cpu') }))
    const ratio = their.wall / our.wall
    say(
      `nbdkit ${their.wall.toFixed(2)} s, liveos serve ${our.wall.toFixed(2)} s: ${ratio.toFixed(2)} of its throughput`,
    )
    return { bytes: size, theirs: their, ours: our, ratio, target: NBD_TARGET }
  } finally {
    for (const { stop } of running) await stop()
    rmSync(sockets, { recursive: true, force: true })
  }
}

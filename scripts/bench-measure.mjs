// Runs a program and says what it and all its children cost.
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

const SAMPLE_MS = 100
/** The kernel walks all pages of a process to tell its PSS: looking takes at most one part in so many of the time. */
const SAMPLE_SHARE = 50
/** In the first seconds, which are all that a short program has, it takes more: peaks would be missed. */
const FIRST_MS = 5000
const FIRST_SHARE = 5
const FIRST_SAMPLE_MS = 25
const TICKS = 100

/** Seconds of CPU and bytes written by all children that have ended and been waited for, and their children. */
const spent = () => {
  const stat = readFileSync('/proc/self/stat', 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const written = /^write_bytes: (\d+)/m.exec(readFileSync('/proc/self/io', 'utf8'))
  return { cpu: (Number(fields[13]) + Number(fields[14])) / TICKS, written: Number(written[1]) }
}

/** Seconds of CPU that all of the machine has spent. */
const busy = () => {
  const [user, nice, system, , , irq, softirq] = readFileSync('/proc/stat', 'utf8')
    .split('\n')[0]
    .match(/\d+/g)
    .map(Number)
  return (user + nice + system + irq + softirq) / TICKS
}

/** Starts looking; the function given back tells seconds of CPU, bytes written, and the share of the machine (0 to 1) that others took. */
export const observe = () => {
  const [before, busyBefore, start] = [spent(), busy(), performance.now()]
  return () => {
    const [after, all, wall] = [spent(), busy() - busyBefore, (performance.now() - start) / 1000]
    const cpu = after.cpu - before.cpu
    const others = Math.max(0, (all - cpu) / (wall * availableParallelism()))
    return { cpu, written: after.written - before.written, others }
  }
}

/** Memory of a process and its descendants in bytes: shared pages counted once (PSS), and as ps would add them up (RSS). */
const memoryOf = pid => {
  const children = new Map()
  for (const name of readdirSync('/proc')) {
    if (!/^\d/.test(name)) continue
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
      if (!children.has(parent)) children.set(parent, [])
      children.get(parent).push(Number(name))
    } catch {}
  }
  const total = { pss: 0, rss: 0 }
  for (const waiting = [pid]; waiting.length > 0; ) {
    const next = waiting.pop()
    waiting.push(...(children.get(next) ?? []))
    try {
      const text = readFileSync(`/proc/${next}/smaps_rollup`, 'utf8')
      total.pss += Number(/^Pss: +(\d+)/m.exec(text)[1]) * 1024
      total.rss += Number(/^Rss: +(\d+)/m.exec(text)[1]) * 1024
    } catch {}
  }
  return total
}

/**
 * Runs one program to its end; nothing else may be started meanwhile.
 *
 * @param codes  exit codes that are no failure
 * @returns seconds of CPU (user and system, whole tree), seconds of wall time, the share of the machine that other programs took
 *          meanwhile (0 to 1), peak bytes of memory, bytes written to the medium
 * @throws Error  it failed, with its last words
 */
export const measure = ([program, ...args], { env = process.env, codes = [0] } = {}) =>
  new Promise((resolve, reject) => {
    const observed = observe()
    const start = process.hrtime.bigint()
    const peak = { pss: 0, rss: 0 }
    let words = ''
    const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
    const keep = text => {
      words = (words + text).slice(-2000)
    }
    child.stdout.setEncoding('utf8').on('data', keep)
    child.stderr.setEncoding('utf8').on('data', keep)
    let timer
    const look = () => {
      const began = performance.now()
      const { pss, rss } = memoryOf(child.pid)
      peak.pss = Math.max(peak.pss, pss)
      peak.rss = Math.max(peak.rss, rss)
      const isFirst = Number(process.hrtime.bigint() - start) / 1e6 < FIRST_MS
      const took = performance.now() - began
      timer = setTimeout(
        look,
        Math.max(isFirst ? FIRST_SAMPLE_MS : SAMPLE_MS, took * (isFirst ? FIRST_SHARE : SAMPLE_SHARE)),
      )
    }
    timer = setTimeout(look, FIRST_SAMPLE_MS)
    let wall = 0
    child.on('exit', () => {
      wall = Number(process.hrtime.bigint() - start) / 1e9
      clearTimeout(timer)
    })
    child.on('error', error => {
      clearTimeout(timer)
      reject(error)
    })
    child.on('close', (code, signal) => {
      const { cpu, written, others } = observed()
      if (!codes.includes(code))
        return reject(new Error(`${program} ${args.join(' ')} ended with ${signal ?? code}:\n${words}`))
      resolve({
        cpu,
        wall,
        others,
        memory: peak.pss,
        rss: peak.rss,
        written,
        words,
      })
    })
  })

// Turns the benchmark's numbers into the tables of docs/PERFORMANCE.md.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'

const MIB = 2 ** 20
const START = '<!-- bench: from here to the end mark written by npm run bench -->'
const END = '<!-- bench: end -->'
const HEAD = `# How fast

What a refresh costs beside the usual way, measured by \`npm run bench\` on one machine. CPU seconds are the firm figures; wall
times move with what else the machine does.

${START}
${END}
`

const seconds = value => (value < 10 ? value.toFixed(2) : value.toFixed(1))
const mib = bytes => String(Math.round(bytes / MIB))
const share = value => `${Math.round(value * 100)} %`
const times = value => `${value.toFixed(1)} ×`

const table = (head, rows) => {
  const line = cells => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map((_, n) => (n === 0 ? '---' : '--:'))), ...rows.map(line)].join('\n')
}

const COST = ['CPU s', 'wall s', 'peak MiB', 'written MiB']
/** Above this share of the machine other programs have stretched a wall time. */
const DISTURBED = 0.1
const wallOf = ({ wall, others }) =>
  seconds(wall) + (others > DISTURBED ? ` (${Math.round(others * 100)} % others)` : '')
const cost = ({ cpu, wall, others, memory, rss, written }) => [
  seconds(cpu),
  wallOf({ wall, others }),
  `${mib(memory)} (${mib(rss)})`,
  mib(written),
]
const sum = (a, b) => ({
  cpu: a.cpu + b.cpu,
  wall: a.wall + b.wall,
  others: (a.others * a.wall + b.others * b.wall) / (a.wall + b.wall),
  memory: Math.max(a.memory, b.memory),
  rss: Math.max(a.rss, b.rss),
  written: a.written + b.written,
})

const where = ({ machine: { cpu, cores, memory, kernel, node, mksquashfs, mke2fs, date }, size }) =>
  `${date}: ${cpu}, ${cores} cores, ${Math.round(memory / 2 ** 30)} GiB, Linux ${kernel}, Node ${node.slice(1)}, mksquashfs ${mksquashfs}, mke2fs ${mke2fs}. Root filesystem of ${mib(size)} MiB, full of files of /usr. Files lie in the page cache. Where other programs took more than a tenth of the machine meanwhile, the wall time says so.`

const verdict = (value, target, better) => `${better(value, target) ? 'met' : '**missed**'}`
const atLeast = (value, target) => value >= target
const atMost = (value, target) => value <= target

const refreshPart = part => {
  const rows = []
  const targets = []
  for (const { form, label, whole, copy, rows: measured } of part.result) {
    const ratios = result => [times(whole.cpu / result.cpu), times(whole.wall / result.wall)]
    rows.push([`${label}: mksquashfs of all`, ...cost(whole), '1', '1'])
    const both = sum(copy, whole)
    rows.push([`${label}: copy, then mksquashfs`, ...cost(both), ...ratios(both)])
    for (const { percent, plain, verified } of measured) {
      rows.push([`${label}: refresh, ${percent} %, not verified`, ...cost(plain), ...ratios(plain)])
      rows.push([`${label}: refresh, ${percent} %, verified`, ...cost(verified), ...ratios(verified)])
    }
    const five = measured.find(({ percent }) => percent === 5)
    const add = (what, value, target) =>
      targets.push([`${label}, 5 %: ${what}`, `≥ ${target} ×`, times(value), verdict(value, target, atLeast)])
    if (form === 'xz') {
      add('less CPU, verified', whole.cpu / five.verified.cpu, 12)
      add('less wall time, verified', whole.wall / five.verified.wall, 8)
      add('less CPU, not verified', whole.cpu / five.plain.cpu, 15)
    }
    const peak = Math.max(...measured.flatMap(({ plain, verified }) => [plain.memory, verified.memory]))
    targets.push([`${label}: peak memory, any %`, '< 300 MiB', `${mib(peak)} MiB`, verdict(peak, 300 * MIB, atMost)])
  }
  return `## Refresh

${where(part)}

${table(['', ...COST, 'less CPU', 'less wall'], rows)}

The percentage is that of squashfs blocks which the overlay touches, holes not counted; a third of them as a whole, the others in
one to four chunks of 4 KiB. What mksquashfs and the copy cost does not depend on it, so both were measured once, on the root with 5 % changed. The copy is
made by \`liveos merge --no-verify\`. Peak memory is that of all processes together, shared pages counted once (in brackets: resident
sizes added up), looked at up to ten times a second. A refresh flushes what it writes and reads it back from the medium; mksquashfs does neither.

${table(['target', 'wanted', 'measured', ''], targets)}
`
}

const transcodePart = part => `## Transcode: every block compressed anew

${where(part)}

${table(
  ['', ...COST, 'wall beside mksquashfs', 'wanted'],
  part.result.flatMap(({ from, to, whole, ours, decoding }) => [
    [`mksquashfs, ${to}`, ...cost(whole), '1', ''],
    ...(decoding
      ? [
          [
            `expanding ${from} alone, ${share(decoding.cpu / ours.cpu)} of the next line's CPU`,
            ...cost(decoding),
            '',
            '',
          ],
        ]
      : []),
    [
      `refresh of ${from} to ${to}, not verified`,
      ...cost(ours),
      `${(ours.wall / whole.wall).toFixed(2)} ×`,
      `≤ 1.15 ×, ${verdict(ours.wall / whole.wall, 1.15, atMost)}`,
    ],
  ]),
)}

The refresh also expands the old image, which mksquashfs is spared: it starts from a raw file. What that takes at least stands in
lines of their own, where it was measured: a process that reads the merged root and drops it, its start included.
`

/** What a look at a squashed root takes beyond the same look at the raw one, a row each where both were measured. */
const beyondRaw = rows =>
  rows.flatMap(({ what, wall, cpu, decoding, raw: ofRaw }) => {
    const raw = decoding && rows.find(row => row.what === ofRaw)
    if (!raw) return []
    const beyond = wall - raw.wall
    const times = beyond / decoding.seconds
    return [
      [
        what,
        seconds(raw.wall),
        seconds(beyond),
        seconds(cpu - raw.cpu),
        seconds(decoding.seconds),
        `${times.toFixed(1)} ×`,
      ],
    ]
  })

const lookPart = part => `## Looking inside

${where(part)} For diff and usage a root of twice that size, squashed in blocks of 128 KiB, with two overlays of 300 MiB: files "written" anew and some removed by debugfs; files "rewritten" where they lie, a third of them as a whole, of others one to four chunks.

${table(
  ['', 'wall s', 'CPU s', 'peak MiB', 'decoding alone, s', 'wanted', ''],
  part.result.map(({ what, wall, cpu, memory, target, decoding, others }) => {
    const wanted = target ?? decoding.seconds * 1.5
    return [
      what,
      wallOf({ wall, others }),
      seconds(cpu),
      mib(memory),
      decoding ? `${seconds(decoding.seconds)} (${decoding.blocks} blocks, expanded ${decoding.total} times)` : '',
      `≤ ${seconds(wanted)}${decoding ? ' (1.5 ×)' : ''}`,
      verdict(wall, wanted, atMost),
    ]
  }),
)}

Whole processes, their start included. Decoding alone is what a pool of workers that runs already needs for the very blocks that the
same look expands, each once, from memory to memory: the quickest of three. The target for a squashed root counts the whole look
against that, Node's start, the reading of the overlay and the look at the raw root among it, which decodes nothing. This is what the
squashed root adds. It is no target of ours:

${table(['', 'raw root, wall s', 'beyond it, wall s', 'beyond it, CPU s', 'decoding alone, s', 'beyond by decoding'], beyondRaw(part.result))}
`

const copyPart = part => `## Copying trees out

${where(part)} ${part.result[0].files} files, ${mib(part.result[0].bytes)} MiB; medians of the runs, the quickest shown.

${table(
  ['', 'theirs, wall s', 'ours, wall s', 'theirs, CPU s', 'ours, CPU s', 'peak MiB', 'throughput', 'wanted', ''],
  part.result.map(({ from, tool, theirs, ours, throughput }) => [
    `cp -r out of ${from}, beside ${tool}`,
    wallOf(theirs),
    wallOf(ours),
    seconds(theirs.cpu),
    seconds(ours.cpu),
    mib(ours.memory),
    throughput.toFixed(2),
    '≥ 0.7, < 300 MiB',
    verdict(throughput >= 0.7 && ours.memory < 300 * MIB ? 1 : 0, 1, atLeast),
  ]),
)}
`

const readPart = part => `## Reading the merged root from front to back

${where(part)}

${table(
  ['', 'Node', 'unsquashfs -cat MiB/s', 'liveos MiB/s', 'CPU s, theirs', 'CPU s, ours', 'speed', 'wanted'],
  part.result.map(({ label, node, overlay, bytes, theirs, ours, target }) => {
    const speed = theirs.wall / ours.wall
    return [
      `${label}${overlay ? ', overlay 5 %' : ''}`,
      node.slice(1),
      mib(bytes / theirs.wall),
      mib(bytes / ours.wall),
      seconds(theirs.cpu),
      seconds(ours.cpu),
      speed.toFixed(2),
      target === null ? '' : `≥ ${target}, ${verdict(speed, target, atLeast)}`,
    ]
  }),
)}

Whole processes, the best of three runs; each form once without an overlay where none is named.
`

const statusPart = part => {
  const { first, median, slowest, others } = part.result
  const ms = value => `${Math.round(value * 1000)} ms`
  return `## Status of the sample stick

${part.machine.date}: a new process each time, median of 10: **${ms(median)}** (slowest ${ms(slowest)}, very first ${ms(first)}${others > DISTURBED ? `; others took ${Math.round(others * 100)} % of the machine` : ''}); wanted: under 250 ms, ${verdict(median, 0.25, atMost)}.
`
}

const overlayPart = part => `## Looking after an overlay

${where(part)} The root has twice that size, the overlay ${mib(part.result[0].overlayBytes)} MiB.

${table(
  ['', 'wall s', 'CPU s', 'peak MiB', 'wanted', ''],
  part.result.map(({ what, wall, cpu, memory, target, others }) => [
    what,
    wallOf({ wall, others }),
    seconds(cpu),
    mib(memory),
    target === null ? '' : `≤ ${target}`,
    target === null ? '' : verdict(wall, target, atMost),
  ]),
)}

Whole processes, their start included; of doctor the quickest of three.
`

const cowPart = part => `## Random writes into an overlay

${where(part)} 4 KiB each, every chunk once, a flush after each 64; the median of three turns.

${table(
  ['', 's', 'writes a second', 'time beside ours'],
  part.result.map(({ what, seconds: took, writesPerSecond }) => [
    what,
    seconds(took),
    String(Math.round(writesPerSecond)),
    times(took / part.result[0].seconds),
  ]),
)}

The kernel's is measured by its own clock in user-mode Linux, whose system calls are slow: take it as a hint.
`

const nbdPart = part => {
  const { bytes, theirs, ours, ratio, target } = part.result
  return `## Serving by NBD

${where(part)} nbdcopy of a raw file of ${mib(bytes)} MiB to nowhere; medians of nine turns.

${table(
  ['', 'wall s', 'CPU s of the server', 'throughput', 'wanted', ''],
  [
    ["nbdkit's file plugin", seconds(theirs.wall), seconds(theirs.cpu), '1', '', ''],
    [
      'liveos serve',
      seconds(ours.wall),
      seconds(ours.cpu),
      ratio.toFixed(2),
      `≥ ${target}`,
      verdict(ratio, target, atLeast),
    ],
  ],
)}
`
}

const SECTIONS = {
  refresh: refreshPart,
  transcode: transcodePart,
  read: readPart,
  look: lookPart,
  copy: copyPart,
  status: statusPart,
  overlay: overlayPart,
  cow: cowPart,
  nbd: nbdPart,
}

/** The tables of all parts that were measured, in Markdown. */
export const printed = results =>
  Object.entries(SECTIONS)
    .filter(([part]) => results[part])
    .map(([part, section]) => section(results[part]))
    .join('\n')

/** Puts the tables between the marks of the page, which is made where it is missing. */
export const writeReport = (path, results) => {
  const text = existsSync(path) ? readFileSync(path, 'utf8') : HEAD
  const [start, end] = [text.indexOf(START), text.indexOf(END)]
  if (start < 0 || end < start) throw new Error(`${path} has lost the marks of the benchmark`)
  writeFileSync(path, `${text.slice(0, start + START.length)}\n\n${printed(results)}\n${text.slice(end)}`)
}

// `npm start` shows the main job on a scratch copy of the sample stick; `npm start -- DIR` does it on the stick mounted at DIR.
import { spawnSync } from 'node:child_process'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { build, orExplain, ROOT } from './ready.mjs'
import { unpackSample } from './sample.mjs'

const directory = process.argv[2]
if (process.argv.length > 3 || directory?.startsWith('-')) {
  process.stderr.write(
    'usage: npm start [-- DIR]      DIR: where a LiveOS stick is mounted; without it, a sample stick is used\n',
  )
  process.exit(2)
}
orExplain(build)

const isSample = directory === undefined
// npm runs scripts in the checkout, INIT_CWD is where the person stands.
const stick = isSample
  ? await unpackSample(await mkdtemp(join(tmpdir(), 'liveos-sample-')))
  : resolve(process.env.INIT_CWD ?? process.cwd(), directory)
const liveos = join(ROOT, 'bin', 'liveos')

/** A word as a shell takes it. */
const word = text => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`)

/** Shows and runs one command. Exit status 1 means "done, and something needs your attention". */
const step = (heading, verb, options, expected) => {
  console.log(`\n=== ${heading}\n$ liveos ${[verb, stick, ...options].map(word).join(' ')}\n`)
  const { status, signal, error } = spawnSync(process.execPath, [liveos, verb, stick, ...options], { stdio: 'inherit' })
  if (status !== null && expected.includes(status)) return status
  const reason = error?.message ?? signal ?? `exit status ${status}`
  console.error(`\nliveos ${verb} ended with ${reason}; the steps after it were left out. The stick is at ${stick}`)
  process.exit(status === null || status === 0 ? 1 : status)
}

console.log(
  isSample
    ? `A sample stick, which a real Linux kernel has used for some weeks, now lies in ${stick}`
    : `The stick at ${stick}; nothing is changed before you say so.`,
)
step('The stick as it is', 'status', [], [0, 1])
step('What a refresh would do', 'refresh', ['--dry-run'], [0])
step('The refresh: the overlay is merged into a new image', 'refresh', isSample ? ['--yes'] : [], [0])
const verified = step('Every block read again', 'verify', [], isSample ? [0] : [0, 1])
const after = step('The stick after it', 'status', [], [0, 1])

const program = process.env.PATH?.split(':').includes(join(ROOT, 'bin')) ? 'liveos' : liveos
console.log(
  isSample
    ? `\nThe sample stays where it is, so you can go on: try \`${word(program)} merge ${word(stick)} --output ${word(`${stick}.img`)}\` for the whole system as one image.
With a stick of your own mounted, \`npm start -- /where/it/is\` does the same there, and asks before it writes.`
    : `\nThe stick has its whole overlay free again; \`${word(program)} status ${word(stick)}\` shows at any time how much is used.
\`${word(program)} merge ${word(stick)} --output FILE\` writes the system as one image, as a backup for example.`,
)
process.exitCode = Math.max(verified, isSample ? 0 : after)

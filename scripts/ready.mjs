// Makes a checkout ready, needs nothing but Node, and says nothing where nothing is to do.
//   node scripts/ready.mjs build|lint|judges
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { delimiter, isAbsolute, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

export const ROOT = fileURLToPath(new URL('..', import.meta.url))
const at = (...names) => join(ROOT, ...names)
const say = text => process.stderr.write(`${text}\n`)

/** A sentence for the person, no stack. */
class NotReady extends Error {}

const run = (program, args, env = process.env) => {
  const { status, error } = spawnSync(program, args, { cwd: ROOT, env, stdio: ['ignore', 2, 'inherit'] })
  if (error) say(`${program}: ${error.message}`)
  return status ?? 1
}
const runNode = (...args) => run(process.execPath, args)

const checkNode = () => {
  const wanted = /\d+\.\d+/.exec(JSON.parse(readFileSync(at('package.json'), 'utf8')).engines.node)[0]
  const [major, minor] = wanted.split('.').map(Number)
  const [hasMajor, hasMinor] = process.versions.node.split('.').map(Number)
  if (hasMajor < major || (hasMajor === major && hasMinor < minor))
    throw new NotReady(`Node ${wanted} or newer is needed, this is ${process.versions.node}`)
}

/** Runs `npm ci` where node_modules is missing or older than package-lock.json. */
export const installDependencies = () => {
  checkNode()
  const installed = at('node_modules', '.package-lock.json')
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(at('package-lock.json')).mtimeMs) return
  say('liveos: installing the packages of package-lock.json (npm ci) ...')
  const npm = process.env.npm_execpath
  // NODE_ENV=production would leave the compiler out.
  const env = { ...process.env, NODE_ENV: '' }
  const args = ['ci', '--include=dev']
  const status = npm?.endsWith('.js') ? run(process.execPath, [npm, ...args], env) : run('npm', args, env)
  if (status !== 0)
    throw new NotReady(`npm ci failed (status ${status}): see above; it needs the network, or a filled npm cache`)
}

/** What the build is made from, with times and sizes. */
const sources = () => {
  const files = readdirSync(at('src'), { recursive: true })
    .filter(name => String(name).endsWith('.ts'))
    .map(name => join('src', String(name)))
  const hash = createHash('sha256')
  const others = ['tsconfig.json', 'tsconfig.build.json', 'package-lock.json', join('scripts', 'bundle.mjs')]
  for (const name of [...files, ...others].sort()) {
    const { mtimeMs, size } = statSync(at(name))
    hash.update(`${name} ${mtimeMs} ${size}\n`)
  }
  return hash.digest('hex')
}

/** Builds dist/ from src/ where a source has changed since. The old dist/ stays until the new one is whole. */
export const build = () => {
  installDependencies()
  const stamp = at('.cache', 'built')
  const wanted = sources()
  if (existsSync(at('dist')) && existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return
  say('liveos: building dist/ ...')
  const fresh = at('.cache', `dist-${process.pid}`)
  mkdirSync(at('.cache'), { recursive: true })
  rmSync(fresh, { recursive: true, force: true })
  const status = runNode(at('node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json', '--outDir', fresh)
  if (status !== 0) {
    rmSync(fresh, { recursive: true, force: true })
    throw new NotReady('tsc found errors, so dist/ is as it was')
  }
  if (runNode(at('scripts/bundle.mjs'), fresh) !== 0) {
    rmSync(join(fresh, 'command'), { recursive: true, force: true })
    say('liveos: scripts/bundle.mjs failed, see above: the command works without, and only starts more slowly')
  }
  rmSync(at('dist'), { recursive: true, force: true })
  renameSync(fresh, at('dist'))
  writeFileSync(stamp, wanted)
}

/** Formatter and linter, types of sources and tests, typed rules. All run, whatever the first one finds. */
export const lint = () => {
  installDependencies()
  const failed = [
    ['biome', () => runNode(at('node_modules/@biomejs/biome/bin/biome'), 'check', '.')],
    ['tsc', () => runNode(at('node_modules/typescript/bin/tsc'), '-p', 'tsconfig.json')],
    ['eslint', () => runNode(at('node_modules/eslint/bin/eslint.js'), 'src')],
  ].filter(([, step]) => step() !== 0)
  if (failed.length > 0)
    throw new NotReady(`lint: ${failed.map(([name]) => name).join(', ')} found something, see above`)
}

const PATH = `${process.env.PATH ?? ''}${delimiter}/usr/sbin${delimiter}/sbin`

const isThere = program =>
  (isAbsolute(program) ? [program] : PATH.split(delimiter).map(folder => join(folder, program))).some(path => {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      return false
    }
  })

/** The packages of judges.json of which a program is missing. */
export const missingJudges = () =>
  Object.entries(JSON.parse(readFileSync(at('scripts', 'judges.json'), 'utf8')))
    .filter(([, programs]) => !programs.every(isThere))
    .map(([name]) => name)

/** Installs the programs that tests take as judges, or says what to install. Never fails: tests skip what they miss. */
export const installJudges = () => {
  const missing = missingJudges()
  if (missing.length === 0) return
  const command = `apt-get install --no-install-recommends ${missing.join(' ')}`
  if (process.getuid?.() === 0 && isThere('apt-get')) {
    say(`liveos: installing programs that the tests compare with (${command}) ...`)
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    run('apt-get', ['-qq', 'update'], env)
    if (
      run('apt-get', ['-qq', 'install', '-y', '--no-install-recommends', ...missing], env) === 0 &&
      missingJudges().length === 0
    )
      return
    // One package that this system doesn't have must not cost the others.
    for (const name of missingJudges()) run('apt-get', ['-qq', 'install', '-y', '--no-install-recommends', name], env)
  }
  const still = missingJudges()
  if (still.length === 0) return
  say(`liveos: tests that compare with other programs will be skipped. To have them all, as root on Debian or Ubuntu:`)
  say(`    apt-get install --no-install-recommends ${still.join(' ')}`)
}

const STEPS = { build, lint, judges: installJudges }

/** Runs `step`; a NotReady ends the program with its sentence. */
export const orExplain = step => {
  try {
    step()
  } catch (error) {
    if (!(error instanceof NotReady)) throw error
    say(`liveos: ${error.message}`)
    process.exit(1)
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(realpathSync(process.argv[1])).href) {
  const step = STEPS[process.argv[2]]
  if (step === undefined) {
    say('usage: node scripts/ready.mjs build|lint|judges')
    process.exit(2)
  }
  orExplain(step)
}

import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { oncePerRun } from './run-folder.js'
import { type Gate, gate, needTools } from './tools.js'

const UML = fileURLToPath(new URL('../kernel/uml.sh', import.meta.url))

const PROGRAMS = ['linux.uml', 'dmsetup', 'modprobe', 'losetup']

export interface KernelOptions {
  /** text of the bash script that runs as root in the guest: $DISKS, $OUT and $1 ... as uml.sh says */
  readonly script: string
  /** an empty or fresh directory of the caller's; everything is written below it */
  readonly scratch: string
  /** image files, /dev/ubda and so on in the guest */
  readonly disks?: readonly (string | { readonly path: string; readonly readOnly: boolean })[]
  readonly args?: readonly string[]
  /** until the guest is stopped; 120 */
  readonly seconds?: number
  /** the guest's memory in MiB, four fifths of it also its scratch space; 768 */
  readonly memory?: number
}

export interface KernelRun {
  /** the script's exit status */
  readonly rc: number
  /** what the script printed, both streams */
  readonly log: string
  /** the guest's $OUT */
  readonly outDir: string
}

/** Runs a script in the real kernel. Throws where the guest ends or runs out of time before its script does. */
export const runInKernel = async (options: KernelOptions): Promise<KernelRun> => {
  const { script, scratch, disks = [], args = [], seconds = 120, memory = 768 } = options
  const run = join(scratch, 'kernel')
  await mkdir(run, { recursive: true })
  const file = join(run, 'given')
  await writeFile(file, script)
  const diskArgs = disks.flatMap(disk => [
    '--disk',
    typeof disk === 'string' ? disk : `${disk.path}${disk.readOnly ? ',ro' : ''}`,
  ])
  const words = [UML, '--scratch', run, '--script', file, ...diskArgs]
  words.push('--mem', String(memory), '--seconds', String(seconds), '--', ...args)
  const { status, errors } = await bash(words)
  const text = (name: string): Promise<string> => readFile(join(run, name), 'utf8').catch(() => '')
  const log = await text('log')
  if (existsSync(join(run, 'rc'))) return { rc: status, log, outDir: join(run, 'out') }
  throw new Error(`${errors}\n${(await text('console.log')).split('\n').slice(-30).join('\n')}`)
}

const bash = (words: string[]): Promise<{ status: number; errors: string }> =>
  new Promise((resolve, reject) => {
    const child = spawn('bash', words, { stdio: ['ignore', 'ignore', 'pipe'] })
    let errors = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text
    })
    child.on('error', reject).on('close', status => resolve({ status: status ?? 125, errors }))
  })

/** Whether a guest kernel can be started here: looked for, then tried once. `reason` is a sentence, empty where it can. */
export const kernelAvailable = (): { readonly ok: boolean; readonly reason: string } => oncePerRun('kernel', probe)

const probe = (): { ok: boolean; reason: string } => {
  const { reason } = needTools(...PROGRAMS)
  if (reason !== undefined) return { ok: false, reason }
  const scratch = mkdtempSync(join(tmpdir(), 'liveos-kernel-'))
  try {
    const script = join(scratch, 'given')
    writeFileSync(script, 'dmsetup targets | grep -q ^snapshot')
    const words = [UML, '--scratch', scratch, '--script', script, '--seconds', '30']
    const { status, stderr } = spawnSync('bash', words, { encoding: 'utf8' })
    if (status === 0) return { ok: true, reason: '' }
    return {
      ok: false,
      reason: `needs a user-mode Linux kernel, which doesn't start here (${stderr.trim() || `status ${status}`})`,
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

/** The gate of tests that have the real kernel as judge, and these programs inside it. */
export const needKernel = (...names: string[]): Gate => {
  const tools = needTools(...PROGRAMS, ...names)
  if (tools.reason !== undefined) return tools
  const { ok, reason } = kernelAvailable()
  return gate(ok ? undefined : reason)
}

import { mkdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type BootOptions, type BootOutcome, type BootPlan, planBoot, startBoot } from '../../src/ops/boot.js'
import { run } from './run.js'

const GUEST = fileURLToPath(new URL('./guest', import.meta.url))
const OUT_MIB = 16
/** What dracut and systemd say where a boot can not go on. */
const EMERGENCY = /Entering emergency mode|Press Enter for (system )?maintenance/

/** What a machine is to do. */
export interface MachineOptions extends Omit<BootOptions, 'serial'> {
  /** bash, with `report`, `keep` and `files` of guest/report.sh at hand */
  readonly script: string
  /** an empty folder, or one that may be emptied */
  readonly folder: string
  /** until its power is cut */
  readonly seconds?: number | undefined
}

/** What it left. */
export interface MachineRun {
  readonly plan: BootPlan
  readonly outcome: BootOutcome
  /** of the script */
  readonly rc: number
  readonly log: string
  readonly seconds: number
  /** a file that the script left in $OUT */
  text(name: string): Promise<string>
}

/** A disk of the test's own, beside what `liveos boot` gives a machine. */
const disk = (file: string, serial: string, options: string): string[] => [
  '-drive',
  `if=none,id=${serial},format=raw,cache=unsafe,file=${file.replaceAll(',', ',,')}${options}`,
  '-device',
  `virtio-blk-pci,drive=${serial},serial=${serial}`,
]

/**
 * Boots a target by `liveos boot`, has the guest's agent run a script, and takes what it left. Throws, with the end of the
 * console, where the script did not come to its end.
 */
export const bootAndRun = async (target: string, options: MachineOptions): Promise<MachineRun> => {
  const { script, folder, seconds = 420, ...how } = options
  await rm(folder, { recursive: true, force: true })
  const given = join(folder, 'in')
  await mkdir(given, { recursive: true })
  await mkdir(join(folder, 'out'))
  const report = await readFile(join(GUEST, 'report.sh'), 'utf8')
  await writeFile(join(given, 'script'), `${report}\nset -eu\n${script}\n`)
  const [archive, result, console] = ['in.tar', 'out.img', 'console.log'].map(name => join(folder, name)) as [
    string,
    string,
    string,
  ]
  await run('tar', '-C', given, '-cf', archive, 'script')
  await writeFile(result, '')
  await truncate(result, OUT_MIB << 20)

  const plan = await planBoot({ target }, { memory: 2 ** 30, ...how, serial: true })
  const command = plan.command.map(word =>
    word.startsWith('stdio,id=console') ? `file,id=console,mux=on,path=${console.replaceAll(',', ',,')}` : word,
  )
  command.push(...disk(archive, 'test-in', ',readonly=on'), ...disk(result, 'test-out', ''), '-no-reboot')
  const began = Date.now()
  const running = await startBoot({ ...plan, serial: false, command })
  const end = (): void => void running.stop().catch(() => undefined)
  const late = setTimeout(end, seconds * 1000)
  // Nobody is there to press Enter.
  const watching = setInterval(() => {
    void readFile(console, 'latin1').then(
      text => (EMERGENCY.test(text) ? end() : undefined),
      () => undefined,
    )
  }, 2000)
  let outcome: BootOutcome
  try {
    outcome = await running.ended
  } finally {
    clearTimeout(late)
    clearInterval(watching)
  }
  const took = Math.round((Date.now() - began) / 1000)
  const text = (name: string): Promise<string> => readFile(join(folder, 'out', name), 'utf8')
  try {
    await run('tar', '-C', join(folder, 'out'), '-xf', result)
    const rc = Number(await text('rc'))
    return { plan, outcome, rc, log: await text('log').catch(() => ''), seconds: took, text }
  } catch (error) {
    const shown = (await readFile(console, 'latin1').catch(() => '')).split('\n').slice(-40).join('\n')
    throw new Error(`the guest's script did not come to its end in ${took} s (${String(error)})\n${shown}`)
  }
}

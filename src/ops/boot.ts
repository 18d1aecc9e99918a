import { copyFile } from 'node:fs/promises'
import { availableParallelism, freemem, totalmem } from 'node:os'
import { join } from 'node:path'
import type { Device } from '../block/device.js'
import { createFile, openWritableFile } from '../block/file.js'
import { openWritableSnapshot, type WritableSnapshot } from '../block/snapshot/writable.js'
import { LiveError, systemError } from '../error.js'
import type { Finding } from '../finding.js'
import { type Firmware, findFirmware, findQemu, findWindow, kvmWorks } from '../host/qemu.js'
import { type Machine, startMachine } from '../host/qemu-machine.js'
import { openTemporary, type TemporaryFolder } from '../host/temporary.js'
import { openSource, type Source } from '../liveos/source.js'
import type { TargetInput } from '../liveos/target.js'
import { MEDIUM_SOCKET, machineArguments, VARIABLES } from './boot-command.js'
import { type BootMenus, bootMenus, entryOf, type NumberedEntry, takeEntry } from './boot-entry.js'
import { bootFindings } from './boot-findings.js'
import { type BootMedium, checkFree, checkSameMedium, claim, findMedium, settle } from './boot-medium.js'
import { type ServeOutcome, type Serving, serveView } from './serve.js'
import { scratchSize } from './serve-scratch.js'

export interface BootOptions {
  /** writes go to the medium itself */
  readonly persist?: boolean | undefined
  /** what starts it; the one that its menus are for if left out, BIOS where both would do */
  readonly firmware?: 'bios' | 'uefi' | undefined
  /** a console in text on this process's standard input and output, in the place of a window; so too where none can be opened */
  readonly serial?: boolean | undefined
  /** number of a boot entry to start without the menu */
  readonly entry?: number | undefined
  /** words for the kernel, behind those of the entry */
  readonly args?: string | undefined
  /** bytes */
  readonly memory?: number | undefined
  readonly cpus?: number | undefined
  readonly accelerator?: 'kvm' | 'tcg' | undefined
  /** plugged in as a USB disk or put in as a CD; an image of a CD goes in as one if left out */
  readonly as?: 'usb' | 'cd' | undefined
  /** the machine reaches the network through this computer */
  readonly network?: boolean | undefined
}

/** What a test-drive would start; plain JSON. */
export interface BootPlan {
  readonly verb: 'boot'
  readonly target: string
  readonly medium: BootMedium & { readonly size: number; readonly as: 'usb' | 'cd' }
  readonly writesTo: 'none' | 'scratch' | 'stick'
  readonly firmware: 'bios' | 'uefi'
  readonly uefi: Firmware | null
  readonly accelerator: 'kvm' | 'tcg'
  /** bytes */
  readonly memory: number
  readonly cpus: number
  readonly serial: boolean
  /** the entry that is started; null: the medium's own menu */
  readonly entry: NumberedEntry | null
  /** all that could be */
  readonly entries: readonly NumberedEntry[]
  /** the emulator and its arguments, run in a temporary folder that holds the files it names */
  readonly command: readonly string[]
  readonly findings: readonly Finding[]
}

/** How a test-drive ended. */
export interface BootOutcome {
  readonly verb: 'boot'
  /** what the machine wrote: new chunks of the scratch overlay; null where it wrote to the stick, or could not write */
  readonly scratch: { readonly chunks: number; readonly bytes: number; readonly full: boolean } | null
  readonly findings: readonly Finding[]
}

/** A test-drive under way. */
export interface Running {
  /** of the emulator */
  readonly pid: number
  /** when the machine was turned off, or stopped, and all is put away. @throws IO, NO_SPACE */
  readonly ended: Promise<BootOutcome>
  /** Presses the power button, so that the system may shut down. False where the machine does not listen. */
  pressPower(): Promise<boolean>
  /** Cuts the power. */
  stop(): Promise<BootOutcome>
}

const MIB = 2 ** 20
const LEAST_MEMORY = 1024 * MIB
const MOST_MEMORY = 4096 * MIB

/** Half of what is free here, within what a live system needs and has use for; whole MiB. */
const usualMemory = (): number => Math.floor(Math.min(MOST_MEMORY, Math.max(LEAST_MEMORY, freemem() / 2)) / MIB) * MIB

/** Under emulation one: kernels take a second one that stands still at times for a dead one. */
const usualCpus = (accelerator: 'kvm' | 'tcg'): number =>
  accelerator === 'tcg' ? 1 : Math.min(4, availableParallelism())

const chooseAccelerator = async (qemu: string, wanted: BootOptions['accelerator']): Promise<'kvm' | 'tcg'> => {
  if (wanted === 'tcg') return 'tcg'
  const works = await kvmWorks(qemu)
  if (wanted === 'kvm' && !works)
    throw new LiveError(
      'NOT_FOUND',
      'KVM does not run here: /dev/kvm is missing, closed to you (join the group kvm) or without a processor behind it; leave --accelerator out',
    )
  return works ? 'kvm' : 'tcg'
}

/** The kernel's words: those of the entry, a console where there is one in text, and the user's. */
const commandLineOf = ({ arguments: words }: NumberedEntry, serial: boolean, { args }: BootOptions): string => {
  const hasConsole = /(^|\s)console=ttyS0\b/.test(words)
  return [words, serial && !hasConsole ? 'console=tty0 console=ttyS0,115200' : '', args ?? ''].filter(Boolean).join(' ')
}

const isCd = ({ kind, volumes }: Source): boolean => kind !== 'device' && volumes[0]?.type === 'iso9660'

const checkNumbers = ({ memory, cpus }: BootOptions): void => {
  if (memory !== undefined && memory < 64 * MIB)
    throw new LiveError('USAGE', 'a machine needs more memory than that: write --memory 2G')
  if (memory !== undefined && memory > totalmem())
    throw new LiveError(
      'USAGE',
      `a machine can't have more memory than this computer, which has ${Math.floor(totalmem() / MIB)} MiB`,
    )
  if (cpus !== undefined && !(Number.isInteger(cpus) && cpus >= 1 && cpus <= 255))
    throw new LiveError('USAGE', `${cpus} is no number of processors`)
}

/** @throws USAGE  options that contradict one another */
const checkOptions = (input: TargetInput, options: BootOptions): void => {
  if (input.base !== undefined)
    throw new LiveError(
      'USAGE',
      'a base image alone has nothing that boots: name the stick, its device or an image of it',
    )
  if (options.args !== undefined && options.entry === undefined)
    throw new LiveError('USAGE', '--args go to the kernel of an entry: add --entry N')
  if (options.persist && options.as === 'cd')
    throw new LiveError('USAGE', 'a CD can not be written: leave --persist or --as cd out')
  checkNumbers(options)
}

/** What is opened for a medium: of an address its plan has less than it takes. */
const openable = ({ kind, path }: BootMedium, target: string | undefined): string =>
  kind === 'url' ? (target ?? path) : path

const withSource = async <T>(name: string, work: (source: Source) => Promise<T>): Promise<T> => {
  const source = await openSource(name)
  try {
    return await work(source)
  } finally {
    await source.close()
  }
}

/** The firmware that the menus are for. */
const firmwareOf = ({ bios, uefi }: BootMenus, { firmware, entry }: BootOptions): 'bios' | 'uefi' =>
  firmware ?? (entry === undefined && uefi && !bios ? 'uefi' : 'bios')

/**
 * Plans a test-drive of a stick, disk, image or ISO in a virtual machine. Nothing is written and nothing started, but the
 * emulator is asked for what it can do.
 *
 * @throws NOT_FOUND  no such target or entry, or a file of it is not there; the emulator or a UEFI firmware is not installed
 * @throws USAGE, READ_ONLY, IO; REFUSED  `persist` on a medium that is in use, or that a verb was cut short on
 */
export const planBoot = async (input: TargetInput, options: BootOptions): Promise<BootPlan> => {
  checkOptions(input, options)
  const medium = await findMedium(input)
  const qemu = await findQemu()
  return withSource(openable(medium, input.target), async source => {
    const { size } = source.device!
    if (size === 0) throw new LiveError('NOT_FOUND', `${source.name} is empty`, { path: source.name })
    const as = options.as ?? (isCd(source) && !options.persist ? 'cd' : 'usb')
    if (options.persist) await checkFree(medium, source)
    const menus = await bootMenus(source, input.partition)
    const entry = options.entry === undefined ? null : entryOf(menus, options.entry, source.name)
    const firmware = firmwareOf(menus, options)
    const uefi = firmware === 'uefi' ? await findFirmware() : null
    const found = options.serial ? undefined : await findWindow(qemu)
    const screen = found && 'window' in found ? found.window : 'serial'
    const accelerator = await chooseAccelerator(qemu, options.accelerator)
    const { memory = usualMemory(), cpus = usualCpus(accelerator), network = false } = options
    const target = medium.kind === 'url' ? medium.path : (input.target ?? medium.path)
    const writesTo = options.persist ? 'stick' : as === 'cd' ? 'none' : 'scratch'
    const plan = {
      verb: 'boot' as const,
      target,
      medium: { ...medium, size, as },
      writesTo: writesTo as BootPlan['writesTo'],
      firmware,
      uefi,
      accelerator,
      memory,
      cpus,
      serial: screen === 'serial',
      entry,
      entries: menus.entries,
    }
    const kernel = entry
      ? { commandLine: commandLineOf(entry, plan.serial, options), initrd: entry.initrds.length > 0 }
      : undefined
    const words = machineArguments({
      ...plan,
      title: target,
      uefi: uefi ?? undefined,
      medium: as,
      screen,
      network,
      kernel,
    })
    return {
      ...plan,
      command: [qemu, ...words],
      findings: bootFindings(plan, source, menus, found && 'why' in found ? found : undefined),
    }
  })
}

/** What a machine needs while it runs, put away in the order opposite to that in which it came. */
interface Needs {
  add(close: () => Promise<unknown>): void
  close(): Promise<void>
}

const needs = (): Needs => {
  const list: (() => Promise<unknown>)[] = []
  return {
    add: close => void list.push(close),
    async close() {
      let failure: unknown
      for (let next = list.pop(); next; next = list.pop())
        await next().catch((error: unknown) => {
          failure ??= error
        })
      if (failure !== undefined) throw failure
    },
  }
}

/** The medium as the machine sees it. */
const openDisk = async (
  { medium, writesTo }: BootPlan,
  source: Source,
  folder: TemporaryFolder,
  held: Needs,
): Promise<{ device: Device; snapshot: WritableSnapshot | undefined }> => {
  const device = source.device!
  if (writesTo === 'none') return { device, snapshot: undefined }
  if (writesTo === 'stick') {
    const lock = await claim(medium)
    held.add(() => lock.release())
    const file = await openWritableFile(medium.path)
    held.add(() => file.close())
    return { device: file, snapshot: undefined }
  }
  const cow = await createFile(join(folder.path, 'writes.cow'), { mode: 0o600, exclusive: true })
  held.add(() => cow.close())
  await cow.truncate(scratchSize(device.size))
  const snapshot = await openWritableSnapshot(device, cow)
  return { device: snapshot, snapshot }
}

/** What a plan is carried out with. */
export interface StartOptions {
  readonly signal?: AbortSignal
  /** an address as it was given to `planBoot`: the plan has neither a password nor a query of it */
  readonly address?: string | undefined
}

/**
 * Starts a test-drive: serves the medium on a socket in a private folder and runs the emulator there.
 *
 * @throws REFUSED  the medium has changed since it was planned for, or is in use; NOT_FOUND, NO_SPACE, IO, CANCELLED
 */
export const startBoot = async (plan: BootPlan, { signal, address }: StartOptions = {}): Promise<Running> => {
  const { medium, entry, uefi, serial, findings } = plan
  const held = needs()
  let serving: Serving | undefined
  try {
    await checkSameMedium(medium)
    await settle(medium)
    const folder = await openTemporary('boot')
    held.add(() => folder.remove())
    const source = await openSource(openable(medium, address), signal)
    held.add(() => source.close())
    if (plan.writesTo === 'stick') await checkFree(medium, source)
    if (entry) await takeEntry(source, entry, folder.path, signal)
    if (uefi?.variables !== undefined) await copyVariables(uefi.variables, join(folder.path, VARIABLES))
    const { device, snapshot } = await openDisk(plan, source, folder, held)
    const view = { name: plan.target, device, snapshot, findings: [], preferredBlockSize: 4096, parts: [] }
    // Its own close would come before what is held here is put away; that happens when the machine has ended.
    serving = await serveView(
      { ...view, close: async () => void (await snapshot?.close()) },
      { socket: join(folder.path, MEDIUM_SOCKET) },
    )
    held.add(() => serving!.stop())
    if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped before the machine was started')
    const [qemu, ...words] = plan.command
    const machine = await startMachine(qemu!, words, { folder: folder.path, console: serial })
    return running(machine, serving, held, findings)
  } catch (error) {
    await held.close().catch(() => undefined)
    throw error
  }
}

const copyVariables = async (from: string, to: string): Promise<void> => {
  try {
    await copyFile(from, to)
  } catch (error) {
    throw systemError(error, `copying ${from}`)
  }
}

const running = (machine: Machine, serving: Serving, held: Needs, findings: readonly Finding[]): Running => {
  const finish = async (): Promise<BootOutcome> => {
    let outcome: ServeOutcome | undefined
    try {
      await machine.ended
    } finally {
      outcome = await serving.stop().catch(() => undefined)
      await held.close()
    }
    const met = outcome?.findings ?? []
    return { verb: 'boot', scratch: outcome?.store ?? null, findings: [...findings, ...met] }
  }
  const ended = finish()
  ended.catch(() => undefined)
  return {
    pid: machine.pid,
    ended,
    pressPower: () => machine.pressPower(),
    async stop() {
      await machine.stop()
      return ended
    },
  }
}

import { createHash } from 'node:crypto'
import { join, resolve } from 'node:path'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { marked, shellWord } from '../host/shell-word.js'
import {
  escapePath,
  execWord,
  readUnit,
  removeUnit,
  systemctl,
  type UnitScope,
  unitFolder,
  writeUnit,
} from '../host/systemd.js'
import type { TargetInput } from '../liveos/target.js'
import { LIVE } from './grow-live.js'
import { findGauge } from './watch-gauge.js'

/** What the timer runs. */
export interface InstallOptions {
  readonly scope: UnitScope
  /** seconds between two samples */
  readonly interval: number
  /** words of the command line that go with every sample, such as `--warn`, `70` */
  readonly words: readonly string[]
  readonly uninstall?: boolean | undefined
}

/** A unit's file, and what becomes of it. */
export interface UnitFile {
  readonly path: string
  /** what it is to hold; null: it is to go */
  readonly text: string | null
  readonly change: 'write' | 'rewrite' | 'remove' | 'none'
}

/** What is installed or removed; plain JSON. */
export interface InstallPlan {
  readonly verb: 'watch'
  readonly action: 'install' | 'uninstall'
  readonly scope: UnitScope
  /** what is watched; null: the running system */
  readonly target: string | null
  readonly timer: string
  readonly files: readonly UnitFile[]
  /** command lines, in order; those of removing run before the files go, but for the last */
  readonly commands: readonly (readonly string[])[]
}

export interface InstallOutcome extends Pick<InstallPlan, 'verb' | 'action' | 'scope' | 'timer'> {
  readonly files: readonly string[]
  readonly findings: readonly Finding[]
}

/** first line of our units: without it a file of the name is somebody else's */
const MARK = '# Written by liveos watch --install; liveos watch --uninstall takes it away.'

/** of a unit's name, so that it fits into a file name with its end */
const MOST_NAME = 200

const baseName = (target: string | undefined): string => {
  if (target === undefined) return 'liveos-watch'
  const name = `liveos-watch-${escapePath(target)}`
  return name.length <= MOST_NAME
    ? name
    : `liveos-watch-${createHash('sha256').update(target).digest('hex').slice(0, 16)}`
}

/**
 * The line by which a stick that is not there is passed over.
 *
 * WHY its end: a unit's line loses blanks there, and goes on behind a backslash.
 */
const conditionOf = (target: string, isDirectory: boolean): string => {
  const path = /[\s\\]$/.test(target) ? (isDirectory ? `${target}/.` : undefined) : target
  return path === undefined ? '' : `ConditionPathExists=${path.replaceAll('%', '%%')}\n`
}

const serviceText = (target: string | undefined, words: readonly string[], condition: string): string => {
  const program = join(import.meta.dirname, '..', '..', 'bin', 'liveos')
  const line = [process.execPath, program, 'watch', ...words, '--once', '--quiet']
  return `${MARK}
[Unit]
Description=Look how full the overlay of ${target === undefined ? 'this live system' : target.replaceAll('%', '%%')} is
${condition}
[Service]
Type=oneshot
ExecStart=${line.map(execWord).join(' ')}
# 1: it is done, and users were told
SuccessExitStatus=1
RuntimeDirectory=liveos
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
TimeoutStartSec=5min
Nice=15
IOSchedulingClass=idle
`
}

const timerText = (target: string | undefined, interval: number): string => `${MARK}
[Unit]
Description=Look now and then how full the overlay of ${target === undefined ? 'this live system' : target.replaceAll('%', '%%')} is

[Timer]
OnActiveSec=${Math.min(30, interval)}s
OnUnitActiveSec=${interval}s
AccuracySec=${Math.max(1, Math.min(60, Math.floor(interval / 10)))}s

[Install]
WantedBy=timers.target
`

const planned = async (path: string, text: string | null): Promise<UnitFile> => {
  const there = await readUnit(path)
  if (there !== undefined && !there.startsWith(MARK))
    throw new LiveError('REFUSED', `${path} is there, and not by liveos: it is neither replaced nor removed`, { path })
  const change =
    text === null
      ? there === undefined
        ? 'none'
        : 'remove'
      : there === undefined
        ? 'write'
        : there === text
          ? 'none'
          : 'rewrite'
  return { path, text, change }
}

/**
 * Plans a timer that looks at an overlay, or that it goes.
 *
 * @throws REFUSED  a unit of that name is somebody else's, or only root can look; NOT_FOUND, USAGE  there is nothing to watch
 */
export const planInstall = async (input: TargetInput, options: InstallOptions): Promise<InstallPlan> => {
  const { scope, interval, words, uninstall = false } = options
  const stick = input.target === LIVE || input.target === undefined ? undefined : resolve(input.target)
  const file = input.overlay ?? input.base
  const target = stick ?? (file === undefined ? undefined : resolve(file))
  if (/\p{Cc}/u.test([target, ...words].join('')))
    throw new LiveError('USAGE', 'a name with a line break or other control character can stand in no unit')
  if (!uninstall) await findGauge(input)
  const name = baseName(target)
  const folder = unitFolder(scope)
  const timer = `${name}.timer`
  const manager = scope === 'user' ? ['--user'] : []
  return {
    verb: 'watch',
    action: uninstall ? 'uninstall' : 'install',
    scope,
    target: target ?? null,
    timer,
    files: [
      await planned(
        join(folder, `${name}.service`),
        uninstall
          ? null
          : serviceText(
              target,
              stick === undefined ? words : [stick, ...words],
              target === undefined ? '' : conditionOf(target, stick !== undefined),
            ),
      ),
      await planned(join(folder, timer), uninstall ? null : timerText(target, interval)),
    ],
    commands: uninstall
      ? [
          ['systemctl', ...manager, 'disable', '--now', timer],
          ['systemctl', ...manager, 'daemon-reload'],
        ]
      : [
          ['systemctl', ...manager, 'daemon-reload'],
          ['systemctl', ...manager, 'enable', '--now', timer],
          // one that ran already takes a new interval only so
          ['systemctl', ...manager, 'restart', timer],
        ],
  }
}

/** Installs or removes the timer. What systemd does not take is a finding, with what to run. @throws REFUSED, READ_ONLY, IO */
export const runInstall = async (plan: InstallPlan): Promise<InstallOutcome> => {
  const findings: Finding[] = []
  const call = async (command: readonly string[]): Promise<void> => {
    const failure = await systemctl(command.slice(1))
    if (failure === undefined) return
    findings.push({
      code: 'SYSTEMD_FAILED',
      severity: 'warning',
      where: plan.timer,
      message: `${command.join(' ')}: ${failure.split('\n').at(-1)}`,
      remedy: `run ${marked(command.map(shellWord).join(' '))} where systemd is running`,
    })
  }
  const files: string[] = []
  for (const file of plan.files) await planned(file.path, file.text)
  const isInstall = plan.action === 'install'
  const changes = plan.files.filter(({ change }) => change !== 'none')
  if (!isInstall && changes.length > 0) await call(plan.commands[0]!)
  for (const { path, text } of changes) {
    if (text === null) await removeUnit(path)
    else await writeUnit(path, text)
    files.push(path)
  }
  if (isInstall) for (const command of plan.commands) await call(command)
  else if (changes.length > 0) await call(plan.commands[1]!)
  const { verb, action, scope, timer } = plan
  return { verb, action, scope, timer, files, findings }
}

import type { NamedTable } from '../block/table.js'
import { printTable } from '../block/table.js'
import { shellWord } from '../host/shell-word.js'

/**
 * What a root shell has to do for a view, one after another; plain JSON. A loop device has its name in the variable that its
 * step gives it, as `$base`, and tables name it by that.
 *
 * - `loop` makes a file, or a part of one, a block device
 * - `scratch` the same with a new file for writes that are to be thrown away
 * - `mount` mounts a filesystem to get at a file in it
 * - `table` makes a device of device-mapper
 */
export type TableStep = LoopStep | ScratchStep | MountStep | CreateStep

interface Step {
  /** what it is for, a few words */
  readonly why: string
}

export interface LoopStep extends Step {
  readonly kind: 'loop'
  readonly variable: string
  /** absolute, on this computer or below a mount of an earlier step */
  readonly path: string
  readonly readOnly: boolean
  /** bytes; null for all of the file */
  readonly part: { readonly offset: number; readonly size: number } | null
}

export interface ScratchStep extends Step {
  readonly kind: 'scratch'
  readonly variable: string
  /** where it is made, to be followed by a few letters of chance */
  readonly path: string
  /** bytes, all of them a hole */
  readonly size: number
}

export interface MountStep extends Step {
  readonly kind: 'mount'
  /** of the loop device */
  readonly variable: string
  readonly type: string
  readonly options: string
  /** made for it */
  readonly path: string
}

export interface CreateStep extends Step, NamedTable {
  readonly kind: 'table'
  readonly readOnly: boolean
}

/** The commands of a step. */
export const stepCommands = (step: TableStep): readonly string[] => {
  switch (step.kind) {
    case 'loop': {
      const { variable, path, readOnly, part } = step
      const options = [
        ...(readOnly ? ['--read-only'] : []),
        ...(part ? [`--offset ${part.offset}`, `--sizelimit ${part.size}`] : []),
      ]
      return [`${variable}=$(${['losetup --find --show', ...options, shellWord(path)].join(' ')})`]
    }
    case 'scratch': {
      const { variable, path, size } = step
      return [
        `${variable}_file=$(mktemp ${shellWord(path)}.XXXXXX)`,
        `truncate --size=${size} "$${variable}_file"`,
        `${variable}=$(losetup --find --show "$${variable}_file")`,
      ]
    }
    case 'mount': {
      const { variable, type, options, path } = step
      return [`mkdir ${shellWord(path)}`, `mount -t ${type} -o ${options} "$${variable}" ${shellWord(path)}`]
    }
    case 'table': {
      const { name, readOnly, lines } = step
      return [`dmsetup create ${name}${readOnly ? ' --readonly' : ''} --table "${printTable(lines).trimEnd()}"`]
    }
  }
}

/** The commands that take a step back. */
export const undoCommands = (step: TableStep): readonly string[] => {
  switch (step.kind) {
    case 'loop':
      return [`losetup -d $${step.variable}`]
    case 'scratch':
      return [`losetup -d $${step.variable}`, `rm $${step.variable}_file`]
    case 'mount':
      return [`umount ${shellWord(step.path)}`, `rmdir ${shellWord(step.path)}`]
    case 'table':
      return [`dmsetup remove ${step.name}`]
  }
}

/** All that undoes the steps, the last one first. */
export const undoAll = (steps: readonly TableStep[]): readonly string[] => [...steps].reverse().flatMap(undoCommands)

/**
 * The steps as a script for bash. It ends with telling how to undo it, the loop devices' names filled in.
 *
 * @param what    the view, a few words
 * @param device  what the last step makes
 */
export const tableScript = (what: string, target: string, name: string, steps: readonly TableStep[]): string => {
  const device = `/dev/mapper/${name}`
  const lines = [
    '#!/bin/bash',
    `# Makes ${device}: ${what}, of ${shellWord(target)}.`,
    '# Run it as root; it needs losetup, mount and dmsetup. Its end says how to undo it.',
    'set -euo pipefail',
    `if [ -e ${device} ]; then echo ${device} is there already >&2; exit 1; fi`,
  ]
  for (const step of steps) lines.push('', `# ${step.why}`, ...stepCommands(step))
  lines.push('', 'cat <<END', `The view is ${device}. To undo all of this, as root:`, '', ...undoAll(steps), 'END')
  return `${lines.join('\n')}\n`
}

import type { Command } from '@commander-js/extra-typings'
import { argument, bare, given, oneOf, TARGET } from './verb.js'
import { parseNumber, parseSize } from './words.js'

/** The verbs that start a target. */
export const bootVerbs = (done: (code: number) => void): readonly Command[] => [
  bare('boot', 'test-drive a stick, disk, image or ISO in a virtual machine (QEMU); the stick stays as it is', [
    'liveos boot /dev/sdb',
    'liveos boot fedora.iso --firmware uefi',
    'liveos boot stick.img --dry-run   # the entries, and the exact command',
    'liveos boot stick.img --entry 1 --serial --args rd.live.overlay.readonly',
    'liveos boot /dev/sdb --persist   # what the system writes stays',
  ])
    .argument('[target]', TARGET, given)
    .option('--entry <n>', 'start this boot entry without the menu; --dry-run numbers them', argument(parseNumber))
    .option('--args <words>', 'with --entry: more words for the kernel')
    .option('--firmware <name>', 'bios or uefi; the one that its menus are for, if left out', oneOf('bios', 'uefi'))
    .option('--serial', 'this terminal as a serial console, in the place of a window; so too where there is no screen')
    .option('--memory <size>', 'such as 2G; half of what is free, 1 to 4 GiB, if left out', argument(parseSize))
    .option('--cpus <n>', 'processors', argument(parseNumber))
    .option('--accelerator <name>', 'kvm or tcg; KVM where it runs, if left out', oneOf('kvm', 'tcg'))
    .option('--as <name>', 'usb or cd: how it is plugged in; an ISO goes in as a CD', oneOf('usb', 'cd'))
    .option('--network', 'let the machine reach the network')
    .option('--persist', 'let the machine write to the stick itself')
    .option('--dry-run', 'show what would be started')
    .option('--yes', 'do not ask')
    .option('--partition <n>', 'number the entries of this partition only', argument(parseNumber))
    .option('--json', 'print one JSON document and nothing else')
    .action(async (target, options) => {
      const { boot } = await import('./boot.js')
      const { partition, json, yes, dryRun, ...how } = options
      done(await boot({ target, partition }, how, { json, yes, dryRun }))
    }) as unknown as Command,
]

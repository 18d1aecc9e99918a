import type { Command } from '@commander-js/extra-typings'
import { argument, bare, given, TARGET } from './verb.js'
import { parseNumber } from './words.js'

/** The verb that predicts a boot. */
export const bootPlanVerb = (done: (code: number) => void): Command =>
  bare('boot-plan', 'predict what a boot does: which image and overlay it uses, why, and what is lost at power-off', [
    'liveos boot-plan /run/media/me/LIVE',
    'liveos boot-plan stick.img --entry 2',
    'liveos boot-plan /dev/sdb --args "rd.live.overlay.readonly"   # added behind the entry’s own',
    'liveos boot-plan live.iso --dracut 111 --json',
  ])
    .argument('[target]', TARGET, given)
    .option('--entry <entry>', 'number, id or title of an entry of the boot menu')
    .option('--args <arguments>', 'kernel arguments to add, as at the boot prompt')
    .option('--dracut <version>', "dracut's version in place of the one in the initrd", argument(parseNumber))
    .option('--partition <n>', 'partition whose boot menus count', argument(parseNumber))
    .option('--json', 'print one JSON document and nothing else')
    .action(async (target, options) => {
      const { bootPlan } = await import('./boot-plan.js')
      const { entry, args, dracut, partition } = options
      done(await bootPlan({ target, partition }, { entry, args, dracut }, options))
    }) as unknown as Command

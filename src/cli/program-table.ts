import { type Command, InvalidArgumentError } from '@commander-js/extra-typings'
import { verb, where } from './verb.js'

const tableVerb = (done: (code: number) => void) =>
  verb('table', 'print the losetup, mount and dmsetup commands by which a root shell gets the same view', [
    'liveos table /run/media/me/LIVE',
    'liveos table stick.img | sudo bash   # then /dev/mapper/liveos is the root filesystem',
    'liveos table stick.img --writable --name test   # the stick stays as it is',
    'liveos table /run/media/me/LIVE --persist   # writes go into its overlay',
    'liveos table --base squashfs.img --overlay overlay-LIVE-1A2B-3C4D --json',
  ])
    .option('--base-only', 'leave the overlay out')
    .option('--writable', 'a device that can be written, into a scratch overlay that is thrown away')
    .option('--persist', 'a device that can be written, into the overlay of the stick')
    .option('--name <name>', 'of the device below /dev/mapper (liveos)')
    .action(async (target, options) => {
      const { writable, persist, name, json } = options
      if (writable && persist)
        throw new InvalidArgumentError('--persist writes into the stick, --writable beside it: choose one.')
      const { table } = await import('./table.js')
      done(
        await table(
          where(target, options),
          { writesTo: persist ? 'overlay' : writable ? 'scratch' : 'none', name },
          { json },
        ),
      )
    })

/** The verb that shows how the kernel would do it. */
export const tableVerbs = (done: (code: number) => void): readonly Command[] =>
  [tableVerb(done)] as unknown as readonly Command[]

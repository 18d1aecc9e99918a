import type { Command } from '@commander-js/extra-typings'
import { argument, MOUNTED, verb, where } from './verb.js'
import { parseSize } from './words.js'

/** A size, or `+` or `-` and by how much; bytes. @throws USAGE */
export const parseSizeChange = (text: string): number | { readonly by: number } =>
  /^[+-]/.test(text) ? { by: (text[0] === '-' ? -1 : 1) * parseSize(text.slice(1)) } : parseSize(text)

const OVERLAY = `${MOUNTED}, an overlay file itself, or the word live for the running system`

const growVerb = (done: (code: number) => void) =>
  verb(
    'grow',
    'give the overlay more room, or less where it can spare some; what it holds stays',
    [
      'liveos grow /run/media/me/LIVE --size +256M --dry-run',
      'liveos grow /run/media/me/LIVE --size 1G',
      'liveos grow /run/media/me/LIVE --fill   # room for all of a sparse overlay is taken now',
      'liveos grow --base rootfs.img --overlay overlay.img --size 512M',
      'liveos grow live --size +512M   # the overlay of the running system, as root, before it is full',
    ],
    OVERLAY,
  )
    .option(
      '--size <size>',
      'the size it is to have, such as 512M or 2G; +256M for so much more, -64M for so much less',
      argument(parseSizeChange),
    )
    .option('--fill', 'write zeros into the holes of the overlay file, so that the stick can never run out under it')
    .option('--dry-run', 'show the plan and change nothing')
    .option('--yes', 'do not ask')
    .action(async (target, options) => {
      const { grow } = await import('./grow.js')
      done(await grow(where(target, options), { size: options.size, fill: options.fill }, options))
    })

const compactVerb = (done: (code: number) => void) =>
  verb(
    'compact',
    'write the overlay anew without what equals the base or is free in the root filesystem; the system stays as it is',
    [
      'liveos compact /run/media/me/LIVE --dry-run   # how much it would give back',
      'liveos compact /run/media/me/LIVE',
      'liveos compact /run/media/me/LIVE --stage /var/tmp   # no room for both overlays',
      'liveos compact /run/media/me/LIVE --size 128M',
    ],
    MOUNTED,
  )
    .option('--size <size>', 'size of the new overlay; +64M or -64M against the old one', argument(parseSizeChange))
    .option('--stage <dir>', 'folder elsewhere for the new overlay, where the stick has no room for both')
    .option('--no-trim', 'keep what the root filesystem has free')
    .option('--dry-run', 'show the plan and change nothing')
    .option('--yes', 'do not ask')
    .action(async (target, options) => {
      const { compact } = await import('./compact.js')
      const { size, stage, trim } = options
      done(await compact(where(target, options), { size, stage, trim }, options))
    })

/** The verbs that change the overlay's file and keep what it holds. */
export const overlayVerbs = (done: (code: number) => void): readonly Command[] =>
  [growVerb(done), compactVerb(done)] as unknown as readonly Command[]

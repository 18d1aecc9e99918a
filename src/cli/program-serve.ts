import { type Command, InvalidArgumentError } from '@commander-js/extra-typings'
import { ANY, argument, bare, given, oneOf, verb, where } from './verb.js'
import { parseNumber } from './words.js'

const PART = 'root, base (without the overlay), home, medium (the stick’s own filesystem) or overlay (the store itself)'

const part = oneOf('root', 'base', 'home', 'medium', 'overlay')

interface Writes {
  readonly writable?: boolean | undefined
  readonly persist?: boolean | undefined
  readonly scratch?: string | undefined
  readonly baseOnly?: boolean | undefined
  readonly part?: ReturnType<typeof part> | undefined
}

/** Which view is meant, and where its writes go. */
const choiceOf = ({ writable, persist, scratch, baseOnly, part: named }: Writes) => {
  if (persist && (writable || scratch !== undefined))
    throw new InvalidArgumentError('--persist writes into the stick, --writable and --scratch beside it: choose one.')
  if (baseOnly && named !== undefined && named !== 'base')
    throw new InvalidArgumentError('--base-only is --part base: leave one of them out.')
  const writesTo = persist
    ? ('overlay' as const)
    : writable || scratch !== undefined
      ? ('scratch' as const)
      : ('none' as const)
  return { part: baseOnly ? ('base' as const) : (named ?? ('root' as const)), writesTo, scratch }
}

const serveVerb = (done: (code: number) => void) =>
  verb('serve', 'serve the root filesystem, or another part, as a disk to other programs (NBD)', [
    'liveos serve /run/media/me/LIVE',
    'liveos serve https://example.org/live.iso --base-only --socket /tmp/live.sock',
    'liveos serve stick.img --writable --exit-with-last   # the stick stays as it is',
    'liveos serve /run/media/me/LIVE --persist   # clients write into its overlay',
    'liveos serve stick.img --port 10809 --tls-cert cert.pem --tls-key key.pem',
  ])
    .option('--part <name>', PART, part)
    .option('--base-only', 'leave the overlay out')
    .option('--writable', 'let clients write, into a scratch overlay that is thrown away')
    .option('--scratch <file>', 'the same, into a store file that stays')
    .option('--persist', 'let clients write into the overlay of the stick')
    .option('--socket <path>', 'where to make the Unix socket; in a private temporary directory without it')
    .option('--port <n>', 'serve by TCP on this port of 127.0.0.1; 0 takes one that is free', argument(parseNumber))
    .option('--bind <address>', 'with --port: another address, where other computers may reach it')
    .option('--tls-cert <file>', 'certificate (PEM); clients without TLS get nothing then')
    .option('--tls-key <file>', 'its key (PEM)')
    .option('--tls-ca <file>', 'authority (PEM) that clients need a certificate of')
    .option('--exit-with-last', 'end when the last client has gone')
    .option('--dry-run', 'show what would be served')
    .option('--yes', 'do not ask')
    .action(async (target, options) => {
      const { socket, port, bind, tlsCert, tlsKey, tlsCa } = options
      if ((tlsCert === undefined) !== (tlsKey === undefined) || (tlsCa !== undefined && tlsCert === undefined))
        throw new InvalidArgumentError('--tls-cert and --tls-key go together, and --tls-ca with them.')
      const tls = tlsCert !== undefined && tlsKey !== undefined ? { cert: tlsCert, key: tlsKey, ca: tlsCa } : undefined
      const { serve } = await import('./serve.js')
      const { baseOnly: _, ...named } = options
      done(
        await serve(
          where(target, named),
          choiceOf(options),
          { socket, port, bind, tls, once: options.exitWithLast },
          options,
        ),
      )
    })

const mountVerb = (done: (code: number) => void) =>
  bare('mount', 'mount the root filesystem as the booted system sees it, or another part; the stick stays as it is', [
    'liveos mount /run/media/me/LIVE mnt',
    'liveos mount stick.img mnt --part home',
    'liveos mount stick.img mnt --writable   # what is written is thrown away by umount',
    'liveos mount /run/media/me/LIVE mnt --persist   # writes go into its overlay',
    'liveos mount fedora.iso mnt --file   # the image itself, as mnt/nbd',
  ])
    .argument('<target>', ANY, given)
    .argument('<mountpoint>', 'an empty directory')
    .option('--part <name>', PART, part)
    .option('--base-only', 'leave the overlay out')
    .option('--file', 'the image itself as MOUNTPOINT/nbd, and not the files in it')
    .option('--writable', 'writable, into a scratch overlay that umount throws away')
    .option('--scratch <file>', 'the same, into a store file that stays')
    .option('--persist', 'writable, into the overlay of the stick')
    .option('--dry-run', 'show what would be mounted, and how')
    .option('--yes', 'do not ask')
    .option('--image <dir>', 'live directory, where a stick holds several images')
    .option('--partition <n>', 'partition, where several hold a live system', argument(parseNumber))
    .option('--overlay <file>', 'overlay elsewhere than the stick keeps it')
    .option('--json', 'print one JSON document and nothing else')
    .action(async (target, mountPoint, options) => {
      const { mount } = await import('./mount.js')
      const { baseOnly: _, ...named } = options
      done(await mount(where(target, named), mountPoint, { ...choiceOf(options), file: options.file }, options))
    })

const umountVerb = (done: (code: number) => void) =>
  bare('umount', 'undo a liveos mount, and wait until what was written is on the medium', ['liveos umount mnt'])
    .argument('<mountpoint>', 'where it is mounted')
    .option('--json', 'print one JSON document and nothing else')
    .action(async (mountPoint, options) => {
      const { umount } = await import('./mount.js')
      done(await umount(mountPoint, options))
    })

/** The verbs that show a target to other programs. */
export const serveVerbs = (done: (code: number) => void): readonly Command[] =>
  [serveVerb(done), mountVerb(done), umountVerb(done)] as unknown as readonly Command[]

import { LiveError } from '../error.js'
import type { TargetInput } from '../liveos/target.js'
import type { Layer } from '../liveos/view.js'

/**
 * What can be exported as bytes: the views of `Layer` (`root` with the overlay, `base` without, `home` image, `medium` the
 * stick's own partition), and `overlay`, the store itself as it lies on the stick.
 */
export type ExportLayer = Layer | 'overlay'

/** A view to be exported; plain JSON, so that another process can open it. */
export interface ExportDescription {
  readonly input: TargetInput
  readonly layer: ExportLayer
  /** show what an overlay still holds that the kernel has given up */
  readonly ignoreInvalid?: boolean | undefined
  /**
   * Path of a store file that takes all writes, by `openWritableSnapshot` over the view: read-only without it. Where there
   * is no such file, an empty store is made, sparse and with room for every chunk. It stays there at the end, flushed, for
   * `readStore` and `snapshot` with the same view as origin.
   */
  readonly scratch?: string | undefined
}

/** An export in a process of its own. It ends when this process does. */
export interface RunningExport {
  readonly pid: number
  /** absolute path of its Unix socket, mode 0600 in a private directory */
  readonly socket: string
  /** such as `nbd+unix:///?socket=/tmp/liveos-x/nbd.sock` */
  readonly uri: string
  /** bytes of the exported view */
  readonly size: number
  /**
   * Flushes, closes the view and the scratch store and ends the process. May be called again.
   *
   * @throws IO, NO_SPACE  the last flush failed, or the process was gone before
   */
  stop(): Promise<void>
}

/** An export as a file or block device of this computer, for programs such as e2fsck that know no NBD. */
export interface ExportFile {
  readonly path: string
  readonly by: 'nbdfuse' | 'kernel nbd'
  /** Takes the mount away; the export itself goes on. @throws IO */
  stop(): Promise<void>
}

/**
 * Starts an export in a process of its own: what uses the view through a mount must never wait for this process.
 *
 * @throws NOT_FOUND, USAGE, CORRUPT, UNSUPPORTED, IO  as opening the view throws them, there
 */
export const startExport = async (
  _description: ExportDescription,
  _options: { readonly signal?: AbortSignal } = {},
): Promise<RunningExport> => {
  throw new LiveError('IO', 'not built yet')
}

/**
 * Gives a running export a path: by nbdfuse, or as root by the kernel's nbd. Undefined where this computer can do neither.
 * Touch what is below the path only from other programs, never from this process.
 */
export const openExportFile = async (_running: RunningExport): Promise<ExportFile | undefined> => undefined

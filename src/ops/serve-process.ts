import { type ErrorCode, type ErrorData, LiveError } from '../error.js'
import { startNode } from '../host/node-process.js'
import type { ServeOutcome } from './serve.js'
import type { ExportDescription } from './serve-view.js'

export type { ExportDescription, ExportLayer } from './serve-view.js'

/** What the process of an export is told. */
export type ServeRequest =
  | {
      readonly kind: 'start'
      readonly description: ExportDescription
      /** it ends after its last client */
      readonly once: boolean
    }
  | { readonly kind: 'open file'; readonly mountPoint: string | undefined; readonly readOnly: boolean }
  | { readonly kind: 'close file' }
  | { readonly kind: 'release'; readonly resultPath: string }
  | { readonly kind: 'stop' }

/** What it answers. */
export type ServeAnswer =
  | { readonly kind: 'started'; readonly uri: string; readonly socket: string; readonly size: number }
  | { readonly kind: 'file'; readonly file: Omit<ExportFile, 'stop'> | null }
  | { readonly kind: 'released' }
  | { readonly kind: 'file closed' }
  | { readonly kind: 'stopped'; readonly outcome: ServeOutcome | null }
  | {
      readonly kind: 'failed'
      readonly error: { readonly code: ErrorCode | 'BUG'; readonly message: string; readonly data?: ErrorData }
    }

/** An export in a process of its own. It ends when this process does, unless it was released. */
export interface RunningExport {
  readonly pid: number
  /** absolute path of its Unix socket, mode 0600 in a private directory */
  readonly socket: string
  /** such as `nbd+unix:///?socket=/tmp/liveos-x/nbd.sock` */
  readonly uri: string
  /** bytes of the exported view */
  readonly size: number
  /** as `openExportFile` */
  openFile(place?: FilePlace): Promise<ExportFile | undefined>
  /**
   * Takes its file away, flushes, closes the view and the scratch store and ends the process. May be called again.
   *
   * @throws IO, NO_SPACE  the last flush failed, or the process was gone before
   */
  stop(): Promise<ServeOutcome | null>
  /**
   * Lets it go on when this process ends; by SIGTERM it ends as by `stop`, with `once` also after its last client.
   *
   * @param resultPath  file that it writes its last answer to, as JSON
   */
  release(resultPath: string): Promise<void>
}

/** An export as a file or block device of this computer, for programs such as e2fsck that know no NBD. */
export interface ExportFile {
  readonly path: string
  readonly by: 'nbdfuse' | 'kernel nbd'
  /** of nbdfuse: its process, and where it is mounted */
  readonly pid: number | undefined
  readonly mountPoint: string | undefined
  /** Takes the mount away; the export itself goes on. @throws IO */
  stop(): Promise<void>
}

/** Where the file of an export is to be. */
export interface FilePlace {
  /** an empty directory for nbdfuse, a temporary one if left out */
  readonly mountPoint?: string | undefined
  readonly readOnly?: boolean | undefined
}

/** The compiled module; from source, as tests run, the one that the build left in dist. */
const childUrl = (): URL =>
  new URL(import.meta.url.endsWith('.ts') ? '../../dist/ops/serve-child.js' : '../ops/serve-child.js', import.meta.url)

/** @throws  what failed there */
const checked = (answer: unknown): Exclude<ServeAnswer, { kind: 'failed' }> => {
  const told = answer as ServeAnswer
  if (told.kind !== 'failed') return told
  const { code, message, data } = told.error
  throw code === 'BUG' ? new Error(message) : new LiveError(code, message, data)
}

/**
 * Starts an export in a process of its own: what uses the view through a mount must never wait for this process.
 *
 * @throws NOT_FOUND, USAGE, CORRUPT, UNSUPPORTED, IO  as opening the view throws them, there; CANCELLED
 */
export const startExport = async (
  description: ExportDescription,
  {
    signal,
    once = false,
    script = childUrl(),
  }: {
    readonly signal?: AbortSignal
    /** it ends by itself after its last client */
    readonly once?: boolean
    readonly script?: URL
  } = {},
): Promise<RunningExport> => {
  const request: ServeRequest = { kind: 'start', description, once }
  const child = await startNode(script, request, signal)
  const started = checked(child.first)
  if (started.kind !== 'started') throw new LiveError('IO', 'the process of an export said nothing of use')
  let stopping: Promise<ServeOutcome | null> | undefined
  const stop = async (): Promise<ServeOutcome | null> => {
    const stopped = checked(await child.ask({ kind: 'stop' } satisfies ServeRequest))
    await child.ended
    return stopped.kind === 'stopped' ? stopped.outcome : null
  }
  const { uri, socket, size } = started
  return {
    pid: child.pid,
    uri,
    socket,
    size,
    async openFile({ mountPoint, readOnly = false } = {}) {
      const opened = checked(await child.ask({ kind: 'open file', mountPoint, readOnly } satisfies ServeRequest))
      if (opened.kind !== 'file' || !opened.file) return undefined
      return {
        ...opened.file,
        stop: async () => void checked(await child.ask({ kind: 'close file' } satisfies ServeRequest)),
      }
    },
    stop: () => (stopping ??= stop()),
    async release(resultPath) {
      checked(await child.ask({ kind: 'release', resultPath } satisfies ServeRequest))
      child.release()
    },
  }
}

/**
 * Gives a running export a path: by nbdfuse, or as root by the kernel's nbd. Undefined where this computer can do neither.
 * The export's own process starts it and takes it away again at its end, also where this process was killed. Touch what is
 * below the path only from other programs, never from this process.
 *
 * @throws IO
 */
export const openExportFile = (running: RunningExport, place?: FilePlace): Promise<ExportFile | undefined> =>
  running.openFile(place)

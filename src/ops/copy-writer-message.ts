import type { WriteResult, WriteTask } from './copy-write.js'

/** The last message to the thread that writes: it ends by itself. */
export const WRITER_END = 'end'
/** Its first message: it can be given tasks. */
export const WRITER_READY = 'ready'

/** Words that both threads see: 1 once nothing new is to be begun, and how many tasks were begun since the start. */
export const STOP = 0
export const BEGUN = 1

/** What the thread gets at its start. */
export interface WriterData {
  readonly stop: Int32Array
}

/** Inodes put into directories where files may be replaced, by the directories' numbers. */
export type MadeIn = Map<number, Set<bigint>>

/** Tasks in a row. What is in them often goes in columns: to copy an object for each costs more than the file's system calls. */
export interface WriteBatch {
  /** bytes of all files, one behind the other, each from a whole word on */
  readonly data: ArrayBuffer
  /** directory, part, name and target of each */
  readonly strings: readonly string[]
  /** `COLUMNS` of each */
  readonly numbers: Float64Array
  /** directories that were let go of */
  readonly forget: readonly number[]
  /** what is known when the thread takes over */
  readonly made?: MadeIn
}

export interface WriteReply {
  /** for the next batch */
  readonly data: ArrayBuffer
  /** 0 where it is done and nothing else is to be told */
  readonly results: readonly (WriteResult | 0)[]
}

/** Where the next file's bytes stand: V8 copies out of shared memory by words where both sides lie alike in one, else by bytes. */
export const inWords = (offset: number): number => Math.ceil(offset / 8) * 8

const STRINGS = 4
const COLUMNS = 8
const KINDS: readonly WriteTask['kind'][] = ['file', 'symlink', 'made']
const FLAG = { fresh: 1, overwrite: 2, tellInode: 4, free: 8, hasMode: 16 } as const
const NONE = -1

/** Packs tasks, with bytes of each file. */
export const packTasks = (
  tasks: readonly { readonly task: WriteTask; readonly size: number }[],
): Pick<WriteBatch, 'strings' | 'numbers'> => {
  const strings: string[] = []
  const numbers = new Float64Array(tasks.length * COLUMNS)
  for (const [n, { task, size }] of tasks.entries()) {
    const { kind, place, directory, part, name, target, owner, mode, time } = task
    strings.push(directory, part, name, target)
    const flags =
      (task.isFresh ? FLAG.fresh : 0) |
      (task.isFree ? FLAG.free : 0) |
      (task.overwrite ? FLAG.overwrite : 0) |
      (task.hasMode ? FLAG.hasMode : 0) |
      (task.tellInode ? FLAG.tellInode : 0)
    numbers.set(
      [KINDS.indexOf(kind), place, size, flags, owner?.uid ?? NONE, owner?.gid ?? NONE, mode ?? NONE, Number(time)],
      n * COLUMNS,
    )
  }
  return { strings, numbers }
}

/** The tasks again, and how many bytes each file has. */
export function* unpackTasks({
  strings,
  numbers,
}: Pick<WriteBatch, 'strings' | 'numbers'>): Iterable<{ task: WriteTask; size: number }> {
  for (let n = 0; n * COLUMNS < numbers.length; n++) {
    const at = n * COLUMNS
    const column = (which: number): number => numbers[at + which]!
    const [flags, uid, mode, time] = [column(3), column(4), column(6), column(7)]
    const [directory, part, name, target] = strings.slice(n * STRINGS, (n + 1) * STRINGS) as [
      string,
      string,
      string,
      string,
    ]
    yield {
      size: column(2),
      task: {
        kind: KINDS[column(0)]!,
        place: column(1),
        directory,
        part,
        name,
        target,
        isFresh: (flags & FLAG.fresh) !== 0,
        isFree: (flags & FLAG.free) !== 0,
        overwrite: (flags & FLAG.overwrite) !== 0,
        tellInode: (flags & FLAG.tellInode) !== 0,
        owner: uid === NONE ? undefined : { uid, gid: column(5) },
        mode: mode === NONE ? undefined : mode,
        hasMode: (flags & FLAG.hasMode) !== 0,
        // as hostTime gives it
        time: time < 0 ? time.toFixed(7) : time,
      },
    }
  }
}

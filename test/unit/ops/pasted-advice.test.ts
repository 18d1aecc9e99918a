import { truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { exceptionOffset } from '../../../src/block/snapshot/layout.js'
import { noticeOf } from '../../../src/cli/watch.js'
import { isLiveError } from '../../../src/error.js'
import type { Finding } from '../../../src/finding.js'
import { openFolder } from '../../../src/host/folder.js'
import { findTarget, type WritableTarget } from '../../../src/liveos/target.js'
import { openView } from '../../../src/liveos/view.js'
import { planBackup } from '../../../src/ops/backup.js'
import { planCompact } from '../../../src/ops/compact.js'
import { runDoctor } from '../../../src/ops/doctor.js'
import { planGrow } from '../../../src/ops/grow.js'
import { planMerge } from '../../../src/ops/merge.js'
import { planMergeInPlace } from '../../../src/ops/merge-in-place.js'
import { planRecover } from '../../../src/ops/recover.js'
import { planRefresh } from '../../../src/ops/refresh.js'
import { planReset } from '../../../src/ops/reset.js'
import { RESTORE_STATE } from '../../../src/ops/restore-state.js'
import { readStatus } from '../../../src/ops/status.js'
import { planTable } from '../../../src/ops/table.js'
import { planUndo } from '../../../src/ops/undo.js'
import { beginChange, type ChangingVerb } from '../../../src/ops/undo-journal.js'
import { openWatch } from '../../../src/ops/watch.js'
import { shellWords } from '../../support/shell-words.js'
import { bytesOf, finished, OVERLAY, smallStick } from '../../support/small-stick.js'
import { storeOf } from '../../support/store-writer.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
let count = 0

const changed = async (live: string, verb: ChangingVerb, end: 'finished' | 'cut'): Promise<void> => {
  const { file, finish, close } = await beginChange(await openFolder(live), OVERLAY, { verb })
  await file.write(file.size - 100, new Uint8Array(100).fill(1))
  if (end === 'finished') await finish()
  await close()
}
/** An overlay of so many changes with so many chunks of room behind them, its bytes changed by `spoil`. */
const store = async (live: string, changes: number, slack: number, spoil = (bytes: Uint8Array) => bytes) =>
  writeFile(
    join(live, OVERLAY),
    spoil(
      storeOf(
        Array.from({ length: changes }, (_, n) => ({ oldChunk: n, content: bytesOf(n, 4096) })),
        8,
        slack,
      ),
    ),
  )

/** What may have happened to a stick. */
const STATES: Readonly<Record<string, (live: string) => Promise<unknown>>> = {
  'in order': async () => undefined,
  'filling up': live => store(live, 40, 5),
  'nearly full': live => store(live, 40, 1),
  full: live => store(live, 40, 0),
  'given up by the kernel': live => store(live, 40, 5, bytes => bytes.fill(0, 4, 5)),
  torn: live => store(live, 40, 5, bytes => bytes.fill(0xee, exceptionOffset(20, 4096), exceptionOffset(21, 4096))),
  'cut off': live => store(live, 40, 5, bytes => bytes.subarray(0, 20 * 4096)),
  'without a header': live => store(live, 40, 5, bytes => bytes.fill(0, 0, 512)),
  'too small': live => store(live, 40, 5, bytes => bytes.subarray(0, 4096)),
  'of another base': live => truncate(join(live, 'rootfs.img'), 8192),
  sparse: live => truncate(join(live, OVERLAY), 2 ** 43),
  'no overlay': live => writeFile(join(live, OVERLAY), 'nothing'),
  'a refresh cut short': live => writeFile(join(live, 'rootfs.img.refresh'), 'x'),
  'a reset cut short': live => writeFile(join(live, `${OVERLAY}.reset`), 'x'),
  'a compaction cut short': live => writeFile(join(live, 'compact-overlay-OTHER.state'), 'x'),
  'a restore cut short': live => writeFile(join(live, RESTORE_STATE), 'x'),
  'a recovery cut short': live => changed(live, 'recover', 'cut'),
  'a change cut short': live => changed(live, 'grow', 'cut'),
  'a recovery that can be taken back': live => changed(live, 'recover', 'finished'),
}

interface Told {
  readonly verb?: string
  readonly findings?: readonly Finding[]
}
type Input = { target: string }
const on =
  (plan: (target: WritableTarget) => Promise<Told>) =>
  async (input: Input): Promise<Told> =>
    plan(await findTarget(input))
const VERBS: Readonly<Record<string, (input: Input) => Promise<Told>>> = {
  status: readStatus,
  doctor: input => finished(runDoctor(input, { fsck: false })),
  'ls, cp and others': async input => {
    const view = await openView(input, 'root')
    await view.close()
    return view
  },
  grow: input => planGrow(input, { size: { by: 1 << 20 } }),
  'grow beyond the stick': input => planGrow(input, { size: 2 ** 42 }),
  compact: input => planCompact(input, {}),
  'refresh --in-place': input => planMergeInPlace('refresh', input),
  recover: on(target => planRecover(target, { fsck: false })),
  undo: on(planUndo),
  reset: on(planReset),
  refresh: input => planRefresh(input, {}),
  'merge to a file': async input =>
    planMerge(await findTarget(input), { output: join(await path(`merge${count++}`), 'root.img') }),
  backup: async input => planBackup(input, join(await path(`backup${count++}`), 'it.tar.zst')),
  'table --persist': input => planTable(input, { writesTo: 'overlay' }),
  watch: async input => {
    const watch = await openWatch(input, { history: false })
    const { body } = noticeOf({ ...(await watch.sample()), say: 'level' }, watch.address)
    return { findings: [{ code: 'NOTICE', severity: 'note', where: '', message: body }] }
  },
}

const messages = (error: unknown): string[] => (isLiveError(error) ? [error.message, ...messages(error.cause)] : [])

/** The command lines of a sentence: between marks, or to its end. */
const commands = (sentence: string): string[] =>
  [...sentence.matchAll(/(^|['“]|[^\w.-])(sudo )?liveos [a-z][a-z-]*/g)].map(found => {
    const from = found.index + found[1]!.length
    const mark = { "'": "'", '“': '”' }[found[1]!]
    const end = mark === undefined ? sentence.length : sentence.indexOf(mark, from)
    expect(end, sentence).toBeGreaterThan(0)
    return sentence.slice(from, end)
  })

const NAMES = ["it's a stick", 'with "quotes" & $HOME', 'Täglich; rm -r', '-n']

describe.each(Object.entries(STATES))('%s', (state, bring) => {
  it('every command line that is told names the stick as a shell takes it', async () => {
    const name = NAMES[count++ % NAMES.length]!
    const { path: target } = await smallStick(join(await path(`${count}`), name), { raw: true })
    await bring(join(target, 'LiveOS'))
    let seen = 0
    for (const [verb, plan] of Object.entries(VERBS)) {
      const sentences = await plan({ target }).then(
        ({ findings = [] }) => findings.flatMap(({ message, remedy = '' }) => [message, remedy]),
        messages,
      )
      for (const sentence of sentences)
        for (const command of commands(sentence)) {
          seen++
          const words = shellWords(command)
          const isTarget = (word: string): boolean => word === target || word.startsWith(`${target}:/`)
          const about = `${verb}, ${state}: ${sentence}\n${JSON.stringify(words)}`
          expect(words.filter(isTarget), about).toHaveLength(1)
          // nothing of the sentence around it
          const others = words
            .slice(2)
            .filter((word, n, rest) => !isTarget(word) && !word.startsWith('-') && !rest[n - 1]?.startsWith('--'))
          expect(
            others.filter(word => !['FILE', './rescued'].includes(word)),
            about,
          ).toEqual([])
        }
    }
    if (state !== 'in order' && state !== 'no overlay') expect(seen).toBeGreaterThan(0)
  })
})

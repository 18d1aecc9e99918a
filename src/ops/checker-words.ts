import type { FsckRun } from '../host/fsck.js'

/** What checkers say whatever they find: their name, their steps, what they leave out, counts at the end. */
const NOISE: readonly RegExp[] = [
  /^e2fsck \d/,
  /^Pass \d/,
  /skipping journal recovery/,
  /Filesystem still has errors/,
  /FILE SYSTEM WAS MODIFIED/,
  /: \d+\/\d+ files /,
  /^Phase \d/,
  /^\s+- /,
  /^No modify flag set/,
  /host filesystem geometry/,
  /sector size mismatch between/,
  /^the image and the host filesystem/,
]
/** A question of a checker with the answer that it gives itself. */
const ANSWER = /\s*[A-Z][^.?]*\? (no|yes)$/

/** The lines of a checker that tell what is wrong, the first ones; its last words where none does. */
export const tellingLines = ({ words }: Pick<FsckRun, 'words'>, most = 4): readonly string[] => {
  const lines = words.split('\n').filter(line => line.trim() !== '')
  const telling = lines
    .filter(line => !NOISE.some(noise => noise.test(line)))
    .map(line => line.replace(ANSWER, '').trim())
    .filter(line => line !== '')
  if (telling.length === 0) return lines.slice(-most).map(line => line.trim())
  return telling.length > most ? [...telling.slice(0, most), `and more`] : telling
}

/** True where a checker of XFS says that the log holds changes that only a kernel can replay. */
export const tellsDirtyLog = ({ words }: Pick<FsckRun, 'words'>): boolean =>
  /valuable\s+metadata\s+changes\s+in\s+a\s+log/.test(words)

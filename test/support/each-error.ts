import { expect } from 'vitest'
import { LiveError } from '../../src/error.js'
import { type Folder, openFolder } from '../../src/host/folder.js'
import { type Content, type Kind, layOut, recordingFolder } from './power-cut.js'

/**
 * Does a change of a folder again and again, each time with an error at one more of its steps, and once without any.
 *
 * @param files  what the folder holds each time before
 * @param after  looks at what is there then; `words` say which error it was
 */
export const eachError = async (
  path: string,
  files: Content,
  kind: Kind,
  change: (folder: Folder) => Promise<unknown>,
  after: (words: string) => Promise<void>,
): Promise<void> => {
  let tried = 0
  for (const code of ['IO', 'NO_SPACE'] as const)
    for (let at = 0, isMet = true; isMet; at++) {
      await layOut(path, { files, shared: [] })
      let n = 0
      isMet = false
      const failing = recordingFolder(await openFolder(path), 0, kind, [], {}, () => {
        if (n++ !== at) return
        isMet = true
        throw new LiveError(code, 'no more')
      })
      const failed = await change(failing).catch((error: unknown) => error)
      const words = `${code} at step ${at}`
      if (isMet) expect(failed, words).toBeInstanceOf(LiveError)
      await after(words)
      tried++
    }
  expect(tried).toBeGreaterThan(10)
}

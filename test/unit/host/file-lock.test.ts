import { link, writeFile } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { checkNotLocked, lockFile } from '../../../src/host/file-lock.js'
import { failure } from '../../support/outcome.js'
import { temporary } from '../../support/temporary.js'

const at = temporary()

it.skipIf(process.platform !== 'linux')('a locked file is so by every name, until it is released', async () => {
  const [path, other, alone] = [await at('a'), await at('b'), await at('c')]
  await writeFile(path, '')
  await writeFile(alone, '')
  await link(path, other)
  await checkNotLocked(path)
  const lock = await lockFile(path)
  expect((await failure(lockFile(other), 'REFUSED')).message).toContain('another run of liveos')
  await failure(checkNotLocked(other), 'REFUSED')
  await Promise.all([checkNotLocked(alone), checkNotLocked(alone)])
  await lock.release()
  await checkNotLocked(other)
  await (await lockFile(other)).release()
})

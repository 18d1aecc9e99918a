import { execFile } from 'node:child_process'
import { mkdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { planBackup, runBackup } from '../../src/ops/backup.js'
import { finished, sha256 } from '../support/small-stick.js'
import { makeStick, OVERLAY } from '../support/target-images.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const execute = promisify(execFile)
const run = async (program: string, ...words: string[]): Promise<string> => (await execute(program, words)).stdout
const path = temporary()

needTools('tar', 'zstd', 'sha256sum')

it('is unpacked by tar --zstd, and its checksums are right', async () => {
  const stick = await makeStick(await path('stick'))
  const home = join(stick, 'LiveOS/home.img')
  await writeFile(home, 'a home')
  await truncate(home, 5 << 20)
  await mkdir(await path('out'))
  const file = join(await path('out'), 'b.tar.zst')
  const plan = await planBackup({ target: stick }, file)
  const done = await finished(runBackup({ target: stick }, plan))
  console.log(done)
  const out = await path('unpacked')
  await mkdir(out)
  await run('tar', '--zstd', '-xf', file, '-C', out)
  console.log(
    await run(
      'sh',
      '-c',
      `cd ${out} && sha256sum -c liveos-backup.sha256 && find . -type f | xargs ls -ls && zstd -t ${file} && cat liveos-backup.json`,
    ),
  )
  expect(sha256(await readFile(join(out, 'LiveOS', OVERLAY)))).toBe(
    sha256(await readFile(join(stick, 'LiveOS', OVERLAY))),
  )
})

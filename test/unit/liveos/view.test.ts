import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { unpackSample } from '../../../scripts/sample.mjs'
import { openView } from '../../../src/liveos/view.js'
import { withView } from '../../../src/ops/files.js'
import { failure } from '../../support/outcome.js'
import { OVERLAY } from '../../support/target-images.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
let stick: string
let overlay: string

beforeAll(async () => {
  stick = await unpackSample(await path('stick'))
  overlay = join(stick, 'LiveOS', OVERLAY)
})

const host = async (input: Parameters<typeof openView>[0], layer: Parameters<typeof openView>[1]) => {
  const { fs, findings, close } = await openView(input, layer)
  try {
    const file = await fs.open('/etc/hostname')
    const bytes = await file.read(0, file.size)
    return { text: Buffer.from(bytes).toString().trim(), codes: findings.map(({ code }) => code) }
  } finally {
    await close()
  }
}

describe('openView', () => {
  it('the root with its overlay, without it, and the home image', async () => {
    expect(await host({ target: stick }, 'root')).toEqual({ text: 'kitchen-table', codes: [] })
    expect(await host({ target: stick, baseOnly: true }, 'root')).toEqual({ text: 'sample-live', codes: [] })
    expect(await host({ target: stick }, 'base')).toEqual({ text: 'sample-live', codes: [] })
    const home = await openView({ target: stick }, 'home')
    expect((await home.fs.list('/')).map(({ name }) => name)).toContain('liveuser')
    await home.close()
  })

  it('names its files for a person', async () => {
    const { message } = await failure(host({ base: join(stick, 'LiveOS/home.img') }, 'root'), 'NOT_FOUND')
    expect(message).toBe(`root filesystem of ${join(stick, 'LiveOS/home.img')}: no file or directory /etc/hostname`)
  })

  it('an overlay that the kernel has given up is read all the same, with a warning', async () => {
    const copy = join(dirname(stick), 'invalid')
    const bytes = await readFile(overlay)
    bytes.writeUInt32LE(0, 4)
    await writeFile(copy, bytes)
    expect(await host({ target: stick, overlay: copy }, 'root')).toEqual({
      text: 'kitchen-table',
      codes: ['OVERLAY_INVALID'],
    })
  })

  it('one that is damaged is refused, with the way around it', async () => {
    const copy = join(dirname(stick), 'damaged')
    const bytes = await readFile(overlay)
    bytes.writeUInt32LE(7, 8)
    await writeFile(copy, bytes)
    const { message } = await failure(host({ target: stick, overlay: copy }, 'root'), 'CORRUPT')
    expect(message).toContain('--base-only leaves the overlay out')
    expect((await host({ target: stick, overlay: copy }, 'base')).text).toBe('sample-live')
  })
})

it('a directory that is no stick has files all the same, and links in a circle are in nobody’s way', async () => {
  const plain = join(dirname(stick), 'plain')
  await mkdir(plain)
  await writeFile(join(plain, 'note'), 'x')
  await symlink('b', join(plain, 'a'))
  await symlink('a', join(plain, 'b'))
  const work = async (fs: { list(path: string): Promise<readonly { name: string }[]> }) =>
    (await fs.list('/')).map(({ name }) => name).sort()
  const { message } = await failure(withView({ target: plain }, 'root', { paths: ['/'] }, work), 'NOT_FOUND')
  expect(message).toContain('with --medium')
  expect(await withView({ target: plain }, 'medium', { paths: ['/'] }, work)).toEqual(['a', 'b', 'note'])
  // nothing to be read there either
  const lost = await failure(withView({ target: join(plain, 'none') }, 'root', { paths: ['/'] }, work), 'NOT_FOUND')
  expect(lost.message).not.toContain('--medium')
})

describe('a home image over the root’s /home', () => {
  const codes = (paths: readonly string[], recursive = false, layer: 'root' | 'home' = 'root') =>
    withView({ target: stick }, layer, { paths, recursive, homeSeverity: 'warning' }, async (_, findings) =>
      findings.map(({ code, severity }) => `${code} ${severity}`),
    )
  it('is told where it hides what is read', async () => {
    const told = ['HOME_IMAGE warning']
    expect(await codes(['/home'])).toEqual(told)
    expect(await codes(['/etc', '/home/ada'])).toEqual(told)
    expect(await codes(['/'], true)).toEqual(told)
    expect(await codes(['/'])).toEqual([])
    expect(await codes(['/homes'], true)).toEqual([])
    expect(await codes(['/'], true, 'home')).toEqual([])
  })
})

import { execFileSync } from 'node:child_process'
import { symlink as link, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { memory } from '../../../src/block/memory.js'
import { LiveError } from '../../../src/error.js'
import { type CopyOutOptions, checkPlace, copyOut } from '../../../src/ops/copy-out.js'
import { directory, file, mockFileSystem, symlink } from '../../support/mock-filesystem.js'
import { failure } from '../../support/outcome.js'
import { finished } from '../../support/small-stick.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
const lost = new LiveError('CORRUPT', 'torn', { device: 'mock' })
const fs = mockFileSystem(
  directory({
    home: directory({ ada: directory({ letter: file('Dear Charles') }) }),
    etc: directory({ passwd: file('root'), group: file('wheel') }),
    bin: symlink('etc'),
  }),
)

let made = 0
const place = async (): Promise<string> => {
  const here = await path(`place${made++}`)
  await mkdir(here)
  return here
}
const copy = (paths: readonly string[], to: string, options: CopyOutOptions = {}) =>
  finished(copyOut(fs, paths, to, { flush: false, ...options }, new PassThrough().resume()))

describe('where a copy goes, as cp has it', () => {
  it('into a directory that is there, or through a link to one', async () => {
    const here = await place()
    await copy(['/home'], here, { recursive: true })
    await link(here, `${here}.link`)
    await copy(['/etc/passwd'], `${here}.link`)
    expect((await readdir(here)).sort()).toEqual(['home', 'passwd'])
    expect(await readFile(join(here, 'home/ada/letter'), 'utf8')).toBe('Dear Charles')
  })

  it('as the name that is given where there is none', async () => {
    const here = await place()
    await copy(['/home'], join(here, 'rescued'), { recursive: true })
    await copy(['/etc/passwd'], join(here, 'accounts'))
    expect((await readdir(join(here, 'rescued'))).sort()).toEqual(['ada'])
    expect(await readFile(join(here, 'accounts'), 'utf8')).toBe('root')
  })

  it('a link stays one, and is followed with a slash behind it', async () => {
    const here = await place()
    const done = await copy(['/bin'], join(here, 'bin'))
    expect(done.symlinks).toBe(1)
    const told = { code: 'LINK_COPIED', severity: 'note', remedy: expect.stringContaining('/bin/') }
    expect(done.findings[0]).toMatchObject(told)
    await copy(['/bin/'], join(here, 'followed'), { recursive: true })
    expect((await readdir(join(here, 'followed'))).sort()).toEqual(['group', 'passwd'])
  })

  it('what it refuses, and why', async () => {
    const here = await place()
    await writeFile(join(here, 'taken'), 'mine')
    expect((await failure(copy(['/home'], here), 'USAGE')).message).toContain('add -r')
    await failure(copy(['/etc/passwd'], join(here, 'taken')), 'REFUSED')
    await failure(copy(['/home'], join(here, 'taken'), { recursive: true }), 'REFUSED')
    await failure(copy(['/etc/passwd', '/etc/group'], join(here, 'new')), 'USAGE')
    expect((await failure(copy(['/etc/passwd'], join(here, 'no/such/place')), 'NOT_FOUND')).message).toContain(
      'no/such',
    )
    await failure(copy(['/etc/none'], here), 'NOT_FOUND')
    await failure(copy(['/etc/passwd'], ''), 'USAGE')
    expect(await readFile(join(here, 'taken'), 'utf8')).toBe('mine')
    await copy(['/etc/passwd'], join(here, 'taken'), { overwrite: true })
    expect(await readFile(join(here, 'taken'), 'utf8')).toBe('root')
  })
})

describe('an archive', () => {
  it('has its name once it is whole', async () => {
    const here = await place()
    await copy(['/home'], join(here, 'home.tar'), { recursive: true })
    expect(await readdir(here)).toEqual(['home.tar'])
    const { size } = await stat(join(here, 'home.tar'))
    expect(size % 512).toBe(0)
    await failure(copy(['/etc'], join(here, 'home.tar'), { recursive: true }), 'REFUSED')
    await copy(['/etc'], join(here, 'home.tar'), { recursive: true, overwrite: true })
    expect((await readFile(join(here, 'home.tar'), 'latin1')).includes('passwd')).toBe(true)
    expect(await readdir(here)).toEqual(['home.tar'])
  })

  it('that is stopped leaves nothing, and the old one as it was', async () => {
    const here = await place()
    const to = join(here, 'a.tar')
    await writeFile(to, 'old')
    const signal = AbortSignal.abort()
    await failure(copy(['/home'], to, { recursive: true, overwrite: true, signal }), 'CANCELLED')
    expect(await readdir(here)).toEqual(['a.tar'])
    expect(await readFile(to, 'utf8')).toBe('old')
    const endless = { ...memory(new Uint8Array(1 << 20), 'x'), read: () => Promise.reject(lost) }
    const damaged = mockFileSystem(directory({ x: file('', { device: endless }) }))
    const done = await finished(copyOut(damaged, ['/x'], join(here, 'b.tar'), {}, new PassThrough()))
    expect(done.findings.some(({ severity }) => severity === 'error')).toBe(true)
  })

  it('goes where it is told: a directory called .tar stays one, a dangling link is not written through', async () => {
    const here = await place()
    await mkdir(join(here, 'dir.tar'))
    await copy(['/etc/passwd'], join(here, 'dir.tar'))
    expect(await readdir(join(here, 'dir.tar'))).toEqual(['passwd'])
    await failure(copy(['/etc/passwd'], join(here, 'dir.tar'), { tar: true }), 'USAGE')
    await link(join(here, 'elsewhere'), join(here, 'l.tar'))
    await failure(copy(['/etc/passwd'], join(here, 'l.tar'), { overwrite: true }), 'REFUSED')
    expect((await readdir(here)).sort()).toEqual(['dir.tar', 'l.tar'])
    // an archive that is copied stays as it is, unless an archive is asked for
    const kept = mockFileSystem(directory({ 'old.tar': file('bytes') }))
    const into = (to: string, options: CopyOutOptions) =>
      finished(copyOut(kept, ['/old.tar'], join(here, to), { flush: false, ...options }, new PassThrough()))
    await into('same.tar', {})
    expect(await readFile(join(here, 'same.tar'), 'utf8')).toBe('bytes')
    await into('in.tar', { tar: true })
    expect((await readFile(join(here, 'in.tar'))).length).toBeGreaterThan(1024)
    // what is no file is not replaced by one
    execFileSync('mkfifo', [join(here, 'pipe')])
    await failure(copy(['/etc/passwd'], join(here, 'pipe'), { overwrite: true }), 'REFUSED')
    expect((await stat(join(here, 'pipe'))).isFIFO()).toBe(true)
    // a device is written as it is
    await copy(['/etc/passwd'], '/dev/null', { tar: true })
    expect((await stat('/dev/null')).isFile()).toBe(false)
  })
})

describe('checkPlace', () => {
  it('refuses a terminal for an archive, and places inside a target', async () => {
    const here = await place()
    expect((await failure(checkPlace('-', { isTTY: true }, {}), 'USAGE')).message).toContain('terminal')
    await checkPlace('-', {}, {})
    expect((await failure(checkPlace(`${here}:/etc`, {}, {}), 'USAGE')).message).toContain('only copied out')
    await failure(checkPlace(here, {}, { tar: true }), 'USAGE')
    for (const fine of [here, join(here, 'new'), join(dirname(here), 'no:/such'), 'a:b']) await checkPlace(fine, {}, {})
  })
})

import { PassThrough, Writable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { memory } from '../../../src/block/memory.js'
import { LiveError } from '../../../src/error.js'
import type { Finding } from '../../../src/finding.js'
import { listFiles, statFile, writeFileTo } from '../../../src/ops/files.js'
import { directory, file, mockFileSystem, symlink } from '../../support/mock-filesystem.js'
import { failure } from '../../support/outcome.js'
import { bytesOf } from '../../support/small-stick.js'

const broken = new LiveError('CORRUPT', 'torn', { device: 'mock' })
const large = bytesOf(5, (2 << 20) + 7)
const fs = mockFileSystem(
  directory({
    b: file('two'),
    a: directory({ deep: directory({ file: file('x') }) }),
    torn: directory({}, { fails: broken }),
    link: symlink('a'),
    loop: symlink('loop'),
    large: file(large),
    tagged: file('t', {
      stat: { mtime: -1, mtimeNanoseconds: 5, mode: 0o4755 },
      xattrs: [
        { name: 'security.selinux', value: Buffer.from('system_u:object_r\0') },
        { name: 'user.raw', value: Buffer.from([1, 2, 27]) },
      ],
    }),
    ancient: file('', { stat: { mtime: 1e13 } }),
  }),
)

const list = async (path: string, options: Partial<Parameters<typeof listFiles>[2]> = {}) => {
  const findings: Finding[] = []
  const names: string[] = []
  for await (const found of listFiles(fs, path, { onFinding: finding => findings.push(finding), ...options }))
    names.push(found.path)
  return { names, findings }
}

describe('listFiles', () => {
  it('a directory by the bytes of its names, without what lies deeper', async () => {
    const { names, findings } = await list('/')
    expect(names).toEqual(['/a', '/ancient', '/b', '/large', '/link', '/loop', '/tagged', '/torn'])
    expect(findings).toEqual([])
  })

  it('all below it, passing over what can’t be read', async () => {
    const { names, findings } = await list('/', { recursive: true })
    expect(names.slice(0, 4)).toEqual(['/a', '/a/deep', '/a/deep/file', '/ancient'])
    expect(findings).toMatchObject([{ severity: 'error', where: '/torn' }])
  })

  it('follows a link as the path, and not where the directory itself is meant', async () => {
    expect((await list('/link')).names).toEqual(['/a/deep'])
    expect((await list('/link', { directory: true })).names).toEqual(['/link'])
    expect((await list('/b')).names).toEqual(['/b'])
  })

  it('throws where the path itself is missing or leads round', async () => {
    await failure(list('/none'), 'NOT_FOUND')
    await failure(list('/loop'), 'NOT_FOUND')
    await failure(list('/b/x'), 'NOT_FOUND')
  })
})

describe('statFile', () => {
  it('tells attributes as text or hex, times before 1970, modes in octal', async () => {
    expect(await statFile(fs, '/tagged')).toMatchObject({
      mode: '4755',
      modified: '1969-12-31T23:59:59.000000005Z',
      xattrs: [
        { name: 'security.selinux', value: 'system_u:object_r', encoding: 'text' },
        { name: 'user.raw', value: '01021b', encoding: 'hex' },
      ],
      dataBytes: 1,
      runs: null,
    })
    expect((await statFile(fs, '/link')).target).toBe('a')
    expect((await statFile(fs, '/ancient')).modified).toBe('10000000000000')
    expect((await statFile(fs, '/a')).dataBytes).toBeNull()
  })
})

describe('writeFileTo', () => {
  const gathered = async (path: string, signal?: AbortSignal): Promise<Buffer> => {
    const out = new PassThrough()
    const parts: Buffer[] = []
    out.on('data', (part: Buffer) => parts.push(part))
    await writeFileTo(fs, path, out, signal)
    return Buffer.concat(parts)
  }

  it('gives a file in pieces, each once', async () => {
    expect((await gathered('/large')).equals(large)).toBe(true)
    expect((await gathered('/ancient')).length).toBe(0)
  })

  it('ends with errors of the request, the file, the stream and the signal', async () => {
    expect((await failure(gathered('/a'), 'USAGE')).message).toContain('is a directory')
    await failure(gathered('/none'), 'NOT_FOUND')
    await failure(gathered('/large', AbortSignal.abort()), 'CANCELLED')
    const full = new Writable({ write: (_, __, done) => done(Object.assign(new Error('x'), { code: 'ENOSPC' })) })
    full.on('error', () => {})
    await failure(writeFileTo(fs, '/large', full), 'NO_SPACE')
    const bad = { ...memory(large, 'bad'), read: () => Promise.reject(broken) }
    const damaged = mockFileSystem(directory({ bad: file('', { device: bad }) }))
    await failure(writeFileTo(damaged, '/bad', new PassThrough()), 'CORRUPT')
  })

  it('of a file with a bad spot gives what stands before it, and then says how far that is', async () => {
    const whole = memory(large, 'torn')
    for (const [spot, reached] of [
      [5000, 4096],
      [(1 << 20) + 70_000, (1 << 20) + 69_632],
      [large.length - 1, 2 << 20],
    ] as const) {
      const read = async (offset: number, length: number): Promise<Uint8Array> => {
        if (offset <= spot && spot < offset + length) throw broken
        return whole.read(offset, length)
      }
      const damaged = mockFileSystem(directory({ torn: file('', { device: { ...whole, read } }) }))
      const out = new PassThrough()
      const parts: Buffer[] = []
      out.on('data', (part: Buffer) => parts.push(part))
      const error = await failure(writeFileTo(damaged, '/torn', out), 'CORRUPT')
      expect(Buffer.concat(parts).equals(large.subarray(0, reached))).toBe(true)
      expect(error).toMatchObject({ data: { device: 'mock', readBytes: reached, size: large.length }, cause: broken })
    }
  })
})

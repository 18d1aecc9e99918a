import { isLiveError } from '../../error.js'
import type { Finding } from '../../finding.js'
import type { FileSystem } from '../../fs/filesystem.js'
import { printableName } from '../../fs/name.js'
import type { BootFile } from './config.js'
import { follow } from './follow.js'
import { textOf } from './text.js'

/** A configuration is read up to this size; what is larger is none. */
export const MAX_CONFIG_SIZE = 1 << 20
/** All that is read for one configuration with its includes. */
const MAX_TOTAL = 4 << 20
const MAX_FINDINGS = 200
/** Files that are looked for, for one configuration. */
const MAX_LOOKUPS = 4000

/** Reads the files of one configuration, bounded, and collects what was noticed. */
export interface BootReader {
  readonly fs: FileSystem
  readonly findings: readonly Finding[]
  /** paths that were read, in order */
  readonly files: readonly string[]
  tell(code: string, severity: Finding['severity'], where: string, message: string): void
  /** A configuration's text, one character a byte; undefined, with a finding, where it can't be read. */
  read(path: string): Promise<string | undefined>
  /** A file that an entry names. @param elsewhere  the loader may have another filesystem as its root by then */
  file(path: string, elsewhere?: boolean): Promise<BootFile>
}

/** Opens a reader for one configuration. @param others  the other filesystems of the medium */
export const bootReader = (fs: FileSystem, others: readonly FileSystem[] = []): BootReader => {
  const findings: Finding[] = []
  const files: string[] = []
  const known = new Map<string, Promise<boolean | undefined>>()
  const knownElsewhere: typeof known = new Map()
  let total = 0

  const tell: BootReader['tell'] = (code, severity, where, message) => {
    if (findings.length > MAX_FINDINGS) return
    if (findings.some(known => known.code === code && known.where === where && known.message === message)) return
    if (findings.length < MAX_FINDINGS) findings.push({ code, severity, where, message })
    else {
      const rest = `there is more to tell than ${MAX_FINDINGS} findings: the rest is left out`
      findings.push({ code: 'BOOT_TOO_MUCH', severity: 'warning', where, message: rest })
    }
  }
  const unreadable = (path: string, error: unknown): undefined => {
    if (!isLiveError(error)) throw error
    tell('BOOT_UNREADABLE', 'error', path, `${printableName(path)} can't be read: ${error.message}`)
    return undefined
  }
  const exists = async (path: string): Promise<boolean | undefined> => {
    try {
      return (await follow(fs, path))?.stat.kind === 'file'
    } catch (error) {
      return unreadable(path, error)
    }
  }
  const existsElsewhere = async (path: string): Promise<boolean | undefined> => {
    let answer: boolean | undefined = false
    for (const other of others)
      try {
        if ((await follow(other, path))?.stat.kind === 'file') return true
      } catch (error) {
        if (!isLiveError(error)) throw error
        answer = undefined
      }
    return answer
  }

  return {
    fs,
    findings,
    files,
    tell,
    async read(path) {
      try {
        const found = await follow(fs, path)
        if (found?.stat.kind !== 'file') {
          tell('BOOT_INCLUDE_MISSING', 'warning', path, `there is no file ${printableName(path)}`)
          return undefined
        }
        const device = await fs.open(found.path)
        try {
          if (device.size > MAX_CONFIG_SIZE || total + device.size > MAX_TOTAL) {
            const message = `${printableName(path)} has ${device.size} bytes, too many for a boot configuration: it is not read`
            tell('BOOT_CONFIG_TOO_LARGE', 'error', path, message)
            return undefined
          }
          total += device.size
          if (!files.includes(found.path)) files.push(found.path)
          return textOf(await device.read(0, device.size))
        } finally {
          await device.close()
        }
      } catch (error) {
        return unreadable(path, error)
      }
    },
    async file(path, elsewhere = false) {
      // What stands for a variable is known to the loader only.
      if (path.includes('$')) return { path, exists: undefined }
      if (known.size >= MAX_LOOKUPS && !known.has(path)) {
        tell(
          'BOOT_TOO_MUCH',
          'warning',
          files[0] ?? fs.name,
          `more than ${MAX_LOOKUPS} files are named: the rest is not looked for`,
        )
        return { path, exists: undefined }
      }
      const answer = known.get(path) ?? exists(path)
      known.set(path, answer)
      const here = await answer
      if (here !== false || !elsewhere) return { path, exists: here }
      const there = knownElsewhere.get(path) ?? existsElsewhere(path)
      knownElsewhere.set(path, there)
      return { path, exists: await there }
    },
  }
}

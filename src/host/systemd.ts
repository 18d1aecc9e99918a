import { lstat, mkdir, readFile, rename, unlink, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { isLiveError, systemError } from '../error.js'
import { runTool } from './process.js'

/** The manager that a unit is for: of the computer, or of a user's session. */
export type UnitScope = 'system' | 'user'

/** Where units that an administrator or user makes lie. */
export const unitFolder = (scope: UnitScope): string =>
  scope === 'system'
    ? '/etc/systemd/system'
    : join(process.env.XDG_CONFIG_HOME || join(homedir(), '.config'), 'systemd', 'user')

/** A word of an Exec line. @see systemd.service(5), command lines; systemd.unit(5), specifiers */
export const execWord = (word: string): string =>
  `"${word.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('%', '%%').replaceAll('$', '$$$$')}"`

/** A path as part of a unit's name. @see systemd.unit(5), string escaping for inclusion in unit names */
export const escapePath = (path: string): string => {
  const parts = path.split('/').filter(Boolean)
  if (parts.length === 0) return '-'
  return parts
    .map((part, n) =>
      [...Buffer.from(part)]
        .map((byte, at) => {
          const char = String.fromCharCode(byte)
          const plain = /[A-Za-z0-9:_.]/.test(char) && !(n === 0 && at === 0 && char === '.')
          return plain ? char : `\\x${byte.toString(16).padStart(2, '0')}`
        })
        .join(''),
    )
    .join('-')
}

/** The text of a unit's file; undefined where there is none. @throws READ_ONLY, IO */
export const readUnit = async (path: string): Promise<string | undefined> => {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw systemError(error, `reading ${path}`)
  }
}

/** Writes a unit's file, whole or not at all. @throws READ_ONLY, NO_SPACE, IO */
export const writeUnit = async (path: string, text: string): Promise<void> => {
  const fresh = join(dirname(path), `.liveos-${process.pid}.tmp`)
  try {
    await mkdir(dirname(path), { recursive: true })
    await writeFile(fresh, text, { flag: 'wx', flush: true, mode: 0o644 })
    await rename(fresh, path)
  } catch (error) {
    await unlink(fresh).catch(() => undefined)
    throw systemError(error, `writing ${path}`)
  }
}

/** @throws READ_ONLY, IO */
export const removeUnit = async (path: string): Promise<void> => {
  try {
    if (await lstat(path).catch(() => undefined)) await unlink(path)
  } catch (error) {
    throw systemError(error, `removing ${path}`)
  }
}

/** Runs systemctl. @returns  why that failed; undefined where it went well */
export const systemctl = async (args: readonly string[]): Promise<string | undefined> => {
  try {
    const { code, stderr } = await runTool('systemctl', args)
    return code === 0 ? undefined : stderr.trim() || `exit code ${code}`
  } catch (error) {
    if (!isLiveError(error)) throw error
    return error.message
  }
}

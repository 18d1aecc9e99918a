import { isLiveError, orMissing } from '../error.js'
import type { Finding } from '../finding.js'
import type { FileSystem } from '../fs/filesystem.js'
import { decodeName } from '../fs/name.js'
import { follow } from './boot/follow.js'

/** What a root filesystem, or the tree of an installer, says of itself. What it does not say is left undefined. */
export interface Release {
  /** the file that told most */
  readonly source: string
  /** such as `fedora` */
  readonly id: string | undefined
  readonly idLike: readonly string[]
  readonly name: string | undefined
  readonly version: string | undefined
  readonly versionId: string | undefined
  readonly prettyName: string | undefined
  readonly variant: string | undefined
  readonly variantId: string | undefined
  readonly architecture: string | undefined
  /** of Sugar, the desktop of SoaS */
  readonly sugarVersion: string | undefined
  /** what speaks for Sugar on a Stick; empty where nothing does */
  readonly soasMarks: readonly string[]
  /** every value of os-release */
  readonly values: Readonly<Record<string, string>>
  readonly findings: readonly Finding[]
}

/** Files about a release are read up to this size. */
const MAX_SIZE = 1 << 20
/** Characters of a line such as that of fedora-release that count. */
const MAX_LINE = 256
const TABLE = ['/etc/os-release', '/usr/lib/os-release']
const LINES = ['/etc/fedora-release', '/etc/system-release', '/etc/redhat-release', '/etc/generic-release']

/**
 * The assignments of an os-release, read as a shell would: quotes of both kinds, backslashes, comments; the last one counts.
 * Lines that assign nothing are left out.
 *
 * @see os-release(5)
 */
export const parseOsRelease = (text: string): Map<string, string> => {
  const values = new Map<string, string>()
  const line = /^[ \t]*([A-Za-z_][A-Za-z0-9_]*)=(.*)$/gm
  for (const [, name, value] of text.matchAll(line)) values.set(name!, unquoted(value!.replace(/\r$/, '')))
  return values
}

/** One word of a shell, up to the first white space outside quotes. */
const unquoted = (text: string): string => {
  const parts: string[] = []
  for (let at = 0; at < text.length; ) {
    const character = text[at]!
    if (character === "'") {
      const end = text.indexOf("'", at + 1)
      parts.push(text.slice(at + 1, end < 0 ? text.length : end))
      at = end < 0 ? text.length : end + 1
    } else if (character === '"') {
      for (at++; at < text.length && text[at] !== '"'; at++) {
        if (text[at] === '\\' && /[\\"$`]/.test(text[at + 1] ?? '')) at++
        parts.push(text[at]!)
      }
      at++
    } else if (character === '\\') {
      parts.push(text[at + 1] ?? '')
      at += 2
    } else if (character === ' ' || character === '\t') break
    else {
      parts.push(character)
      at++
    }
  }
  return parts.join('')
}

/** The sections of an INI file such as `.treeinfo`; the last of two values counts. */
export const parseIni = (text: string): Map<string, Map<string, string>> => {
  const sections = new Map<string, Map<string, string>>()
  let section = new Map<string, string>()
  for (const raw of text.split('\n')) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue
    if (line.startsWith('[') && line.endsWith(']')) {
      const name = line.slice(1, -1).trim()
      section = sections.get(name) ?? new Map()
      sections.set(name, section)
      continue
    }
    const at = line.search(/[=:]/)
    if (at > 0) section.set(line.slice(0, at).trim(), line.slice(at + 1).trim())
  }
  return sections
}

/** The lines of a `.discinfo`: when it was made, release, architecture, discs. */
export const parseDiscInfo = (
  text: string,
): { readonly madeAt: number | undefined; readonly release: string; readonly architecture: string } => {
  const [time = '', release = '', architecture = ''] = text.split('\n').map(line => line.trim())
  const seconds = Number(time)
  return { madeAt: time !== '' && Number.isFinite(seconds) ? seconds : undefined, release, architecture }
}

/** Takes a line such as `Fedora release 17 (Beefy Miracle)` apart. */
const fromReleaseLine = (line: string): Partial<Release> => {
  const found = /^(.+?)\s+release\s+(\S+)/i.exec(line)
  if (!found) return { prettyName: line }
  const name = found[1]!
  const id = /^(\w+)/.exec(name)![1]!.toLowerCase()
  return { prettyName: line, name, versionId: found[2]!, version: line.slice(line.search(/release\s/i) + 8).trim(), id }
}

/** Reads what a root filesystem or an installer's tree says of itself; undefined where it says nothing. @throws IO, CORRUPT */
export const readRelease = async (fs: FileSystem): Promise<Release | undefined> => {
  const findings: Finding[] = []
  const text = async (path: string): Promise<string | undefined> => {
    try {
      const found = await follow(fs, path)
      if (found?.stat.kind !== 'file') return undefined
      const device = await fs.open(found.path)
      try {
        if (device.size <= MAX_SIZE) return decodeName(await device.read(0, device.size))
        const message = `${path} has ${device.size} bytes, too many for what it should be: it is not read`
        findings.push({ code: 'RELEASE_TOO_LARGE', severity: 'warning', where: path, message })
      } finally {
        await device.close()
      }
    } catch (error) {
      if (!isLiveError(error)) throw error
      findings.push({ code: 'RELEASE_UNREADABLE', severity: 'error', where: path, message: error.message })
    }
    return undefined
  }
  const firstOf = async (paths: readonly string[]): Promise<{ path: string; text: string } | undefined> => {
    for (const path of paths) {
      const found = await text(path)
      if (found !== undefined && found.trim() !== '') return { path, text: found }
    }
    return undefined
  }
  const table = await firstOf(TABLE)
  const values = parseOsRelease(table?.text ?? '')
  const line = await firstOf(LINES)
  const debian = await firstOf(['/etc/debian_version'])
  const tree = await firstOf(['/.treeinfo', '/treeinfo'])
  const disc = await firstOf(['/.discinfo'])
  const told = line
    ? fromReleaseLine(line.text.trim().split('\n')[0]!.slice(0, MAX_LINE))
    : debian
      ? fromDebian(debian.text)
      : {}
  const media = { ...(disc ? fromDisc(disc.text) : {}), ...(tree ? fromTree(tree.text) : {}) }
  const source = [table, line, debian, tree, disc].find(found => found !== undefined)
  if (!source && findings.length === 0) return undefined
  const pick = (key: string, name: keyof Release & keyof typeof told): string | undefined =>
    values.get(key) ??
    (told as Partial<Record<string, string>>)[name] ??
    (media as Partial<Record<string, string>>)[name]
  const sugarVersion = await sugarOf(fs, text)
  const [prettyName, variant, variantId] = [
    pick('PRETTY_NAME', 'prettyName'),
    values.get('VARIANT') ?? media.variant,
    values.get('VARIANT_ID'),
  ]
  const marks = [
    ...(variantId === 'soas' ? ['VARIANT_ID=soas'] : []),
    ...(/sugar on a stick|\bsoas\b/i.test(`${variant ?? ''} ${prettyName ?? ''}`)
      ? ['its name says Sugar on a Stick']
      : []),
    ...(/soas/i.test(fs.label ?? '') ? [`label ${fs.label}`] : []),
    ...(sugarVersion === undefined ? [] : ['Sugar is installed']),
  ]
  return {
    source: source?.path ?? TABLE[0]!,
    id: pick('ID', 'id'),
    idLike: (values.get('ID_LIKE') ?? '').split(/\s+/).filter(Boolean),
    name: pick('NAME', 'name'),
    version: pick('VERSION', 'version'),
    versionId: pick('VERSION_ID', 'versionId'),
    prettyName,
    variant,
    variantId,
    architecture: media.architecture,
    sugarVersion: sugarVersion === '' ? undefined : sugarVersion,
    soasMarks: marks,
    values: Object.fromEntries(values),
    findings,
  }
}

const fromDebian = (text: string): Partial<Release> => {
  const version = text.trim()
  return {
    id: 'debian',
    name: 'Debian GNU/Linux',
    versionId: version,
    version,
    prettyName: `Debian GNU/Linux ${version}`,
  }
}

const fromDisc = (text: string): Partial<Release> => {
  const { release, architecture } = parseDiscInfo(text)
  return { prettyName: release || undefined, versionId: release || undefined, architecture: architecture || undefined }
}

const fromTree = (text: string): Partial<Release> => {
  const sections = parseIni(text)
  const get = (key: string): string | undefined =>
    sections.get('release')?.get(key) ?? sections.get('general')?.get(key)
  const name = get('name') ?? get('family')
  const version = get('version')
  const found = {
    id: (get('short') ?? get('family'))?.toLowerCase(),
    name: get('family') ?? name,
    version,
    versionId: version,
    prettyName: [get('family') ?? name, version].filter(Boolean).join(' ') || undefined,
    variant: get('variant') || undefined,
    architecture: sections.get('tree')?.get('arch') ?? get('arch'),
  }
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined))
}

/** The version of Sugar; empty where it is installed and tells none, undefined where it is not. */
const sugarOf = async (
  fs: FileSystem,
  text: (path: string) => Promise<string | undefined>,
): Promise<string | undefined> => {
  for (const library of ['/usr/lib', '/usr/lib64']) {
    const names = await namesIn(fs, library)
    for (const name of names.filter(name => /^python[\d.]+$/.test(name)).slice(0, 16))
      for (const packages of ['site-packages', 'dist-packages']) {
        const config = await text(`${library}/${name}/${packages}/jarabe/config.py`)
        if (config !== undefined) return /^version\s*=\s*['"]([^'"\n]*)['"]/m.exec(config)?.[1] ?? ''
      }
  }
  const program = await orMissing(fs.stat('/usr/bin/sugar')).catch(() => undefined)
  return program ? '' : undefined
}

const namesIn = async (fs: FileSystem, path: string): Promise<readonly string[]> => {
  try {
    const found = await follow(fs, path)
    return found?.stat.kind === 'directory' ? (await fs.list(found.path)).map(({ name }) => name) : []
  } catch (error) {
    if (!isLiveError(error)) throw error
    return []
  }
}

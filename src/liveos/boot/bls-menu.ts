import { isLiveError } from '../../error.js'
import type { Entry } from '../../fs/filesystem.js'
import { type BlsFile, blsOf, blsValues } from './bls.js'
import type { BootConfig } from './config.js'
import { draftOf, type EntryDraft, finishEntry, MAX_ENTRIES } from './entry.js'
import { directoryOf, type Followed, follow, joinPath } from './follow.js'
import type { BootReader } from './reader.js'
import { shown } from './text.js'

/** Characters that variables may bring into one line. */
const MAX_EXPANSION = 65_536

const one = (file: BlsFile, key: string): string | undefined => {
  const [value] = blsValues(file, key)
  return value === undefined || value === '' ? undefined : shown(value)
}

/** Variables of options such as `$tuned_params`; what has no value is left out. What would grow past a command line stays as it is. */
const expanded = (text: string, variable: (name: string) => string): string => {
  let room = MAX_EXPANSION
  const value = (found: string, plain?: string, braced?: string): string => {
    const known = variable(plain ?? braced ?? '')
    room -= known.length
    return room < 0 ? found : known
  }
  return text.replace(/\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})/g, value).trim()
}

/** Newest first, as GRUB and systemd-boot list entries: runs of digits count as numbers. */
const byVersion = new Intl.Collator('en', { numeric: true }).compare

/**
 * Entries of the Boot Loader Specification in the first of these directories that is there.
 *
 * @param variable  values of the variables of the loader that reads them
 */
export const blsDrafts = async (
  reader: BootReader,
  directories: readonly string[],
  variable: (name: string) => string = name => `$${name}`,
  conditional = false,
): Promise<EntryDraft[]> => {
  for (const directory of directories) {
    let found: Followed | undefined
    let listed: readonly Entry[]
    try {
      found = await follow(reader.fs, directory)
      if (found?.stat.kind !== 'directory') continue
      listed = await reader.fs.list(found.path)
    } catch (error) {
      if (!isLiveError(error)) throw error
      reader.tell('BOOT_UNREADABLE', 'error', directory, `${directory} can't be listed: ${error.message}`)
      return []
    }
    const names = listed.map(({ name }) => name).filter(name => /\.conf$/i.test(name))
    if (names.length > MAX_ENTRIES)
      reader.tell(
        'BOOT_TOO_MUCH',
        'warning',
        found.path,
        `${found.path} holds more than ${MAX_ENTRIES} entries; the rest is not listed`,
      )
    const drafts: EntryDraft[] = []
    for (const name of names.sort((a, b) => byVersion(b, a)).slice(0, MAX_ENTRIES)) {
      const path = joinPath(found.path, name)
      const text = await reader.read(path)
      if (text !== undefined) drafts.push({ ...(await draftEntry(reader, blsOf(text), path, variable)), conditional })
    }
    return drafts
  }
  return []
}

const draftEntry = async (
  reader: BootReader,
  file: BlsFile,
  path: string,
  variable: (name: string) => string,
): Promise<EntryDraft> => {
  const id = path.slice(path.lastIndexOf('/') + 1).replace(/\.conf$/i, '')
  const title = [one(file, 'title') ?? id, one(file, 'title') ? undefined : one(file, 'version')]
  const draft = draftOf({ path, offset: 0 }, title.filter(Boolean).join(' '))
  draft.id = id
  // Paths count from the filesystem's root; a directory /boot may be mounted from one of its own.
  const root = directoryOf(directoryOf(directoryOf(path)))
  const place = async (name: string): Promise<string> => {
    const plain = joinPath('/', name)
    if (root === '/' || (await reader.file(plain)).exists !== false) return plain
    const below = joinPath(root, `.${plain}`)
    return (await reader.file(below)).exists === true ? below : plain
  }
  const kernel = one(file, 'linux')
  const target = one(file, 'efi') ?? one(file, 'uki')
  if (kernel !== undefined) draft.kernel = await place(kernel)
  else if (target !== undefined) {
    draft.target = await place(target)
    draft.commands.push('chainloader')
  }
  // A value may name several, apart by spaces, where GRUB reads it.
  const initrds = blsValues(file, 'initrd').flatMap(value => expanded(shown(value), variable).split(/\s+/))
  for (const name of initrds) if (name !== '') draft.initrds.push(await place(name))
  draft.commandLine = blsValues(file, 'options')
    .map(value => expanded(shown(value), variable))
    .filter(value => value !== '')
    .join(' ')
  return draft
}

/** A shell pattern as systemd-boot takes it for its default. */
const patternOf = (text: string): ((name: string) => boolean) => {
  const parts = text.replace(/\.conf$/, '').split('*')
  return name => {
    let at = 0
    for (const [n, part] of parts.entries()) {
      const found = n === 0 ? (name.startsWith(part) ? 0 : -1) : name.indexOf(part, at)
      if (found < 0) return false
      at = found + part.length
    }
    return parts.length > 1 ? parts.at(-1) === '' || name.endsWith(parts.at(-1)!) : at === name.length
  }
}

/** What a menu of systemd-boot says: the entries of a directory, and loader.conf above it. */
export const readBlsMenu = async (
  reader: BootReader,
  directory: string,
): Promise<Pick<BootConfig, 'timeout' | 'defaultName' | 'entries'>> => {
  const drafts = await blsDrafts(reader, [directory])
  const path = joinPath(directory, '../loader.conf')
  const text = (await reader.file(path)).exists ? await reader.read(path) : undefined
  const loader = blsOf(text ?? '')
  const defaultName = one(loader, 'default')
  const fits = defaultName === undefined ? undefined : patternOf(defaultName)
  const chosen = (fits && drafts.find(({ id }) => fits(id))) ?? drafts[0]
  if (chosen) chosen.isDefault = true
  if (fits && !defaultName?.startsWith('@') && !drafts.some(({ id }) => fits(id)))
    reader.tell('BOOT_DEFAULT_UNKNOWN', 'warning', path, `the default ${defaultName} is no entry`)
  const wanted = one(loader, 'timeout')
  const timeout =
    wanted === 'menu-force' ? undefined : wanted !== undefined && /^\d+$/.test(wanted) ? Number(wanted) : 0
  const entries = []
  for (const draft of drafts) entries.push(await finishEntry(reader, draft))
  return { timeout, defaultName, entries }
}

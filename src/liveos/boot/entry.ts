import { printableName } from '../../fs/name.js'
import { parseArguments } from './arguments.js'
import { type BootEntry, type BootFile, entryKind } from './config.js'
import type { BootReader } from './reader.js'

/** What a parser of menus knows of an entry before its files are looked for. */
export interface EntryDraft {
  id: string
  title: string
  hotkey?: string
  submenu: readonly string[]
  isDefault: boolean
  conditional: boolean
  hidden: boolean
  kernel?: string
  initrds: string[]
  commandLine: string
  target?: string
  /** its files may lie on another filesystem of the medium */
  elsewhere: boolean
  /** what the entry does, lower case */
  commands: string[]
  readonly place: BootEntry['place']
}

/** An entry with nothing in it yet. */
export const draftOf = (place: BootEntry['place'], title: string, submenu: readonly string[] = []): EntryDraft => ({
  id: title,
  title,
  submenu,
  isDefault: false,
  conditional: false,
  hidden: false,
  initrds: [],
  commandLine: '',
  elsewhere: false,
  commands: [],
  place,
})

/** Looks for the files of an entry and says what it starts; a file that is missing is a finding. */
export const finishEntry = async (reader: BootReader, draft: EntryDraft): Promise<BootEntry> => {
  const list = parseArguments(draft.commandLine)
  const { kernel, target, initrds, commands, hotkey, elsewhere, ...rest } = draft
  const kind = entryKind({ title: draft.title, kernel, target, commands, arguments: list })
  const severity = draft.conditional ? 'warning' : 'error'
  const file = async (path: string, code: string, what: string): Promise<BootFile> => {
    const found = await reader.file(path, elsewhere)
    if (found.exists === false) {
      const message = `entry ${printableName(draft.title)} names the ${what} ${printableName(path)}, which is not there`
      reader.tell(code, severity, draft.place.path, message)
    }
    return found
  }
  // One after another: a configuration may name a great many.
  const found: BootFile[] = []
  for (const path of initrds) found.push(await file(path, 'BOOT_INITRD_MISSING', 'initrd'))
  const isModule = kernel !== undefined && /\.c32$/i.test(kernel)
  return {
    ...rest,
    kind,
    arguments: list,
    ...(hotkey === undefined ? {} : { hotkey }),
    ...(kernel === undefined
      ? {}
      : { kernel: isModule ? await reader.file(kernel) : await file(kernel, 'BOOT_KERNEL_MISSING', 'kernel') }),
    initrds: found,
    ...(target === undefined ? {} : { target: await reader.file(target, elsewhere) }),
  }
}

/** Above this many entries a configuration is not listed further. */
export const MAX_ENTRIES = 1000

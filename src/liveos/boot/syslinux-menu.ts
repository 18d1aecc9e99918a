import { printableName } from '../../fs/name.js'
import { parseArguments } from './arguments.js'
import type { BootConfig } from './config.js'
import { draftOf, type EntryDraft, finishEntry, MAX_ENTRIES } from './entry.js'
import { joinPath } from './follow.js'
import type { BootReader } from './reader.js'
import { KERNEL_KEYWORDS, type SyslinuxConfig, type SyslinuxLine, syslinuxOf } from './syslinux.js'
import { isMenuModule } from './syslinux-edit.js'
import { shown } from './text.js'

const MAX_INCLUDES = 12
/** Files that are read for one configuration, each time counted. */
const MAX_FILES = 64
const MAX_MENUS = 32

/** Endings that KERNEL tries where a file without one is not there. */
const ENDINGS = ['.c32', '.com', '.cbt', '.bin', '.bs', '.0']

/** A label being put together. */
interface Label {
  readonly draft: EntryDraft
  kernel: string
  keyword: string
  append: string | undefined
  initrds: string[]
  menuLabel: string | undefined
  disabled: boolean
  menuDefault: boolean
}

interface Menu {
  readonly titles: readonly string[]
  title: string | undefined
}

/**
 * Reads a SYSLINUX configuration as its menu does: as if the included files stood in the place where they are named.
 *
 * @param path       of the configuration
 * @param directory  where its relative paths begin
 * @param main       the configuration that the loader starts with, which `~` means
 * @see syslinux com32/menu/readconfig.c
 */
export const readSyslinuxMenu = async (
  reader: BootReader,
  path: string,
  directory: string,
  main = path,
): Promise<Pick<BootConfig, 'timeout' | 'defaultName' | 'entries'>> => {
  const drafts: EntryDraft[] = []
  /** labels in order, hidden ones too: the command line finds them all */
  const labels: Label[] = []
  const menus: Menu[] = [{ titles: [], title: undefined }]
  let label: Label | undefined
  let append = ''
  let defaultName: string | undefined
  let ui = false
  let timeout: number | undefined
  let prompt = false
  let files = 0
  let full = false

  /** A file name of SYSLINUX: relative to its directory, `::` and `/` at its root; a module may be without a name. */
  const pathOf = (name: string): string => joinPath(directory, name.replace(/^::/, '/').replaceAll('\\', '/'))

  const record = async (): Promise<void> => {
    const done = label
    label = undefined
    if (!done || done.disabled) return
    if (drafts.length >= MAX_ENTRIES) {
      if (!full)
        reader.tell(
          'BOOT_TOO_MUCH',
          'warning',
          path,
          `${path} has more than ${MAX_ENTRIES} entries; the rest is not listed`,
        )
      full = true
      return
    }
    const { draft } = done
    const caption = done.menuLabel ?? draft.id
    draft.title = caption.replace(/\^(?=.)/, '')
    const hotkey = done.menuLabel === undefined ? undefined : /\^(.)/u.exec(caption)?.[1]
    if (hotkey !== undefined) draft.hotkey = hotkey.toLowerCase()
    draft.isDefault = done.menuDefault && !draft.hidden
    const [file = '', ...words] = done.kernel.split(/\s+/)
    const given = done.append ?? append
    const options = [...words, ...(given === '-' ? [] : [given])].join(' ').trim()
    await resolve(done, file, options)
    labels.push(done)
    drafts.push(draft)
  }

  const resolve = async ({ draft, keyword, initrds }: Label, file: string, options: string): Promise<void> => {
    if (draft.commands.some(command => /^menu (goto|exit|quit)$/.test(command)) || file === '') return
    draft.commands.push(keyword)
    if (keyword === 'localboot') return
    if (keyword === 'config') {
      draft.target = file === '~' ? main : pathOf(file)
      return
    }
    draft.kernel = await kernelPath(file, keyword)
    draft.commandLine = options
    if (isMenuModule(draft.kernel) && /menu\.c32$/i.test(draft.kernel)) {
      const [target] = options.split(/\s+/)
      if (target) draft.target = target === '~' ? main : pathOf(target)
      return
    }
    const list = parseArguments(options)
    if (/(^|\/)(mboot|chain|hdt|memdisk)\b/.test(file)) return
    const named = list.findLast(({ name }) => name === 'initrd')?.value
    for (const name of [...(named ?? '').split(','), ...initrds]) if (name !== '') draft.initrds.push(pathOf(name))
    // The loader eats its own argument only for the file; the kernel sees it too, and so does who reads this.
    if (initrds.length > 0) draft.commandLine = `${options} initrd=${initrds.join(',')}`.trim()
  }

  const kernelPath = async (file: string, keyword: string): Promise<string> => {
    const plain = pathOf(file)
    if (keyword !== 'kernel' || (await reader.file(plain)).exists !== false) return plain
    for (const ending of ENDINGS) if ((await reader.file(plain + ending)).exists) return plain + ending
    return plain
  }

  const include = async (value: string, includes: readonly string[]): Promise<void> => {
    const [name = '', ...rest] = value.split(/\s+/)
    const title = rest.join(' ')
    const target = name === '~' ? main : pathOf(name)
    if (includes.includes(target) || includes.length >= MAX_INCLUDES || ++files > MAX_FILES) {
      const loop = includes.includes(target)
      const why = loop ? 'includes itself' : 'is one include too many'
      reader.tell(
        loop ? 'BOOT_INCLUDE_LOOP' : 'BOOT_INCLUDE_DEPTH',
        'warning',
        target,
        `${printableName(target)} ${why}: it is not read again`,
      )
      return
    }
    if (title !== '') {
      await record()
      begin(title)
    }
    await readFile(target, [...includes, target])
    if (title !== '') {
      await record()
      end()
    }
  }

  const begin = (title: string): void => {
    const above = menus.at(-1)!
    if (menus.length > MAX_MENUS) {
      reader.tell(
        'BOOT_TOO_DEEP',
        'warning',
        path,
        `menus are nested deeper than ${MAX_MENUS}: the inner ones are shown as one`,
      )
      menus.push(above)
    } else menus.push({ titles: [...above.titles, title.replace(/\^(?=.)/, '')], title: undefined })
  }
  const end = (): void => {
    if (menus.length > 1) menus.pop()
  }
  /** A submenu's own title names it; its MENU LABEL counts more. */
  const nameMenu = (title: string, isLabel: boolean): void => {
    const menu = menus.at(-1)!
    if (menu.titles.length === 0 || (menu.title !== undefined && !isLabel)) return
    const titles = [...menu.titles.slice(0, -1), title.replace(/\^(?=.)/, '')]
    if (!isLabel && menu.titles.at(-1) !== '') return
    for (const draft of drafts) if (draft.submenu === menu.titles) draft.submenu = titles
    menus[menus.length - 1] = { titles, title }
  }

  const readFile = async (from: string, includes: readonly string[]): Promise<void> => {
    const text = await reader.read(from)
    if (text === undefined) return
    const config = syslinuxOf(text)
    for (const line of config.lines) if (line.kind === 'directive') await directive(config, line, from, includes)
    if (config.lines.findLast(line => line.keyword === 'text' || line.keyword === 'endtext')?.keyword === 'text')
      reader.tell('BOOT_SYNTAX', 'warning', from, `${printableName(from)}: TEXT without its ENDTEXT`)
  }

  const directive = async (
    config: SyslinuxConfig,
    line: SyslinuxLine,
    from: string,
    includes: readonly string[],
  ): Promise<void> => {
    const { keyword } = line
    const value = shown(config.text.slice(line.value.start, line.value.end))
    if (KERNEL_KEYWORDS.includes(keyword)) {
      if (label) Object.assign(label, { kernel: value, keyword })
      return
    }
    switch (keyword) {
      case 'label': {
        await record()
        const draft = draftOf({ path: from, offset: line.start }, value, menus.at(-1)!.titles)
        label = {
          draft,
          kernel: value,
          keyword: 'kernel',
          append: undefined,
          initrds: [],
          menuLabel: undefined,
          disabled: false,
          menuDefault: false,
        }
        return
      }
      case 'append':
        if (label) label.append = value
        else append = value
        return
      case 'initrd':
        if (label) label.initrds = value.split(',').map(name => name.trim())
        return
      case 'menu label':
        if (label) label.menuLabel = value
        else nameMenu(value, true)
        return
      case 'menu title':
        nameMenu(value, false)
        return
      case 'menu default':
        if (label) label.menuDefault = true
        return
      case 'menu hide':
        if (label) label.draft.hidden = true
        return
      case 'menu disable':
      case 'menu disabled':
        if (label) label.disabled = true
        return
      case 'menu goto':
      case 'menu exit':
      case 'menu quit':
        label?.draft.commands.push(keyword)
        return
      case 'menu separator':
        return record()
      case 'menu begin':
        await record()
        return begin(value)
      case 'menu end':
        await record()
        return end()
      case 'menu include':
      case 'include':
        return include(value, includes)
      case 'ui':
        ui = true
        return
      case 'default':
        if (isMenuModule(value)) ui = true
        else defaultName = value
        return
      case 'ontimeout':
        defaultName = value
        return
      case 'prompt':
        prompt = Number.parseInt(value, 10) !== 0
        return
      case 'timeout': {
        const tenths = Number.parseInt(value, 10)
        if (menus.length === 1) timeout = tenths > 0 ? tenths / 10 : undefined
        return
      }
    }
  }

  files++
  await readFile(path, [path])
  await record()
  // MENU DEFAULT in a submenu counts in that one only; of several in one menu the last one holds.
  const marked = drafts.filter(({ isDefault, submenu }) => isDefault && submenu.length === 0).at(-1)
  for (const draft of drafts) draft.isDefault = false
  const wanted = defaultName?.split(/\s+/)[0]
  const named = drafts.find(({ id }) => id === defaultName) ?? drafts.find(({ id }) => id === wanted)
  const first = drafts.find(({ hidden, submenu }) => !hidden && submenu.length === 0)
  const chosen = marked ?? named ?? (ui || defaultName === undefined ? first : undefined)
  if (chosen) chosen.isDefault = true
  // What is no label is a file, as if it were typed at the prompt.
  if (defaultName !== undefined && !named && !marked && drafts.length > 0)
    reader.tell('BOOT_DEFAULT_UNKNOWN', 'warning', path, `the default ${printableName(defaultName)} is no label`)
  // Without a menu and a prompt the default starts at once.
  if (!ui && !prompt && timeout === undefined && defaultName !== undefined) timeout = 0
  const entries = []
  for (const draft of drafts) entries.push(await finishEntry(reader, draft))
  return { timeout, defaultName, entries }
}

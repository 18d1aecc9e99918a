import { isLiveError } from '../../error.js'
import { printableName } from '../../fs/name.js'
import { blsDrafts } from './bls-menu.js'
import type { BootConfig } from './config.js'
import { draftOf, type EntryDraft, finishEntry, MAX_ENTRIES } from './entry.js'
import { directoryOf, joinPath } from './follow.js'
import {
  type GrubCommand,
  type GrubFunction,
  type GrubIf,
  type GrubScript,
  type GrubStatement,
  grubOf,
} from './grub.js'
import { evaluateTest, not, type Truth } from './grub-condition.js'
import {
  expandWords,
  type GrubField,
  GrubLimit,
  grubCommandLine,
  mergeEnvironments,
  valuesOf,
  withoutDevice,
} from './grub-expand.js'
import { entryWords, markGrubDefault, targetsOf } from './grub-words.js'
import { parseGrubEnvironment } from './grubenv.js'
import type { BootReader } from './reader.js'
import { shown } from './text.js'

const MAX_STEPS = 20_000
const MAX_VARIABLES = 500
const MAX_VALUE = 16_384
const MAX_INCLUDES = 12
const MAX_CALLS = 16
const MAX_ROUNDS = 256
/** Characters of all commands after expansion. */
const MAX_CHARACTERS = 2 << 20

const LINUX = /^(linux|linux16|linuxefi|kernel)$/
const INITRD = /^(initrd|initrd16|initrdefi)$/
const MULTIBOOT = /^(multiboot2?|xen_hypervisor)$/
const MODULE = /^(module2?|xen_module)$/

/** Where a command runs. */
interface Place {
  readonly script: GrubScript
  readonly path: string
  readonly submenu: readonly string[]
  readonly conditional: boolean
  /** the entry whose body runs; undefined in a menu */
  readonly entry: EntryDraft | undefined
  readonly calls: number
  readonly includes: readonly string[]
}

/** What a GRUB menu says. */
export type GrubMenu = Pick<BootConfig, 'timeout' | 'defaultName' | 'entries'>

/**
 * Runs a GRUB script as far as it can be known here: variables, conditions, functions, loops and includes. Where a condition is
 * the loader's to decide, each branch is walked and its entries are marked. Bounded in steps, depth and size.
 *
 * @param path  of the configuration in the reader's filesystem
 */
export const readGrubMenu = async (reader: BootReader, path: string): Promise<GrubMenu> => {
  const drafts: EntryDraft[] = []
  const functions = new Map<string, GrubFunction>()
  let environment = new Map<string, readonly string[]>()
  let steps = 0
  let characters = 0

  const set = (name: string, values: readonly string[]): void => {
    if (values.some(value => value.length > MAX_VALUE)) throw new GrubLimit('a variable grows too long')
    environment.set(name, values)
    if (environment.size > MAX_VARIABLES) throw new GrubLimit('there are too many variables')
  }
  const setPrefix = (config: string): void => {
    set('prefix', [directoryOf(config)])
    set('config_file', [config])
    set('config_directory', [directoryOf(config)])
  }
  const pathOf = (field: GrubField): string => joinPath('/', withoutDevice(field.text))
  const exists = async (text: string): Promise<Truth> => {
    const { exists: found } = await reader.file(joinPath('/', withoutDevice(text)))
    // What is not here may be on the medium that the loader has as its root by then.
    return found === true ? true : undefined
  }

  const runAll = async (body: readonly GrubStatement[], place: Place): Promise<Truth> => {
    let truth: Truth = true
    for (const statement of body) truth = await run(statement, place)
    return truth
  }

  const run = async (statement: GrubStatement, place: Place): Promise<Truth> => {
    if (++steps > MAX_STEPS) throw new GrubLimit('the script runs too long')
    switch (statement.kind) {
      case 'command':
        return runCommand(statement, place)
      case 'if':
        return runIf(statement, place)
      case 'function':
        functions.set(statement.name, statement)
        return true
      case 'for': {
        let rounds = 0
        for (const { text, certain } of expandWords(statement.words, environment)) {
          if (++rounds > MAX_ROUNDS) throw new GrubLimit('a loop has too many rounds')
          set(statement.variable, certain ? [text] : [])
          await runAll(statement.body, place)
        }
        return undefined
      }
      case 'while':
      case 'until': {
        // How often is known to the loader; once shows what is inside.
        const truth = await runAll(statement.condition, place)
        if (truth === (statement.kind === 'until')) return undefined
        const before = new Map(environment)
        await runAll(statement.body, { ...place, conditional: true })
        environment = mergeEnvironments([before, environment])
        return undefined
      }
    }
  }

  const runIf = async (statement: GrubIf, place: Place): Promise<Truth> => {
    const results: Map<string, readonly string[]>[] = []
    let open = false
    const branch = async (body: readonly GrubStatement[]): Promise<void> => {
      const before = new Map(environment)
      await runAll(body, open ? { ...place, conditional: true } : place)
      results.push(environment)
      environment = before
    }
    let decided = false
    for (const { condition, body } of statement.branches) {
      const truth = await runAll(condition, place)
      if (truth === false) continue
      if (truth === undefined) open = true
      await branch(body)
      decided = truth === true
      if (decided) break
    }
    if (!decided) await branch(statement.otherwise)
    environment = results.length === 1 ? results[0]! : mergeEnvironments(results)
    return undefined
  }

  const runScript = async (from: string, place: Place, fresh: boolean): Promise<void> => {
    if (place.includes.includes(from) || place.includes.length >= MAX_INCLUDES) {
      const loop = place.includes.includes(from)
      const why = loop ? 'includes itself' : `is included more than ${MAX_INCLUDES} files deep`
      reader.tell(
        loop ? 'BOOT_INCLUDE_LOOP' : 'BOOT_INCLUDE_DEPTH',
        'warning',
        from,
        `${printableName(from)} ${why}: it is not read again`,
      )
      return
    }
    const text = await reader.read(from)
    if (text === undefined) return
    const script = grubOf(text)
    for (const { offset, message } of script.problems.slice(0, 5))
      reader.tell('BOOT_SYNTAX', 'warning', from, `${printableName(from)}, byte ${offset}: ${message}`)
    if (fresh) setPrefixOnce(from)
    await runAll(script.body, { ...place, script, path: from, includes: [...place.includes, from] })
  }
  const setPrefixOnce = (from: string): void => {
    if (valuesOf(environment, 'prefix')[0] === '') setPrefix(from)
    set('config_file', [from])
    set('config_directory', [directoryOf(from)])
  }

  const runCommand = async (command: GrubCommand, place: Place): Promise<Truth> => {
    const fields = expandWords(command.words, environment)
    for (const { text } of fields) characters += text.length
    if (characters > MAX_CHARACTERS) throw new GrubLimit('its commands grow too large')
    const [first, ...rest] = fields
    if (!first) return command.block ? runAll(command.block.body, place) : true
    return perform(first.text, rest, command, place)
  }

  const perform = async (name: string, rest: GrubField[], command: GrubCommand, place: Place): Promise<Truth> => {
    const called = functions.get(name)
    if (called) {
      if (place.calls >= MAX_CALLS) throw new GrubLimit('functions call each other too deep')
      for (let n = 1; n <= Math.max(9, rest.length) && n < 64; n++) set(String(n), [rest[n - 1]?.text ?? ''])
      return runAll(called.body, { ...place, calls: place.calls + 1 })
    }
    const assigned = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/s.exec(name === 'set' ? (rest[0]?.text ?? '') : name)
    if (assigned) {
      const word = command.words[name === 'set' ? 1 : 0]
      set(assigned[1]!, word ? possible(word, assigned[1]!, assigned[2]!) : [assigned[2]!])
      return true
    }
    switch (name) {
      case 'unset':
        for (const { text } of rest) environment.delete(text)
        return true
      case 'true':
        return true
      case 'false':
        return false
      case '!':
        return rest[0]
          ? not(await perform(rest[0].text, rest.slice(1), { ...command, words: command.words.slice(1) }, place))
          : undefined
      case '[':
        return evaluateTest(rest.at(-1)?.text === ']' ? rest.slice(0, -1) : rest, exists)
      case 'test':
        return evaluateTest(rest, exists)
      case 'menuentry':
      case 'hiddenentry':
      case 'submenu':
        return addEntry(name, rest, command, place)
      case 'source':
      case '.':
        if (rest[0]) await runScript(pathOf(rest[0]), place, false)
        return true
      case 'configfile':
      case 'normal':
        if (!place.entry && rest[0]) await runScript(pathOf(rest[0]), place, true)
        else if (place.entry) loads(name, rest, place.entry)
        return undefined
      case 'load_env':
        await loadEnvironment(rest)
        return undefined
      case 'blscfg':
        if (place.entry) return undefined
        // A whole directory is read each time.
        steps += MAX_STEPS / 10
        drafts.push(...(await blsDrafts(reader, blsDirectories(rest), environmentOf, place.conditional)))
        if (drafts.length > MAX_ENTRIES) throw new GrubLimit(`there are more than ${MAX_ENTRIES} entries`)
        return undefined
    }
    for (const target of targetsOf(rest)) set(target, [])
    if (name === 'search' && rest.some(({ text }) => /^(--set|-s)$/.test(text))) set('root', [])
    if (!place.entry && (LINUX.test(name) || MULTIBOOT.test(name))) {
      const direct = draftOf({ path: place.path, offset: command.start }, '', place.submenu)
      drafts.push(Object.assign(direct, { conditional: place.conditional, hidden: true }))
    }
    const entry = place.entry ?? drafts.findLast(draft => draft.hidden && draft.id === '')
    if (entry) loads(name, rest, entry)
    return undefined
  }

  /** The values that an assignment may leave, where its word holds variables with several. */
  const possible = (word: GrubCommand['words'][number], name: string, fallback: string): readonly string[] => {
    const variables = word.parts.filter(part => part.kind === 'variable')
    if (variables.every(part => valuesOf(environment, part.text).length === 1)) return [fallback]
    const [only] = variables
    if (variables.length > 1 || !only) return []
    const around = word.parts.map(part => (part.kind === 'text' ? shown(part.text) : undefined))
    return valuesOf(environment, only.text).map(value =>
      around
        .map(text => text ?? value)
        .join('')
        .slice(name.length + 1),
    )
  }

  const addEntry = async (name: string, rest: GrubField[], command: GrubCommand, place: Place): Promise<Truth> => {
    // Only choosing that entry would bring these forth.
    if (place.entry) return true
    if (drafts.length >= MAX_ENTRIES) throw new GrubLimit(`there are more than ${MAX_ENTRIES} entries`)
    const { title, id, hotkey } = entryWords(rest)
    if (name === 'submenu' && command.block) {
      const before = new Map(environment)
      await runAll(command.block.body, { ...place, submenu: [...place.submenu, title], entry: undefined })
      environment = before
      return true
    }
    const draft = draftOf({ path: place.path, offset: command.start }, title, place.submenu)
    Object.assign(draft, { id: id ?? title, conditional: place.conditional, hidden: name === 'hiddenentry' })
    if (hotkey !== undefined) draft.hotkey = hotkey
    drafts.push(draft)
    if (!command.block) return true
    const before = new Map(environment)
    await runAll(command.block.body, { ...place, entry: draft, conditional: false })
    environment = before
    return true
  }

  const loads = (name: string, rest: readonly GrubField[], entry: EntryDraft): void => {
    const files = rest.filter(({ text }) => !text.startsWith('--'))
    const [first] = files
    entry.commands.push(name)
    // A search, or a device in a path, leads away from the filesystem that the script lies on.
    if (environment.has('root') || files.some(({ text }) => text.startsWith('('))) entry.elsewhere = true
    if ((LINUX.test(name) || (MULTIBOOT.test(name) && entry.kernel === undefined)) && first) {
      entry.kernel = pathOf(first)
      entry.commandLine = grubCommandLine(rest.slice(rest.indexOf(first) + 1).map(({ text }) => text))
    } else if (INITRD.test(name))
      entry.initrds.push(...files.map(file => pathOf({ ...file, text: file.text.replace(/^newc:[^:]*:/, '') })))
    else if (MODULE.test(name) && first) {
      // Under a hypervisor the first module is the kernel, the next one its initrd.
      if (entry.commands.filter(command => MODULE.test(command)).length > 1) entry.initrds.push(pathOf(first))
      else {
        entry.kernel = pathOf(first)
        entry.commandLine = grubCommandLine(rest.slice(rest.indexOf(first) + 1).map(({ text }) => text))
      }
    } else if (/^(chainloader|configfile|syslinux_configfile|legacy_configfile)$/.test(name) && first) {
      if (!/\+\d+$/.test(first.text)) entry.target = pathOf(first)
    }
  }

  const loadEnvironment = async (rest: readonly GrubField[]): Promise<void> => {
    const flag = rest.findIndex(({ text }) => text === '-f' || text === '--file')
    const joined = rest.find(({ text }) => text.startsWith('--file='))
    const named = joined ? { ...joined, text: joined.text.slice(7) } : flag < 0 ? undefined : rest[flag + 1]
    const file = named ? pathOf(named) : joinPath(valuesOf(environment, 'prefix')[0] ?? '/', 'grubenv')
    if (file.includes('$') || (await reader.file(file)).exists !== true) return
    const text = await reader.read(file)
    if (text !== undefined)
      for (const { name, value } of parseGrubEnvironment(text).variables) set(shown(name), [shown(value)])
  }

  const blsDirectories = (rest: readonly GrubField[]): readonly string[] => {
    const [named] = rest
    if (named && !named.text.startsWith('-')) return [pathOf(named)]
    return ['/loader/entries', '/boot/loader/entries']
  }
  const environmentOf = (name: string): string => valuesOf(environment, name)[0] ?? `\${${name}}`

  const start: Place = {
    script: grubOf(''),
    path,
    submenu: [],
    conditional: false,
    entry: undefined,
    calls: 0,
    includes: [],
  }
  try {
    await runScript(path, start, true)
  } catch (error) {
    if (!(error instanceof GrubLimit) || isLiveError(error)) throw error
    reader.tell(
      'BOOT_TOO_MUCH',
      'warning',
      path,
      `${printableName(path)}: ${error.message}; what follows is not listed`,
    )
  }
  const timeout = valuesOf(environment, 'timeout')
  const wanted = valuesOf(environment, 'default')
  const defaultName = wanted[0] === undefined || wanted[0] === '' ? undefined : wanted[0]
  markGrubDefault(drafts, defaultName ?? '0')
  for (const draft of drafts) if (draft.id === '' && draft.hidden) draft.title = draft.id = draft.kernel ?? ''
  const seconds = timeout.length > 0 && /^\d+$/.test(timeout[0]!.trim()) ? Number(timeout[0]) : undefined
  const entries = []
  for (const draft of drafts) entries.push(await finishEntry(reader, draft))
  return { timeout: seconds, defaultName, entries }
}

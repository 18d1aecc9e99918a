import type { Argument, ArgumentChange } from '../boot/arguments.js'
import { lastArgument } from '../boot/arguments.js'
import { isYes } from '../dracut/command-line.js'
import { SINCE } from '../dracut/version.js'

/** An argument that an initrd does not know, and what it would have to be. */
export interface Misspelled {
  readonly argument: Argument
  /** for words: from which version on it means something, or until which */
  readonly known: string
  readonly instead: string
  readonly changes: readonly ArgumentChange[]
}

interface Spelling {
  readonly name: string
  readonly instead: string
  /** first version that knows it; left out where all do */
  readonly from?: number
  /** first version that knows it no more */
  readonly until?: number
}

const SPELLINGS: readonly Spelling[] = [
  { name: 'rd.overlay.reset', instead: 'rd.live.overlay.reset', from: SINCE.renamed },
  { name: 'rd.overlay.readonly', instead: 'rd.live.overlay.readonly', from: SINCE.renamed },
  { name: 'overlay', instead: 'rd.live.overlay', until: SINCE.oldNamesGone },
  { name: 'reset_overlay', instead: 'rd.live.overlay.reset', until: SINCE.oldNamesGone },
  { name: 'readonly_overlay', instead: 'rd.live.overlay.readonly', until: SINCE.oldNamesGone },
  { name: 'live_ram', instead: 'rd.live.ram', until: SINCE.oldNamesGone },
  { name: 'live_dir', instead: 'rd.live.dir', until: SINCE.oldNamesGone },
  { name: 'liveimg', instead: 'rd.live.image', until: SINCE.oldNamesGone },
  { name: 'writable_fsimg', instead: 'rd.writable.fsimg', until: SINCE.oldNamesGone },
  // of dracut before 059, or of a slip of the pen: no version that is known here reads them
  { name: 'rd.live.overlay_size', instead: 'rd.live.overlay.size', until: 0 },
  { name: 'rd.live.overlay_thin', instead: 'rd.live.overlay.thin', until: 0 },
  { name: 'rd.live.overlayfs', instead: 'rd.live.overlay.overlayfs', until: 0 },
  { name: 'rd.writable_fsimg', instead: 'rd.writable.fsimg', until: 0 },
  { name: 'rd.live.overlayfs.readonly', instead: 'rd.live.overlay.readonly', until: 0 },
]

const knownWords = ({ from, until }: Spelling): string =>
  from !== undefined ? `dracut ${from} and later` : until === 0 ? 'no version' : `dracut before ${until}`

/** In the place of the old one. */
const renaming = ({ name, value }: Argument, instead: string): ArgumentChange[] => [
  { insert: instead, after: name, ...(value === undefined ? {} : { value }) },
  { remove: name },
]

/** `rd.overlay` before dracut 110 is nothing: a device by it is one of rd.live.overlay, a switch one of the OverlayFS. */
const newOverlay = (list: readonly Argument[], version: number): Misspelled | undefined => {
  const argument = lastArgument(list, 'rd.overlay')
  if (!argument || version >= SINCE.renamed) return undefined
  const value = argument.value ?? ''
  // to say no where nobody asks for an OverlayFS says nothing
  if (!isYes(value)) return undefined
  const isSwitch = value === '' || value === '1'
  const instead = isSwitch ? 'rd.live.overlay.overlayfs' : 'rd.live.overlay'
  const changes = isSwitch ? [{ remove: 'rd.overlay' }, { set: instead }] : renaming(argument, instead)
  return { argument, known: `dracut ${SINCE.renamed} and later`, instead, changes }
}

/** The arguments of a command line that a version does not know, though another one does. */
export const misspelled = (list: readonly Argument[], version: number): Misspelled[] => {
  const found: Misspelled[] = []
  const overlay = newOverlay(list, version)
  if (overlay) found.push(overlay)
  for (const spelling of SPELLINGS) {
    const { name, instead, from, until } = spelling
    const argument = lastArgument(list, name)
    if (!argument || (version >= (from ?? 0) && version < (until ?? Number.POSITIVE_INFINITY))) continue
    // what stands there by its right name too means what it should
    const changes = lastArgument(list, instead) ? [{ remove: name }] : renaming(argument, instead)
    found.push({ argument, known: knownWords(spelling), instead, changes })
  }
  return found
}

import { LiveError } from '../../error.js'
import type { ArgumentChange } from '../boot/arguments.js'
import { blsOf, changeBlsArguments } from '../boot/bls.js'
import type { BootConfig, BootEntry } from '../boot/config.js'
import { grubOf } from '../boot/grub.js'
import { changeGrubArguments, grubEntryAt } from '../boot/grub-edit.js'
import { changeLegacyGrubArguments, legacyGrubOf } from '../boot/legacy-grub.js'
import { syslinuxOf } from '../boot/syslinux.js'
import { changeSyslinuxArguments } from '../boot/syslinux-edit.js'

const gone = (entry: BootEntry): LiveError =>
  new LiveError('REFUSED', `${entry.place.path} has changed: the entry "${entry.title}" is not where it was`, {
    path: entry.place.path,
  })

/**
 * The text of a boot configuration with other kernel arguments for one of its entries.
 *
 * @param kind  of the configuration that lists the entry; the file may be one that it includes
 * @param text  one character a byte; entries before this one may not have been changed yet, those behind it may
 * @throws REFUSED    the entry is not there, or an argument comes from a variable
 * @throws NOT_FOUND  it starts no kernel; USAGE  no kernel argument
 */
export const editEntry = (
  kind: BootConfig['kind'],
  text: string,
  entry: BootEntry,
  changes: readonly ArgumentChange[],
): string => {
  const { offset } = entry.place
  switch (kind) {
    case 'grub2':
    case 'bls': {
      // a grub.cfg lists files of the Boot Loader Specification too
      if (/\/loader\/entries\/[^/]*\.conf$/i.test(entry.place.path))
        return changeBlsArguments(blsOf(text), changes).text
      const script = grubOf(text)
      const found = grubEntryAt(script, offset)
      if (!found) throw gone(entry)
      return changeGrubArguments(script, found, changes).text
    }
    case 'grub-legacy': {
      const config = legacyGrubOf(text)
      const found = config.entries.find(({ lines }) => lines[0]?.start === offset)
      if (!found) throw gone(entry)
      return changeLegacyGrubArguments(config, found, changes).text
    }
    default: {
      const config = syslinuxOf(text)
      const found = config.labels.find(({ lines }) => lines[0]?.start === offset)
      if (!found) throw gone(entry)
      // what a label inherits may stand in another file: the entry knows it
      return changeSyslinuxArguments(config, found, changes, entry.commandLine).text
    }
  }
}

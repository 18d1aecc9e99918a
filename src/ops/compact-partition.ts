import { basename } from 'node:path'
import { LiveError } from '../error.js'
import { isHostFolder } from '../host/folder.js'
import { isPlaceFolder } from '../host/place-folder.js'
import { pathWord } from '../liveos/advice.js'
import type { HostFile, Target } from '../liveos/target.js'

const COPY = 'overlay-copy.img'

/** The base as a file of this computer: its path, and the command that makes it one where it lies in an image. */
const baseOf = ({ base, name }: Target): { readonly path: string; readonly command: string | undefined } => {
  if (isHostFolder(base.folder)) return { path: base.path, command: undefined }
  const inside = base.path.slice(base.path.indexOf(':/') + 1)
  return {
    path: basename(base.path),
    command: `liveos cp --medium ${pathWord(`${name}:${inside}`)} .`,
  }
}

/**
 * Why an overlay that is a partition is not compacted where it stands, and by which commands it is: all of a new store has to be
 * on the medium before the old one goes, and there is no second partition.
 */
export const partitionCompact = (overlay: HostFile, target: Target): LiveError => {
  const { path, folder, facts } = overlay
  const { part } = isPlaceFolder(folder) ? folder : { part: undefined }
  const device = pathWord(part?.path ?? path)
  const { size } = facts
  const [skip, seek] =
    part?.partition === undefined
      ? ['', '']
      : [` iflag=skip_bytes,count_bytes skip=${part.start} count=${size}`, ` oflag=seek_bytes seek=${part.start}`]
  const base = baseOf(target)
  const commands = [
    ...(base.command === undefined ? [] : [base.command]),
    `dd if=${device} of=${COPY} bs=1M${skip}`,
    `liveos compact --base ${pathWord(base.path)} --overlay ${COPY} --yes`,
    `dd if=${COPY} of=${device} bs=1M${seek} conv=notrunc,fsync`,
  ]
  return new LiveError(
    'REFUSED',
    `${path} is a whole partition or disk, and a new store can't be written beside the old one there. Compact a copy and write it back, again from the copy should that be cut short: ${commands.join(' && ')}`,
    { path, commands },
  )
}

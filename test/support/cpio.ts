/** A member of a made-up archive. */
export interface CpioPart {
  readonly path: string
  readonly content?: string | Uint8Array
  readonly mode?: number
  readonly inode?: number
  readonly links?: number
  /** "070702" with this checksum */
  readonly checksum?: number
  /** in place of what belongs there, by byte of the header */
  readonly spoil?: readonly (readonly [at: number, text: string])[]
}

const hex = (value: number): string => value.toString(16).padStart(8, '0')
const padded = (bytes: Uint8Array): Buffer => Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)])

/** One member, by the layout of Documentation/driver-api/early-userspace/buffer-format.rst. */
export const cpioPart = ({ path, content = '', mode = 0o100644, inode = 1, links = 1, ...part }: CpioPart): Buffer => {
  const bytes = Buffer.from(content as string)
  const name = Buffer.from(`${path}\0`)
  const fields = [inode, mode, 0, 0, links, 0, bytes.length, 0, 0, 0, 0, name.length, part.checksum ?? 0]
  const header = Buffer.from(`${part.checksum === undefined ? '070701' : '070702'}${fields.map(hex).join('')}`)
  for (const [at, text] of part.spoil ?? []) header.write(text, at, 'latin1')
  return Buffer.concat([padded(Buffer.concat([header, name])), padded(bytes)])
}

/** An archive with its trailer. */
export const cpioOf = (...parts: readonly CpioPart[]): Buffer =>
  Buffer.concat([...parts.map(cpioPart), cpioPart({ path: 'TRAILER!!!', mode: 0 })])

import {
  checkMagic,
  GREETING_SIZE,
  IHAVEOPT,
  MAX_STRING,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_EXPORT,
  NBD_REP_MAGIC,
  NBDMAGIC,
  OPTION_REPLY_SIZE,
  OPTION_SIZE,
  viewOf,
} from './layout.js'

/** What a server says first. */
export const encodeGreeting = (): Buffer => {
  const bytes = Buffer.alloc(GREETING_SIZE)
  bytes.writeBigUInt64BE(NBDMAGIC, 0)
  bytes.writeBigUInt64BE(IHAVEOPT, 8)
  bytes.writeUInt16BE(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES, 16)
  return bytes
}

/** The server's handshake flags. @throws CORRUPT  it speaks another protocol, or the old style */
export const parseGreeting = (bytes: Uint8Array): number => {
  const view = viewOf(bytes)
  checkMagic('NBDMAGIC', view.readBigUInt64BE(0), NBDMAGIC)
  checkMagic('IHAVEOPT', view.readBigUInt64BE(8), IHAVEOPT)
  return view.readUInt16BE(16)
}

/** The head of an option. */
export interface OptionHead {
  readonly option: number
  /** bytes of data that follow */
  readonly length: number
}

/** @throws CORRUPT  wrong magic */
export const parseOption = (bytes: Uint8Array): OptionHead => {
  const view = viewOf(bytes)
  checkMagic('option magic', view.readBigUInt64BE(0), IHAVEOPT)
  return { option: view.readUInt32BE(8), length: view.readUInt32BE(12) }
}

/** An option with its data. */
export const encodeOption = (option: number, data: Uint8Array = new Uint8Array(0)): Buffer => {
  const head = Buffer.alloc(OPTION_SIZE)
  head.writeBigUInt64BE(IHAVEOPT, 0)
  head.writeUInt32BE(option, 8)
  head.writeUInt32BE(data.length, 12)
  return Buffer.concat([head, data])
}

/** A reply to an option, with its data. */
export const encodeOptionReply = (option: number, type: number, data: Uint8Array = new Uint8Array(0)): Buffer => {
  const head = Buffer.alloc(OPTION_REPLY_SIZE)
  head.writeBigUInt64BE(NBD_REP_MAGIC, 0)
  head.writeUInt32BE(option, 8)
  head.writeUInt32BE(type, 12)
  head.writeUInt32BE(data.length, 16)
  return Buffer.concat([head, data])
}

/** The head of a reply to an option. @throws CORRUPT  wrong magic */
export const parseOptionReply = (bytes: Uint8Array): OptionHead & { readonly type: number } => {
  const view = viewOf(bytes)
  checkMagic('option reply magic', view.readBigUInt64BE(0), NBD_REP_MAGIC)
  return { option: view.readUInt32BE(8), type: view.readUInt32BE(12), length: view.readUInt32BE(16) }
}

/** Data of NBD_REP_INFO for NBD_INFO_EXPORT. */
export const encodeInfoExport = (size: number, flags: number): Buffer => {
  const bytes = Buffer.alloc(12)
  bytes.writeUInt16BE(NBD_INFO_EXPORT, 0)
  bytes.writeBigUInt64BE(BigInt(size), 2)
  bytes.writeUInt16BE(flags, 10)
  return bytes
}

/** Data of NBD_REP_INFO for NBD_INFO_NAME and NBD_INFO_DESCRIPTION. */
export const encodeInfoText = (type: number, text: string): Buffer => {
  const head = Buffer.alloc(2)
  head.writeUInt16BE(type, 0)
  return Buffer.concat([head, Buffer.from(text)])
}

/** Data of NBD_REP_INFO for NBD_INFO_BLOCK_SIZE. */
export const encodeInfoBlockSize = (minimum: number, preferred: number, maximum: number): Buffer => {
  const bytes = Buffer.alloc(14)
  bytes.writeUInt16BE(NBD_INFO_BLOCK_SIZE, 0)
  bytes.writeUInt32BE(minimum, 2)
  bytes.writeUInt32BE(preferred, 6)
  bytes.writeUInt32BE(maximum, 10)
  return bytes
}

/** Answer to NBD_OPT_EXPORT_NAME. */
export const encodeExportName = (size: number, flags: number, noZeroes: boolean): Buffer => {
  const bytes = Buffer.alloc(noZeroes ? 10 : 134)
  bytes.writeBigUInt64BE(BigInt(size), 0)
  bytes.writeUInt16BE(flags, 8)
  return bytes
}

/** A length and a string. */
export const encodeString = (text: string): Buffer => {
  const bytes = Buffer.from(text)
  const head = Buffer.alloc(4)
  head.writeUInt32BE(bytes.length, 0)
  return Buffer.concat([head, bytes])
}

/** UTF-8 as the protocol wants its names; undefined where it is none, or too long. */
export const parseText = (bytes: Uint8Array): string | undefined => {
  if (bytes.length > MAX_STRING) return undefined
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return undefined
  }
}

/** Data of NBD_OPT_INFO and NBD_OPT_GO: `u32 name length, name, u16 count, u16 each`. Undefined where they are malformed. */
export const parseInfoRequest = (
  data: Uint8Array,
): { readonly name: string; readonly wanted: readonly number[] } | undefined => {
  const view = viewOf(data)
  if (view.length < 6) return undefined
  const nameLength = view.readUInt32BE(0)
  if (nameLength > view.length - 6) return undefined
  const name = parseText(view.subarray(4, 4 + nameLength))
  const count = view.readUInt16BE(4 + nameLength)
  if (name === undefined || view.length !== 6 + nameLength + 2 * count) return undefined
  return { name, wanted: Array.from({ length: count }, (_, n) => view.readUInt16BE(6 + nameLength + 2 * n)) }
}

/** Data of NBD_OPT_INFO and NBD_OPT_GO. */
export const encodeInfoRequest = (name: string, wanted: readonly number[]): Buffer => {
  const tail = Buffer.alloc(2 + 2 * wanted.length)
  tail.writeUInt16BE(wanted.length, 0)
  for (const [n, type] of wanted.entries()) tail.writeUInt16BE(type, 2 + 2 * n)
  return Buffer.concat([encodeString(name), tail])
}

/**
 * Data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT: `u32 name length, name, u32 count`, and for each query
 * `u32 length, text`. Undefined where they are malformed.
 */
export const parseMetaRequest = (
  data: Uint8Array,
): { readonly name: string; readonly queries: readonly string[] } | undefined => {
  const view = viewOf(data)
  let at = 0
  const number = (): number | undefined => {
    if (view.length - at < 4) return undefined
    at += 4
    return view.readUInt32BE(at - 4)
  }
  const text = (): string | undefined => {
    const length = number()
    if (length === undefined || length > view.length - at) return undefined
    at += length
    return parseText(view.subarray(at - length, at))
  }
  const name = text()
  const count = number()
  if (name === undefined || count === undefined) return undefined
  const queries: string[] = []
  // Each query takes four bytes of the data at least, so the data bound the loop whatever the count claims.
  for (let n = 0; n < count; n++) {
    const query = text()
    if (query === undefined) return undefined
    queries.push(query)
  }
  return at === view.length ? { name, queries } : undefined
}

/** Data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
export const encodeMetaRequest = (name: string, queries: readonly string[]): Buffer => {
  const count = Buffer.alloc(4)
  count.writeUInt32BE(queries.length, 0)
  return Buffer.concat([encodeString(name), count, ...queries.map(encodeString)])
}

/** Data of NBD_REP_META_CONTEXT. */
export const encodeMetaContext = (id: number, name: string): Buffer => {
  const head = Buffer.alloc(4)
  head.writeUInt32BE(id, 0)
  return Buffer.concat([head, Buffer.from(name)])
}

import {
  CHUNK_SIZE,
  checkMagic,
  MAX_STRING,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_REQUEST_MAGIC,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
  REQUEST_SIZE,
  SIMPLE_REPLY_SIZE,
  viewOf,
} from './layout.js'

/** A request of the transmission phase. */
export interface Request {
  readonly flags: number
  readonly type: number
  readonly cookie: bigint
  /** may be past any device: above 2^53 it is only about right */
  readonly offset: number
  readonly length: number
}

/** @throws CORRUPT  wrong magic */
export const parseRequest = (bytes: Uint8Array): Request => {
  const view = viewOf(bytes)
  checkMagic('request magic', view.readUInt32BE(0), NBD_REQUEST_MAGIC)
  return {
    flags: view.readUInt16BE(4),
    type: view.readUInt16BE(6),
    cookie: view.readBigUInt64BE(8),
    offset: view.readUInt32BE(16) * 2 ** 32 + view.readUInt32BE(20),
    length: view.readUInt32BE(24),
  }
}

/** A request without its data. */
export const encodeRequest = ({ flags, type, cookie, offset, length }: Request): Buffer => {
  const bytes = Buffer.allocUnsafe(REQUEST_SIZE)
  bytes.writeUInt32BE(NBD_REQUEST_MAGIC, 0)
  bytes.writeUInt16BE(flags, 4)
  bytes.writeUInt16BE(type, 6)
  bytes.writeBigUInt64BE(cookie, 8)
  bytes.writeBigUInt64BE(BigInt(offset), 16)
  bytes.writeUInt32BE(length, 24)
  return bytes
}

/** The head of a simple reply. */
export const encodeSimpleReply = (cookie: bigint, error: number): Buffer => {
  const bytes = Buffer.allocUnsafe(SIMPLE_REPLY_SIZE)
  bytes.writeUInt32BE(NBD_SIMPLE_REPLY_MAGIC, 0)
  bytes.writeUInt32BE(error, 4)
  bytes.writeBigUInt64BE(cookie, 8)
  return bytes
}

const writeChunk = (bytes: Buffer, cookie: bigint, type: number, length: number, isLast: boolean): void => {
  bytes.writeUInt32BE(NBD_STRUCTURED_REPLY_MAGIC, 0)
  bytes.writeUInt16BE(isLast ? NBD_REPLY_FLAG_DONE : 0, 4)
  bytes.writeUInt16BE(type, 6)
  bytes.writeBigUInt64BE(cookie, 8)
  bytes.writeUInt32BE(length, 16)
}

/** The chunk that says that all went well and nothing is to be told. */
export const encodeNoneChunk = (cookie: bigint): Buffer => {
  const bytes = Buffer.allocUnsafe(CHUNK_SIZE)
  writeChunk(bytes, cookie, NBD_REPLY_TYPE_NONE, 0, true)
  return bytes
}

/** A chunk of data up to and without the data. */
export const encodeDataChunk = (cookie: bigint, offset: number, length: number, isLast: boolean): Buffer => {
  const bytes = Buffer.allocUnsafe(CHUNK_SIZE + 8)
  writeChunk(bytes, cookie, NBD_REPLY_TYPE_OFFSET_DATA, 8 + length, isLast)
  bytes.writeBigUInt64BE(BigInt(offset), CHUNK_SIZE)
  return bytes
}

/** A chunk of zeros. */
export const encodeHoleChunk = (cookie: bigint, offset: number, length: number, isLast: boolean): Buffer => {
  const bytes = Buffer.allocUnsafe(CHUNK_SIZE + 12)
  writeChunk(bytes, cookie, NBD_REPLY_TYPE_OFFSET_HOLE, 12, isLast)
  bytes.writeBigUInt64BE(BigInt(offset), CHUNK_SIZE)
  bytes.writeUInt32BE(length, CHUNK_SIZE + 8)
  return bytes
}

/** One extent of a block status: bytes and NBD_STATE flags. */
export interface StatusExtent {
  readonly length: number
  readonly flags: number
}

/** The chunk of a block status. */
export const encodeStatusChunk = (cookie: bigint, contextId: number, extents: readonly StatusExtent[]): Buffer => {
  const bytes = Buffer.allocUnsafe(CHUNK_SIZE + 4 + 8 * extents.length)
  writeChunk(bytes, cookie, NBD_REPLY_TYPE_BLOCK_STATUS, 4 + 8 * extents.length, true)
  bytes.writeUInt32BE(contextId, CHUNK_SIZE)
  for (const [n, { length, flags }] of extents.entries()) {
    bytes.writeUInt32BE(length, CHUNK_SIZE + 4 + 8 * n)
    bytes.writeUInt32BE(flags, CHUNK_SIZE + 8 + 8 * n)
  }
  return bytes
}

/** The chunk of an error, its words cut to what the protocol allows. */
export const encodeErrorChunk = (cookie: bigint, error: number, message: string): Buffer => {
  const words = Buffer.from(message).subarray(0, MAX_STRING)
  const head = Buffer.allocUnsafe(CHUNK_SIZE + 6)
  writeChunk(head, cookie, NBD_REPLY_TYPE_ERROR, 6 + words.length, true)
  head.writeUInt32BE(error, CHUNK_SIZE)
  head.writeUInt16BE(words.length, CHUNK_SIZE + 4)
  return Buffer.concat([head, words])
}

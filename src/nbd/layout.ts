import { corrupt } from '../error.js'

/*
 * The NBD protocol, fixed newstyle; every number is big-endian, offsets and lengths are bytes.
 *
 * greeting, server     0 u64 NBDMAGIC   8 u64 IHAVEOPT   16 u16 handshake flags                              18 bytes
 * greeting, client     0 u32 client flags                                                                     4
 * option, client       0 u64 IHAVEOPT   8 u32 option   12 u32 length   16 data                               16 + length
 * option reply         0 u64 magic      8 u32 option   12 u32 reply type   16 u32 length   20 data           20 + length
 * export name reply    0 u64 size       8 u16 transmission flags   10 124 zeros unless NO_ZEROES             10 or 134
 * request              0 u32 magic      4 u16 flags   6 u16 type   8 u64 cookie   16 u64 offset   24 u32 length   28 (+ data)
 * simple reply         0 u32 magic      4 u32 error   8 u64 cookie                                           16 (+ data)
 * structured chunk     0 u32 magic      4 u16 flags   6 u16 type   8 u64 cookie   16 u32 length   20 payload 20 + length
 *
 * chunk OFFSET_DATA    0 u64 offset     8 data
 * chunk OFFSET_HOLE    0 u64 offset     8 u32 hole size                                                      12
 * chunk BLOCK_STATUS   0 u32 context id 4 (u32 length, u32 status flags) for each extent                     4 + 8 n
 * chunk ERROR          0 u32 error      4 u16 message length   6 message                                     6 + n
 */

export const NBDMAGIC = 0x4e42444d41474943n
export const IHAVEOPT = 0x49484156454f5054n
export const NBD_REP_MAGIC = 0x3e889045565a9n
export const NBD_REQUEST_MAGIC = 0x25609513
export const NBD_SIMPLE_REPLY_MAGIC = 0x67446698
export const NBD_STRUCTURED_REPLY_MAGIC = 0x668e33ef

export const NBD_FLAG_FIXED_NEWSTYLE = 1
export const NBD_FLAG_NO_ZEROES = 2

export const NBD_OPT_EXPORT_NAME = 1
export const NBD_OPT_ABORT = 2
export const NBD_OPT_LIST = 3
export const NBD_OPT_STARTTLS = 5
export const NBD_OPT_INFO = 6
export const NBD_OPT_GO = 7
export const NBD_OPT_STRUCTURED_REPLY = 8
export const NBD_OPT_LIST_META_CONTEXT = 9
export const NBD_OPT_SET_META_CONTEXT = 10

export const NBD_REP_ACK = 1
export const NBD_REP_SERVER = 2
export const NBD_REP_INFO = 3
export const NBD_REP_META_CONTEXT = 4
/** set in every reply that is an error */
export const NBD_REP_FLAG_ERROR = 2 ** 31
export const NBD_REP_ERR_UNSUP = NBD_REP_FLAG_ERROR + 1
export const NBD_REP_ERR_INVALID = NBD_REP_FLAG_ERROR + 3
export const NBD_REP_ERR_TLS_REQD = NBD_REP_FLAG_ERROR + 5
export const NBD_REP_ERR_UNKNOWN = NBD_REP_FLAG_ERROR + 6
export const NBD_REP_ERR_TOO_BIG = NBD_REP_FLAG_ERROR + 9

export const NBD_INFO_EXPORT = 0
export const NBD_INFO_NAME = 1
export const NBD_INFO_DESCRIPTION = 2
export const NBD_INFO_BLOCK_SIZE = 3

export const NBD_FLAG_HAS_FLAGS = 1 << 0
export const NBD_FLAG_READ_ONLY = 1 << 1
export const NBD_FLAG_SEND_FLUSH = 1 << 2
export const NBD_FLAG_SEND_FUA = 1 << 3
export const NBD_FLAG_SEND_TRIM = 1 << 5
export const NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6
export const NBD_FLAG_SEND_DF = 1 << 7
export const NBD_FLAG_CAN_MULTI_CONN = 1 << 8
export const NBD_FLAG_SEND_CACHE = 1 << 10

export const NBD_CMD_READ = 0
export const NBD_CMD_WRITE = 1
export const NBD_CMD_DISC = 2
export const NBD_CMD_FLUSH = 3
export const NBD_CMD_TRIM = 4
export const NBD_CMD_CACHE = 5
export const NBD_CMD_WRITE_ZEROES = 6
export const NBD_CMD_BLOCK_STATUS = 7

export const NBD_CMD_FLAG_FUA = 1 << 0
export const NBD_CMD_FLAG_NO_HOLE = 1 << 1
export const NBD_CMD_FLAG_DF = 1 << 2
export const NBD_CMD_FLAG_REQ_ONE = 1 << 3

export const NBD_REPLY_FLAG_DONE = 1
export const NBD_REPLY_TYPE_NONE = 0
export const NBD_REPLY_TYPE_OFFSET_DATA = 1
export const NBD_REPLY_TYPE_OFFSET_HOLE = 2
export const NBD_REPLY_TYPE_BLOCK_STATUS = 5
export const NBD_REPLY_TYPE_ERROR = 2 ** 15 + 1
export const NBD_REPLY_TYPE_ERROR_OFFSET = 2 ** 15 + 2

export const NBD_EPERM = 1
export const NBD_EIO = 5
export const NBD_EINVAL = 22
export const NBD_ENOSPC = 28

export const NBD_STATE_HOLE = 1
export const NBD_STATE_ZERO = 2

/** The one metadata context that is known here. */
export const BASE_ALLOCATION = 'base:allocation'
/** bytes of a name or other string at most */
export const MAX_STRING = 4096

export const GREETING_SIZE = 18
export const OPTION_SIZE = 16
export const OPTION_REPLY_SIZE = 20
export const REQUEST_SIZE = 28
export const SIMPLE_REPLY_SIZE = 16
export const CHUNK_SIZE = 20

/** The same bytes as a Buffer, not copied. */
export const viewOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** @throws CORRUPT  another magic than the protocol has in this place */
export const checkMagic = (field: string, found: bigint | number, expected: bigint | number): void => {
  if (found === expected) return
  const hex = (value: bigint | number): string => `0x${value.toString(16)}`
  throw corrupt({ device: 'NBD connection', offset: 0, field, expected: hex(expected), found: hex(found) })
}

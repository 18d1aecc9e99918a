import { encoder } from '../../bytes/cursor.js'
import type { LiveError } from '../../error.js'

/*
 * On the medium: u32 a_version (1), then entries u16 e_tag, u16 e_perm and, of a named user or group only, u32 e_id.
 * For programs: u32 a_version (2), then entries u16 e_tag, u16 e_perm, u32 e_id, all ones where there is no id.
 */

const STORED_VERSION = 1
const SHOWN_VERSION = 2
const WITH_ID = [0x02, 0x08]
const WITHOUT_ID = [0x01, 0x04, 0x10, 0x20]
const NO_ID = 0xffff_ffff

/**
 * An ACL in the form that getxattr gives.
 *
 * @param value  the bytes on the medium
 * @param wrong  makes the error of a field at a byte of the value
 * @throws CORRUPT
 * @see linux fs/ext4/acl.c, ext4_acl_from_disk; include/uapi/linux/posix_acl_xattr.h
 */
export const posixAcl = (
  value: Uint8Array,
  wrong: (at: number, field: string, expected: string, found: number) => LiveError,
): Uint8Array => {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength)
  if (value.length < 4) throw wrong(0, 'size', 'at least 4 bytes', value.length)
  const version = view.getUint32(0, true)
  if (version !== STORED_VERSION) throw wrong(0, 'a_version', String(STORED_VERSION), version)
  const entries: { tag: number; perm: number; id: number }[] = []
  for (let at = 4; at < value.length; ) {
    if (at + 4 > value.length) throw wrong(at, 'size', 'whole entries', value.length)
    const tag = view.getUint16(at, true)
    const named = WITH_ID.includes(tag)
    if (!named && !WITHOUT_ID.includes(tag)) throw wrong(at, 'e_tag', '1, 2, 4, 8, 16 or 32', tag)
    if (named && at + 8 > value.length) throw wrong(at, 'size', 'whole entries', value.length)
    entries.push({ tag, perm: view.getUint16(at + 2, true), id: named ? view.getUint32(at + 4, true) : NO_ID })
    at += named ? 8 : 4
  }
  const shown = encoder(4 + entries.length * 8).u32(SHOWN_VERSION)
  for (const { tag, perm, id } of entries) shown.u16(tag).u16(perm).u32(id)
  return shown.done()
}

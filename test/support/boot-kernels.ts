import { gzipSync } from 'node:zlib'

/** A file that begins as a bzImage of x86 does, with nothing to run behind the header. */
export const bzImage = (
  version: string,
  { protocol = 0x20f, wide = true, pointer = 0x3000 }: { protocol?: number; wide?: boolean; pointer?: number } = {},
): Uint8Array => {
  const bytes = Buffer.alloc(0x4000)
  bytes.writeUInt16LE(0xaa55, 0x1fe)
  bytes.writeUInt8(0x1b, 0x1f1)
  bytes.write('HdrS', 0x202, 'latin1')
  bytes.writeUInt16LE(protocol, 0x206)
  bytes.writeUInt16LE(pointer, 0x20e)
  bytes.writeUInt8(1, 0x211)
  bytes.writeUInt16LE(wide ? 1 : 0, 0x236)
  if (pointer + 0x200 + version.length < bytes.length) bytes.write(`${version}\0`, pointer + 0x200, 'latin1')
  return bytes
}

/** A plain Image of arm64: its header, and a banner among zeros. */
export const armImage = (banner: string, size = 3 << 20, at = size - 4096): Uint8Array => {
  const bytes = Buffer.alloc(size)
  bytes.write('MZ', 0, 'latin1')
  bytes.write('ARM\x64', 0x38, 'latin1')
  bytes.write(banner, at, 'latin1')
  return bytes
}

/** An EFI zboot image around a payload, its PE header for aarch64. */
export const zboot = (payload: Uint8Array, compression = 'gzip'): Uint8Array => {
  const packed = compression === 'gzip' ? gzipSync(payload) : Buffer.from(payload)
  const head = Buffer.alloc(0x200)
  head.write('MZ', 0, 'latin1')
  head.write('zimg', 4, 'latin1')
  head.writeUInt32LE(0x200, 8)
  head.writeUInt32LE(packed.length, 12)
  head.write(compression, 0x18, 'latin1')
  head.writeUInt32LE(0x80, 0x3c)
  head.write('PE\0\0', 0x80, 'latin1')
  head.writeUInt16LE(0xaa64, 0x84)
  return Buffer.concat([head, packed])
}

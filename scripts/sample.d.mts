/** One file of the merged view, as the kernel's ext4 driver showed it. */
export interface SampleFile {
  readonly path: string
  /** find's letter: f, d, l */
  readonly type: string
  /** octal */
  readonly mode: string
  readonly uid: number
  readonly gid: number
  readonly size: number
  readonly links: number
  /** seconds since 1970 */
  readonly mtime: number
  readonly target?: string
  readonly sha256?: string
}

export interface SampleFacts {
  readonly about: string
  readonly kernel: string
  readonly mksquashfs: string
  readonly mke2fs: string
  /** dmsetup's lines for the overlay over its base */
  readonly table: string
  readonly status: string
  readonly originBytes: number
  readonly originSha256: string
  readonly mergedSha256: string
  readonly e2fsckRc: number
  readonly images: Readonly<Record<string, { readonly bytes: number; readonly sha256: string }>>
  /** `path`, and each attribute's value as 0x hex under its name */
  readonly xattrs: readonly Readonly<Record<string, string>>[]
  readonly files: readonly SampleFile[]
}

export function sampleFacts(): Promise<SampleFacts>
export function unpackSample(directory: string): Promise<string>

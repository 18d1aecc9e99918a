/** Bits of s_feature_compat: who does not know one may read and write all the same. @see linux fs/ext4/ext4.h */
export const COMPAT = {
  dir_prealloc: 0x1,
  imagic_inodes: 0x2,
  has_journal: 0x4,
  ext_attr: 0x8,
  resize_inode: 0x10,
  dir_index: 0x20,
  lazy_bg: 0x40,
  exclude_bitmap: 0x100,
  sparse_super2: 0x200,
  fast_commit: 0x400,
  stable_inodes: 0x800,
  orphan_file: 0x1000,
} as const

/** Bits of s_feature_incompat: who does not know one must not even read. */
export const INCOMPAT = {
  compression: 0x1,
  filetype: 0x2,
  needs_recovery: 0x4,
  journal_dev: 0x8,
  meta_bg: 0x10,
  extent: 0x40,
  '64bit': 0x80,
  mmp: 0x100,
  flex_bg: 0x200,
  ea_inode: 0x400,
  dirdata: 0x1000,
  metadata_csum_seed: 0x2000,
  large_dir: 0x4000,
  inline_data: 0x8000,
  encrypt: 0x10000,
  casefold: 0x20000,
} as const

/** Bits of s_feature_ro_compat: who does not know one may read, not write. */
export const RO_COMPAT = {
  sparse_super: 0x1,
  large_file: 0x2,
  btree_dir: 0x4,
  huge_file: 0x8,
  uninit_bg: 0x10,
  dir_nlink: 0x20,
  extra_isize: 0x40,
  snapshot_bitmap: 0x80,
  quota: 0x100,
  bigalloc: 0x200,
  metadata_csum: 0x400,
  replica: 0x800,
  'read-only': 0x1000,
  project: 0x2000,
  shared_blocks: 0x4000,
  verity: 0x8000,
  orphan_present: 0x10000,
} as const

/** The names of the set bits, as mke2fs writes them; `bit 17` and the like for bits without one. */
export const featureNames = (bits: number, known: Readonly<Record<string, number>>): readonly string[] => {
  const names: string[] = []
  for (let bit = 0; bit < 32; bit++) {
    if (!((bits >>> bit) & 1)) continue
    names.push(Object.keys(known).find(name => known[name] === 2 ** bit) ?? `bit ${bit}`)
  }
  return names
}

/** ext2, ext3 or ext4, told by the features as blkid does. @see util-linux libblkid/src/superblocks/ext.c */
export const typeByFeatures = (compat: number, incompat: number, roCompat: number): 'ext2' | 'ext3' | 'ext4' => {
  const { sparse_super, large_file, btree_dir } = RO_COMPAT
  const { filetype, meta_bg, needs_recovery } = INCOMPAT
  const journal = (compat & COMPAT.has_journal) !== 0
  const old = filetype | meta_bg | (journal ? needs_recovery : 0)
  if (roCompat & ~(sparse_super | large_file | btree_dir) || incompat & ~old) return 'ext4'
  return journal ? 'ext3' : 'ext2'
}

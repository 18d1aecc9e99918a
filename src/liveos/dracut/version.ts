/** Versions of dracut whose scripts were read for the rules here. */
export const OLDEST_READ = 59
export const NEWEST_READ = 112

/** The number of a version: of `059-4` 59, of `107-8.fc43` 107. Undefined for anything else. */
export const dracutNumber = (version: string | undefined): number | undefined => {
  const digits = /^0*(\d{1,4})(?![\d])/.exec(version ?? '')?.[1]
  return digits === undefined ? undefined : Number(digits)
}

/**
 * What changed from version to version, each by the first one that has it.
 *
 * @see dracut modules.d/70dmsquash-live (90dmsquash-live before 108), modules.d/70overlayfs
 */
export const SINCE = {
  /** a required OverlayFS is told to the overlayfs module, and `rd.minmem` is held against the memory there is */
  overlayfsTold: 60,
  /** the upper directory is made before the root is mounted, a path gets its `/`, a thin device is as large as its pool */
  overlayfsPrepared: 100,
  /** EROFS; paths with spaces */
  erofs: 103,
  /** arguments from before 2013, such as `liveimg` and `overlay`, mean nothing any more */
  oldNamesGone: 104,
  /** a flat image is known by `/usr`, before by `/proc`; `rd.live.overlay.nouserconfirmprompt` */
  flatByUsr: 106,
  /** `rd.overlay`, which means a device and an OverlayFS at once; `/ostree`; no ext3fs.img */
  renamed: 110,
  /** `rd.overlay=tmpfs:…`; the root is unmounted before an OverlayFS is laid over it */
  tmpfsOptions: 111,
} as const

import type { DeviceNames } from './device-word.js'

/** A device that a boot can find. */
export interface DeviceFacts extends DeviceNames {
  /** for words, such as `partition 1` */
  readonly name: string
  /** as blkid calls its filesystem */
  readonly type: string | undefined
  /** nothing can be written to it, whatever it is mounted with: a DVD, an ISO */
  readonly readOnly: boolean
}

/** What is found where a device is looked for. */
export interface DeviceMatch {
  /** undefined where none of those that are known is meant */
  readonly device: DeviceFacts | undefined
  /** how many fit: of several, the kernel's or udev's last one wins */
  readonly count: number
  /** taken for granted: the word names a device that only the running computer knows */
  readonly assumed: boolean
  /** one fits but for upper and lower case */
  readonly byCase: DeviceFacts | undefined
}

/** What the image holds at its root, where it could be opened. */
export interface ImageInside {
  readonly liveOS: boolean
  /** /LiveOS/rootfs.img, /LiveOS/ext3fs.img */
  readonly rootfs: boolean
  readonly ext3fs: boolean
  readonly proc: boolean
  readonly usr: boolean
  readonly ostree: boolean
}

/** The images of a live directory, as they lie there. Sizes are bytes. */
export interface ImageFacts {
  /** the packed one, by the name that is asked for */
  readonly packed:
    | {
        readonly path: string
        readonly size: number
        readonly type: string | undefined
        /** undefined where it can't be read here, as of EROFS */
        readonly inside: ImageInside | undefined
      }
    | undefined
  /** rootfs.img and ext3fs.img beside it, as they are */
  readonly plain: readonly {
    readonly path: string
    readonly name: 'rootfs.img' | 'ext3fs.img'
    readonly size: number
  }[]
  /** bytes of the root filesystem's image, wherever it is; undefined of a flat one and where it is not known */
  readonly rootSize: number | undefined
}

/** What lies where the overlay is looked for. */
export interface OverlayFacts {
  readonly kind: 'file' | 'directory' | 'nothing'
  /** of a file: NULs, a snapshot store, a filesystem by its name, or something else */
  readonly content: 'new' | 'store' | 'unknown' | string | undefined
  /** of a store that the kernel has given up */
  readonly invalid: boolean
  /** bytes of a file */
  readonly size: number | undefined
  /** of a directory: its sister `ovlwork`; of a filesystem: `/overlayfs` and `/ovlwork` in it; undefined where it can't be read */
  readonly prepared: boolean | undefined
}

/** What is on the devices, as far as a boot by these settings looks at it. */
export interface LiveFacts {
  readonly live: DeviceMatch
  readonly image: ImageFacts
  /** undefined where no overlay is asked for */
  readonly overlay:
    | { readonly match: DeviceMatch; readonly found: OverlayFacts; readonly sameDevice: boolean }
    | undefined
  readonly home: { readonly path: string; readonly size: number; readonly encrypted: boolean } | undefined
  readonly swap: { readonly path: string; readonly size: number } | undefined
  /** the image has the livesys scripts, which mount home.img; undefined where it could not be looked at */
  readonly livesys: boolean | undefined
  /** the directory `updates` on the medium */
  readonly updates: boolean
}

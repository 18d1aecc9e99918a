import { type Device, isZero } from '../../block/device.js'
import { isStore, readStore } from '../../block/snapshot/store.js'
import { isLiveError } from '../../error.js'
import { detectFs } from '../../fs/detect.js'
import type { FileSystem } from '../../fs/filesystem.js'
import { openFs } from '../../fs/open.js'
import { type Followed, follow } from '../boot/follow.js'
import type { Volume } from '../source.js'
import { type DeviceWord, fitsDevice } from './device-word.js'
import type { DeviceFacts, DeviceMatch, ImageFacts, ImageInside, LiveFacts, OverlayFacts } from './facts.js'
import { parseOverlayWord } from './overlay-word.js'
import type { LiveSettings } from './settings.js'

/** A volume as a boot finds it. */
interface Place {
  /** its names are told by nobody but an overlay's */
  readonly isGuess?: boolean
  readonly facts: DeviceFacts
  readonly fs: FileSystem | undefined
  readonly device: Device | undefined
}

const READ_ONLY: readonly string[] = ['iso9660', 'udf', 'squashfs', 'erofs']

const placeOf = ({ name, fs, type, partition, device }: Volume): Place => ({
  facts: {
    name: partition ? `partition ${partition.number}` : name,
    type: fs?.type === 'directory' ? undefined : (fs?.type ?? type),
    readOnly: READ_ONLY.includes(fs?.type ?? type ?? ''),
    label: fs?.label,
    uuid: fs?.uuid,
    partLabel: partition?.name,
    partUuid: partition?.uuid,
  },
  fs,
  device,
})

/** Tries; what is damaged or can't be read is as good as not there for who only looks. */
const attempt = async <T>(work: () => Promise<T>): Promise<T | undefined> => {
  try {
    return await work()
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    return undefined
  }
}

const found = (fs: FileSystem | undefined, path: string): Promise<Followed | undefined> =>
  fs ? attempt(() => follow(fs, path)) : Promise.resolve(undefined)

const isFile = async (fs: FileSystem, path: string): Promise<boolean> => (await found(fs, path))?.stat.kind === 'file'
const isDirectory = async (fs: FileSystem, path: string): Promise<boolean> =>
  (await found(fs, path))?.stat.kind === 'directory'

const opened = async <T>(fs: FileSystem, path: string, work: (device: Device) => Promise<T>): Promise<T | undefined> =>
  attempt(async () => {
    const device = await fs.open(path)
    try {
      return await work(device)
    } finally {
      await device.close()
    }
  })

const NOTHING: DeviceMatch = { device: undefined, count: 0, assumed: false, byCase: undefined }

/** The device that a word means, among those that are known. */
const matchOf = (
  word: DeviceWord,
  places: readonly Place[],
  usual: Place | undefined,
): { match: DeviceMatch; place: Place | undefined } => {
  const told = places.map(({ facts, isGuess }) => {
    const fits = fitsDevice(word, facts)
    return isGuess && fits === false && word.by !== 'path' ? undefined : fits
  })
  const fitting = places.filter((_, n) => told[n] === true)
  const [place] = fitting
  if (place)
    return {
      match: { ...NOTHING, device: place.facts, count: fitting.length, assumed: place.isGuess === true },
      place,
    }
  const byCase = places[told.indexOf('case')]
  if (byCase) return { match: { ...NOTHING, byCase: byCase.facts }, place: undefined }
  // `/dev/sdb1` means something else on each computer, and a copy in a directory has no name of its own
  const open = word.by === 'path' ? word.value.startsWith('/dev/') : told.includes(undefined)
  if (open && usual && told[places.indexOf(usual)] === undefined)
    return { match: { ...NOTHING, device: usual.facts, count: 1, assumed: true }, place: usual }
  return { match: NOTHING, place: undefined }
}

const insideOf = async (
  device: Device,
): Promise<{ inside: ImageInside; rootSize: number | undefined; livesys: boolean | undefined } | undefined> =>
  attempt(async () => {
    const fs = await openFs(device)
    try {
      const names = (await fs.list('/')).filter(({ kind }) => kind === 'directory').map(({ name }) => name)
      const root = await imageIn(fs)
      const inside = {
        liveOS: names.includes('LiveOS'),
        rootfs: await isFile(fs, '/LiveOS/rootfs.img'),
        ext3fs: await isFile(fs, '/LiveOS/ext3fs.img'),
        proc: names.includes('proc'),
        usr: names.includes('usr'),
        ostree: names.includes('ostree'),
      }
      const livesys = root
        ? await opened(fs, root.path, async image => hasLivesys(await openFs(image)))
        : await hasLivesys(fs)
      return { inside, rootSize: root?.stat.size, livesys }
    } finally {
      await fs.close()
    }
  })

const imageIn = async (fs: FileSystem): Promise<Followed | undefined> =>
  (await found(fs, '/LiveOS/rootfs.img')) ?? (await found(fs, '/LiveOS/ext3fs.img'))

/** Where the scripts that mount home.img lie. @see livesys-scripts; /etc/rc.d/init.d/livesys of old releases */
const LIVESYS = ['/usr/libexec/livesys', '/etc/rc.d/init.d/livesys', '/etc/init.d/livesys']

const hasLivesys = async (fs: FileSystem): Promise<boolean> => {
  for (const path of LIVESYS) if (await found(fs, path)) return true
  return false
}

interface Images {
  readonly image: ImageFacts
  readonly livesys: boolean | undefined
}

const imagesOn = async ({ fs, device, facts }: Place, { liveDir, squashimg }: LiveSettings): Promise<Images> => {
  if (facts.type === 'squashfs' || facts.type === 'erofs') {
    const looked = device && (await insideOf(device))
    const packed = { path: facts.name, size: device?.size ?? 0, type: facts.type, inside: looked?.inside }
    return { image: { packed, plain: [], rootSize: looked?.rootSize }, livesys: looked?.livesys }
  }
  const directory = `/${liveDir.value}`
  const plain: ImageFacts['plain'][number][] = []
  for (const name of ['rootfs.img', 'ext3fs.img'] as const) {
    const file = await found(fs, `${directory}/${name}`)
    if (file?.stat.kind === 'file') plain.push({ path: `${directory}/${name}`, name, size: file.stat.size })
  }
  const path = `${directory}/${squashimg.value}`
  const file = await found(fs, path)
  if (!fs || file?.stat.kind !== 'file') {
    const [first] = plain
    const livesys = fs && first && (await opened(fs, first.path, async image => hasLivesys(await openFs(image))))
    return { image: { packed: undefined, plain, rootSize: first?.size }, livesys }
  }
  const looked = await opened(fs, file.path, async image => ({
    type: await detectFs(image),
    more: await insideOf(image),
  }))
  const packed = { path, size: file.stat.size, type: looked?.type, inside: looked?.more?.inside }
  return { image: { packed, plain, rootSize: looked?.more?.rootSize }, livesys: looked?.more?.livesys }
}

const MAGIC_BYTES = 4

const NO_OVERLAY: OverlayFacts = {
  kind: 'nothing',
  content: undefined,
  invalid: false,
  size: undefined,
  prepared: undefined,
}

const overlayAt = async (fs: FileSystem | undefined, path: string): Promise<OverlayFacts> => {
  const at = path.startsWith('/') ? await found(fs, path) : undefined
  if (!fs || !at) return NO_OVERLAY
  if (at.stat.kind === 'directory') {
    const prepared = await isDirectory(fs, `${at.path.slice(0, at.path.lastIndexOf('/'))}/ovlwork`)
    return { ...NO_OVERLAY, kind: 'directory', prepared }
  }
  if (at.stat.kind !== 'file') return NO_OVERLAY
  const { size } = at.stat
  const told = await opened(fs, at.path, contentOf)
  return { ...NO_OVERLAY, kind: 'file', size, ...(told ?? {}) }
}

const contentOf = async (file: Device): Promise<Partial<OverlayFacts>> => {
  if (await isStore(file)) {
    const store = await attempt(() => readStore(file, { ignoreInvalid: true }))
    return { content: 'store', invalid: store?.state === 'invalid' }
  }
  const type = await detectFs(file)
  if (type === undefined) {
    // the kernel takes four NULs for a store that is to be made, and nothing else
    const isNew = isZero(await file.read(0, Math.min(MAGIC_BYTES, file.size)))
    return { content: isNew ? 'new' : 'unknown' }
  }
  const inside = await attempt(async () => {
    const fs = await openFs(file)
    return (await isDirectory(fs, '/overlayfs')) && (await isDirectory(fs, '/ovlwork'))
  })
  return { content: type, prepared: inside }
}

/** An ISO in a file that iso-scan takes for a disk, laid over the devices there are. Who calls it closes what is opened. */
const isoIn = async (places: readonly Place[], path: string): Promise<Place | undefined> => {
  for (const { fs, facts } of places) {
    if (!fs || !(await isFile(fs, path))) continue
    return attempt(async () => {
      const device = await fs.open(path)
      const iso = await openFs(device)
      const { label, uuid, type } = iso
      const names = { label, uuid, partLabel: undefined, partUuid: undefined }
      return { facts: { name: `${path} on ${facts.name}`, type, readOnly: true, ...names }, fs: iso, device }
    })
  }
  return undefined
}

/**
 * Looks where a boot by these settings looks. What can't be read is not there, as for dracut.
 *
 * @param volumes  all that the boot can see of the target
 * @throws IO, CANCELLED
 */
export const lookForLive = async (volumes: readonly Volume[], settings: LiveSettings): Promise<LiveFacts> => {
  const places = volumes.map(placeOf)
  const iso = settings.isoScan ? await isoIn(places, settings.isoScan.value) : undefined
  if (iso) places.unshift(iso)
  try {
    return await lookAmong(places, settings)
  } finally {
    await iso?.fs?.close()
    await iso?.device?.close()
  }
}

/** What an overlay's name tells of the label and UUID of the medium that it was made on. */
const OVERLAY_NAME =
  /^overlay-(.*)-([0-9A-F]{4}-[0-9A-F]{4}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}(?:-\d\d){6})$/

/**
 * A medium whose names nobody here knows, such as a copy in a directory, with those that its only overlay tells: a boot of the
 * medium that it is of finds that overlay by them.
 */
const guessed = async (place: Place, { liveDir }: LiveSettings): Promise<Place> => {
  const { facts, fs } = place
  if (!fs || facts.label !== undefined || facts.uuid !== undefined) return place
  const names = (await attempt(() => fs.list(`/${liveDir.value}`))) ?? []
  const told = names.map(({ name }) => OVERLAY_NAME.exec(name)).filter(found => found !== null)
  const [only] = told
  if (!only || told.length > 1) return place
  return { ...place, isGuess: true, facts: { ...facts, label: only[1], uuid: only[2] } }
}

const lookAmong = async (known: readonly Place[], settings: LiveSettings): Promise<LiveFacts> => {
  const first = await holder(known, settings)
  const usual = first && (await guessed(first, settings))
  const places = known.map(place => (place === first ? usual! : place))
  const word = settings.root?.value
  const { match, place } = word ? matchOf(word, places, usual) : { match: NOTHING, place: undefined }
  const images: Images = place
    ? await imagesOn(place, settings)
    : { image: { packed: undefined, plain: [], rootSize: undefined }, livesys: undefined }
  const asked = parseOverlayWord(settings, match.device ?? { label: undefined, uuid: undefined })
  const over = asked && matchOf(asked.device, places, usual)
  const directory = `/${settings.liveDir.value}`
  const home = await found(place?.fs, `${directory}/home.img`)
  const swap = await found(place?.fs, `${directory}/swap.img`)
  const encrypted =
    home && place?.fs && (await opened(place.fs, home.path, async file => (await detectFs(file)) === 'luks'))
  return {
    live: match,
    ...images,
    overlay: asked &&
      over && {
        match: over.match,
        found: await overlayAt(over.place?.fs, asked.path),
        sameDevice: over.place !== undefined && over.place === place,
      },
    home:
      home?.stat.kind === 'file' ? { path: home.path, size: home.stat.size, encrypted: encrypted === true } : undefined,
    swap: swap?.stat.kind === 'file' ? { path: swap.path, size: swap.stat.size } : undefined,
    updates: place?.fs ? await isDirectory(place.fs, '/updates') : false,
  }
}

/** The device that holds the live directory: what a name that nobody here knows is taken for. */
const holder = async (places: readonly Place[], { liveDir, squashimg }: LiveSettings): Promise<Place | undefined> => {
  for (const place of places)
    for (const name of [squashimg.value, 'rootfs.img', 'ext3fs.img'])
      if (place.fs && (await isFile(place.fs, `/${liveDir.value}/${name}`))) return place
  return places.find(({ fs }) => fs)
}

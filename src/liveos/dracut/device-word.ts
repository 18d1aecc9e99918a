/** How a word of the command line names a device. */
export interface DeviceWord {
  readonly by: 'LABEL' | 'UUID' | 'PARTLABEL' | 'PARTUUID' | 'path' | 'url' | 'iso' | 'image' | 'nothing'
  /** what is compared: a label, an id, a path */
  readonly value: string
  /** as it stands there */
  readonly raw: string
}

/** What a device is called. */
export interface DeviceNames {
  readonly label: string | undefined
  readonly uuid: string | undefined
  readonly partLabel: string | undefined
  readonly partUuid: string | undefined
}

const unescaped = (text: string): string =>
  text.replace(/\\x([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))

const BY_DISK: Readonly<Record<string, DeviceWord['by']>> = {
  'by-label': 'LABEL',
  'by-uuid': 'UUID',
  'by-partlabel': 'PARTLABEL',
  'by-partuuid': 'PARTUUID',
}

/** What a word such as `UUID=1A2B-3C4D`, `CDLABEL=LIVE` or `/dev/disk/by-label/LIVE` names. @see dracut-lib.sh, label_uuid_to_dev */
export const parseDeviceWord = (raw: string): DeviceWord => {
  const made = (by: DeviceWord['by'], value: string): DeviceWord => ({ by, value, raw })
  if (raw === '') return made('nothing', '')
  const [, tag, value] = /^(CDLABEL|LABEL|UUID|PARTLABEL|PARTUUID)=(.*)$/s.exec(raw) ?? []
  if (tag !== undefined && value !== undefined)
    return made(tag === 'CDLABEL' ? 'LABEL' : (tag as DeviceWord['by']), unescaped(value))
  const [, directory, name] = /^\/dev\/disk\/(by-[a-z]+)\/(.+)$/s.exec(raw) ?? []
  const known = directory === undefined ? undefined : BY_DISK[directory]
  if (known && name !== undefined) return made(known, unescaped(name))
  if (/^(https?|ftps?|tftp|torrent|nfs4?|scp|sftp)[:/]/i.test(raw)) return made('url', raw)
  if (/^\/(?!dev\/).*\.iso$/is.test(raw)) return made('iso', raw)
  if (/^\/(?!dev\/).*\.img$/is.test(raw)) return made('image', raw)
  return made('path', raw)
}

/**
 * What the device of an overlay names: it goes to mount as it stands, which knows no CDLABEL and takes a tag's value letter by
 * letter, `\x20` too.
 *
 * @see libblkid, blkid_parse_tag_string
 */
export const parseMountWord = (raw: string): DeviceWord => {
  const [, tag, value = ''] = /^(LABEL|UUID|PARTLABEL|PARTUUID)=(.*)$/s.exec(raw) ?? []
  if (tag !== undefined) return { by: tag as DeviceWord['by'], value: value.replace(/^(["'])(.*)\1$/s, '$2'), raw }
  return /^(\/dev\/|$)/.test(raw) ? parseDeviceWord(raw) : { by: 'path', value: raw, raw }
}

/**
 * Whether a word means a device: `case` where it would but for upper and lower case, which udev's links tell apart; undefined
 * where nothing here can tell, as of `/dev/sdb1`.
 */
export const fitsDevice = ({ by, value }: DeviceWord, names: DeviceNames): boolean | 'case' | undefined => {
  // what a variable of the boot loader stands for is known to that alone
  if (value.includes('$')) return undefined
  const found = { LABEL: names.label, UUID: names.uuid, PARTLABEL: names.partLabel, PARTUUID: names.partUuid }
  if (!(by in found)) return by === 'path' || by === 'nothing' ? undefined : false
  const name = found[by as keyof typeof found]
  if (name === undefined) return undefined
  if (name === value) return true
  return name.toLowerCase() === value.toLowerCase() && by !== 'LABEL' && by !== 'PARTLABEL' ? 'case' : false
}

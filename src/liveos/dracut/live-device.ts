import type { DeviceMatch } from './facts.js'
import type { Drafting } from './plan.js'

const sentence = (raw: string, { device, byCase }: DeviceMatch): string =>
  byCase
    ? `${raw} is written otherwise than ${byCase.name} is called (${byCase.uuid ?? byCase.partUuid}): udev's links tell upper and lower case apart`
    : device
      ? ''
      : `no device here is ${raw}`

/**
 * The device of root=live:, and how it is mounted. Gives false where the boot gets no further.
 *
 * WHY it waits: dracut asks udev for the device and goes on only once its link is there; a shell follows after minutes.
 */
export const liveDevice = (at: Drafting): boolean => {
  const { settings, facts, initrd } = at
  const { root, mode, isoScan } = settings
  if (initrd.modules && !initrd.modules.includes('dmsquash-live')) {
    at.stop(
      'fails',
      'INITRD_WITHOUT_LIVE',
      'the initrd has no dmsquash-live: it does not know what root=live: means',
      root?.from,
      'make the initrd anew with dracut --no-hostonly --add dmsquash-live',
    )
    return false
  }
  if (!root || !settings.rootIsUsable) {
    at.stop('unknown', 'NOT_LIVE', 'no argument asks for a live system: root=live:… is missing', root?.from)
    return false
  }
  const { value: word, from } = root
  if (word.by === 'url') {
    at.stop(
      'unknown',
      'LIVE_FROM_NETWORK',
      `the image comes from ${word.value} over the network, where nothing is looked at`,
      from,
    )
    return false
  }
  if (word.by === 'iso' || word.by === 'image') {
    at.stop(
      'unknown',
      'LIVE_FROM_INITRD',
      `the image ${word.value} is looked for in the initrd itself, which is not looked at`,
      from,
    )
    return false
  }
  if (isoScan)
    at.say(
      'iso-scan',
      `every filesystem is mounted in turn until one holds the file ${isoScan.value}, which is taken for a disk`,
      isoScan.from,
    )
  const { device, count, assumed, byCase } = facts.live
  if (!device) {
    const why = sentence(word.raw, facts.live)
    at.stop(
      'waits',
      byCase ? 'LIVE_DEVICE_CASE' : 'LIVE_DEVICE_MISSING',
      `${why}: the boot waits for it, then ends in a shell`,
      from,
    )
    return false
  }
  at.say('live device', `${word.raw} is ${device.name}${assumed ? ', as far as can be told here' : ''}`, from)
  if (count > 1)
    at.tell(
      'DEVICE_AMBIGUOUS',
      'warning',
      `${count} filesystems here are ${word.raw}: which one a boot takes is left to chance`,
      from,
      {
        remedy: 'give one of them another label or UUID, or unplug it',
      },
    )
  const isImage = device.type === 'squashfs' || device.type === 'erofs'
  if (isImage) at.say('live device', `${device.name} is the image itself, so it is not mounted`)
  else {
    at.say('live mount', `it is mounted at /run/initramfs/live, ${mode.value}`, mode.from)
    at.mounts.push({ source: word.raw, target: '/run/initramfs/live', type: device.type, options: mode.value })
  }
  if (settings.check.value && (device.type === 'iso9660' || device.type === 'udf'))
    at.say(
      'media check',
      'the whole medium is read against its checksum first; where it is wrong, the boot stops',
      settings.check.from,
    )
  if (settings.updates)
    at.say('updates', `files of ${settings.updates.value} are copied over the root`, settings.updates.from)
  if (facts.updates) at.say('updates', 'the directory updates of the medium is copied over the root at each start')
  return true
}

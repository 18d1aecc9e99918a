import type { Drafting } from './plan.js'

/**
 * What dmsquash-live-autooverlay does, where it is in the initrd: it makes a partition for the overlay at the first start.
 *
 * WHY it can end a boot: it takes any overlay that is not named by LABEL= for a mistake and stops the boot itself.
 *
 * @see dracut modules.d/70dmsquash-live-autooverlay/create-overlay.sh
 */
export const autoOverlay = (at: Drafting): void => {
  const { settings, initrd, facts } = at
  const { value, from } = settings.overlay
  if (!initrd.modules?.includes('dmsquash-live-autooverlay') || value === '') return
  if (!value.startsWith('LABEL=')) {
    at.tell(
      'AUTOOVERLAY_STOPS',
      'warning',
      `dmsquash-live-autooverlay is in this initrd and takes an overlay that is not named by LABEL= for a fatal mistake: ${from?.raw} may end the boot`,
      from,
      {
        expected: 'LABEL=…',
        found: value,
        remedy: 'name the overlay by LABEL=…, or leave that module out of the initrd',
      },
    )
    return
  }
  if (facts.overlay?.match.device) return
  at.say(
    'autooverlay',
    `no device is ${value}: where the live medium is the first partition and free space follows the last one, a partition of that label is made and used from now on`,
    from,
  )
  at.tell(
    'AUTOOVERLAY_CREATES',
    'note',
    `the first start may make a partition ${value} in the free space of the disk`,
    from,
  )
}

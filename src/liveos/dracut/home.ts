import type { Drafting } from './plan.js'

/**
 * What the livesys scripts of the booted system do with home.img and swap.img.
 *
 * WHY not dracut: they run in the system itself, only where the image has them and `rd.live.image` is on the command line.
 *
 * @see livesys-scripts, livesys-main
 */
export const homePlan = (at: Drafting): { readonly kept: readonly string[]; readonly lost: readonly string[] } => {
  const { settings, facts } = at
  const { home, noHome, noSwap, liveImage } = settings
  const { home: image, swap, livesys } = facts
  if (swap && liveImage && livesys !== false && !noSwap) at.say('swap', `${swap.path} is used as swap space`)
  // without an image of its own, /home is a part of the root
  if (!image && !home) return { kept: [], lost: [] }
  const name = home ? home.value : image!.path
  const refuse = (text: string, code: string, argument = home?.from) => {
    at.say('home', text, argument)
    at.tell(code, 'warning', text, argument)
    return { kept: [], lost: [] }
  }
  if (noHome) {
    at.say('home', `${name} is not mounted`, noHome)
    return { kept: [], lost: [] }
  }
  if (livesys === false)
    return refuse(`${name} is not mounted: the image has no livesys scripts`, 'HOME_WITHOUT_LIVESYS')
  if (!liveImage)
    return refuse(
      `${name} is not mounted: the livesys scripts ask for rd.live.image, which is not there`,
      'HOME_WITHOUT_LIVE_IMAGE',
    )
  if (image && !home && facts.live.device?.readOnly)
    return refuse(`${name} lies on a medium that can't be written to`, 'HOME_READ_ONLY')
  at.say(
    'home',
    `${name} is mounted at /home${livesys === undefined ? ', where the image has the livesys scripts' : ''}${image?.encrypted && !home ? ', after its passphrase is typed' : ''}`,
    home?.from,
  )
  at.mounts.push({ source: `/run/initramfs/live${image?.path ?? ''}`, target: '/home', type: undefined, options: 'rw' })
  if (image?.encrypted && !home) at.prompts.push('Passphrase of the home image')
  return { kept: [`what is in /home (in ${name})`], lost: [] }
}

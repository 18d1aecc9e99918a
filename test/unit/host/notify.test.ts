import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest'
import { announce, sessions } from '../../../src/host/notify.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
let bin: string
let log: string
const PATH = process.env.PATH

/** Programs that write down what they are given, and end with this code. */
const program = async (name: string, code = 0): Promise<void> => {
  // written at once, as they run side by side
  const text = `#!/bin/sh
said=$(echo "${name}"; for word in "$@"; do echo "<$word>"; done; cat)
printf '%s\\n' "$said" >>"${log}"
exit ${code}
`
  await writeFile(join(bin, name), text)
  await chmod(join(bin, name), 0o755)
}

beforeAll(async () => {
  bin = await path('bin')
  log = await path('log')
  await mkdir(bin)
  // found once in a process: all are there from the start
  process.env.PATH = `${bin}:/usr/bin:/bin`
  for (const name of ['notify-send', 'wall', 'systemd-cat', 'logger']) await program(name)
  vi.spyOn(process, 'getuid').mockReturnValue(1000)
})

afterEach(() => rm(log, { force: true }))
afterAll(() => {
  process.env.PATH = PATH
})

const NOTICE = { title: 'Full of <b>\u001b[31m&', body: 'a\nb <i>', urgency: 'critical' as const }

it('each way gets its own words: no markup on the desktop, no control characters anywhere', async () => {
  expect(await announce(NOTICE)).toEqual(['desktop', 'wall', 'journal'])
  const said = await readFile(log, 'utf8')
  expect(said).toContain('<--urgency=critical>\n')
  expect(said).toContain('<-->\n<Full of <b> [31m&>\n<a b &lt;i&gt;>\n')
  expect(said).toContain('wall\nFull of <b> [31m&\na b <i>\n')
  expect(said).toContain('systemd-cat\n<--identifier=liveos>\n<--priority=crit>\nFull of <b> [31m&. a b <i>\n')
  expect(said).not.toContain('logger')
  expect(said).not.toContain('\u001b')
})

it('only the ways that were asked for, and only those that took it', async () => {
  expect(await announce({ ...NOTICE, urgency: 'normal' }, ['wall'])).toEqual(['wall'])
  expect(await readFile(log, 'utf8')).not.toContain('notify-send')
  expect(await announce(NOTICE, [])).toEqual([])
  await program('systemd-cat', 1)
  await program('wall', 1)
  await program('notify-send', 3)
  expect(await announce({ ...NOTICE, urgency: 'normal' })).toEqual(['journal'])
  expect(await readFile(log, 'utf8')).toContain('logger\n<-t>\n<liveos>\n<-p>\n<user.warning>\n')
  await program('logger', 1)
  expect(await announce(NOTICE)).toEqual([])
})

it('sessions: folders of users that have a message bus, and belong to them', async () => {
  vi.restoreAllMocks()
  const own = process.getuid!()
  const place = await path('user')
  for (const name of [String(own), String(own + 1), 'x']) {
    await mkdir(join(place, name), { recursive: true })
    await writeFile(join(place, name, 'bus'), '')
  }
  const folder = join(place, String(own))
  expect(await sessions(place)).toEqual([
    {
      uid: own,
      gid: process.getgid!(),
      env: { XDG_RUNTIME_DIR: folder, DBUS_SESSION_BUS_ADDRESS: `unix:path=${folder}/bus` },
    },
  ])
  await rm(join(folder, 'bus'))
  expect(await sessions(place)).toEqual([])
  expect(await sessions(join(place, 'none'))).toEqual([])
})

import { spawn } from 'node:child_process'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { findTool } from './process.js'

/** Ways to reach whoever uses this computer. */
export const CHANNELS = ['desktop', 'wall', 'journal'] as const
export type Channel = (typeof CHANNELS)[number]

/** Something to be told. */
export interface Notice {
  /** a line */
  readonly title: string
  readonly body: string
  readonly urgency: 'normal' | 'critical'
}

/** who says it, in the journal and on the desktop */
const SENDER = 'liveos'
/** whoever has not taken it by then is not waited for */
const MOST_MS = 5000

/** Who a program runs as, and what it finds in its environment. */
export interface As {
  readonly uid?: number
  readonly gid?: number
  readonly env?: Readonly<Record<string, string>>
}

/** Runs a program with a text as its input. True where it ended well in time; nothing it does is an error of ours. */
const tell = async (
  name: string,
  args: readonly string[],
  input: string,
  { env = {}, ...who }: As = {},
): Promise<boolean> => {
  const path = await findTool(name)
  if (!path) return false
  return new Promise(resolve => {
    const child = spawn(path, [...args], {
      stdio: ['pipe', 'ignore', 'ignore'],
      env: { ...process.env, ...env },
      ...who,
    })
    const late = setTimeout(() => child.kill('SIGKILL'), MOST_MS)
    const done = (told: boolean): void => {
      clearTimeout(late)
      resolve(told)
    }
    child.on('error', () => done(false))
    child.on('close', code => done(code === 0))
    child.stdin.on('error', () => undefined)
    child.stdin.end(input)
  })
}

/** Users who are logged in, by the message bus of each: what a program that is to reach them runs as. */
export const sessions = async (place = '/run/user'): Promise<readonly As[]> => {
  const found: As[] = []
  for (const name of await readdir(place).catch(() => [])) {
    const folder = join(place, name)
    const bus = join(folder, 'bus')
    const there = await stat(folder).catch(() => undefined)
    if (!/^\d+$/.test(name) || !there || there.uid !== Number(name) || !(await stat(bus).catch(() => undefined)))
      continue
    const env = { XDG_RUNTIME_DIR: folder, DBUS_SESSION_BUS_ADDRESS: `unix:path=${bus}` }
    found.push({ uid: there.uid, gid: there.gid, env })
  }
  return found
}

/** Markup means something to most desktops. */
const plain = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')

const onDesktop = async ({ title, body, urgency }: Notice): Promise<boolean> => {
  const args = [
    `--app-name=${SENDER}`,
    `--urgency=${urgency}`,
    '--icon=drive-removable-media',
    '--',
    title,
    plain(body),
  ]
  if (process.getuid?.() !== 0) return tell('notify-send', args, '')
  // root has no desktop of its own; the bus of a user takes messages of that user alone
  const told = await Promise.all((await sessions()).map(as => tell('notify-send', args, '', as)))
  return told.includes(true)
}

const inJournal = async ({ title, body, urgency }: Notice): Promise<boolean> => {
  const text = `${title}. ${body}\n`
  const priority = urgency === 'critical' ? 'crit' : 'warning'
  if (await tell('systemd-cat', [`--identifier=${SENDER}`, `--priority=${priority}`], text)) return true
  return tell('logger', ['-t', SENDER, '-p', `user.${priority}`], text)
}

const WAYS: Readonly<Record<Channel, (notice: Notice) => Promise<boolean>>> = {
  desktop: onDesktop,
  // by its input, as an argument could be the name of a file
  wall: ({ title, body }) => tell('wall', [], `${title}\n${body}\n`),
  journal: inJournal,
}

/** Control characters, of names on a stick for one, are for no terminal and no log. */
const clean = (text: string): string => text.replace(/\p{Cc}/gu, ' ')

/** Tells users by each of the ways that is there. @returns  those that took it */
export const announce = async (notice: Notice, ways: readonly Channel[] = CHANNELS): Promise<readonly Channel[]> => {
  const told = { ...notice, title: clean(notice.title), body: clean(notice.body) }
  const took = await Promise.all(ways.map(async way => ((await WAYS[way](told)) ? way : undefined)))
  return took.filter(way => way !== undefined)
}

import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdir, readFile, readlink, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

const execute = promisify(execFile)

/** Where dracut keeps its modules. */
export const DRACUT_MODULES = '/usr/lib/dracut/modules.d'

const moduleFile = (modules: string, name: string, file: string): string | undefined => {
  const directory = readdirSync(modules).find(entry => entry.replace(/^\d+/, '') === name)
  const path = directory && join(modules, directory, file)
  return path && existsSync(path) ? path : undefined
}

/** True where dracut with its module for live systems is there. */
export const hasDracutLive = (modules = DRACUT_MODULES): boolean =>
  existsSync(modules) && moduleFile(modules, 'dmsquash-live', 'dmsquash-live-root.sh') !== undefined

/** A device's files: path to content; a path with `/` at its end is a directory. `type` is what blkid says of a file. */
export type ScriptFiles = Readonly<
  Record<string, { readonly type?: string; readonly holds?: readonly string[] } | null>
>

/** What the script did. */
export interface ScriptOutcome {
  readonly died: boolean
  /** as `name[ ro]: table`, devices by the files behind them */
  readonly tables: readonly string[]
  readonly overlayfs: string
  readonly setup: string
  /** where the upper side of an OverlayFS leads, from the device's root */
  readonly upper: string | undefined
  readonly lower: string | undefined
  readonly prompted: boolean
  readonly reset: boolean
}

/** Stands in for the kernel and its tools: mounts are links, loop devices are names. */
const STUBS = `
getcmdline() { printf '%s' "$TEST_CMDLINE"; }
info() { :; }; warn() { :; }; debug_off() { :; }; debug_on() { :; }
load_fstype() { :; }; need_shutdown() { :; }; check_live_ram() { :; }; modprobe() { :; }; udevadm() { :; }; sleep() { :; }
systemctl() { :; }
die() { echo "DIE $*" >> "$S/log"; exit 1; }
det_fs() { echo ext4; }
ismounted() { [ "$1" = "$LIVE_WORD" ]; }
findmnt() { echo "$S/run/initramfs/live"; }
unpack_archive() { cp "$1" "$2/rootfs.img"; }
fileof() { if [ -e "$S/loops/\${1##*/}" ]; then cat "$S/loops/\${1##*/}"; else echo "$1"; fi; }
losetup() {
    _show=; _file=; _name=
    while [ $# -gt 0 ]; do
        case $1 in
            --show) _show=1 ;;
            -f | -r | '') ;;
            "$S"/loop/*) _name=$1 ;;
            *) _file=$1 ;;
        esac
        shift
    done
    if [ -z "$_name" ]; then
        _n=$(cat "$S/count"); _name="$S/loop/$_n"
        [ -z "$_file" ] || echo $((_n + 1)) > "$S/count"
    else
        echo $((\${_name##*/} + 1)) > "$S/count"
    fi
    [ -z "$_file" ] || readlink -f "$_file" > "$S/loops/\${_name##*/}"
    [ -n "$_file" ] && [ -z "$_show" ] || echo "$_name"
}
blkid() {
    for _last; do :; done
    case "$*" in
        *LABEL*) echo LIVE; return ;;
        *UUID*) echo 1A2B-3C4D; return ;;
    esac
    _of=$(fileof "$_last")
    [ -e "$_of.type" ] || return 2
    case "$*" in
        *TYPE*) cat "$_of.type" ;;
        *) echo "$_last: TYPE=\\"$(cat "$_of.type")\\"" ;;
    esac
}
blockdev() { echo 2048; }
put() { if [ -L "$2" ]; then rm "$2"; else rmdir "$2"; fi; ln -s "$1" "$2"; }
mount() {
    _what=; _where=
    while [ $# -gt 0 ]; do
        case $1 in
            -t | -o) shift; case $1 in remount*) return 0 ;; esac ;;
            -*) ;;
            *) _what=$_where; _where=$1 ;;
        esac
        shift
    done
    case $_what in
        "$S"/dev/*) put "$S/live" "$_where" ;;
        "$S"/loop/*) _of=$(fileof "$_what"); [ -d "$_of.d" ] || mkdir "$_of.d"; put "$_of.d" "$_where" ;;
        "$S"/*) if [ -d "$_what" ]; then put "$(readlink -f "$_what")" "$_where"; fi ;;
        "$OTHER_WORD") put "$S/other" "$_where" ;;
        *) return 1 ;;
    esac
}
umount() { for _last; do :; done; if [ -L "$_last" ]; then rm "$_last"; mkdir "$_last"; fi; }
dmsetup() {
    [ "$1" = create ] || return 0
    _ro=; for _last; do [ "$_last" != --readonly ] || _ro=' ro'; done
    echo "TABLE $_last$_ro: $(cat)" >> "$S/log"
}
dd() {
    _if=; _of=
    for _word; do case $_word in if=*) _if=\${_word#if=} ;; of=*) _of=\${_word#of=} ;; esac; done
    case $_if in
        /dev/zero) echo RESET >> "$S/log" ;;
        /dev/null) : > "$_of" ;;
        *)
            cp "$_if" "$_of"
            [ ! -e "$_if.type" ] || cp "$_if.type" "$_of.type"
            [ ! -d "$_if.d" ] || cp -r "$_if.d" "$_of.d"
            ;;
    esac
}
`

const lay = async (root: string, files: ScriptFiles): Promise<void> => {
  await mkdir(root, { recursive: true })
  for (const [path, what] of Object.entries(files)) {
    const full = join(root, path)
    if (path.endsWith('/')) {
      await mkdir(full, { recursive: true })
      continue
    }
    await mkdir(dirname(full), { recursive: true })
    await writeFile(full, 'content')
    if (what?.type !== undefined) await writeFile(`${full}.type`, what.type)
    for (const inner of what?.holds ?? []) {
      await mkdir(dirname(join(`${full}.d`, inner)), { recursive: true })
      if (inner.endsWith('/')) await mkdir(join(`${full}.d`, inner), { recursive: true })
      else await writeFile(join(`${full}.d`, inner), 'content')
    }
  }
}

/** The script with its absolute paths inside a directory, and its last variables told. */
const inside = (text: string): string =>
  text
    .replace(/^PATH=.*$/m, '')
    // no variable is one in single quotes
    .replace(/'\/(run\/)/g, `"$S"'/$1`)
    .replace(/(^|[\s"=:;<>])\/(run\/|dev\/(?!null|zero)|etc\/|overlay\b|xor_\w+|tmp\/)/gm, '$1$S/$2')
    .replace(/\nexit 0\s*$/, '\necho "END [$overlayfs] [$setup] [$readonly_overlay]" >> "$S/log"\nexit 0\n')

/** The words of a device on the command line. */
export const LIVE_WORD = 'UUID=1A2B-3C4D'
export const OTHER_WORD = 'UUID=0000-FFFF'

/**
 * Runs dracut's own dmsquash-live-root with a command line on devices of these files. Nothing is mounted: the programs that it
 * calls are stood in for, its own decisions are not.
 */
export const runDracutScript = async (
  place: string,
  commandLine: string,
  live: ScriptFiles,
  {
    other = {},
    systemd = true,
    modules = DRACUT_MODULES,
  }: { other?: ScriptFiles; systemd?: boolean; modules?: string } = {},
): Promise<ScriptOutcome> => {
  await rm(place, { recursive: true, force: true })
  for (const directory of ['run/initramfs', 'dev/mapper', 'etc/cmdline.d', 'tmp', 'loop', 'loops', 'bin'])
    await mkdir(join(place, directory), { recursive: true })
  await mkdir(join(place, 'dev/live'))
  await lay(join(place, 'live'), live)
  await lay(join(place, 'other'), other)
  await writeFile(join(place, 'count'), '0\n')
  await writeFile(join(place, 'log'), '')
  await writeFile(join(place, 'bin/systemd-ask-password'), '#!/bin/sh\n', { mode: 0o755 })
  const script = readFileSync(moduleFile(modules, 'dmsquash-live', 'dmsquash-live-root.sh')!, 'utf8')
  const lib = moduleFile(modules, 'base', 'dracut-lib.sh')!
  const overlayLib = moduleFile(modules, 'overlayfs', 'overlayfs-lib.sh')
  const prelude = [
    `S=${place}`,
    `PATH=$S/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
    GETARG,
    ...['strstr', 'strglob', 'str_starts', 'getarg', 'getargbool'].map(name =>
      functionIn(readFileSync(lib, 'utf8'), name),
    ),
    ...(overlayLib ? [functionIn(readFileSync(overlayLib, 'utf8'), 'get_rd_overlay')] : []),
    STUBS,
  ].join('\n')
  await writeFile(join(place, 'script'), `${prelude}\n${inside(script)}`)
  // the question for a missing overlay waits for a line, which the end of the input is too
  await execute('sh', ['-c', 'exec sh "$0" "$1" < /dev/null', join(place, 'script'), join(place, 'dev/live')], {
    timeout: 20_000,
    env: { ...process.env, TEST_CMDLINE: commandLine, LIVE_WORD, OTHER_WORD, DRACUT_SYSTEMD: systemd ? '1' : '' },
  }).catch(async (error: unknown) => {
    if (!/^DIE/m.test(await readFile(join(place, 'log'), 'utf8'))) throw error
  })
  return outcomeOf(place)
}

/** The binary of dracut that takes a command line apart, in the shell's words: the last of a name counts. */
const GETARG = `
dracut_getarg() {
    # a name may be asked for with a = behind it
    set -- "\${1%=}"
    _found=1; _value=
    for _word in $TEST_CMDLINE; do
        case $_word in
            "$1") _found=0; _value= ;;
            "$1"=*) _found=0; _value=\${_word#*=} ;;
        esac
    done
    [ -z "$_value" ] || echo "$_value"
    return $_found
}`

/** A function of a shell script, with the binary that it calls replaced; nothing where the script has none. */
const functionIn = (text: string, name: string): string => {
  const found = new RegExp(`^${name}\\(\\) \\{\\n[\\s\\S]*?^\\}`, 'm').exec(text)?.[0] ?? ''
  return found.replace(/dracut-getarg "\$([12])"/g, 'dracut_getarg "$$$1"')
}

const outcomeOf = async (place: string): Promise<ScriptOutcome> => {
  const log = await readFile(join(place, 'log'), 'utf8')
  const kmsg = await readFile(join(place, 'dev/kmsg'), 'utf8').catch(() => '')
  const loops = new Map<string, string>()
  for (const name of readdirSync(join(place, 'loops')))
    loops.set(`${place}/loop/${name}`, (await readFile(join(place, 'loops', name), 'utf8')).trim().slice(place.length))
  const named = (table: string): string =>
    table
      .split(' ')
      .map(word => loops.get(word) ?? word.replace(`${place}/dev/mapper/`, '').replace('/dev/mapper/', ''))
      .join(' ')
  const [, overlayfs = '', setup = ''] = /^END \[(.*?)\] \[(.*?)\]/m.exec(log) ?? []
  const link = async (name: string): Promise<string | undefined> =>
    readlink(join(place, 'run', name)).then(
      to => to.slice(place.length),
      () => undefined,
    )
  return {
    died: /^DIE/m.test(log),
    tables: [...log.matchAll(/^TABLE (.*)$/gm)].map(([, line]) => named(line!)),
    overlayfs,
    setup,
    upper: await link('overlayfs'),
    lower: await link('overlayfs-r'),
    prompted: /Press \[Enter\]/.test(kmsg),
    reset: /^RESET$/m.test(log),
  }
}

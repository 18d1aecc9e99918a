import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Stat } from '../../src/fs/filesystem.js'
import { type IsoListing, isoLine } from './iso-images.js'
import { runInKernel } from './kernel.js'

const SHOW = `
set -e
modprobe -d /run/modules isofs
modprobe -d /run/modules nls_utf8
mkdir m
set -- "$@"
n=0
for disk in $DISKS; do
  mount -t iso9660 -o "ro,utf8$1" $disk m
  (
    cd m
    find . -printf '%P\\0%y\\0%m\\0%U:%G\\0%n\\0%s\\0%T@\\0%l\\0%i\\0' >$OUT/$n.files
    find . -type f -size +0 -print0 | xargs -0 -r sha256sum -z >$OUT/$n.sums
    find . \\( -type b -o -type c \\) -printf '%P\\0' | while IFS= read -r -d '' name; do
      printf '%s\\0%d:%d\\0' "$name" "0x$(stat -c %t "$name")" "0x$(stat -c %T "$name")"
    done >$OUT/$n.devices
  )
  umount m
  n=$((n + 1))
  shift
done
`

const KINDS: Readonly<Record<string, Stat['kind']>> = {
  f: 'file',
  d: 'directory',
  l: 'symlink',
  b: 'block',
  c: 'character',
  p: 'fifo',
  s: 'socket',
}

const EMPTY = createHash('sha256').digest('hex')

const fields = async (file: string): Promise<string[]> => (await readFile(file, 'utf8')).split('\0').slice(0, -1)

/** What is told of a file by Linux' own reader: as `isoLine`, and the inode's number. */
export const kernelLine = (stat: Stat, content: string, inode: number): string =>
  `${isoLine({ ...stat, owner: `${stat.uid}:${stat.gid}`, links: stat.linkCount }, content)} ${inode}`

/** The listings of images as the kernel mounts them, each with its own further mount options (`,norock`). */
export const listByKernel = async (
  images: readonly { readonly path: string; readonly options: string }[],
  scratch: string,
): Promise<readonly IsoListing[]> => {
  const disks = images.map(({ path }) => ({ path, readOnly: true }))
  const { rc, log, outDir } = await runInKernel({ script: SHOW, scratch, disks, args: images.map(i => i.options) })
  if (rc !== 0) throw new Error(`the kernel's script ended with ${rc}: ${log}`)
  return Promise.all(
    images.map(async (_, n) => {
      const sums = new Map(
        (await fields(join(outDir, `${n}.sums`))).map(line => [line.slice(68), line.slice(0, 64)] as const),
      )
      const devices = await fields(join(outDir, `${n}.devices`))
      const words = await fields(join(outDir, `${n}.files`))
      const found = new Map<string, string>()
      for (let at = 0; at < words.length; at += 9) {
        const [name, type, mode, owner, links, size, mtime, target, inode] = words.slice(at, at + 9) as string[]
        const kind = KINDS[type!]!
        const content =
          kind === 'symlink'
            ? target!
            : kind === 'file'
              ? (sums.get(name!) ?? EMPTY)
              : (devices[devices.indexOf(name!) + 1] ?? '')
        const [uid, gid] = owner!.split(':').map(Number)
        const stat: Stat = {
          kind,
          mode: Number.parseInt(mode!, 8),
          uid: uid!,
          gid: gid!,
          linkCount: Number(links),
          size: Number(size),
          mtime: Math.floor(Number(mtime)),
          mtimeNanoseconds: 0,
          inode: Number(inode),
        }
        const line = kernelLine(stat, kind === 'directory' || kind === 'fifo' ? '' : content, stat.inode)
        found.set(`/${name}`, line)
      }
      return found
    }),
  )
}

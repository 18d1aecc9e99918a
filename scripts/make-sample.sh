#!/bin/bash
# Makes sample/ again: a small LiveOS stick with an overlay that a real kernel has filled. Nothing in it comes from our own
# writers: mke2fs, mksquashfs and the kernel's dm-snapshot (in User Mode Linux, see test/kernel/uml.sh) make every byte of the
# images, scripts/make-sample-tree.mjs the files in them. Needs no root; about a minute.
#   scripts/make-sample.sh [TARGET]      (default: sample/ of this checkout)
# The files come out the same each time, the images don't (times of day, and the kernel decides when it writes what), so tests
# take their truth from sample/facts.json, never from numbers of their own.
set -euo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

here=$(cd "$(dirname "$0")" && pwd)
target=$(realpath -m "${1:-$here/../sample}")
for program in linux.uml dmsetup mke2fs e2fsck mksquashfs getfattr setfattr gzip node; do
  command -v "$program" >/dev/null || { echo "make-sample: $program is missing (npm test installs it)" >&2; exit 1; }
done

scratch=$(mktemp -d "${TMPDIR:-/tmp}/make-sample-XXXXXX")
trap 'rm -rf "$scratch"' EXIT

echo 'make-sample: the kernel makes and fills the stick ...'
run=$scratch/run
"$here/../test/kernel/uml.sh" --scratch "$run" --script "$here/make-sample-guest.sh" --mem 1536 --seconds 600 -- "$here" ||
  { echo "make-sample: the guest failed (status $?):" >&2; tail -n 30 "$run/log" "$run/console.log" >&2; exit 1; }
out=$run/out

rm -rf "$target"
mkdir -p "$target/LiveOS" "$target/syslinux"
cp "$out/squashfs.img" "$target/LiveOS/squashfs.img"
gzip -9 -n <"$out/overlay" >"$target/LiveOS/overlay-LIVE-1A2B-3C4D.gz"
gzip -9 -n <"$out/home.img" >"$target/LiveOS/home.img.gz"
cat >"$target/syslinux/syslinux.cfg" <<'CFG'
default vesamenu.c32
timeout 100
menu title Welcome to Sample Live

label linux
  menu label ^Start Sample Live
  menu default
  kernel vmlinuz
  append initrd=initrd.img root=live:UUID=1A2B-3C4D rootfstype=auto ro quiet rd.live.image rd.live.overlay=UUID=1A2B-3C4D:/LiveOS/overlay-LIVE-1A2B-3C4D rd.luks=0 rd.md=0

label check
  menu label ^Test this medium, then start
  kernel vmlinuz
  append initrd=initrd.img root=live:UUID=1A2B-3C4D rootfstype=auto ro quiet rd.live.image rd.live.check

label reset
  menu label Start with an ^empty overlay
  kernel vmlinuz
  append initrd=initrd.img root=live:UUID=1A2B-3C4D rootfstype=auto ro quiet rd.live.image rd.live.overlay=UUID=1A2B-3C4D:/LiveOS/overlay-LIVE-1A2B-3C4D rd.live.overlay.reset
CFG
node "$here/make-sample-tree.mjs" facts "$out" >"$target/facts.json"

bytes=$(du --apparent-size --bytes -s "$target" | cut -f 1)
echo "make-sample: $target has $bytes bytes; $(cat "$out/status")"
[ "$bytes" -le 5000000 ] || { echo 'make-sample: more than 5,000,000 bytes, too much to commit' >&2; exit 1; }

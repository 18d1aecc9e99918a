#!/bin/bash
# The part of make-sample.sh that runs as root in the guest kernel (test/kernel/uml.sh): builds the base image, uses the stick
# for three "days" through dm-snapshot, then writes down what the kernel sees. Argument: the scripts/ directory.
set -euo pipefail
scripts=$1
origin_uuid=5a3d1e00-11fe-4000-8000-000000000001
home_uuid=5a3d1e00-11fe-4000-8000-000000000002
hash_seed=5a3d1e00-11fe-4000-8000-00000000000f

# ---- the base: generated files -> ext4 -> squashfs, as livecd tools do it
date -s '2026-03-02 09:00:00 UTC' >/dev/null
node "$scripts/make-sample-tree.mjs" tree tree
chown -R 0:0 tree
chown -R 1000:1000 tree/root/home/liveuser tree/home/liveuser
chmod 4755 tree/root/usr/bin/sample-su
# cap_net_raw=ep, as distributions give it to ping
setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 tree/root/usr/bin/sample-ping
export E2FSPROGS_FAKE_TIME=1772442000
options=lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,hash_seed=$hash_seed
mkdir -p live/LiveOS
truncate -s 112M live/LiveOS/rootfs.img
mke2fs -q -F -t ext4 -b 4096 -L LiveRoot -U "$origin_uuid" -E "$options" -d tree/root live/LiveOS/rootfs.img
truncate -s 4M home.img
mke2fs -q -F -t ext4 -b 1024 -O ^has_journal -L home -U "$home_uuid" -E "$options" -d tree/home home.img
unset E2FSPROGS_FAKE_TIME
mksquashfs live/LiveOS squashfs.img -comp xz -b 131072 -keep-as-directory -noappend -no-progress -all-root \
  -mkfs-time 1772442000 -all-time 1772442000 >/dev/null
rm -rf live

# ---- the stick in use: base and overlay put together as dracut does (PO, chunks of 8 sectors)
mkdir -p /run/squash /run/root
mount -t squashfs -o ro,loop squashfs.img /run/squash
base=$(losetup -f --show -r /run/squash/LiveOS/rootfs.img)
sectors=$(blockdev --getsz "$base")
truncate -s 16M overlay

boot() { # DATE
  date -s "$1" >/dev/null
  cow=$(losetup -f --show overlay)
  echo "0 $sectors snapshot $base $cow PO 8" | dmsetup create live-rw
  mount -t ext4 -o rw,relatime /dev/mapper/live-rw /run/root
  echo "$1 boot: overlay $(dmsetup status live-rw)"
  echo "$(date +%FT%T) sample-live kernel: root on live-rw" >>/run/root/var/log/boot.log
}
poweroff() {
  umount /run/root
  dmsetup remove live-rw
  losetup -d "$cow"
}
allocated() { # percent of the overlay, in tenths
  sync
  dmsetup status live-rw | sed 's|.* \([0-9]*\)/\([0-9]*\) .*|\1 \2|' | { read -r used total; echo $((used * 1000 / total)); }
}
news=tree/session

boot '2026-04-11 18:20:00 UTC' # first evening: settings and documents
cd /run/root
echo kitchen-table >etc/hostname
sed -i 's/^LANG=.*/LANG=de_AT.UTF-8/' etc/locale.conf
echo 'liveuser ALL=(ALL) NOPASSWD: ALL' >etc/sudoers.d/liveuser
mkdir -p srv/documents
cp -r "$OLDPWD/$news/documents/." srv/documents/
chown -R 1000:1000 srv/documents
setfattr -n user.xdg.origin.url -v https://example.invalid/minutes srv/documents/minutes-1.txt
cat usr/share/doc/*/manual.txt >/dev/null # reading leaves access times behind
cd "$OLDPWD"
poweroff

boot '2026-05-02 07:45:00 UTC' # an update: libraries replaced by rename, as package managers do
for library in "$news"/lib/*; do
  name=$(basename "$library")
  cp "$library" "/run/root/usr/lib/.$name.new"
  mv "/run/root/usr/lib/.$name.new" "/run/root/usr/lib/$name"
done
cp "$news/packages.txt" /run/root/var/lib/sample-packages/installed
rm -r /run/root/usr/share/doc/package-0[1-6]
rm /run/root/var/cache/sample/index-*.bin
ln -sfn libsample-02.so.2 /run/root/usr/lib/libsample.so
poweroff

boot '2026-06-20 21:05:00 UTC' # seven weeks of logs, until the overlay is past its warning line
split -b 131072 "$news/journal.txt" part-
for part in part-*; do
  [ "$(allocated)" -lt 815 ] || break
  cat "$part" >>/run/root/var/log/messages
done
echo 'bytes in /var/log/messages:' "$(stat -c %s /run/root/var/log/messages)"
sed -i 's/^wallpaper=.*/wallpaper=dunes/' /run/root/etc/sample-desktop.conf
poweroff

# ---- the truth, from a fresh read-only activation
cow=$(losetup -f --show -r overlay)
echo "0 $sectors snapshot $base $cow P 8" | dmsetup create --readonly view
dmsetup table view >"$OUT/table"
dmsetup status view | tee "$OUT/status"
sha256sum <"$base" | cut -d ' ' -f 1 >"$OUT/origin.sha256"
sha256sum </dev/mapper/view | cut -d ' ' -f 1 >"$OUT/merged.sha256"
rc=0
e2fsck -f -n /dev/mapper/view >"$OUT/e2fsck" 2>&1 || rc=$?
echo "$rc" >"$OUT/e2fsck.rc"
[ "$rc" = 0 ] || { cat "$OUT/e2fsck"; exit 1; }
# Needs no journal replay: a read-only mount of a read-only device would refuse one.
mount -t ext4 -o ro /dev/mapper/view /run/root
(
  cd /run/root
  find . -mindepth 1 -printf '%P\t%y\t%m\t%U\t%G\t%s\t%n\t%T@\t%l\n' | sort >"$OUT/tree"
  find . -type f -print0 | sort -z | xargs -0 sha256sum >"$OUT/sha256"
  getfattr -h -R -d -m - -e hex . | sed 's|^# file: \(\./\)\{0,1\}|# file: /|' >"$OUT/xattrs"
)
umount /run/root
dmsetup remove view
uname -r >"$OUT/kernel"
mksquashfs -version | sed -n 1p >"$OUT/mksquashfs"
mke2fs -V 2>&1 | sed -n 1p >"$OUT/mke2fs"
cp squashfs.img home.img "$OUT"
cp --sparse=always overlay "$OUT/overlay"

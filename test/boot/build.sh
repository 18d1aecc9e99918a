#!/bin/bash
# Builds a live system out of Debian packages: build.sh FOLDER
#   FOLDER/live.iso      boots by BIOS and UEFI; LiveOS/squashfs.img holds LiveOS/rootfs.img, an ext4
#   FOLDER/squashfs.img  the same, for sticks
#   FOLDER/rootfs.img    the ext4 itself, sparse
#   FOLDER/flat.img      a squashfs of the files, without an ext4 in it
#   FOLDER/vmlinuz, initrd.img   kernel, and dracut's initrd with its module dmsquash-live
#   FOLDER/facts.json    suite and versions
# SUITE chooses the Debian release (bookworm). Needs root, network, and 5 GiB while it works.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$1
suite=${SUITE:-bookworm}
label=LIVEISO
export LC_ALL=C SOURCE_DATE_EPOCH=1700000000 PATH=$PATH:/usr/sbin:/sbin

work=$(mktemp -d "$out/build.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Not the -cloud- kernel: it has no dm-snapshot.
packages=systemd-sysv,udev,dbus,kmod,linux-image-amd64,dracut,dmsetup,e2fsprogs,mount,fdisk,procps,zstd,tar,login,passwd
# Its module for live systems has a package of its own there; later it is one of dracut-core.
case $suite in bookworm | trixie) packages+=,dracut-live ;; esac

# 1. The files of the system, with what tests need in it. The mirror is the one that apt uses here; one that stands still is
# as good, its files are signed all the same.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -v security | head -1)
mmdebstrap --quiet --variant=minbase --mode=root --include="$packages" \
  --aptopt='Acquire::Check-Valid-Until "false"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --essential-hook="mkdir -p \"\$1/etc/dracut.conf.d\" && cp '$here/guest/dracut.conf' \"\$1/etc/dracut.conf.d/01-live.conf\"" \
  --customize-hook="'$here/guest/customize.sh' \"\$1\" '$here/guest'" \
  "$suite" "$work/root.tar" ${mirror:+"deb $mirror $suite main"}
mkdir "$work/root"
tar -C "$work/root" --xattrs --xattrs-include='*' -xf "$work/root.tar"
rm "$work/root.tar"

# 2. Kernel and initrd, which a stick keeps outside the image.
kernel=$(ls "$work/root/lib/modules" | sort -V | tail -1)
cp "$work/root/boot/vmlinuz-$kernel" "$out/vmlinuz"
cp "$work/root/boot/initrd.img-$kernel" "$out/initrd.img"
chmod 644 "$out/vmlinuz" "$out/initrd.img"
dracut=$(sed -n 's/^Version: //p' < <(sed -n '/^Package: dracut$/,/^$/p' "$work/root/var/lib/dpkg/status"))

# 3. The root filesystem as an image, squashed, and squashed flat.
mkdir -p "$work/nested/LiveOS"
truncate -s 2G "$work/nested/LiveOS/rootfs.img"
mke2fs -q -F -t ext4 -L LIVEROOT -E root_owner=0:0 -d "$work/root" "$work/nested/LiveOS/rootfs.img"
(unset SOURCE_DATE_EPOCH
 mksquashfs "$work/nested" "$work/squashfs.img" -comp zstd -Xcompression-level 3 -noappend -no-progress -quiet
 mksquashfs "$work/root" "$work/flat.img" -comp zstd -Xcompression-level 3 -noappend -no-progress -quiet)
mv "$work/nested/LiveOS/rootfs.img" "$work/squashfs.img" "$work/flat.img" "$out/"

# 4. The ISO.
mkdir -p "$work/iso/LiveOS" "$work/iso/boot/grub" "$work/iso/images/pxeboot"
cp "$out/squashfs.img" "$work/iso/LiveOS/"
cp "$out/vmlinuz" "$out/initrd.img" "$work/iso/images/pxeboot/"
cat > "$work/iso/boot/grub/grub.cfg" <<G
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set timeout=1
menuentry "Live" {
  linux /images/pxeboot/vmlinuz root=live:CDLABEL=$label rd.live.image console=tty0 console=ttyS0,115200 $(cat "$here/guest/arguments")
  initrd /images/pxeboot/initrd.img
}
G
grub-mkrescue -o "$out/live.iso" "$work/iso" -- -volid "$label" > "$work/grub.log" 2>&1 || { tail -5 "$work/grub.log" >&2; exit 1; }

printf '{ "suite": "%s", "kernel": "%s", "dracut": "%s" }\n' "$suite" "$kernel" "$dracut" > "$out/facts.json"

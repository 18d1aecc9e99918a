#!/bin/bash
# customize.sh ROOT FOLDER: readies the unpacked system for tests; FOLDER is this one
set -euo pipefail
root=$1 here=$2
install -m 755 "$here/agent" "$root/usr/local/sbin/liveos-test-agent"
install -m 644 "$here/agent.service" "$root/etc/systemd/system/liveos-test-agent.service"
chroot "$root" systemctl --quiet enable liveos-test-agent.service
# what would write to the overlay by itself, or take time
chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service \
  fstrim.timer dpkg-db-backup.timer getty@tty1.service dracut-shutdown.service
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\n' > "$root/etc/systemd/journald.conf.d/test.conf"
: > "$root/etc/fstab"
echo live > "$root/etc/hostname"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
# Files whose fate the tests follow.
mkdir -p "$root/srv/base"
for n in 1 2 3 4; do head -c 300000 /dev/zero | tr '\0' "$n" > "$root/srv/base/file$n"; done
kernel=$(ls "$root/lib/modules" | sort -V | tail -1)
chroot "$root" dracut --quiet --force --no-hostonly --kver "$kernel" "/boot/initrd.img-$kernel"

# What the booted system says of itself, a file each in $OUT; sourced by scripts.
report() {
  uname -r > $OUT/kernel
  cat /proc/cmdline > $OUT/cmdline
  dmsetup table > $OUT/tables 2>&1
  dmsetup status > $OUT/status 2>&1
  dmsetup ls > $OUT/devices 2>&1
  losetup --list --noheadings --raw --output NAME,RO,BACK-FILE > $OUT/loops 2>&1
  findmnt --json --list --output TARGET,SOURCE,FSTYPE,OPTIONS > $OUT/mounts.json
  journalctl -b -o cat 2>/dev/null | grep -iE 'overlay|dracut.*(warn|fail)|live' | tail -100 > $OUT/journal
}
# keep NAME: writes files that a later boot is to find, and changes and deletes some of the base
keep() {
  mkdir -p "/srv/$1"
  for n in {1..40}; do echo "$1 $n" > "/srv/$1/small$n"; done
  seq 1 200000 | sed "s/^/$1 /" > "/srv/$1/large"
  ln -s large "/srv/$1/link"
  chmod 640 "/srv/$1/small1"; chown 123:456 "/srv/$1/small2"
  sync
}
# What is below /srv: kind, mode, owner, size and content of each, in one order.
files() {
  (cd /srv && find . -mindepth 1 -printf '%P\t%y\t%m\t%U:%G\t%l\n' | sort | while IFS=$'\t' read -r path kind mode owner link; do
    sum=; [ "$kind" = f ] && sum=$(sha256sum < "$path" | cut -c1-16)
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$path" "$kind" "$mode" "$owner" "$link" "$sum"
  done)
}

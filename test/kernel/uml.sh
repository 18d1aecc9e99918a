#!/bin/bash
# Runs a shell script as root in Debian's User Mode Linux: a real kernel with dm-snapshot, loop, squashfs and ext4, started
# as an ordinary process in about two seconds. Needs no root, no KVM, no network; packages user-mode-linux, dmsetup, kmod.
#
#   uml.sh --scratch DIR --script FILE [--disk FILE[,ro]]... [--mem MiB] [--seconds N] [-- ARG...]
#
# The guest's / is the host's /, read-only, so the host's programs are there. The script starts in a tmpfs and finds
#   $DISKS  the guest's names of the disks, in order, separated by blanks (/dev/ubda /dev/ubdb ...)
#   $OUT    a writable directory, the host's DIR/out
#   $1 ...  the ARGs
# What it prints goes to DIR/log, what the kernel says to DIR/console.log. Everything is written under DIR, nothing elsewhere.
# Exit status: the script's own; 124 out of time; 125 the kernel ended before the script did; 2 wrong use.
set -euo pipefail

usage() {
  sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

scratch='' script='' mem=768 seconds=120 disks=()
while [ $# -gt 0 ]; do
  case $1 in
    --) shift; break ;;
    --scratch | --script | --disk | --mem | --seconds) [ $# -ge 2 ] || usage ;;
    *) echo "uml.sh: unknown option $1" >&2; usage ;;
  esac
  case $1 in
    --scratch) scratch=$2 ;;
    --script) script=$2 ;;
    --disk) disks+=("$2") ;;
    --mem) mem=$2 ;;
    --seconds) seconds=$2 ;;
  esac
  shift 2
done
[ -n "$scratch" ] && [ -n "$script" ] || usage
[ "${#disks[@]}" -le 16 ] || { echo 'uml.sh: at most 16 disks' >&2; exit 2; }

# The kernel's command line is split at blanks, so all that it names lies in DIR under short names.
mkdir -p "$scratch/out" "$scratch/disk" "$scratch/uml"
scratch=$(realpath "$scratch")
case $scratch in *[[:space:],]*) echo "uml.sh: no blank or comma may be in $scratch" >&2; exit 2 ;; esac
rm -f "$scratch/rc" "$scratch/log" "$scratch/console.log"
cp "$(dirname "$0")/uml-init" "$scratch/init"
cp "$script" "$scratch/script"
chmod 755 "$scratch/init"

ubd=() names=()
for index in "${!disks[@]}"; do
  file=${disks[index]} flag=''
  case $file in *,ro) file=${file%,ro} flag=r ;; esac
  ln -sfn "$(realpath "$file")" "$scratch/disk/$index"
  ubd+=("ubd$index$flag=$scratch/disk/$index")
  names+=("/dev/ubd$(printf 'abcdefghijklmnop' | cut -c $((index + 1)))")
done
{
  printf 'DISKS=%q\n' "${names[*]-}"
  printf 'ARGS=('
  [ $# -eq 0 ] || printf '%q ' "$@"
  printf ')\n'
} >"$scratch/settings"

# The guest's memory is a sparse file: in /dev/shm where that has the room (containers often have 64 MiB there).
TMPDIR=$scratch
room=$(df --output=avail --block-size=1M /dev/shm 2>/dev/null | tail -n 1 || true)
if [ "${room:-0}" -ge "$mem" ] && [ -w /dev/shm ]; then TMPDIR=/dev/shm; fi
export TMPDIR

ended=0
timeout -k 5 "$seconds" linux.uml "mem=${mem}M" rootfstype=hostfs rootflags=/ ro "init=$scratch/init" "scratch=$scratch" \
  umid=guest "uml_dir=$scratch/uml/" con=null con0=null,fd:1 ssl=null ${ubd[@]+"${ubd[@]}"} \
  </dev/null >"$scratch/console.log" 2>&1 || ended=$?

if [ -f "$scratch/rc" ]; then exit "$(cat "$scratch/rc")"; fi
if [ "$ended" = 124 ] || [ "$ended" = 137 ]; then
  echo "uml.sh: out of time after $seconds s, see $scratch/console.log" >&2
  exit 124
fi
echo "uml.sh: the kernel ended early (status $ended), see $scratch/console.log" >&2
exit 125

"""The part of an installer's script that finds disks by serial, WWN or size; pure.

Runs in busybox's ash (Debian's installer) and bash (Anaconda). Invariant: a disk that was named and is not there ends
the script; no other is taken in its place.
"""

from __future__ import annotations

from control_plane.machines.answers.model import Disk
from control_plane.machines.answers.quoting import shell

# 8 GiB in sectors of 512 bytes, as /sys counts them: smaller ones are card readers and BMCs' virtual media.
_LEAST_SECTORS = 16_777_216

# The properties are udev's (60-persistent-storage.rules); virtio disks have ID_SERIAL alone.
FIND_DISK = f"""\
find_disk() {{ # path|serial|wwn|smallest [VALUE]; prints the name of a disk as /dev has it
  found= smallest=
  if [ "$1" = path ]; then
    found=$(readlink -f "$2") && [ -b "$found" ] && echo "${{found#/dev/}}" && return 0
    echo "longshore: there is no disk $2" >&2
    return 1
  fi
  for block in "${{LONGSHORE_SYS:-/sys}}"/block/*; do
    name=${{block##*/}}
    case $name in loop*|ram*|zram*|sr*|fd*|dm-*|md*|nbd*) continue ;; esac
    [ "$(cat "$block/removable")" = 0 ] && [ "$(cat "$block/ro")" = 0 ] || continue
    size=$(cat "$block/size")
    case $1 in
      smallest)
        [ "$size" -ge {_LEAST_SECTORS} ] || continue
        if [ -z "$smallest" ] || [ "$size" -lt "$smallest" ]; then found=$name smallest=$size; fi ;;
      serial)
        udevadm info --query=property --name="/dev/$name" |
          grep -qxF -e "ID_SERIAL_SHORT=$2" -e "ID_SERIAL=$2" -e "ID_SCSI_SERIAL=$2" && found=$name ;;
      wwn)
        udevadm info --query=property --name="/dev/$name" |
          grep -qxF -e "ID_WWN=$2" -e "ID_WWN_WITH_EXTENSION=$2" && found=$name ;;
    esac
  done
  [ -n "$found" ] && echo "$found" && return 0
  echo "longshore: there is no disk with $1 $2" >&2
  return 1
}}
"""


def disk_choice(disk: Disk) -> str:
    """The arguments of `find_disk`."""
    for kind, value in (("path", disk.path), ("serial", disk.serial), ("wwn", disk.wwn)):
        if value:
            return f"{kind} {shell(value)}"
    return "smallest"

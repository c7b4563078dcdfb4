#!/bin/sh
# What a machine does in the installer environment: it asks its regional "what next?" and does it, until nothing is left.
#
# The words are those of docs/operations/booting-machines.md. Runs in busybox's ash and in dash, with busybox's wget or
# curl. Invariant: what cannot be undone is done only after the regional handed it out, and never a second time: each
# question has an `attempt` of its own, and an operation that fails ends the installation here.
#
# LONGSHORE_ROOT: where /proc, /sys and /dev are found, for tests. LONGSHORE_REBOOT: how to restart.
set -u

root=${LONGSHORE_ROOT:-}
work=${LONGSHORE_WORK:-/tmp/longshore}
restart=${LONGSHORE_REBOOT:-"reboot -f"}
chunk=$((64 << 20))
mkdir -p "$work"

argument() { # NAME: of the kernel
  tr ' ' '\n' <"$root/proc/cmdline" | sed -n "s/^longshore\.$1=//p" | head -n 1
}

url=$(argument url)
token=$(argument token)
mac=$(argument mac)
serial=$(cat "$root/sys/class/dmi/id/product_serial" 2>/dev/null)

note() { echo "longshore: $*" >&2; }

quoted() { # TEXT as a JSON string
  printf '"%s"' "$(printf '%s' "$1" | tr '\n\t' '  ' | tr -d '\000-\037' | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g')"
}

number() { # FILE's first number, or 0
  value=$(head -n 1 "$1" 2>/dev/null | tr -cd '0-9')
  echo "${value:-0}"
}

random() { od -An -N 16 -tx1 /dev/urandom | tr -d ' \n'; }

# Debian's busybox has no `wget -T`.
limited() { # SECONDS COMMAND...
  if command -v timeout >/dev/null; then timeout "$@"; else
    shift
    "$@"
  fi
}

post() { # WORD BODY: 0 and the answer in $work/answer; 1: try again; 2: refused
  if command -v curl >/dev/null; then
    status=$(curl -s -m 60 -o "$work/answer" -w '%{http_code}' -H "Authorization: Bearer $token" \
      -H 'Content-Type: application/json' --data-binary "$2" "$url/api/v1/device/$1?format=shell")
  elif limited 60 wget -q -O "$work/answer" --header "Authorization: Bearer $token" \
    --header 'Content-Type: application/json' --post-data "$2" "$url/api/v1/device/$1?format=shell" 2>"$work/error"; then
    status=200
  else
    status=$(sed -n 's/.*HTTP\/1\.[01] \([0-9]*\).*/\1/p' "$work/error" | head -n 1)
  fi
  case "$status" in
  200) return 0 ;;
  429 | 5* | 000 | "") return 1 ;;
  *) return 2 ;;
  esac
}

say() { # WORD FIELDS: until the regional heard it; FIELDS: JSON members, with a comma before. 1: it refuses
  pause=1
  while :; do
    post "$1" "{\"sn\": $(quoted "$serial"), \"mac\": \"$mac\"$2}"
    case $? in
    0) return 0 ;;
    2)
      note "$1 is refused: $status"
      return 1
      ;;
    esac
    note "no answer to $1, again in $pause s"
    sleep "$pause"
    [ "$pause" -ge 30 ] || pause=$((pause * 2))
  done
}

fetch() { # URL
  if command -v curl >/dev/null; then curl -fsS -m 600 "$1"; else limited 600 wget -q -O - "$1"; fi
}

disks() { # a name and its bytes a line, smallest first
  for path in "$root"/sys/block/*; do
    name=${path##*/}
    case "$name" in loop* | ram* | sr* | fd* | zram* | dm-* | md* | "*") continue ;; esac
    [ "$(number "$path/removable")" = 0 ] || continue
    echo "$name $(($(number "$path/size") * 512))"
  done | sort -n -k 2
}

chosen() { # the disk that DISK_... of the answer choose; nothing: there is none
  disks | while read -r name bytes; do
    path=$root/sys/block/$name/device
    [ -z "$DISK_NAME" ] || [ "${DISK_NAME#/dev/}" = "$name" ] || continue
    [ -z "$DISK_SERIAL" ] || [ "$DISK_SERIAL" = "$(tr -d ' ' <"$path/serial" 2>/dev/null)" ] || continue
    [ -z "$DISK_WWN" ] || [ "$DISK_WWN" = "$(cat "$path/wwid" 2>/dev/null)" ] || continue
    [ "$bytes" -gt 0 ] && [ "$bytes" -ge "$DISK_LEAST_BYTES" ] || continue
    echo "$name $bytes"
    break
  done
}

inventory() {
  dmi=$root/sys/class/dmi/id
  printf '"vendor": %s, "product": %s, "uuid": %s, "firmware": %s, ' "$(quoted "$(cat "$dmi/sys_vendor" 2>/dev/null)")" \
    "$(quoted "$(cat "$dmi/product_name" 2>/dev/null)")" "$(quoted "$(cat "$dmi/product_uuid" 2>/dev/null)")" \
    "$(quoted "$(cat "$dmi/bios_vendor" "$dmi/bios_version" 2>/dev/null)")"
  [ -d "$root/sys/firmware/efi" ] && uefi=true || uefi=false
  printf '"uefi": %s, "cpu_threads": %s, "cpu_architecture": "%s", "memory_bytes": %s, "disks": [' "$uefi" \
    "$(grep -c '^processor' "$root/proc/cpuinfo")" "$(uname -m)" \
    "$(($(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' "$root/proc/meminfo") * 1024))"
  disks | while read -r name bytes; do
    path=$root/sys/block/$name/device
    printf '%s{"name": "%s", "size_bytes": %s, "model": %s, "serial": %s}' "${comma:-}" "$name" "$bytes" \
      "$(quoted "$(cat "$path/model" 2>/dev/null)")" "$(quoted "$(cat "$path/serial" 2>/dev/null)")"
    comma=", "
  done
  printf '], "nics": ['
  for path in "$root"/sys/class/net/*; do
    [ -e "$path/device" ] || continue
    printf '%s{"name": "%s", "mac": "%s", "link": %s}' "${comma:-}" "${path##*/}" "$(cat "$path/address")" \
      "$([ "$(number "$path/carrier")" = 1 ] && echo true || echo false)"
    comma=", "
  done
  printf ']'
}

complete() { # FURTHER FIELDS
  say operationComplete ", \"operation\": \"$ID\"$1"
}

failed() { # WHY
  note "$OPERATION failed: $1"
  say operationFailed ", \"operation\": \"$ID\", \"message\": $(quoted "$1")"
  exit 1
}

run_script() {
  printf '%s' "$SCRIPT" >"$work/script"
  if "$INTERPRETER" "$work/script" >"$work/log" 2>&1 </dev/null; then
    say progress ", \"operation\": \"$ID\", \"text\": $(quoted "$(tail -c 4000 "$work/log")")"
    complete ""
  else
    failed "$NAME ended with $?: $(tail -c 2000 "$work/log")"
  fi
}

choose() {
  found=$(chosen)
  [ -n "$found" ] || failed "no disk is as it was asked for; there are: $(disks | tr '\n' ',')"
  disk=$root/dev/${found% *}
  bytes=${found#* }
}

wipe() {
  choose
  length=$((bytes >> 20))
  edge=16
  if [ "$WHOLE" = true ] || [ "$length" -le $((2 * edge)) ]; then
    blkdiscard -f "$disk" 2>/dev/null
    head -c "$bytes" /dev/zero | dd of="$disk" bs=1M conv=notrunc,fsync 2>"$work/log" || failed "$(cat "$work/log")"
  else
    dd if=/dev/zero of="$disk" bs=1M count=$edge conv=notrunc,fsync 2>"$work/log" &&
      dd if=/dev/zero of="$disk" bs=1M count=$edge seek=$((length - edge)) conv=notrunc,fsync 2>>"$work/log" ||
      failed "$(cat "$work/log")"
  fi
  complete ""
}

write_image() {
  [ "$FORMAT" = raw ] || failed "images in the format $FORMAT cannot be written; publish it as raw"
  choose
  [ "$bytes" -ge "$SIZE_BYTES" ] || failed "the image has $SIZE_BYTES bytes and the disk $bytes"
  at=0
  tries=0
  while [ "$at" -lt "$SIZE_BYTES" ]; do
    end=$((at + chunk))
    [ "$end" -le "$SIZE_BYTES" ] || end=$SIZE_BYTES
    if ! fetch "$URL?bytes=$at-$((end - 1))" >"$work/part" 2>"$work/log" || [ "$(wc -c <"$work/part")" != $((end - at)) ]; then
      tries=$((tries + 1))
      [ "$tries" -le 10 ] || failed "the image could not be fetched beyond byte $at: $(cat "$work/log")"
      sleep "$tries"
      continue
    fi
    tries=0
    dd if="$work/part" of="$disk" bs=1M seek=$((at >> 20)) conv=notrunc,fsync 2>"$work/log" ||
      failed "the disk refused byte $at: $(cat "$work/log")"
    at=$end
    say progress ", \"operation\": \"$ID\", \"percent\": $((at * 99 / SIZE_BYTES))" || exit 1
  done
  rm -f "$work/part"
  # What counts is what the disk gives back, not what the page cache still knows.
  sync
  [ ! -w "$root/proc/sys/vm/drop_caches" ] || echo 3 >"$root/proc/sys/vm/drop_caches"
  complete ", \"digest\": \"sha256:$(head -c "$SIZE_BYTES" "$disk" | sha256sum | cut -d ' ' -f 1)\""
}

hand_over() {
  command -v kexec >/dev/null || failed "there is no kexec in this environment"
  fetch "$KERNEL" >"$work/kernel" || failed "the installer's kernel could not be fetched"
  : >"$work/initrd"
  number=0
  while [ "$number" -lt "$INITRDS_COUNT" ]; do
    eval "fetch \"\$INITRDS_$number\"" >>"$work/initrd" || failed "the installer's initrd could not be fetched"
    number=$((number + 1))
  done
  kexec -l "$work/kernel" --initrd="$work/initrd" --command-line="$ARGUMENTS" || failed "kexec did not take the kernel"
  kexec -e
}

next() {
  say getNextOperation ", \"attempt\": \"$(random)\"" || exit 1
  OPERATION="" ID="" DISK_NAME="" DISK_SERIAL="" DISK_WWN="" DISK_LEAST_BYTES=0 METHOD="" WHOLE=false REASON=""
  eval "$(cat "$work/answer")"
  note "$OPERATION $ID $REASON"
  case "$OPERATION" in
  hardware_config | network_config) run_script ;;
  disk_wipe) wipe ;;
  os_install) if [ "$METHOD" = image ]; then write_image; else hand_over; fi ;;
  complete) complete "" ;;
  reboot)
    [ -z "$ID" ] || complete ""
    $restart
    exit 0
    ;;
  *) exit 0 ;;
  esac
}

[ -n "$url" ] && [ -n "$token" ] || {
  note "the kernel's arguments do not say longshore.url and longshore.token"
  exit 2
}
say report ", \"hardware\": {$(inventory)}" || exit 1
while :; do
  say isInInstallQueue "" || exit 1
  RESULT=false REBOOT=false RETRY_SECONDS=10
  eval "$(cat "$work/answer")"
  [ "$RESULT" != true ] || break
  [ "$REBOOT" != true ] || {
    $restart
    exit 0
  }
  sleep "${LONGSHORE_WAIT:-$RETRY_SECONDS}"
done
while :; do next; done

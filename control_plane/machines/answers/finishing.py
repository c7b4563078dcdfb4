"""`finish.sh`: what runs in an installer once the system is on the disk: accounts, the operator's script, the report.

Runs in busybox's ash (Debian), bash (Anaconda) and dash (Ubuntu). Invariant: completion is reported only after
everything that was asked for ended well; texts of people stand in here-documents whose end nobody could know, or are
quoted words.
"""

from __future__ import annotations

import json

from common.late_words import LateWord
from control_plane.machines.answers.late import Late
from control_plane.machines.answers.model import Format, Installation, User
from control_plane.machines.answers.quoting import Quoted, shell

FINISH = "finish.sh"
COMPLETE, FAILED = "operationComplete", "operationFailed"
# In the new system, while its scripts run.
_PLACE = "/var/lib/longshore-install"
# A regional that restarts is back within a minute; these add up to two.
_PAUSES = "1 2 4 8 15 30 30 30"

_KEYS = """\
authorize() { # USER; its keys come in
  home=$(getent passwd "$1" | cut -d: -f6)
  install -d -m 700 -o "$1" -g "$(id -gn "$1")" "$home/.ssh"
  cat >"$home/.ssh/authorized_keys"
  chmod 600 "$home/.ssh/authorized_keys"
  chown "$1:$(id -gn "$1")" "$home/.ssh/authorized_keys"
  if command -v restorecon >/dev/null; then restorecon -R "$home/.ssh"; fi
}
"""


def finish_script(it: Installation, form: Format, late: Late, *, setup: str = "") -> str:
    """`finish.sh TARGET COMMAND...`: COMMAND... runs what follows it in the system at TARGET. `finish.sh failed`: only
    reports that. `setup`: shell that runs in the system first.
    """
    return f"""\
#!/bin/sh
# Ends the installation of {it.hostname}: sets the system up, runs its script, tells the regional.
LONGSHORE_URL='{late.word(LateWord.BASE_URL)}'
LONGSHORE_DEVICE='{late.word(LateWord.DEVICE)}'
LONGSHORE_TOKEN='{late.word(LateWord.TOKEN)}'
export LONGSHORE_URL LONGSHORE_DEVICE LONGSHORE_TOKEN

{_report(it.operation)}
told=/tmp/longshore-told
if [ "$1" = failed ]; then
  [ -e "$told" ] || report {FAILED} '{_body(it.operation, "the installer gave up; its own log says why")}'
  exit 0
fi
target=$1
shift
log=$target/var/log/longshore-install.log
umask 077
mkdir -p "$target{_PLACE}"
{_written("setup", _setup(it, form, late, setup), late)}
{_written("post", it.post_script or ":", late)}
: >"$log"
umask 022
if "$@" /bin/sh {_PLACE}/setup.sh >"$log" 2>&1; then
  "$@" /bin/sh {_PLACE}/post.sh >>"$log" 2>&1
  status=$?
  failure='{_body(it.operation, "the post-install script failed; see /var/log/longshore-install.log of the machine")}'
else
  status=1
  failure='{_body(it.operation, "the accounts could not be set up; see /var/log/longshore-install.log of the machine")}'
fi
rm -f "$target{_PLACE}/setup.sh" "$target{_PLACE}/post.sh"
rmdir "$target{_PLACE}"
if [ "$status" != 0 ]; then
  : >"$told"
  report {FAILED} "$failure"
  exit 1
fi
report {COMPLETE} '{_body(it.operation, "")}'
exit 0
"""


def _body(operation: str, message: str) -> str:
    """JSON that stands between single quotes: no apostrophe."""
    return json.dumps({"operation": operation, **({"message": message} if message else {})})


def _report(operation: str) -> str:
    return f"""\
report() {{ # WORD BODY
  for pause in {_PAUSES}; do
    if command -v curl >/dev/null; then
      curl -fsS -m 30 -o /dev/null -H "Authorization: Bearer $LONGSHORE_TOKEN" -H 'Content-Type: application/json' \\
        -d "$2" "$LONGSHORE_DEVICE/$1" && return 0
    else
      wget -q -T 30 -O /dev/null --header "Authorization: Bearer $LONGSHORE_TOKEN" \\
        --header 'Content-Type: application/json' --post-data "$2" "$LONGSHORE_DEVICE/$1" && return 0
    fi
    sleep "$pause"
  done
  echo "longshore: the regional did not take the report $1" >&2
}}
"""


def _written(name: str, text: str, late: Late) -> str:
    """Errors go the way of output, which Debian's `in-target` passes on, while it keeps errors to itself."""
    body = text if text.endswith("\n") else text + "\n"
    body = f"exec 2>&1\n{body}"
    return f"cat >\"$target{_PLACE}/{name}.sh\" <<'{late.ends()}'\n{body}{late.ends()}"


def _setup(it: Installation, form: Format, late: Late, setup: str) -> str:
    """Accounts; Kickstart makes its users itself, all others get theirs here."""
    parts = ["set -eu", _KEYS]
    for user in it.users:
        parts += _account(user, form)
        if user.administrator and user.password_hash is None:
            # Who has no password can give none to sudo.
            parts.append(f"echo '{user.name} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/90-longshore-{user.name}")
            parts.append(f"chmod 440 /etc/sudoers.d/90-longshore-{user.name}")
        parts += _authorized(user.name, user.ssh_keys, late)
    parts += _authorized("root", it.root_ssh_keys, late)
    if setup:
        parts.append(setup)
    return "\n".join(parts) + "\n"


def _account(user: User, form: Format) -> list[str]:
    if form is Format.KICKSTART:
        return []
    lines = [f"id {user.name} >/dev/null 2>&1 || useradd -m -s /bin/bash -c {shell(user.full_name)} {user.name}"]
    lines.append(f"usermod -p {shell(user.password_hash or '!')} {user.name}")
    if user.administrator:
        lines.append(f"usermod -aG sudo {user.name}")
    return lines


def _authorized(name: str, keys: tuple[str, ...], late: Late) -> list[str]:
    if not keys:
        return []
    end = f"{late.ends()}-keys"
    return [f"authorize {name} <<'{end}'", *keys, end]


def fetch_and_run(late: Late, target: str, command: str) -> Quoted:
    """One line of shell for the installer's last hook."""
    return Quoted(f"{fetch(late)} && sh /tmp/{FINISH} {target} {command}")


def fetch(late: Late) -> str:
    """Both are tried: installers have one or the other."""
    url = late.document(FINISH)
    return f"(curl -fsS --retry 8 -o /tmp/{FINISH} {url} || wget -q -O /tmp/{FINISH} {url})"

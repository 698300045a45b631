#!/bin/sh
# Installs packages of the distribution unless their programs are there: from-debian.sh PROGRAM=PACKAGE ... Starts no service.
set -eu

missing=
for wanted in "$@"; do
    command -v "${wanted%%=*}" >/dev/null || missing="$missing ${wanted#*=}"
done
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null || { echo "from-debian:$missing not installed, and there is no apt-get [install by hand]" >&2; exit 1; }
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
# Without the services that packages would start: tests start their own.
policy=/usr/sbin/policy-rc.d
made=
if ! [ -e "$policy" ]; then
    made=yes
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod +x "$policy"
fi
trap '[ -z "$made" ] || $as_root rm -f "$policy"' EXIT
$as_root apt-get install -y -q --no-install-recommends $missing >&2 ||
    { $as_root apt-get update -q >&2 && $as_root apt-get install -y -q --no-install-recommends $missing >&2; }

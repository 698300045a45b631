#!/bin/sh
# Gets the Redis server that the queue tests run (6.2 or later), and openssl for its certificates, from the distribution. Does nothing
# when they are there. Prints where the server is.
set -eu

missing=
command -v redis-server >/dev/null || missing="redis-server"
command -v openssl >/dev/null || missing="$missing openssl"
if [ -n "$missing" ]; then
    command -v apt-get >/dev/null || { echo "get-redis: $missing is not installed, and there is no apt-get [install it by hand]" >&2; exit 1; }
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    # Without the service that the package would start: tests start their own.
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
fi
command -v redis-server

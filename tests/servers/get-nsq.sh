#!/bin/sh
# Builds nsqd and nsqlookupd with Go, below the cache folder. Does nothing when they are there. Prints where they are.
set -eu

version=1.3.0
here=$(cd "$(dirname "$0")" && pwd)
cache=${WEIR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weir}
folder=$cache/nsq-$version
if ! [ -x "$folder/nsqd" ] || ! [ -x "$folder/nsqlookupd" ]; then
    command -v go >/dev/null || { echo "get-nsq: go is not installed [it builds the server]" >&2; exit 1; }
    mkdir -p "$cache"
    # Made beside and renamed: two runs at once, or one that is interrupted, leave no half folder.
    made=$(mktemp -d "$cache/nsq.XXXXXX")
    trap 'rm -rf "$made"' EXIT
    mkdir "$made/src" "$made/out"
    # The versions of everything that it is made of are pinned; one dependency's own repository is gone, and its fork stands in.
    cp "$here/nsq/go.mod" "$here/nsq/go.sum" "$made/src/"
    (cd "$made/src" && CGO_ENABLED=0 GOFLAGS='-mod=mod -buildvcs=false -trimpath' go build -ldflags '-s -w' -o "$made/out/" \
        github.com/nsqio/nsq/apps/nsqd github.com/nsqio/nsq/apps/nsqlookupd) >&2
    mv -T "$made/out" "$folder" 2>/dev/null || [ -x "$folder/nsqd" ]
fi
echo "$folder/nsqd"

#!/bin/sh
# Gets two RabbitMQ servers: the distribution's own (3.10 on Debian 12), and 4.x from a newer Debian suite, unpacked with its own Erlang
# and libc below the cache folder and run by chroot, so that no package of this machine is touched. The second needs root. Does nothing
# when they are there. Prints where they are.
set -eu

suite=trixie
cache=${WEIR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weir}
root=$cache/rabbitmq-$suite
PATH=$PATH:/usr/sbin
"$(dirname "$0")/from-debian.sh" rabbitmq-server=rabbitmq-server
command -v rabbitmq-server

if ! [ -e "$root" ]; then
    [ "$(id -u)" = 0 ] || { echo "get-rabbitmq: not root [4.x is run by chroot]" >&2; exit 1; }
    sources=/etc/apt/sources.list.d/debian.sources
    [ -e "$sources" ] || { echo "get-rabbitmq: $sources is not there [it says where Debian is]" >&2; exit 1; }
    mkdir -p "$cache"
    # Made beside and renamed: an interrupted run leaves no half root.
    made=$(mktemp -d "$cache/rabbitmq.XXXXXX")
    trap 'rm -rf "$made"' EXIT
    apt=$made/apt out=$made/out
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts" "$out"
    : > "$apt/status"
    # This machine's own Debian source, another suite; with no package installed, all that it needs is fetched.
    awk 'BEGIN { RS = ""; ORS = "\n\n" } NR == 1' "$sources" | sed "s/^Suites:.*/Suites: $suite/" > "$apt/parts/suite.sources"
    options="-qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=$apt/parts -o Dir::State::lists=$apt/lists -o Dir::Cache=$apt/cache
        -o Dir::State::status=$apt/status -o APT::Install-Recommends=false -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
    apt-get $options update >&2
    apt-get $options -y --download-only install \
        rabbitmq-server base-files dash bash coreutils sed grep mawk util-linux hostname procps findutils >&2
    # The first one holds the links from /bin to /usr/bin.
    dpkg-deb -x "$apt"/cache/archives/base-files_*.deb "$out"
    for package in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$package" "$out"; done
    ln -sf mawk "$out/usr/bin/awk"
    mkdir -p "$out/tmp" "$out/dev"
    echo 'root:x:0:0:root:/:/bin/sh' > "$out/etc/passwd"
    echo 'root:x:0:' > "$out/etc/group"
    echo '127.0.0.1 localhost' > "$out/etc/hosts"
    mknod -m 666 "$out/dev/null" c 1 3
    mknod -m 666 "$out/dev/random" c 1 8
    mknod -m 666 "$out/dev/urandom" c 1 9
    chmod 755 "$out"
    mv -T "$out" "$root" 2>/dev/null || [ -e "$root/usr/lib/rabbitmq" ]
fi
echo "$root"

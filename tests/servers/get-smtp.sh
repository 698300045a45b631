#!/bin/sh
# Gets the SMTP server that the mail tests send to: aiosmtpd (and trustme, for its
# certificates), in an environment of its own below the cache folder. Does nothing when it is there. Prints the
# Python that has them.
set -eu

packages="aiosmtpd==1.4.6 trustme==1.2.1"
cache=${WEIR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weir}
env=$cache/smtp-venv-$(echo "$packages" | tr -d ' =')

if ! [ -x "$env/bin/python" ] || ! "$env/bin/python" -c 'import aiosmtpd, trustme' 2>/dev/null; then
    command -v python3 >/dev/null || { echo "get-smtp: python3 is not installed [the mail tests need it]" >&2; exit 1; }
    mkdir -p "$cache"
    # Made beside and renamed: two runs at once, or one that is interrupted, leave no half environment. (`pip` is run as a module:
    # the scripts in the environment name the folder that it was made in.)
    made=$(mktemp -d "$cache/smtp-venv.XXXXXX")
    trap 'rm -rf "$made"' EXIT
    python3 -m venv "$made" >&2 || { echo "get-smtp: python3 has no venv [on Debian: apt-get install python3-venv]" >&2; exit 1; }
    "$made/bin/python" -m pip install --quiet --disable-pip-version-check $packages >&2
    rm -rf "$env.old"
    if [ -e "$env" ]; then mv "$env" "$env.old"; fi
    mv -T "$made" "$env" 2>/dev/null || [ -x "$env/bin/python" ]
    rm -rf "$env.old"
fi
echo "$env/bin/python"

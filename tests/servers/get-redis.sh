#!/bin/sh
# Gets the Redis server that the queue tests run (6.2 or later), and openssl for its certificates, from the distribution. Does nothing
# when they are there. Prints where the server is.
set -eu
"$(dirname "$0")/from-debian.sh" redis-server=redis-server openssl=openssl
command -v redis-server

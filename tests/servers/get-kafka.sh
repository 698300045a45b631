#!/bin/sh
# Gets Apache Kafka, below the cache folder, by Maven; and says so when there is no Java 17 to run it. Does nothing when it is there.
# Prints where its jars are.
set -eu

version=4.3.1
here=$(cd "$(dirname "$0")" && pwd)
cache=${WEIR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weir}
folder=$cache/kafka-$version
command -v java >/dev/null || { echo "get-kafka: java is not installed [17 or later runs the server]" >&2; exit 1; }
if ! [ -e "$folder" ]; then
    command -v mvn >/dev/null || { echo "get-kafka: mvn is not installed [it gets the server]" >&2; exit 1; }
    mkdir -p "$cache"
    # Made beside and renamed: two runs at once, or one that is interrupted, leave no half folder.
    made=$(mktemp -d "$cache/kafka.XXXXXX")
    trap 'rm -rf "$made"' EXIT
    mvn -B -ntp -q -f "$here/kafka/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$made/out" >&2
    mv -T "$made/out" "$folder" 2>/dev/null || [ -e "$folder" ]
fi
echo "$folder"

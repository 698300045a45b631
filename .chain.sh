#!/bin/bash
cd /tmp/helpers/move
cargo build --quiet --locked --package weir-runtime --bin weir > .bin.log 2>&1; echo "done $?" >> .bin.log
cargo clippy -p weir-runtime -p weir-tests --all-targets > .clippy.log 2>&1; echo "done $?" >> .clippy.log

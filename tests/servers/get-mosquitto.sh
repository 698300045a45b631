#!/bin/sh
# Gets Mosquitto, the MQTT 5 broker that the queue tests run, from the distribution. Does nothing when it is there. Prints where it is.
set -eu
PATH=$PATH:/usr/sbin
"$(dirname "$0")/from-debian.sh" mosquitto=mosquitto
command -v mosquitto

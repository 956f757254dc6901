#!/usr/bin/env bash
# The same crash, the owner's cable pulled, for Landfall and for keepalived with its default settings, side by side.
#
#   peers.sh [ROUNDS]         10 rounds each unless given
#
# Only a cut is fair to both: a keepalived that is killed leaves its addresses on the interface, where the kernel goes
# on to answer for them. Needs root, keepalived (Debian package of that name) and a lab that is down.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
rounds=${1:-10}

[ "$(id -u)" = 0 ] || { echo "peers: network namespaces need root: run this as root" >&2; exit 1; }
command -v keepalived >/dev/null || { echo "peers: missing: keepalived (Debian package keepalived)" >&2; exit 1; }

measure() {
    "$here/../lab.sh" up >/dev/null
    trap '"$here/../lab.sh" down' EXIT
    # keepalived takes more than 3 s to notice, so both are watched for 8 s.
    "$here/failover.py" --quiet --mode cut --rounds "$rounds" --watch 8 --bound 1000 --label "$1" || failed=1
    "$here/../lab.sh" down
    trap - EXIT
}

failed=0
measure landfall
LANDFALL_LB_ANNOUNCER=$here/keepalived-announcer.sh measure keepalived
exit $failed

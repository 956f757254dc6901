#!/usr/bin/env bash
# Runs the measurements of the announcer one after the other in the lab, each of which prints one line of figures.
#
#   all.sh [STAGE...]         the stages named, else all of them in this order
#
# Stage and what it does, with its parameters and how long it takes if they aren't set:
#   kill       SIGKILL of the owner's announcer and endpoint                ROUNDS=100            6 min
#   cut        the owner's cable is pulled                                  ROUNDS=100            6 min
#   kill6      kill, for an IPv6 address                                    ROUNDS=100            6 min
#   stop       SIGSTOP, later SIGCONT of the owner's announcer              ROUNDS=100            7 min
#   move       SIGTERM, exclusion label and cordon of the owner in turn     MOVES=100             3 min
#   move6      move, for an IPv6 address                                    MOVES=100             3 min
#   partition  the owner is separated from the other nodes, then healed     PARTITIONS=20         2 min
#   loss       5 % and then 20 % loss between the nodes, busy processors    LOSS_SECONDS=600     20 min
#   many       1,000 addresses, then crashes                                CRASHES=5             2 min
#   flood      100,000 packets a second of other traffic                    FLOOD_SECONDS=10     30 s
#   foreign    another host owns addresses of the pool, or takes one        FOREIGN_SECONDS=10   30 s
#   peers      the same cut for keepalived with its defaults                PEER_ROUNDS=10        4 min
#
# Needs root, a machine with nothing else to do, and a lab that is down. LANDFALL_LB_ANNOUNCER names the program.
# The exit status is 1 when a limit was broken: a gap of more than LIMIT_P50=200 and LIMIT_MAX=300 ms after a crash,
# a request lost in a move, two hosts that claim an address for longer than the bound.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lab=$here/../lab.sh
all=(kill cut kill6 stop move move6 partition loss many flood foreign peers)
[ "$(id -u)" = 0 ] || { echo "all: network namespaces need root: run this as root" >&2; exit 1; }
limits=(--limit-p50 "${LIMIT_P50:-200}" --limit-max "${LIMIT_MAX:-300}")
failed=()

# A crash is watched for long enough to see a failover of the slowest kind, and rounds follow each other closely.
rounds() {
    "$here/failover.py" --quiet --stable 0.5 --watch 1 --rounds "${ROUNDS:-100}" "$@"
}

stage() {
    case $1 in
        kill) rounds --mode kill "${limits[@]}" ;;
        cut) rounds --mode cut "${limits[@]}" ;;
        kill6) rounds --mode kill --address fd88::202 "${limits[@]}" ;;
        stop) rounds --mode stop "${limits[@]}" ;;
        move) "$here/moves.py" --moves "${MOVES:-100}" ;;
        move6) "$here/moves.py" --moves "${MOVES:-100}" --address fd88::202 ;;
        partition) rounds --mode partition --rounds "${PARTITIONS:-20}" ;;
        loss)
            local share
            for share in 5 20; do
                "$here/failover.py" --quiet --mode loss --rounds 1 --seconds "${LOSS_SECONDS:-600}" --percent $share \
                    --bound 1000 || return 1
            done
            ;;
        many) "$here/many.py" --rounds "${CRASHES:-5}" ;;
        flood) "$here/flood.py" --seconds "${FLOOD_SECONDS:-10}" ;;
        foreign)
            "$here/foreign.py" --seconds "${FOREIGN_SECONDS:-10}" &&
                "$here/foreign.py" --late --seconds "${FOREIGN_SECONDS:-12}"
            ;;
        *) echo "all: no stage $1: they are ${all[*]}" >&2; return 2 ;;
    esac
}

[ $# -gt 0 ] || set -- "${all[@]}"
for name in "$@"; do
    if [ "$name" = peers ]; then
        "$here/peers.sh" "${PEER_ROUNDS:-10}" || failed+=("$name")
        continue
    fi
    "$lab" up >/dev/null
    trap '"$lab" down' EXIT
    stage "$name" || failed+=("$name")
    "$lab" down
    trap - EXIT
done
[ ${#failed[@]} = 0 ] || { echo "all: beyond the limits: ${failed[*]}" >&2; exit 1; }

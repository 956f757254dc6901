#!/usr/bin/env bash
# A LAN of network namespaces for the announcer: switch ll-sw, nodes ll-n1 to ll-n3, client ll-c, router ll-r.
#
#   lab.sh up                 build the LAN and start a responder and an announcer on each node
#   lab.sh down               remove every trace of it
#   lab.sh status             what runs, and who answers for which address
#   lab.sh run CMD...         run a command on the client
#   lab.sh on HOST CMD...     run a command on n1, n2, n3, c, r or sw
#   lab.sh start NODE         start what does not run there (after a kill)
#   lab.sh stop NODE          stop the announcer of a node, which hands its addresses over first
#
# Environment:
#   LANDFALL_LB_ANNOUNCER     the program; else the newest of those built in target/
#   LANDFALL_LAB_ARGS         further arguments for it
#   LANDFALL_LAB_MANIFESTS    folder of manifests to copy; else examples/lab
#   LANDFALL_LAB_STATE        folder for pids, logs and the copy of the manifests; else /run/landfall-lab
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
state=${LANDFALL_LAB_STATE:-/run/landfall-lab}
nodes=(n1 n2 n3)
hosts=(n1 n2 n3 c r)

fail() { echo "lab: $*" >&2; exit 1; }

# address HOST: the last part of its IPv4 and IPv6 addresses in 192.168.88.0/24 and fd88::/64.
address() {
    case $1 in
        n1) echo 11 ;; n2) echo 12 ;; n3) echo 13 ;; c) echo 100 ;; r) echo 1 ;;
    esac
}

# mac HOST: 02:00:00:00:88:01 for n1, and so on.
mac() {
    case $1 in
        n1) echo 02:00:00:00:88:01 ;; n2) echo 02:00:00:00:88:02 ;; n3) echo 02:00:00:00:88:03 ;;
        c) echo 02:00:00:00:88:04 ;; r) echo 02:00:00:00:88:05 ;;
    esac
}

need_root() {
    [ "$(id -u)" = 0 ] || fail "network namespaces need root: run this as root, for example with sudo"
}

need_tools() {
    local missing=()
    for tool in ip:iproute2 nft:nftables python3:python3; do
        command -v "${tool%%:*}" >/dev/null || missing+=("${tool%%:*} (Debian package ${tool##*:})")
    done
    [ ${#missing[@]} = 0 ] || fail "missing: ${missing[*]}"
}

announcer() {
    if [ -n "${LANDFALL_LB_ANNOUNCER:-}" ]; then
        command -v "$LANDFALL_LB_ANNOUNCER" || fail "LANDFALL_LB_ANNOUNCER is $LANDFALL_LB_ANNOUNCER: no such program"
        return
    fi
    local candidate newest=
    for candidate in "${CARGO_TARGET_DIR:-$root/target}"/{quick,release,debug}/landfall-lb-announcer; do
        if [ -e "$candidate" ] && { [ -z "$newest" ] || [ "$candidate" -nt "$newest" ]; }; then newest=$candidate; fi
    done
    [ -n "$newest" ] || fail "landfall-lb-announcer is not built: cargo build -p landfall-lb-announcer, or set LANDFALL_LB_ANNOUNCER"
    echo "$newest"
}

is_up() { [ -e /run/netns/ll-sw ]; }

# Runs a command in a host's namespace; it takes the place of the shell.
enter() {
    local host=$1
    shift
    [ -e "/run/netns/ll-$host" ] || fail "no host $host: hosts are ${hosts[*]} sw, and the lab has to be up"
    exec ip netns exec "ll-$host" "$@"
}

make_lan() {
    ip netns add ll-sw
    ip -n ll-sw link set lo up
    ip -n ll-sw link add br0 type bridge forward_delay 0 mcast_snooping 0
    ip -n ll-sw link set br0 addrgenmode none
    ip -n ll-sw link set br0 up
    local host last
    for host in "${hosts[@]}"; do
        last=$(address "$host")
        ip netns add "ll-$host"
        ip -n "ll-$host" link set lo up
        ip -n ll-sw link add "p-$host" type veth peer name eth0 netns "ll-$host"
        ip -n ll-sw link set "p-$host" master br0 addrgenmode none up
        # Without the kernel's own link-local address no one waits for duplicate address detection.
        ip -n "ll-$host" link set eth0 address "$(mac "$host")" addrgenmode none
        ip -n "ll-$host" addr add "192.168.88.$last/24" dev eth0
        ip -n "ll-$host" addr add "fd88::$last/64" dev eth0 nodad
        ip -n "ll-$host" addr add "fe80::$last/64" dev eth0 nodad
        ip -n "ll-$host" link set eth0 up
        [ "$host" = r ] || ip -n "ll-$host" route add default via 192.168.88.1
    done
    ip netns exec ll-r sysctl -qw net.ipv4.ip_forward=1
}

# What kube-proxy does in a cluster: takes traffic for the pool's addresses to an endpoint, here the node's own
# responder. The addresses themselves are on no interface.
make_proxy() {
    ip netns exec "ll-$1" sysctl -qw net.ipv4.ip_forward=0
    ip netns exec "ll-$1" nft -f - <<'RULES'
table inet lab {
    chain prerouting {
        type nat hook prerouting priority dstnat
        ip daddr 192.168.88.200-192.168.88.220 meta l4proto { tcp, udp } th dport 80 redirect to :8080
        ip6 daddr fd88::200-fd88::220 meta l4proto { tcp, udp } th dport 80 redirect to :8080
    }
}
RULES
}

# lives PID: whether a process runs; one that has ended may wait for a while until init takes note of it.
lives() {
    grep -qsE '^State:[[:space:]]+[^ZX[:space:]]' "/proc/$1/status"
}

runs() {
    local file=$state/$1.pid
    [ -e "$file" ] && lives "$(cat "$file")"
}

# launch NAME NODE CMD...: starts a program in a node's namespace and keeps its pid and its output.
launch() {
    local name=$1 node=$2
    shift 2
    ip netns exec "ll-$node" "$@" </dev/null >>"$state/$name.log" 2>&1 &
    echo $! >"$state/$name.pid"
}

start_node() {
    local node=$1 program arguments
    program=$(cat "$state/program")
    arguments=$(cat "$state/arguments")
    runs "$node.responder" || launch "$node.responder" "$node" python3 "$here/responder.py" "$node"
    # shellcheck disable=SC2086 # further arguments are several words
    runs "$node.announcer" || launch "$node.announcer" "$node" "$program" standalone \
        --manifests "$state/manifests" --node-name "$node" \
        --heartbeat '[::]:7946' --heartbeat-key "@$state/heartbeat.key" $arguments
}

# end NAME SIGNAL: ends one program of ours and waits until it is gone.
end() {
    local name=$1 pid
    runs "$name" || return 0
    pid=$(cat "$state/$name.pid")
    kill -s CONT "$pid" 2>/dev/null || true
    kill -s "$2" "$pid" 2>/dev/null || true
    for _ in $(seq 100); do
        lives "$pid" || break
        sleep 0.1
    done
    kill -s KILL "$pid" 2>/dev/null || true
    rm -f "$state/$name.pid"
}

up() {
    need_root
    need_tools
    is_up && fail "the lab is up already; lab.sh down removes it"
    local program
    program=$(announcer)
    mkdir -p "$state"
    # Kept, so that what is started again later is the same.
    echo "$program" >"$state/program"
    echo "${LANDFALL_LAB_ARGS:-}" >"$state/arguments"
    cp -r "${LANDFALL_LAB_MANIFESTS:-$root/examples/lab}" "$state/manifests"
    (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$state/heartbeat.key")
    trap 'echo "lab: could not be brought up; removing what there is" >&2; down' ERR
    make_lan
    local node
    for node in "${nodes[@]}"; do
        make_proxy "$node"
        start_node "$node"
    done
    trap - ERR
    await_answers
    status
    try
}

# Waits until every address answers, so that the first thing a user tries works.
await_answers() {
    ip netns exec ll-c python3 "$here/ask.py" --wait 10 || echo "lab: see the logs in $state" >&2
}

down() {
    need_root
    local node host
    for node in "${nodes[@]}"; do
        end "$node.announcer" TERM
        end "$node.responder" TERM
    done
    for host in "${hosts[@]}" sw; do
        [ -e "/run/netns/ll-$host" ] || continue
        # Also what a user has started there and what has lost its pid file.
        local pid
        for pid in $(ip netns pids "ll-$host"); do kill -s KILL "$pid" 2>/dev/null || true; done
        ip netns del "ll-$host"
    done
    rm -rf "$state"
}

status() {
    is_up || { echo "the lab is down"; return; }
    local node name
    for node in "${nodes[@]}"; do
        for name in announcer responder; do
            if runs "$node.$name"; then
                echo "$node $name runs, pid $(cat "$state/$node.$name.pid")"
            else
                echo "$node $name does not run"
            fi
        done
    done
    ip netns exec ll-c python3 "$here/ask.py" || true
}

try() {
    cat <<TEXT

Try, as root:
  e2e/lab/lab.sh run curl -s http://192.168.88.200/       the Service default/web from the client
  e2e/lab/lab.sh run curl -s 'http://[fd88::202]/'        the IPv6 address of default/dual
  e2e/lab/lab.sh run ip neigh                             which MAC the client has learned
  e2e/lab/lab.sh stop n1; e2e/lab/lab.sh status           a planned move, and back with: e2e/lab/lab.sh start n1
  e2e/lab/measure/failover.py --mode kill --rounds 10     how long a crash interrupts new connections
  e2e/lab/lab.sh down                                     remove it all

The manifests are in $state/manifests: edit them and watch the addresses follow. Logs are in $state.
TEXT
}

case ${1:-} in
    up) up ;;
    down) down ;;
    status) need_root; status ;;
    run) need_root; shift; enter c "$@" ;;
    on) need_root; host=${2:-}; shift 2; enter "$host" "$@" ;;
    start) need_root; is_up || fail "the lab is down"; start_node "${2:?which node}" ;;
    stop) need_root; end "${2:?which node}.announcer" TERM ;;
    *) sed -n '2,18s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac

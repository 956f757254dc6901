# The network of the testbed: a switch and hosts, each a network namespace. Sourced by cluster.sh.
# shellcheck shell=bash

# Host names in their own namespaces, and what comes last in their addresses: 192.168.77.0/24 and fd77::/64.
prefix=lc
declare -A number=([cp]=1 [n1]=11 [n2]=12 [n3]=13 [c]=100 [r]=254)
hosts=(n1 n2 n3 c r)
# shellcheck disable=SC2034 # for cluster.sh
service_ranges=10.96.0.0/16,fd96::/112
# shellcheck disable=SC2034
cluster_ranges=10.244.0.0/16,fd44::/48

v4() { echo "192.168.77.${number[$1]}"; }
v6() { echo "fd77::${number[$1]}"; }
pods_v4() { echo "10.244.${number[$1]}.0/24"; }
pods_v6() { echo "fd44:0:0:${number[$1]}::/64"; }

# enter HOST CMD...: not by `ip netns exec`, which mounts another /sys, without cgroups.
enter() {
  local host=${1:?which host}
  shift
  [[ -e /run/netns/$prefix-$host ]] || fail "no host $host: ${hosts[*]} sw, and the cluster has to be up"
  exec nsenter --net="/run/netns/$prefix-$host" "$@"
}

make_lan() {
  local host
  ip netns add $prefix-sw
  ip -n $prefix-sw link set lo up
  ip -n $prefix-sw link add br0 type bridge forward_delay 0 mcast_snooping 0
  ip -n $prefix-sw link set br0 up
  # The control plane is the machine itself, by one more cable.
  ip link add $prefix-cp type veth peer name p-cp netns $prefix-sw
  ip -n $prefix-sw link set p-cp master br0 up
  ip addr add "$(v4 cp)/24" dev $prefix-cp
  ip addr add "$(v6 cp)/64" dev $prefix-cp nodad
  ip link set $prefix-cp up
  for host in "${hosts[@]}"; do make_host "$host"; done
}

# make_host NAME: a host with a cable to the switch.
make_host() {
  local host=$1 namespace=$prefix-$1 other
  ip netns add "$namespace"
  ip -n "$namespace" link set lo up
  ip -n $prefix-sw link add "p-$host" type veth peer name eth0 netns "$namespace"
  ip -n $prefix-sw link set "p-$host" master br0 up
  ip -n "$namespace" addr add "$(v4 "$host")/24" dev eth0
  ip -n "$namespace" addr add "$(v6 "$host")/64" dev eth0 nodad
  ip -n "$namespace" link set eth0 up
  if [[ $host == r ]]; then
    nsenter --net="/run/netns/$namespace" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
  else
    ip -n "$namespace" route add default via "$(v4 r)"
    ip -n "$namespace" -6 route add default via "$(v6 r)"
  fi
  [[ $host == n* ]] || return 0
  # Who has which pods: what a network plugin would tell every node, and the API server for its answers to pods.
  for other in n1 n2 n3; do
    [[ $other != "$host" ]] || continue
    ip -n "$namespace" route add "$(pods_v4 "$other")" via "$(v4 "$other")"
    ip -n "$namespace" -6 route add "$(pods_v6 "$other")" via "$(v6 "$other")"
  done
  ip route replace "$(pods_v4 "$host")" via "$(v4 "$host")" dev $prefix-cp
  ip -6 route replace "$(pods_v6 "$host")" via "$(v6 "$host")" dev $prefix-cp
}

# unplug HOST: its cable. Nothing of it is heard or reached from now on.
unplug() { ip -n $prefix-sw link set "p-$1" down; }

remove_host() {
  # The cable goes with the namespace, but only once nobody holds it, and its name is needed at once.
  ip -n $prefix-sw link del "p-$1" 2>/dev/null || true
  ip netns del "$prefix-$1" 2>/dev/null || true
}

remove_lan() {
  local host
  for host in "${hosts[@]}"; do remove_host "$host"; done
  ip link del $prefix-cp 2>/dev/null || true
  ip netns del $prefix-sw 2>/dev/null || true
}

#!/usr/bin/env bash
# A real Kubernetes cluster on one machine, without virtual machines: three nodes, each a network namespace with its
# own kubelet, containerd and kube-proxy, on a switch with a client and a router; etcd and the control plane beside them.
#
#   cluster.sh up              start it and wait until it is ready
#   cluster.sh down            remove every trace of it
#   cluster.sh status          what runs
#   cluster.sh on HOST CMD...  run a command on n1, n2, n3, c (client), r (router) or sw (switch)
#   cluster.sh off NODE        cut its power: the link and every process of it are gone at once
#   cluster.sh on-again NODE   start it anew
#   cluster.sh kill PROGRAM    end etcd, kube-apiserver, kube-controller-manager or kube-scheduler with SIGKILL
#   cluster.sh start PROGRAM   start it again
#   cluster.sh image ARCHIVE   import one more image into every node
#
# Environment, all of it for `up`:
#   LANDFALL_CLUSTER_STATE     folder for keys, logs and containers; else /var/tmp/landfall-cluster
#   LANDFALL_KUBE_VERSION      which Kubernetes; else the one in kube/version
#   LANDFALL_PROXY_MODE        iptables (the default) or nftables
#   LANDFALL_IMAGES            folder of image archives that every node imports; else target/images
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../../hack/lib.sh"
state=${LANDFALL_CLUSTER_STATE:-/var/tmp/landfall-cluster}
nodes=(n1 n2 n3)
control_plane=(etcd kube-apiserver kube-controller-manager kube-scheduler)
export KUBECONFIG=$state/admin.kubeconfig

source "$here/lan.sh"

# background NAME CMD...: starts a program, and keeps its pid and its output. A little less urgent than what is measured.
background() {
  local name=$1
  shift
  setsid nice -n 5 "$@" </dev/null >>"$state/log/$name.log" 2>&1 &
  echo $! >"$state/pid/$name"
}

runs() { [[ -e $state/pid/$1 ]] && kill -0 "$(<"$state/pid/$1")" 2>/dev/null; }

# end NAME: nothing here outlives the cluster, so that nobody is given time to put its things in order.
end() {
  runs "$1" || return 0
  local pid
  pid=$(<"$state/pid/$1")
  kill -KILL "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
  rm -f "$state/pid/$1"
}

kubectl() { "$programs/kubectl" "$@"; }

# launch PROGRAM: one of the control plane.
launch() {
  local keys=$state/pki config=$state
  case $1 in
    etcd)
      background etcd "$programs/etcd" --name testbed --data-dir "$state/etcd" --log-level warn --unsafe-no-fsync \
        --listen-client-urls http://127.0.0.1:2479 --advertise-client-urls http://127.0.0.1:2479 \
        --listen-peer-urls http://127.0.0.1:2480 --initial-advertise-peer-urls http://127.0.0.1:2480 \
        --initial-cluster testbed=http://127.0.0.1:2480
      ;;
    kube-apiserver)
      background kube-apiserver "$programs/kube-apiserver" --etcd-servers http://127.0.0.1:2479 \
        --bind-address "$(v4 cp)" --advertise-address "$(v4 cp)" --secure-port 6443 \
        --tls-cert-file "$keys/apiserver.crt" --tls-private-key-file "$keys/apiserver.key" \
        --client-ca-file "$keys/ca.crt" --authorization-mode Node,RBAC --allow-privileged \
        --enable-admission-plugins NodeRestriction --service-account-issuer https://kubernetes.default.svc \
        --service-account-key-file "$keys/sa.pub" --service-account-signing-key-file "$keys/sa.key" \
        --service-cluster-ip-range "$service_ranges" --kubelet-preferred-address-types InternalIP \
        --kubelet-client-certificate "$keys/kubelet-client.crt" --kubelet-client-key "$keys/kubelet-client.key"
      ;;
    kube-controller-manager)
      local own=$config/kube-controller-manager.kubeconfig
      background kube-controller-manager "$programs/kube-controller-manager" --kubeconfig "$own" \
        --authentication-kubeconfig "$own" --authorization-kubeconfig "$own" --bind-address 127.0.0.1 \
        --use-service-account-credentials --service-account-private-key-file "$keys/sa.key" \
        --root-ca-file "$keys/ca.crt" --cluster-signing-cert-file "$keys/ca.crt" \
        --cluster-signing-key-file "$keys/ca.key" --leader-elect=false --service-cluster-ip-range "$service_ranges"
      ;;
    kube-scheduler)
      local own=$config/kube-scheduler.kubeconfig
      background kube-scheduler "$programs/kube-scheduler" --kubeconfig "$own" --authentication-kubeconfig "$own" \
        --authorization-kubeconfig "$own" --bind-address 127.0.0.1 --leader-elect=false
      ;;
    *) fail "no program $1: ${control_plane[*]}" ;;
  esac
}

write_kubeconfig() {
  cat >"$state/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: testbed, cluster: {server: "https://$(v4 cp):6443", certificate-authority: $state/pki/ca.crt}}]
users: [{name: $1, user: {client-certificate: $state/pki/$1.crt, client-key: $state/pki/$1.key}}]
contexts: [{name: testbed, context: {cluster: testbed, user: $1}}]
current-context: testbed
YAML
}

make_keys() {
  local name named=()
  for name in "${nodes[@]}"; do named+=("$name=DNS:$name,IP:$(v4 "$name"),IP:$(v6 "$name")"); done
  "$here/pki.sh" "$state/pki" "IP:$(v4 cp)" "${named[@]}"
  for name in admin kube-controller-manager kube-scheduler kube-proxy "${nodes[@]}"; do write_kubeconfig "$name"; done
}

launch_node() {
  local node=$1
  mkdir -p "$state/nodes/$node"
  # A power cut ends the first process of the node's own process namespace, and with it all others.
  background "$node" nsenter --net="/run/netns/$prefix-$node" \
    unshare --mount --uts --ipc --pid --fork --kill-child --mount-proc --propagation private \
    env state="$state" programs="$programs" images="$images" proxy_mode="$proxy_mode" cluster_ranges="$cluster_ranges" \
    "$here/node.sh" "$node" "$(v4 "$node")" "$(v6 "$node")" "$(pods_v4 "$node")" "$(pods_v6 "$node")"
}

# What a node leaves outside its namespaces.
clear_node() {
  local group
  for group in /sys/fs/cgroup/landfall-"$1" /sys/fs/cgroup/*/landfall-"$1"; do
    [[ ! -d $group ]] || find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
  done
  rm -rf "${state:?}/nodes/$1"
}

need() {
  [[ $(id -u) == 0 ]] || fail 'network namespaces and containers need root: run this as root, for example with sudo'
  local tool missing=()
  for tool in ip:iproute2 nft:nftables iptables:iptables ipset:ipset conntrack:conntrack ethtool:ethtool \
    socat:socat openssl:openssl containerd:containerd runc:runc; do
    command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
  done
  [[ -d /usr/lib/cni ]] || missing+=(containernetworking-plugins)
  ((${#missing[@]} == 0)) || fail "missing (Debian packages): ${missing[*]}; hack/deps cluster installs them"
  [[ -x $programs/kubelet ]] || fail "Kubernetes $version is not built: hack/deps cluster does it"
  compgen -G "$images/*.tar" >/dev/null || fail "no images in $images: hack/images makes them"
}

nodes_ready() {
  local ready
  ready=$(kubectl get nodes --no-headers | grep -cw Ready)
  ((ready == ${#nodes[@]}))
}

elapsed() { printf '%6.1f s  %s\n' "$(bc <<<"$(date +%s.%N) - $begun")" "$*"; }

up() {
  need
  if [[ -e /run/netns/$prefix-sw ]]; then fail 'it is up already: take it down first'; fi
  rm -rf "$state"
  mkdir -p "$state"/{pki,log,pid,nodes}
  printf 'version=%q\nimages=%q\nproxy_mode=%q\n' "$version" "$images" "$proxy_mode" >"$state/settings"
  local program
  make_lan
  make_keys
  launch etcd
  wait_for 20 'etcd' curl -fs http://127.0.0.1:2479/health
  launch kube-apiserver
  wait_for 60 'kube-apiserver' kubectl get --raw /readyz
  elapsed 'control plane'
  for program in kube-controller-manager kube-scheduler "${nodes[@]}"; do
    case $program in kube-*) launch "$program" ;; *) launch_node "$program" ;; esac
  done
  wait_for 30 'the default service account' kubectl -n default get serviceaccount default
  kubectl apply -f "$here/dns.yaml" >/dev/null
  wait_for 90 'the nodes to be ready' nodes_ready
  elapsed "${#nodes[@]} nodes ready, Kubernetes $version, kube-proxy in mode $proxy_mode"
  kubectl -n kube-system rollout status deployment/coredns --timeout 60s >/dev/null
  elapsed 'cluster DNS'
}

down() {
  local name node
  if [[ -d $state/pid ]]; then
    for name in "${nodes[@]}" kube-scheduler kube-controller-manager kube-apiserver etcd; do end "$name"; done
  fi
  for node in "${nodes[@]}"; do clear_node "$node"; done
  remove_lan
  rm -rf "$state"
}

status() {
  local name
  for name in "${control_plane[@]}" "${nodes[@]}"; do
    printf '%-24s %s\n' "$name" "$(runs "$name" && echo runs || echo 'does not run')"
  done
  kubectl get nodes -o wide 2>/dev/null || true
}

is_node() { [[ " ${nodes[*]} " == *" $1 "* ]] || fail "no node $1: ${nodes[*]}"; }

version=${LANDFALL_KUBE_VERSION:-$(<"$here/kube/version")}
images=${LANDFALL_IMAGES:-$target/images}
proxy_mode=${LANDFALL_PROXY_MODE:-iptables}
begun=$(date +%s.%N)
# Whatever is done to a running cluster is done with what it was started with.
[[ ${1:-} == up || ! -e $state/settings ]] || source "$state/settings"
programs=$cache/kube/$version

case ${1:-} in
  up) up ;;
  down) down ;;
  status) status ;;
  on)
    shift
    enter "$@"
    ;;
  off)
    is_node "${2:-}"
    unplug "$2"
    end "$2"
    ;;
  on-again)
    is_node "${2:-}"
    end "$2"
    clear_node "$2"
    remove_host "$2"
    make_host "$2"
    launch_node "$2"
    ;;
  kill) end "${2:?which program}" ;;
  start) runs "${2:?which program}" || launch "$2" ;;
  image)
    for node in "${nodes[@]}"; do
      ctr --address "$state/nodes/$node/run/containerd.sock" --namespace k8s.io images import "${2:?which archive}"
    done
    ;;
  *)
    sed -n '2,/^set/p' "${BASH_SOURCE[0]}" | sed '$d; s/^# \{0,1\}//'
    exit 2
    ;;
esac

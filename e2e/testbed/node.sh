#!/usr/bin/env bash
# One node: containerd, kube-proxy and kubelet. Started by cluster.sh as the first process of namespaces of its own.
#
#   node.sh NAME IPV4 IPV6 PODS-IPV4 PODS-IPV6
set -euo pipefail

name=$1 ipv4=$2 ipv6=$3 pods_ipv4=$4 pods_ipv6=$5
: "${state:?}" "${programs:?}" "${images:?}" "${proxy_mode:?}" "${cluster_ranges:?}"
own=$state/nodes/$name
pause=landfall/testbed-pause:1
mkdir -p "$own"/{containerd,run,cni,cni-state,kubelet,log,proc}

hostname "$name"
# Containers' mounts have to show up in their children's namespaces, but never outside this one.
mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir -p /var/lib/kubelet /var/lib/cni
mount --bind "$own/kubelet" /var/lib/kubelet
mount --bind "$own/cni-state" /var/lib/cni

# kubelet sets these for the whole machine. It gets files that hold what it wants to see, and the machine stays as it is.
while read -r key value; do
  copy=$own/proc/${key//\//-}
  echo "$value" >"$copy"
  mount --bind "$copy" "/proc/sys/$key"
done <<'SYSCTLS'
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
SYSCTLS
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1

# Beyond the cluster nobody knows the pods' addresses.
IFS=, read -r all_ipv4 all_ipv6 <<<"$cluster_ranges"
nft -f - <<NFT
table inet testbed {
  chain leaving {
    type nat hook postrouting priority srcnat + 10
    ip saddr $all_ipv4 ip daddr != $all_ipv4 masquerade
    ip6 saddr $all_ipv6 ip6 daddr != $all_ipv6 masquerade
  }
}
NFT

if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
  mkdir -p "/sys/fs/cgroup/landfall-$name"
  sed 's/\</+/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
else
  for controller in /sys/fs/cgroup/*/; do mkdir -p "${controller}landfall-$name" 2>/dev/null || true; done
  # A new group has no processors until it is told.
  for file in cpuset.cpus cpuset.mems; do
    cat "/sys/fs/cgroup/cpuset/$file" >"/sys/fs/cgroup/cpuset/landfall-$name/$file"
  done
fi

cat >"$own/cni/10-pods.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipam": {
    "type": "host-local", "dataDir": "$own/cni-state/addresses",
    "ranges": [[{"subnet": "$pods_ipv4"}], [{"subnet": "$pods_ipv6"}]],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON

# The same settings have other names in the two major versions of containerd. Where the machine is a container itself,
# nobody may make a process less likely to be killed for want of memory than it was.
if [[ $(containerd --version) == *' 1.'* ]]; then
  cri=io.containerd.grpc.v1.cri
  containerd_version=2 runtime="$cri\".containerd" cni="$cri\".cni" directory="bin_dir = \"/usr/lib/cni\""
  sandbox="[plugins.\"$cri\"]
  sandbox_image = \"$pause\"
  restrict_oom_score_adj = true
  disable_apparmor = true"
else
  cri=io.containerd.cri.v1.runtime
  containerd_version=3 runtime="$cri\".containerd" cni="$cri\".cni" directory="bin_dirs = [\"/usr/lib/cni\"]"
  sandbox="[plugins.\"io.containerd.cri.v1.images\".pinned_images]
  sandbox = \"$pause\"
[plugins.\"$cri\"]
  restrict_oom_score_adj = true
  disable_apparmor = true"
fi
cat >"$own/containerd.toml" <<TOML
version = $containerd_version
root = "$own/containerd"
state = "$own/run/containerd"
[grpc]
  address = "$own/run/containerd.sock"
[ttrpc]
  address = "$own/run/containerd.ttrpc"
$sandbox
[plugins."$cni]
  $directory
  conf_dir = "$own/cni"
[plugins."$runtime.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
TOML

cat >"$own/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: false}
  x509: {clientCAFile: $state/pki/ca.crt}
authorization: {mode: AlwaysAllow}
tlsCertFile: $state/pki/kubelet-$name.crt
tlsPrivateKeyFile: $state/pki/kubelet-$name.key
cgroupDriver: cgroupfs
cgroupRoot: /landfall-$name
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: [pods]
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: ""
containerRuntimeEndpoint: unix://$own/run/containerd.sock
podLogsDir: $own/log/pods
# Many nodes share one disk, whose state says nothing about any of them.
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi}
YAML

cat >"$own/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: $proxy_mode
hostnameOverride: $name
clientConnection: {kubeconfig: $state/kube-proxy.kubeconfig}
clusterCIDR: $cluster_ranges
conntrack: {maxPerCore: 0}
YAML

containerd --config "$own/containerd.toml" >"$own/log/containerd.log" 2>&1 &
for _ in $(seq 200); do
  ctr --address "$own/run/containerd.sock" version >/dev/null 2>&1 && break
  sleep 0.05
done
for archive in "$images"/*.tar; do
  ctr --address "$own/run/containerd.sock" --namespace k8s.io images import "$archive" >>"$own/log/import.log" 2>&1
done
"$programs/kube-proxy" --config "$own/kube-proxy.yaml" >"$own/log/kube-proxy.log" 2>&1 &
exec "$programs/kubelet" --config "$own/kubelet.yaml" --kubeconfig "$state/$name.kubeconfig" \
  --hostname-override "$name" --node-ip "$ipv4,$ipv6" --root-dir /var/lib/kubelet \
  --cert-dir /var/lib/kubelet/pki >"$own/log/kubelet.log" 2>&1

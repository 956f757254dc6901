# An API server of the test's own on loopback: etcd and kube-apiserver, no nodes. Source hack/lib.sh first.
# shellcheck shell=bash

# api_start FOLDER: starts one with its state in FOLDER, waits until it is ready, and sets KUBECONFIG and api_port.
api_start() {
  local folder=$1 etcd peer api
  kube_version=${LANDFALL_KUBE_VERSION:-$(<"$root/e2e/testbed/kube/version")}
  local programs=$cache/kube/$kube_version
  [[ -x $programs/kubectl ]] || fail "$programs has no kubectl: hack/deps test builds it"
  export PATH=$programs:$PATH
  read -r etcd peer api < <(free_ports 3)
  "$root/e2e/testbed/pki.sh" "$folder"
  api_pids=()
  # The state is thrown away, so nothing has to reach the disk.
  etcd --name chart --log-level warn --unsafe-no-fsync --data-dir "$folder/etcd" \
    --listen-client-urls "http://127.0.0.1:$etcd" --advertise-client-urls "http://127.0.0.1:$etcd" \
    --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
    --initial-cluster "chart=http://127.0.0.1:$peer" >"$folder/etcd.log" 2>&1 &
  api_pids+=($!)
  api_port=$api
  cat >"$folder/audit.yaml" <<'YAML'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, userGroups: ["system:serviceaccounts:landfall-system"]}
- {level: None}
YAML
  # Without a controller manager nobody makes the service accounts that the admission plugin insists on. The address
  # that it tells of isn't used, but it looks for one where there is no network.
  (cd "$folder" && exec kube-apiserver --etcd-servers="http://127.0.0.1:$etcd" --bind-address=127.0.0.1 \
    --secure-port="$api" --tls-cert-file=apiserver.crt --tls-private-key-file=apiserver.key --client-ca-file=ca.crt \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=sa.pub \
    --service-account-signing-key-file=sa.key --authorization-mode=RBAC --service-cluster-ip-range=10.96.0.0/16 \
    --advertise-address=198.51.100.1 --audit-policy-file=audit.yaml --audit-log-path=audit.log --disable-admission-plugins=ServiceAccount) >"$folder/kube-apiserver.log" 2>&1 &
  api_pids+=($!)
  api_kubeconfig "$folder" "$api" admin '{client-certificate: admin.crt, client-key: admin.key}'
  export KUBECONFIG=$folder/admin.kubeconfig KUBECACHEDIR=$folder/cache
  # Helm keeps nothing but caches outside the cluster.
  export HELM_CACHE_HOME=$folder/helm HELM_CONFIG_HOME=$folder/helm HELM_DATA_HOME=$folder/helm
  wait_for 60 'kube-apiserver' kubectl get --raw /readyz
  wait_for 20 'the namespace kube-system' kubectl get namespace kube-system
}

api_stop() {
  ((${#api_pids[@]})) || return 0
  kill -KILL "${api_pids[@]}" 2>/dev/null || true
  wait "${api_pids[@]}" 2>/dev/null || true
  api_pids=()
}

# api_kubeconfig FOLDER PORT NAME USER: FOLDER/NAME.kubeconfig
api_kubeconfig() {
  cat >"$1/$3.kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: chart
clusters: [{name: chart, cluster: {server: "https://127.0.0.1:$2", certificate-authority: ca.crt}}]
users: [{name: chart, user: $4}]
contexts: [{name: chart, context: {cluster: chart, user: chart}}]
YAML
}

# free_ports COUNT: ports of loopback that nobody listens on, on one line.
free_ports() {
  local found=() port
  while ((${#found[@]} < $1)); do
    port=$((20000 + RANDOM % 12000))
    if [[ " ${found[*]} " == *" $port "* ]] || (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue; fi
    found+=("$port")
  done
  echo "${found[*]}"
}

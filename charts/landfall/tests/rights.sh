# Whether the programs may do what they do, and no more: they run with the chart's service accounts, and the API server's
# audit log is held against the roles.
# shellcheck shell=bash disable=SC2154 # hack/chart sets scratch and chart, api_start the rest

rights_are_used() {
  install --set 'addressPools[0].name=lan,addressPools[0].addresses={192.0.2.0-192.0.2.9}'
  # What the chart makes for the programs to fill in may get lost, and is made anew then.
  kubectl -n landfall-system delete leases,configurationstates --all >/dev/null
  a_cluster_to_look_at
  rights_granted >"$scratch/granted"
  run_programs
  rights_used >"$scratch/used"
  same 'what is forbidden and was tried' "$(grep ' forbidden$' "$scratch/used")" ''
  diff <(sort "$scratch/granted") <(sort "$scratch/used") >"$scratch/rights" ||
    fail "rights that are granted and not used (<), or the other way round (>):"$'\n'"$(<"$scratch/rights")"
  same 'rights' "$(wc -l <"$scratch/granted")" "$(wc -l <"$scratch/used")"
}

# A node with a speaker's pod, a Service that it can serve, and an Ingress with a mistake in it.
a_cluster_to_look_at() {
  # The other end is a foreign host, which has an address of the pool. It has a network of its own: whatever is in the
  # node's is the node.
  unshare --net sleep 600 &
  local host=$!
  api_pids+=("$host")
  wait_for 5 'the network of the foreign host' has_own_network "$host"
  ip link add lan type veth peer name foreign netns "$host"
  nsenter --target "$host" --net ip address add 192.0.2.3/32 dev foreign
  nsenter --target "$host" --net ip link set foreign up
  ip address add 192.0.2.1/24 dev lan
  ip link set lan up
  kubectl apply -f "$tests/rights-objects.yaml" >/dev/null
  kubectl patch node only --subresource=status --type=merge -p '{"status": {
    "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
    "conditions": [{"type": "Ready", "status": "True", "reason": "Test", "message": ""}]}}' >/dev/null
  kubectl -n landfall-system patch pod speaker --subresource=status --type=merge -p '{"status": {"phase": "Running",
    "conditions": [{"type": "Ready", "status": "True"}], "podIP": "192.0.2.1", "podIPs": [{"ip": "192.0.2.1"}]}}' >/dev/null
}

# as ACCOUNT NAME PROGRAM...: starts a program with the token of an account; its log is $scratch/NAME.log
as() {
  local account=$1 name=$2
  shift 2
  api_kubeconfig "$scratch/api" "$api_port" "$account" "{token: $(kubectl -n landfall-system create token "$account")}"
  KUBECONFIG=$scratch/api/$account.kubeconfig "$@" >"$scratch/$name.log" 2>&1 &
  api_pids+=($!)
  running+=($!)
}

run_programs() {
  local running=() announcer=$LANDFALL_BIN/landfall-lb-announcer
  local both=(--namespace=landfall-system --speaker-selector=app.kubernetes.io/component=speaker)
  as landfall-lb-controller controller "$announcer" controller "${both[@]}" --pod-name=controller --admin=127.0.0.1:10001
  as landfall-lb-speaker speaker "$announcer" speaker "${both[@]}" --pod-name=speaker --node-name=only \
    --interface=lan --admin=127.0.0.1:10002
  as landfall-ingress ingress "$LANDFALL_BIN/landfall-ingress" serve --http=127.0.0.1:8080 --https=127.0.0.1:8443 \
    --admin=127.0.0.1:10003 --namespace=landfall-system --publish-service=landfall-system/landfall-ingress --lame-duck=0
  wait_for 30 'an address of the Ingress' kubectl wait --for='jsonpath={.status.loadBalancer.ingress[0].ip}' ingress/wrong --timeout=0
  wait_for 30 'the announcement' announced
  wait_for 30 'the foreign address' found_foreign
  # The Leases are kept by renewing them, every two seconds.
  wait_for 10 'a renewal' renewed landfall-ingress
  wait_for 10 'a renewal' renewed landfall-lb-controller
  # An announcement that is over is taken back.
  kubectl delete service served >/dev/null
  wait_for 30 'the end of the announcement' not_announced
  kill -TERM "${running[@]}"
  wait "${running[@]}" || true
}

announced() { [[ -n $(kubectl -n landfall-system get servicel2statuses -o name) ]]; }
not_announced() { [[ -z $(kubectl -n landfall-system get servicel2statuses -o name) ]]; }
has_own_network() { [[ $(readlink "/proc/$1/ns/net") != $(readlink /proc/self/ns/net) ]]; }
found_foreign() { kubectl -n landfall-system get ipaddresspool lan -o json | grep -q ForeignHost; }
renewed() { grep -q "leases/$1[\"?].*\"verb\":\"update\"" "$scratch/api/audit.log"; }

# ACCOUNT VERB RESOURCE.GROUP, one a line, of every role bound to an account of the chart.
rights_granted() {
  kubectl get clusterroles,roles --all-namespaces -l app.kubernetes.io/part-of=landfall -o json | jq -r '
    .items[] | .metadata.name as $account | .rules[] | .verbs[] as $verb | .apiGroups[] as $group | .resources[] |
    "\($account) \($verb) \(.)\(if $group == "" then "" else " \($group)" end)"' | sort -u
}

# The same from the audit log. Server-side apply of what isn't there needs the right to create it besides.
rights_used() {
  jq -r '
    select(.user.username | startswith("system:serviceaccount:landfall-system:")) |
    select(.objectRef != null and .objectRef.apiGroup != "authorization.k8s.io") |
    (.user.username | sub(".*:"; "")) as $account |
    "\(.objectRef.resource)\(if .objectRef.subresource then "/\(.objectRef.subresource)" else "" end)" as $resource |
    (if .objectRef.apiGroup then " \(.objectRef.apiGroup)" else "" end) as $group |
    (if .verb == "patch" and .responseStatus.code == 201 then ("patch", "create") else .verb end) |
    "\($account) \(.) \($resource)\($group)"' "$scratch/api/audit.log" | sort -u
  jq -r 'select(.responseStatus.code == 403) |
    "\(.user.username) \(.verb) \(.requestURI) forbidden"' "$scratch/api/audit.log" | sort -u
}

# What the ingress may do where it orders certificates: lines "yes|no VERB RESOURCE[/NAME] NAMESPACE" of stdin.
may() {
  local expected verb what namespace count=0
  while read -r expected verb what namespace; do
    same "may the ingress $verb $what in $namespace" \
      "$(kubectl auth can-i "$verb" "$what" --namespace "$namespace" \
        --as=system:serviceaccount:landfall-system:landfall-ingress 2>/dev/null || true)" "$expected"
    count=$((count + 1))
  done
  echo "$count rights"
}

rights_of_certificates() {
  local verb
  install
  for verb in get create update patch delete; do echo "no $verb secrets/web-tls shop"; done | may
  upgrade --set ingress.acme.enabled=true,ingress.acme.default=internal
  may <<'END'
yes get secrets/web-tls shop
yes create secrets shop
yes update secrets/web-tls shop
no patch secrets/web-tls shop
no delete secrets/web-tls shop
no delete secrets/landfall-ingress-ca landfall-system
yes patch secrets/landfall-ingress-acme landfall-system
yes patch secrets/landfall-ingress-ca landfall-system
no patch secrets/landfall-heartbeat landfall-system
yes create configmaps landfall-system
no create configmaps shop
yes watch configmaps/landfall-ingress-ca landfall-system
yes patch configmaps/landfall-ingress-ca landfall-system
yes patch configmaps/landfall-ingress-acme landfall-system
no patch configmaps/landfall-ingress-options landfall-system
no update configmaps/landfall-ingress-ca landfall-system
no delete configmaps/landfall-ingress-ca landfall-system
no create roles.rbac.authorization.k8s.io landfall-system
no impersonate serviceaccounts landfall-system
END
  # Secrets of chosen namespaces: no others, but the CA and the accounts.
  kubectl create namespace shop --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  upgrade --set 'ingress.acme.enabled=true,ingress.acme.default=internal,ingress.secretNamespaces={shop}'
  may <<'END'
yes get secrets/web-tls shop
yes create secrets shop
yes update secrets/web-tls shop
no get secrets/web-tls other
no create secrets other
no update secrets/web-tls other
no list secrets other
yes get secrets/landfall-ingress-ca landfall-system
yes patch secrets/landfall-ingress-acme landfall-system
no get secrets/landfall-heartbeat landfall-system
END
}

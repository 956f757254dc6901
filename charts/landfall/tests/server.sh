# What only an API server can say of the chart: whether it takes the objects, and what is left after an uninstall.
# shellcheck shell=bash disable=SC2154 # hack/chart sets root, cache, chart, tests and scratch

server() {
  # In a network of its own: what a speaker sends reaches nobody.
  if [[ -z ${LANDFALL_CHART_ALONE:-} ]]; then
    local as_root=()
    (($(id -u) == 0)) || as_root=(--map-root-user)
    programs
    LANDFALL_CHART_ALONE=yes unshare "${as_root[@]}" --net "$root/hack/chart" server
    return
  fi
  ip link set lo up
  mkdir "$scratch/api"
  api_start "$scratch/api"
  local step began
  for step in ${LANDFALL_CHART_STEPS:-objects_are_taken bad_values_are_refused life_of_a_release nothing_to_set metallb_came_first what_is_wrong rights_of_certificates rights_are_used}; do
    began=$SECONDS
    "$step"
    echo "${step//_/ }: $((SECONDS - began)) s"
    clear_cluster
  done
  api_stop
}

# As before the first install.
clear_cluster() {
  helm uninstall landfall --namespace landfall-system --ignore-not-found >/dev/null 2>&1 || true
  kubectl delete --ignore-not-found --wait=false --all nodes >/dev/null
  kubectl delete --ignore-not-found ingressclasses --all >/dev/null
  kubectl get customresourcedefinitions -o name | xargs --no-run-if-empty kubectl delete --wait=false >/dev/null
  wait_for 60 'the end of the definitions' no_definitions
}

# The API server looks at a definition that is being deleted once for each change of it, and gives up until the next one
# if it just then prepares the store of its objects. So it is reminded.
no_definitions() {
  local left
  left=$(kubectl get customresourcedefinitions -o name)
  [[ -n $left ]] || return 0
  sleep 0.5
  xargs -I "{}" kubectl annotate --overwrite "{}" "reminded=$RANDOM" <<<"$left"
  return 1
}

install() { helm install landfall "$chart" --namespace landfall-system --create-namespace "$@" >"$scratch/notes"; }
upgrade() { helm upgrade landfall "$chart" --namespace landfall-system "$@" >"$scratch/notes"; }

# Fails unless both are equal.
same() {
  [[ $2 == "$3" ]] || fail "$1: expected \"$3\", got \"$2\""
}

# What the announcer's tests show as mistakes is refused where the API server can know it, with the message that the file
# announces ("# Refused: PART"); everything else is taken, and so is every right form.
bad_values_are_refused() {
  local file part said count=0
  kubectl apply --server-side -f "$chart/definitions" >/dev/null
  kubectl wait --for condition=established --timeout 30s -f "$chart/definitions" >/dev/null
  # A namespace that is deleted stays where nothing cleans up, so none is made.
  sed 's/namespace: metallb-system/namespace: default/' "$tests/forms.yaml" >"$scratch/forms.yaml"
  wait_for 20 'the forms of entries to be taken' kubectl apply --dry-run=server -f "$scratch/forms.yaml"
  mkdir -p "$scratch/mistakes"
  for file in pools advertisements; do
    awk -v prefix="$scratch/mistakes/$file" '/^---/ {n++; next} {sub("namespace: metallb-system", "namespace: default"); print >(prefix n ".yaml")}' \
      "lb-announcer/tests/mistakes/$file.yaml"
  done
  for file in "$scratch"/mistakes/*.yaml; do
    if ! grep -q '^# Refused: ' "$file"; then
      kubectl apply --dry-run=server -f "$file" >/dev/null || fail "the API server refuses $(<"$file")"
      continue
    fi
    said=$(kubectl apply --dry-run=server -f "$file" 2>&1) && fail "the API server takes $(<"$file")"
    while read -r part; do
      [[ $said == *"$part"* ]] || fail "expected \"$part\", got: $said"
      count=$((count + 1))
    done < <(sed -n 's/^# Refused: //p' "$file")
  done
  ((count >= 15)) || fail "only $count messages were looked for"
}

# Every object of every values file, by a dry run of the real API server, where a field that isn't known is an error.
objects_are_taken() {
  local values namespace
  kubectl apply --server-side -f "${monitoring_definitions[-1]}" -f "$chart/definitions" >/dev/null
  for namespace in landfall-system monitoring shop; do
    kubectl create namespace "$namespace" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  done
  for values in '' "$chart"/ci/*.yaml; do
    render "$values" | kubectl apply --server-side --dry-run=server --validate=strict -f - >/dev/null ||
      fail "the API server refuses ${values:-the defaults}"
  done
  # What a namespace with the strictest profile lets in: all but the speaker.
  kubectl label namespace landfall-system --overwrite pod-security.kubernetes.io/enforce=restricted \
    pod-security.kubernetes.io/warn=restricted >/dev/null
  render | kubectl apply --server-side --dry-run=server -f - 2>&1 >/dev/null | grep -o 'would violate.*' >"$scratch/violations" || true
  same 'violations of the profile "restricted"' "$(wc -l <"$scratch/violations")" 1
  grep -q 'host namespaces' "$scratch/violations" || fail "$(<"$scratch/violations")"
  kubectl label namespace landfall-system pod-security.kubernetes.io/enforce- pod-security.kubernetes.io/warn- >/dev/null
}

pool_uid() { kubectl -n landfall-system get ipaddresspool lan -o jsonpath='{.metadata.uid}'; }
heartbeat_key() { kubectl -n landfall-system get secret landfall-heartbeat -o jsonpath='{.data.key}' | base64 -d; }

life_of_a_release() {
  # A first install and uninstall leave the definitions and the namespace, which are meant to stay.
  clear_cluster
  install --set 'addressPools[0].name=lan,addressPools[0].addresses={192.0.2.0/28}'
  kubectl -n landfall-system get ipaddresspool/lan l2advertisement/lan >/dev/null
  helm uninstall landfall --namespace landfall-system >/dev/null
  objects >"$scratch/before"
  local key uid older=$scratch/older
  # An older chart, as far as one of its definitions goes.
  cp -r "$chart" "$older"
  jq 'del(.spec.versions[].schema.openAPIV3Schema.properties.status.properties.taken)' \
    "$chart/definitions/ipaddresspools.metallb.io.json" >"$older/definitions/ipaddresspools.metallb.io.json"
  chart=$older install --set 'addressPools[0].name=lan,addressPools[0].addresses={192.0.2.0/28}'
  key=$(heartbeat_key)
  [[ $key =~ ^[0-9a-f]{64}$ ]] || fail "the key of the heartbeats is $key"
  # What the programs write while they run is theirs.
  kubectl -n landfall-system patch lease landfall-lb-controller --type=merge -p '{"spec":{"holderIdentity":"a"}}' >/dev/null
  uid=$(pool_uid)
  upgrade --reuse-values --set 'ingress.nginx.enabled=true,addressPools[0].name=lan,addressPools[0].addresses={192.0.2.0/27}'
  same 'the addresses after an upgrade' "$(kubectl -n landfall-system get ipaddresspool lan -o jsonpath='{.spec.addresses[0]}')" 192.0.2.0/27
  kubectl get ingressclass nginx >/dev/null
  same 'the key after an upgrade' "$(heartbeat_key)" "$key"
  same 'the holder after an upgrade' "$(kubectl -n landfall-system get lease landfall-lb-controller -o jsonpath='{.spec.holderIdentity}')" a
  kubectl get customresourcedefinition ipaddresspools.metallb.io -o json | grep -q '"taken":' || fail 'an upgrade leaves an old definition'
  helm rollback landfall 1 --namespace landfall-system >/dev/null
  same 'the classes after a rollback' "$(kubectl get ingressclasses -o name)" ingressclass.networking.k8s.io/landfall
  same 'the key after a rollback' "$(heartbeat_key)" "$key"
  # A pool that were removed for a moment would take the addresses from all Services.
  same 'the pool after upgrade and rollback' "$(pool_uid)" "$uid"
  upgrade --reset-values
  same 'the pools that left the values' "$(kubectl -n landfall-system get ipaddresspools,l2advertisements -o name)" ''
  upgrade --set 'addressPools[0].name=other,addressPools[0].addresses={192.0.2.0/28}'
  helm uninstall landfall --namespace landfall-system >/dev/null
  same 'what is left' "$(what_is_left)" ''
  same 'the definitions left' "$(kubectl get customresourcedefinitions -o name | grep -c metallb.io)" 9
}

# Every object of every kind but definitions, what the API server makes of them, and what passes.
objects() {
  local kinds
  kinds=$(kubectl api-resources --verbs=list -o name |
    grep -vE '^(events|componentstatuses|customresourcedefinitions|apiservices|endpoints$|endpoints\.|.*metallb\.io)' | paste -sd,)
  kinds+=$(kubectl api-resources --verbs=list -o name --api-group=metallb.io | sed 's/^/,/' | tr -d '\n')
  kubectl get --all-namespaces "$kinds" --ignore-not-found -o json |
    jq -r '.items[] | "\(.kind) \(.metadata.namespace // "") \(.metadata.name)"' | sort
}

# What there is that was not there before, in $scratch/before.
what_is_left() { objects | comm -13 "$scratch/before" -; }

# Into whatever namespace, under whatever name, with nothing set, also where the definitions are there already.
nothing_to_set() {
  kubectl create namespace edge >/dev/null
  objects >"$scratch/before"
  helm install landfall "$chart" >/dev/null
  helm uninstall landfall >/dev/null
  helm install front "$chart" --namespace edge >/dev/null
  kubectl -n edge get deployment front-landfall-ingress front-landfall-lb-controller >/dev/null
  helm uninstall front --namespace edge >/dev/null
  same 'what is left' "$(what_is_left)" ''
  clear_cluster
  # The first install of all makes the definitions and pools of that kind at once, and takes all away again if told so.
  install --set 'crds.keep=false,addressPools[0].name=lan,addressPools[0].addresses={192.0.2.0/28}'
  kubectl -n landfall-system get ipaddresspool/lan l2advertisement/lan >/dev/null
  helm uninstall landfall --namespace landfall-system >/dev/null
  # The API server takes its time.
  wait_for 20 'the end of the definitions with crds.keep=false' no_definitions
}

# Definitions, pools and a class that somebody else made stay as they are.
metallb_came_first() {
  jq '.spec.versions[].schema.openAPIV3Schema.description = "of somebody else"' "$chart"/definitions/{ipaddresspools,l2advertisements,bgppeers}.metallb.io.json |
    kubectl create -f - >/dev/null
  # As MetalLB's own is.
  kubectl patch customresourcedefinition bgppeers.metallb.io --type=merge -p '{"spec": {"conversion": {
    "strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
    "clientConfig": {"service": {"namespace": "metallb-system", "name": "metallb-webhook-service", "path": "/convert"}}}}}}' >/dev/null
  kubectl create namespace metallb-system >/dev/null
  wait_for 20 'the definitions' kubectl apply -f "$tests/metallb.yaml"
  install --set ingress.nginx.enabled=true
  same 'the pool before' "$(kubectl -n metallb-system get ipaddresspool lan -o jsonpath='{.spec.addresses[0]}')" 192.0.2.0/24
  grep -q "CustomResourceDefinitions of metallb.io don't belong" "$scratch/notes" || fail "$(<"$scratch/notes")"
  grep -q 'no IPAddressPool yet' "$scratch/notes" && fail 'the pool in metallb-system is not found'
  same 'the class' "$(kubectl get ingressclass nginx -o jsonpath='{.metadata.labels}')" ''
  upgrade
  # What the notes and docs/migrate-metallb.md say to do when MetalLB is gone.
  helm template landfall "$chart" --namespace landfall-system --show-only templates/crds.yaml | kubectl replace -f - >/dev/null
  upgrade
  same 'the conversion' "$(kubectl get customresourcedefinition bgppeers.metallb.io -o jsonpath='{.spec.conversion.strategy}')" None
  grep -q "CustomResourceDefinitions of metallb.io don't belong" "$scratch/notes" && fail 'definitions are not taken over'
  helm uninstall landfall --namespace landfall-system >/dev/null
  kubectl -n metallb-system get ipaddresspool lan >/dev/null
  kubectl get ingressclass nginx >/dev/null
  kubectl delete namespace metallb-system --wait=false >/dev/null
  kubectl -n metallb-system delete ipaddresspools,l2advertisements --all >/dev/null
}

# Each file makes something wrong; its lines "# says:" have to stand in the notes.
what_is_wrong() {
  local file line
  install
  helm uninstall landfall --namespace landfall-system >/dev/null
  for file in "$tests"/warnings/*.yaml; do
    kubectl apply --server-side --force-conflicts -f "$file" >/dev/null
    local arguments=()
    read -ra arguments < <(sed -n 's/^# with: //p' "$file") || true
    helm install landfall "$chart" --namespace landfall-system --dry-run=server "${arguments[@]}" |
      sed -n '/^NOTES/,$p' >"$scratch/notes"
    while IFS= read -r line; do
      grep -qF -- "$line" "$scratch/notes" || fail "$file: \"$line\" is missing in: $(<"$scratch/notes")"
    done < <(sed -n 's/^# says: //p' "$file")
    while IFS= read -r line; do
      ! grep -qF -- "$line" "$scratch/notes" || fail "$file: \"$line\" is in: $(<"$scratch/notes")"
    done < <(sed -n 's/^# does not say: //p' "$file")
    if ! grep -q '^# stays' "$file"; then kubectl delete -f "$file" >/dev/null; fi
  done
  kubectl label namespace landfall-system pod-security.kubernetes.io/enforce- >/dev/null
}

{{/* What is wrong with the cluster, as far as a look at it tells. A YAML list of texts; empty without an API server. */}}

{{/* Whether there is a pool, of the values or of the cluster. */}}
{{- define "landfall.pools" -}}
{{- if .Values.addressPools -}}
yes
{{- else if include "landfall.known" "ipaddresspools" -}}
{{- range list .Release.Namespace "metallb-system" -}}
{{- if (lookup "metallb.io/v1beta1" "IPAddressPool" . "").items -}}yes{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "landfall.warnings" -}}
{{- $texts := list -}}
{{- range list "pool" "proxy" "metallb" "nginx" "servicelb" "nodes" "security" "crds" "classes" -}}
{{- with include (printf "landfall.warning.%s" .) $ | trim -}}
{{- $texts = append $texts . -}}
{{- end -}}
{{- end -}}
{{- $texts | toYaml -}}
{{- end -}}

{{- define "landfall.warning.pool" -}}
{{- if and .Values.lbAnnouncer.enabled (include "landfall.live" .) (not (include "landfall.pools" .)) -}}
There is no IPAddressPool yet, so no Service gets an address. The next steps below create one.
{{- end -}}
{{- end -}}

{{/* Without strictARP, IPVS answers for every address from every node. */}}
{{- define "landfall.warning.proxy" -}}
{{- if .Values.lbAnnouncer.enabled -}}
{{- $map := lookup "v1" "ConfigMap" "kube-system" "kube-proxy" -}}
{{- $config := dig "data" "config.conf" "" $map | fromYaml -}}
{{- if and (eq (dig "mode" "" $config) "ipvs") (not (dig "ipvs" "strictARP" false $config)) -}}
kube-proxy is in IPVS mode without strictARP, so every node answers ARP for every address. Set
  mode: ipvs
  ipvs: {strictARP: true}
in the ConfigMap kube-system/kube-proxy, and restart it:
  kubectl -n kube-system rollout restart daemonset/kube-proxy
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "landfall.warning.metallb" -}}
{{- if .Values.lbAnnouncer.enabled -}}
{{- range (lookup "apps/v1" "DaemonSet" "" "").items -}}
{{- $labels := .metadata.labels | default dict -}}
{{- if or (eq (get $labels "app.kubernetes.io/name") "metallb") (eq (get $labels "app") "metallb") -}}
MetalLB still runs ({{ .metadata.namespace }}/{{ .metadata.name }}). The speakers wait for its port, {{ $.Values.lbAnnouncer.speaker.heartbeatPort | int64 }}, and start when it is
gone: docs/migrate-metallb.md
{{ end -}}
{{- end -}}
{{- with lookup "admissionregistration.k8s.io/v1" "ValidatingWebhookConfiguration" "" "metallb-webhook-configuration" -}}
MetalLB's webhook is still registered. While MetalLB is stopped, every change of a pool is refused. Delete it:
  kubectl delete validatingwebhookconfiguration metallb-webhook-configuration
{{ end -}}
{{- end -}}
{{- end -}}

{{- define "landfall.warning.nginx" -}}
{{- if and .Values.ingress.enabled .Values.ingress.nginx.enabled .Values.ingress.publish.enabled -}}
{{- range concat ((lookup "apps/v1" "Deployment" "" "").items | default list) ((lookup "apps/v1" "DaemonSet" "" "").items | default list) -}}
{{- if eq (get (.metadata.labels | default dict) "app.kubernetes.io/name") "ingress-nginx" -}}
ingress-nginx still runs ({{ .metadata.namespace }}/{{ .metadata.name }}), and both write the status of the Ingresses. Until it is
gone, set ingress.publish.enabled=false: docs/migrate-ingress-nginx.md
{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "landfall.warning.servicelb" -}}
{{- if and .Values.lbAnnouncer.enabled (not .Values.lbAnnouncer.loadBalancerClass) -}}
{{- range (lookup "apps/v1" "DaemonSet" "kube-system" "").items -}}
{{- if hasKey (.metadata.labels | default dict) "svccontroller.k3s.cattle.io/svcname" -}}
K3s' ServiceLB still runs (kube-system/{{ .metadata.name }}) and gives the nodes' addresses to Services. Start the servers with
--disable=servicelb, or set lbAnnouncer.loadBalancerClass and name that class in your Services.
{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "landfall.warning.nodes" -}}
{{- if and .Values.lbAnnouncer.enabled (not .Values.lbAnnouncer.ignoreExcludeLabel) -}}
{{- $nodes := (lookup "v1" "Node" "" "").items | default list -}}
{{- $able := list -}}
{{- range $nodes -}}
{{- if not (hasKey (.metadata.labels | default dict) "node.kubernetes.io/exclude-from-external-load-balancers") -}}
{{- $able = append $able .metadata.name -}}
{{- end -}}
{{- end -}}
{{- if and $nodes (not $able) -}}
Every node is labelled node.kubernetes.io/exclude-from-external-load-balancers, as kubeadm labels those of the control
plane. They announce addresses all the same, since there is no other node, and each Service has a warning about it.
Do one of these:
  kubectl label nodes --all node.kubernetes.io/exclude-from-external-load-balancers-
  helm upgrade ... --set lbAnnouncer.ignoreExcludeLabel=true
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "landfall.warning.security" -}}
{{- if or .Values.lbAnnouncer.enabled (has .Values.ingress.expose (list "HostNetwork" "HostPort")) -}}
{{- $namespace := lookup "v1" "Namespace" "" .Release.Namespace -}}
{{- $level := dig "metadata" "labels" "pod-security.kubernetes.io/enforce" "" $namespace -}}
{{- if has $level (list "baseline" "restricted") -}}
Namespace {{ .Release.Namespace }} enforces the pod security profile {{ $level }}, which allows no pod in the node's network:
  kubectl label namespace {{ .Release.Namespace }} --overwrite pod-security.kubernetes.io/enforce=privileged
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "landfall.warning.crds" -}}
{{- if .Values.lbAnnouncer.enabled -}}
{{- if include "landfall.foreign" (list . "apiextensions.k8s.io/v1" "CustomResourceDefinition" "ipaddresspools.metallb.io") -}}
The CustomResourceDefinitions of metallb.io don't belong to this release, so it does not change them. If they are
MetalLB's, status.taken of pools can't be written. When MetalLB is removed, replace them with ours; all objects stay:
  helm template {{ .Release.Name }} CHART -n {{ .Release.Namespace }} --show-only templates/crds.yaml | kubectl replace -f -
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "landfall.warning.classes" -}}
{{- if and .Values.ingress.enabled .Values.ingress.ingressClass.create .Values.ingress.ingressClass.default -}}
{{- range (lookup "networking.k8s.io/v1" "IngressClass" "" "").items -}}
{{- $default := get (.metadata.annotations | default dict) "ingressclass.kubernetes.io/is-default-class" -}}
{{- if and (eq $default "true") (ne .metadata.name $.Values.ingress.ingressClass.name) (ne .metadata.name $.Values.ingress.nginx.name) -}}
IngressClass {{ .metadata.name }} is a default class too. For an Ingress without a class, Kubernetes uses the newest default class.
{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the pods of the ingress are, whatever makes them. */}}

{{/* Deployment or DaemonSet. */}}
{{- define "landfall.ingress.kind" -}}
{{- if .Values.ingress.kind -}}
{{- .Values.ingress.kind -}}
{{- else if has .Values.ingress.expose (list "HostNetwork" "HostPort") -}}
DaemonSet
{{- else -}}
Deployment
{{- end -}}
{{- end -}}

{{/* Whether it has a Service. */}}
{{- define "landfall.ingress.service" -}}
{{- if has .Values.ingress.expose (list "LoadBalancer" "NodePort" "ClusterIP") -}}yes{{- end -}}
{{- end -}}

{{/* What is published in the status of Ingresses: NAMESPACE/NAME of a Service, or nothing for the nodes. */}}
{{- define "landfall.ingress.published" -}}
{{- $publish := .Values.ingress.publish -}}
{{- if $publish.service -}}
{{- $publish.service -}}
{{- else if and (has .Values.ingress.expose (list "LoadBalancer" "ClusterIP")) (not $publish.addresses) (not $publish.nodes) -}}
{{- printf "%s/%s-ingress" .Release.Namespace (include "landfall.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* Whether the addresses of the nodes are published. */}}
{{- define "landfall.ingress.publishesNodes" -}}
{{- if and (not (include "landfall.ingress.published" .)) (not .Values.ingress.publish.addresses) .Values.ingress.publish.enabled -}}
yes
{{- end -}}
{{- end -}}

{{/* The namespaces that it watches, as YAML; none: all. Its own is among them if the address comes from there. */}}
{{- define "landfall.ingress.namespaces" -}}
{{- $namespaces := .Values.ingress.watchNamespaces -}}
{{- if $namespaces -}}
{{- range list (include "landfall.ingress.published" .) .Values.ingress.defaultCertificate .Values.ingress.defaultBackend -}}
{{- if . -}}{{- $namespaces = append $namespaces (splitList "/" . | first) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $namespaces | uniq | toYaml -}}
{{- end -}}

{{/* The namespaces whose Secrets it reads, as YAML; none: those that it watches. */}}
{{- define "landfall.ingress.secretNamespaces" -}}
{{- $namespaces := .Values.ingress.secretNamespaces -}}
{{- if and $namespaces .Values.ingress.defaultCertificate -}}
{{- $namespaces = append $namespaces (splitList "/" .Values.ingress.defaultCertificate | first) -}}
{{- end -}}
{{- $namespaces | uniq | toYaml -}}
{{- end -}}

{{/* Ports within the pod: those of the node with HostNetwork, else such as anybody may listen on. */}}
{{- define "landfall.ingress.ports" -}}
{{- if eq .Values.ingress.expose "HostNetwork" -}}
{{- .Values.ingress.hostPorts | toJson -}}
{{- else -}}
{{- $ports := dict -}}
{{- $taken := .Values.ingress.tcp -}}
{{- range $name, $candidates := dict "http" (list 8080 18080 28080) "https" (list 8443 18443 28443) -}}
{{- range $candidates -}}
{{- if not (or (hasKey $ports $name) (hasKey $taken (toString .))) -}}{{- $_ := set $ports $name . -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $ports | toJson -}}
{{- end -}}
{{- end -}}

{{/* The ports of TCP and UDP services, as a JSON list of {protocol, port, name}. */}}
{{- define "landfall.ingress.streams" -}}
{{- $v := .Values.ingress -}}
{{- $own := dict "10254" "the admin port" -}}
{{- if eq $v.expose "HostNetwork" -}}
{{- range $name, $port := $v.hostPorts -}}{{- $_ := set $own ($port | int64 | toString) (printf "ingress.hostPorts.%s" $name) -}}{{- end -}}
{{- else if eq $v.expose "HostPort" -}}
{{- range $name, $port := $v.hostPorts -}}{{- $_ := set $own ($port | int64 | toString) (printf "ingress.hostPorts.%s" $name) -}}{{- end -}}
{{- else -}}
{{- $_ := set $own ($v.service.httpPort | int64 | toString) "ingress.service.httpPort" -}}
{{- $_ := set $own ($v.service.httpsPort | int64 | toString) "ingress.service.httpsPort" -}}
{{- end -}}
{{- $all := list -}}
{{- $prefix := ternary (printf "%s-" .Values.portNamePrefix) "" (ne .Values.portNamePrefix "") -}}
{{- range $protocol := list "tcp" "udp" -}}
{{- range $port, $service := get $v $protocol -}}
{{- if gt (int64 $port) 65535 -}}{{- fail (printf "ingress.%s: %s is no port; use a number from 1 to 65535" $protocol $port) -}}{{- end -}}
{{- if and (eq $protocol "tcp") (hasKey $own $port) -}}
{{- fail (printf "ingress.tcp: port %s is %s already; choose another one" $port (get $own $port)) -}}
{{- end -}}
{{- $all = append $all (dict "protocol" (upper $protocol) "port" (int64 $port) "name" (printf "%s%s-%s" $prefix $port $protocol)) -}}
{{- end -}}
{{- end -}}
{{- $all | toJson -}}
{{- end -}}

{{/* Lets anybody in the pod listen on ports below 1024, where such a port leads to a Service. */}}
{{- define "landfall.ingress.podSecurity" -}}
{{- $privileged := false -}}
{{- range include "landfall.ingress.streams" . | fromJsonArray -}}
{{- if lt (int64 .port) 1024 -}}{{- $privileged = true -}}{{- end -}}
{{- end -}}
{{- $sysctls := dict -}}
{{- if $privileged -}}{{- $sysctls = dict "sysctls" (list (dict "name" "net.ipv4.ip_unprivileged_port_start" "value" "0")) -}}{{- end -}}
{{- include "landfall.podSecurity" (mergeOverwrite $sysctls (deepCopy .Values.ingress.podSecurityContext)) -}}
{{- end -}}

{{/* A value as text; numbers come as floating-point ones. */}}
{{- define "landfall.text" -}}
{{- if kindIs "float64" . -}}{{- if eq (floor .) . -}}{{- . | int64 -}}{{- else -}}{{- . -}}{{- end -}}{{- else -}}{{- . -}}{{- end -}}
{{- end -}}

{{- define "landfall.ingress.args" -}}
{{- $v := .Values.ingress -}}
{{- $ports := include "landfall.ingress.ports" . | fromJson -}}
{{- $controllers := list "landfall.dev/ingress" -}}
{{- $classes := list $v.ingressClass.name -}}
{{- if $v.nginx.enabled -}}
{{- $controllers = append $controllers $v.nginx.controller -}}
{{- $classes = append $classes $v.nginx.name -}}
{{- end -}}
- serve
- --http=[::]:{{ $ports.http | int64 }}
- --https=[::]:{{ $ports.https | int64 }}
- --admin=[::]:10254
- --controller-class={{ $controllers | uniq | join "," }}
- --ingress-class={{ $classes | uniq | join "," }}
- --lease={{ include "landfall.fullname" . }}-ingress
- --pod-selector=app.kubernetes.io/instance={{ .Release.Name }},app.kubernetes.io/component=ingress
{{- if not $v.publish.enabled }}
- --no-status
{{- else if include "landfall.ingress.published" . }}
- --publish-service={{ include "landfall.ingress.published" . }}
{{- else if $v.publish.addresses }}
- --publish-status-address={{ join "," $v.publish.addresses }}
{{- end }}
{{- if $v.watchIngressWithoutClass }}
- --watch-ingress-without-class
{{- end }}
{{- with include "landfall.ingress.namespaces" . | fromYamlArray }}
- --watch-namespace={{ join "," . }}
{{- end }}
{{- with $v.defaultCertificate }}
- --default-ssl-certificate={{ . }}
{{- end }}
{{- with $v.defaultBackend }}
- --default-backend-service={{ . }}
{{- end }}
{{- if or $v.config $v.addHeaders $v.proxySetHeaders }}
- --config-map={{ .Release.Namespace }}/{{ include "landfall.fullname" . }}-ingress-options
{{- end }}
{{- $root := . -}}
{{- range list "tcp" "udp" }}
{{- if get $v . }}
- --{{ . }}-services-configmap={{ $root.Release.Namespace }}/{{ include "landfall.fullname" $root }}-ingress-{{ . }}
{{- end }}
{{- end }}
{{- with include "landfall.ingress.secretNamespaces" . | fromYamlArray }}
- --secret-namespace={{ join "," . }}
{{- end }}
{{- if ne .Values.metrics.compatibility "none" }}
- --metrics-compatibility={{ .Values.metrics.compatibility }}
{{- end }}
{{- with $v.acme }}
{{- if .enabled }}
- --acme-directory={{ .directory }}
{{- with .email }}
- --acme-email={{ . }}
{{- end }}
{{- if .acceptTerms }}
- --acme-accept-terms
{{- end }}
{{- with .default }}
- --acme-default={{ . }}
{{- end }}
{{- with .internal }}
{{- with .permitted }}
- --ca-permitted={{ join "," . }}
{{- end }}
{{- with .lifetime }}
- --ca-lifetime={{ . }}
{{- end }}
{{- with .root }}
- --ca-root={{ . }}
{{- end }}
{{- end }}
{{- if .issuers }}
- --acme-issuers={{ $.Release.Namespace }}/{{ include "landfall.fullname" $ }}-ingress-acme-issuers
{{- end }}
{{- end }}
{{- end }}
{{- if $v.page.ingress.enabled }}
- --page-service={{ .Release.Namespace }}/{{ include "landfall.fullname" . }}-ingress-page
- --page-host={{ $v.page.ingress.host }}
{{- end }}
{{- if $v.page.showQueries }}
- --page-show-queries
{{- end }}
{{- if ne $v.hostOwnership "none" }}
- --host-ownership={{ $v.hostOwnership }}
{{- end }}
{{- if ne $v.externalNames "outside" }}
- --external-names={{ $v.externalNames }}
{{- end }}
{{- with $v.clusterDomain }}
- --cluster-domain={{ . }}
{{- end }}
{{- with $v.trustedProxies }}
- --trusted-proxies={{ join "," . }}
{{- end }}
{{- with $v.proxyProtocol }}
- --proxy-protocol={{ join "," . }}
{{- end }}
{{- if ne (toString $v.memoryLimit) "auto" }}
- --memory-limit={{ if kindIs "string" $v.memoryLimit }}{{ $v.memoryLimit }}{{ else }}{{ $v.memoryLimit | int64 }}{{ end }}
{{- end }}
{{- if ne ($v.minRate | int64) 100 }}
- --min-rate={{ $v.minRate | int64 }}
{{- end }}
- --lame-duck={{ $v.drain.lameDuckSeconds | int64 }}
{{- if has $v.expose (list "LoadBalancer" "NodePort") }}
- --handover={{ $v.drain.handoverSeconds | int64 }}
{{- end }}
- --drain-timeout={{ $v.drain.timeoutSeconds | int64 }}
- --log={{ $v.log.filter }}
- --log-format={{ $v.log.format }}
{{- if not $v.log.access }}
- --no-access-log
{{- end }}
{{- range $v.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/*
The address stays on its node through a rollout if the new pod stands beside the old one before that ends. So new pods
are drawn to the nodes of the old ones, and spread among themselves.
*/}}
{{- define "landfall.ingress.affinity" -}}
podAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        mismatchLabelKeys: [pod-template-hash]
        labelSelector:
          matchLabels: {{- include "landfall.selector" (list . "ingress") | nindent 12 }}
{{- end -}}

{{/* Takes (root, component). */}}
{{- define "landfall.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  matchLabelKeys: [pod-template-hash]
  labelSelector:
    matchLabels: {{- include "landfall.selector" . | nindent 6 }}
{{- end -}}

{{- define "landfall.ingress.container" -}}
{{- $v := .Values.ingress -}}
{{- $ports := include "landfall.ingress.ports" . | fromJson -}}
name: ingress
image: {{ include "landfall.image" (list . $v.image) }}
{{- with coalesce $v.image.pullPolicy .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
args: {{- include "landfall.ingress.args" . | nindent 2 }}
env:
  - name: LANDFALL_NAMESPACE
    valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
  - name: LANDFALL_IDENTITY
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  {{- with $v.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - name: http
    containerPort: {{ $ports.http | int64 }}
    {{- if eq $v.expose "HostPort" }}
    hostPort: {{ $v.hostPorts.http | int64 }}
    {{- end }}
  - name: https
    containerPort: {{ $ports.https | int64 }}
    {{- if eq $v.expose "HostPort" }}
    hostPort: {{ $v.hostPorts.https | int64 }}
    {{- end }}
  - name: admin
    containerPort: 10254
  {{- range include "landfall.ingress.streams" . | fromJsonArray }}
  - name: {{ .name }}
    containerPort: {{ .port | int64 }}
    protocol: {{ .protocol }}
    {{- if eq $v.expose "HostPort" }}
    hostPort: {{ .port | int64 }}
    {{- end }}
  {{- end }}
{{- /* Readiness is given up when the order to end comes, and the address leaves the node when the probe has failed often
enough: just after the last client has been sent away, so that nobody waits for long. */}}
{{ include "landfall.probes" (list "admin" "" (max 3 (add1 $v.drain.lameDuckSeconds))) }}
{{- with $v.resources }}
resources: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if eq $v.expose "HostNetwork" }}
securityContext: {{- include "landfall.securityRoot" (list $v.securityContext "NET_BIND_SERVICE") | nindent 2 }}
{{- else }}
securityContext: {{- include "landfall.security" $v.securityContext | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "landfall.ingress.pod" -}}
{{- $v := .Values.ingress -}}
{{- $host := eq $v.expose "HostNetwork" -}}
{{- $deployment := eq (include "landfall.ingress.kind" .) "Deployment" -}}
metadata:
  labels: {{- include "landfall.podLabels" (list . "ingress") | nindent 4 }}
    {{- with $v.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- $scrape := include "landfall.scrape" (list . 10254) | fromYaml }}
  {{- with merge (deepCopy $v.podAnnotations) $scrape }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "landfall.ingress.account" . }}
  automountServiceAccountToken: {{ $v.serviceAccount.automount }}
  {{- if $host }}
  hostNetwork: true
  {{- end }}
  {{- with coalesce $v.dnsPolicy (ternary "ClusterFirstWithHostNet" "" $host) }}
  dnsPolicy: {{ . }}
  {{- end }}
  {{- with $v.dnsConfig }}
  dnsConfig: {{- toYaml . | nindent 4 }}
  {{- end }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add $v.drain.lameDuckSeconds $v.drain.timeoutSeconds 5 }}
  {{- if $host }}
  securityContext: {{- include "landfall.podSecurityRoot" $v.podSecurityContext | nindent 4 }}
  {{- else }}
  securityContext: {{- include "landfall.ingress.podSecurity" . | nindent 4 }}
  {{- end }}
  {{- with include "landfall.placement" (list . $v) | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- if $v.affinity }}
  affinity: {{- toYaml $v.affinity | nindent 4 }}
  {{- else if $deployment }}
  affinity: {{- include "landfall.ingress.affinity" . | nindent 4 }}
  {{- end }}
  {{- if $v.topologySpreadConstraints }}
  topologySpreadConstraints: {{- toYaml $v.topologySpreadConstraints | nindent 4 }}
  {{- else if $deployment }}
  topologySpreadConstraints: {{- include "landfall.spread" (list . "ingress") | nindent 4 }}
  {{- end }}
  containers:
    - {{- include "landfall.ingress.container" . | nindent 6 }}
{{- end -}}

{{/* Names, labels and what both programs' pods share. */}}

{{- define "landfall.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What selects pods: never changes for a release. Takes (root, component). */}}
{{- define "landfall.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride | trunc 63 }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Takes (root, component). */}}
{{- define "landfall.labels" -}}
{{- $root := index . 0 -}}
{{ include "landfall.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: landfall
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of pods: nothing that changes with each version of the chart, which would start them anew. Takes (root, component). */}}
{{- define "landfall.podLabels" -}}
{{ include "landfall.selector" . }}
{{- with (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* registry/repository:tag. Takes (root, image). */}}
{{- define "landfall.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $registry := coalesce $image.registry $root.Values.image.registry -}}
{{- $name := $image.repository -}}
{{- if $registry -}}{{- $name = printf "%s/%s" (trimSuffix "/" $registry) $name -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The names of the service accounts. */}}
{{- define "landfall.ingress.account" -}}
{{- default (printf "%s-ingress" (include "landfall.fullname" .)) .Values.ingress.serviceAccount.name -}}
{{- end -}}
{{- define "landfall.controller.account" -}}
{{- default (printf "%s-lb-controller" (include "landfall.fullname" .)) .Values.lbAnnouncer.serviceAccount.controllerName -}}
{{- end -}}
{{- define "landfall.speaker.account" -}}
{{- default (printf "%s-lb-speaker" (include "landfall.fullname" .)) .Values.lbAnnouncer.serviceAccount.speakerName -}}
{{- end -}}

{{/* Whether there is an API server behind this rendering: "helm template" has none, and finds nothing by lookup. */}}
{{- define "landfall.live" -}}
{{- if lookup "v1" "Namespace" "" "kube-system" -}}yes{{- end -}}
{{- end -}}

{{/* Says yes if the API server knows a kind of metallb.io: a lookup of one that it doesn't know is an error. Takes its plural. */}}
{{- define "landfall.known" -}}
{{- $found := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" (printf "%s.metallb.io" .) -}}
{{- range dig "status" "conditions" list $found -}}
{{- if and (eq .type "Established") (eq .status "True") (not (dig "metadata" "deletionTimestamp" "" $found)) -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{/* Says yes if an object belongs to this release. */}}
{{- define "landfall.owned" -}}
{{- $root := index . 0 -}}
{{- $annotations := (index . 1).metadata.annotations | default dict -}}
{{- if and (eq (get $annotations "meta.helm.sh/release-name") $root.Release.Name) (eq (get $annotations "meta.helm.sh/release-namespace") $root.Release.Namespace) -}}
yes
{{- end -}}
{{- end -}}

{{/* Says yes if a cluster-scoped object of that name is there and isn't ours. Takes (root, apiVersion, kind, name). */}}
{{- define "landfall.foreign" -}}
{{- $found := lookup (index . 1) (index . 2) "" (index . 3) -}}
{{- if $found -}}
{{- if not (include "landfall.owned" (list (index . 0) $found)) -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{/* Annotations that ask for a scrape. Takes (root, port). */}}
{{- define "landfall.scrape" -}}
{{- if (index . 0).Values.metrics.annotations.enabled -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ index . 1 | int64 | quote }}
prometheus.io/path: /metrics
{{- end -}}
{{- end -}}

{{/* The pod's security context: what the profile "restricted" asks for. Takes overrides. */}}
{{- define "landfall.podSecurity" -}}
{{- $default := dict "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" 65532 "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- mergeOverwrite $default (deepCopy .) | toYaml -}}
{{- end -}}

{{- define "landfall.security" -}}
{{- $default := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) -}}
{{- mergeOverwrite $default (deepCopy .) | toYaml -}}
{{- end -}}

{{/*
The pod's security context where one capability is needed. Kubernetes gives added capabilities to root only: a process
of another user would need them on its file, and allowPrivilegeEscalation: false makes the kernel ignore those. So this
is a root that can do nothing but the one thing.
*/}}
{{- define "landfall.podSecurityRoot" -}}
{{- $default := dict "runAsUser" 0 "runAsGroup" 0 "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- mergeOverwrite $default (deepCopy .) | toYaml -}}
{{- end -}}

{{/* Takes (overrides, capability). */}}
{{- define "landfall.securityRoot" -}}
{{- $default := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL") "add" (list (index . 1))) -}}
{{- mergeOverwrite $default (deepCopy (index . 0)) | toYaml -}}
{{- end -}}

{{/* Takes (port name, host or nothing, how often readiness may fail). */}}
{{- define "landfall.probes" -}}
{{- $get := dict "port" (index . 0) -}}
{{- with index . 1 -}}{{- $_ := set $get "host" . -}}{{- end -}}
readinessProbe:
  httpGet: {{- merge (dict "path" "/readyz") $get | toYaml | nindent 4 }}
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: {{ index . 2 }}
livenessProbe:
  httpGet: {{- merge (dict "path" "/livez") $get | toYaml | nindent 4 }}
  initialDelaySeconds: 5
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{/* Which pods, who and where: what a pod's spec has beside its containers. Takes (root, values of the component). */}}
{{- define "landfall.placement" -}}
{{- $v := index . 1 -}}
{{- with (index . 0).Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ if kindIs "map" . }}{{ .name }}{{ else }}{{ . }}{{ end }}
  {{- end }}
{{- end }}
{{- with $v.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $v.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

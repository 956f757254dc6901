{{/* The parts that have metrics: the component's label of each, as a YAML list. */}}
{{- define "landfall.metrics.parts" -}}
{{- $parts := list -}}
{{- if .Values.ingress.enabled -}}{{- $parts = append $parts "ingress" -}}{{- end -}}
{{- if .Values.lbAnnouncer.enabled -}}{{- $parts = concat $parts (list "controller" "speaker") -}}{{- end -}}
{{- $parts | toYaml -}}
{{- end -}}

{{/* The name of a part's objects. Takes (root, part). */}}
{{- define "landfall.metrics.name" -}}
{{- $part := index . 1 -}}
{{- printf "%s-%s" (include "landfall.fullname" (index . 0)) (ternary $part (printf "lb-%s" $part) (eq $part "ingress")) -}}
{{- end -}}

{{/* The head of an object for the monitoring. Takes (root, name, component, values with namespace and labels). */}}
{{- define "landfall.metrics.head" -}}
{{- $root := index . 0 -}}
{{- $v := index . 3 -}}
name: {{ index . 1 }}
namespace: {{ default $root.Release.Namespace $v.namespace }}
labels: {{- mergeOverwrite (include "landfall.labels" (list $root (index . 2)) | fromYaml) (deepCopy ($v.labels | default dict)) | toYaml | nindent 2 }}
{{- end -}}

{{/*
Boards for ingress-nginx expect the labels of its own monitor, where labels of a target come first: namespace is that of
the pod, and exported_namespace and exported_service are of the Ingress. A request without a Service has the target's,
which is not exported.
*/}}
{{- define "landfall.metrics.nginx" -}}
{{- $request := "requests|(?:request|response|connect|header|bytes)_.+" -}}
{{- $own := printf "nginx_ingress_controller_(?:orphan_ingress|ssl_.+|%s)" $request -}}
- sourceLabels: [__name__, namespace]
  regex: {{ $own }};(.+)
  targetLabel: exported_namespace
- sourceLabels: [__name__, service]
  regex: nginx_ingress_controller_(?:{{ $request }});(.+)
  targetLabel: exported_service
- sourceLabels: [exported_service]
  regex: {{ include "landfall.metrics.name" (list . "ingress") }}-metrics
  targetLabel: exported_service
  replacement: ""
- sourceLabels: [__name__]
  regex: {{ $own }}
  targetLabel: namespace
  replacement: {{ .Release.Namespace }}
{{- end -}}

{{/* One endpoint of a monitor. Takes (root, part, its values). */}}
{{- define "landfall.metrics.endpoint" -}}
{{- $root := index . 0 -}}
{{- $nginx := and (eq (index . 1) "ingress") (eq $root.Values.metrics.compatibility "nginx") -}}
{{- $relabelings := $nginx | ternary (include "landfall.metrics.nginx" $root | fromYamlArray) list -}}
{{- with index . 2 -}}
- port: admin
  path: /metrics
  interval: {{ .interval }}
  # namespace, service and node are those of the Ingress or Service that a metric tells of, not the pod's own.
  honorLabels: true
  {{- with .relabelings }}
  relabelings: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with concat $relabelings (.metricRelabelings | default list) }}
  metricRelabelings: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}

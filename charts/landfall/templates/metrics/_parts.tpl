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

{{/* One endpoint of a monitor. Takes its values. */}}
{{- define "landfall.metrics.endpoint" -}}
- port: admin
  path: /metrics
  interval: {{ .interval }}
  # namespace, service and node are those of the Ingress or Service that a metric tells of, not the pod's own.
  honorLabels: true
  {{- with .relabelings }}
  relabelings: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .metricRelabelings }}
  metricRelabelings: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

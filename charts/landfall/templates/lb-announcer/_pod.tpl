{{/* What both pods of the announcer share. */}}

{{/* Arguments of both. Takes the root. */}}
{{- define "landfall.lb.args" -}}
{{- $v := .Values.lbAnnouncer -}}
- --namespace={{ .Release.Namespace }}
- --heartbeat-secret={{ include "landfall.fullname" . }}-heartbeat
{{- with $v.loadBalancerClass }}
- --lb-class={{ . }}
{{- end }}
{{- if $v.ignoreExcludeLabel }}
- --ignore-exclude-lb
{{- end }}
- --log={{ $v.log.filter }}
- --log-format={{ $v.log.format }}
{{- end -}}

{{/* Takes (root, values of the component). */}}
{{- define "landfall.lb.env" -}}
{{- $root := index . 0 -}}
- name: LANDFALL_POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: LANDFALL_SPEAKER_SELECTOR
  value: app.kubernetes.io/instance={{ $root.Release.Name }},app.kubernetes.io/component=speaker
{{- with (index . 1).extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The image's lines. */}}
{{- define "landfall.lb.image" -}}
image: {{ include "landfall.image" (list . .Values.lbAnnouncer.image) }}
{{- with coalesce .Values.lbAnnouncer.image.pullPolicy .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end -}}

{{/* Where the speaker's admin port listens. */}}
{{- define "landfall.speaker.admin" -}}
{{- $metrics := .Values.metrics -}}
{{- if .Values.lbAnnouncer.speaker.adminAddress -}}
{{- .Values.lbAnnouncer.speaker.adminAddress -}}
{{- else if or $metrics.podMonitor.enabled $metrics.serviceMonitor.enabled $metrics.annotations.enabled -}}
::
{{- else -}}
127.0.0.1
{{- end -}}
{{- end -}}

{{/* Whether the chart makes the heartbeats' key; without an API server to ask it would be another at each rendering. */}}
{{- define "landfall.heartbeat.ours" -}}
{{- if include "landfall.live" . -}}
{{- $found := lookup "v1" "Secret" .Release.Namespace (printf "%s-heartbeat" (include "landfall.fullname" .)) -}}
{{- if not $found -}}
yes
{{- else if include "landfall.owned" (list . $found) -}}
yes
{{- end -}}
{{- end -}}
{{- end -}}

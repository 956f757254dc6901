{{/*
Annotations of an object that a hook makes and nothing takes away again: "never" is none of Helm's policies, and
without any Helm would remove the object to make it anew. It belongs to the release by name, so that the next upgrade
takes it in. Takes (root, events, weight).
*/}}
{{- define "landfall.hook" -}}
helm.sh/hook: {{ index . 1 }}
helm.sh/hook-weight: {{ index . 2 | quote }}
helm.sh/hook-delete-policy: never
{{ include "landfall.owner" (index . 0) }}
{{- end -}}

{{/* What Helm puts on what belongs to a release. */}}
{{- define "landfall.owner" -}}
meta.helm.sh/release-name: {{ .Release.Name }}
meta.helm.sh/release-namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* Annotations of an object that is to be gone: the hook makes it anew, which is all that Helm can do, and removes it. */}}
{{- define "landfall.hook.remove" -}}
helm.sh/hook: {{ . }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/* What it reads and writes in the namespaces that it watches. */}}
{{- define "landfall.ingress.rules" -}}
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [services, endpoints, configmaps{{ if not .Values.ingress.secretNamespaces }}, secrets{{ end }}]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
{{- if and .Values.ingress.acme.enabled (not .Values.ingress.secretNamespaces) }}
# Which Secrets there will be is for the Ingresses to say, so no name can limit this.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, update]
{{- end }}
{{- if .Values.ingress.publish.enabled }}
- apiGroups: [networking.k8s.io]
  resources: [ingresses/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}
{{- end -}}

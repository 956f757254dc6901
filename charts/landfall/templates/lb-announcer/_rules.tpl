{{/* What each part of the announcer may do: docs/lb-announcer.md has the same as a table. */}}

{{/* Everywhere, both. */}}
{{- define "landfall.lb.reads" -}}
- apiGroups: [""]
  resources: [services, nodes]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
- apiGroups: [metallb.io]
  resources: [ipaddresspools, l2advertisements]
  verbs: [list, watch]
- apiGroups: [metallb.io]
  resources: [ipaddresspools/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{/* Everywhere, the controller. */}}
{{- define "landfall.controller.clusterRules" -}}
{{ include "landfall.lb.reads" . }}
# The annotation that names the pool, then the address.
- apiGroups: [""]
  resources: [services, services/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
- apiGroups: [metallb.io]
  resources: [bgpadvertisements, bgppeers, bfdprofiles, communities]
  verbs: [list, watch]
{{- end -}}

{{/* In the release's namespace, the controller. Only to create can't be limited to a name. */}}
{{- define "landfall.controller.rules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [landfall-lb-controller]
  verbs: [get, update]
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [{{ include "landfall.fullname" . }}-heartbeat]
  verbs: [get]
{{- if not (include "landfall.heartbeat.ours" .) }}
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
{{- end }}
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [metallb.io]
  resources: [configurationstates]
  verbs: [list, watch, create]
# Which addresses have been announced.
- apiGroups: [metallb.io]
  resources: [servicel2statuses]
  verbs: [list, watch]
- apiGroups: [metallb.io]
  resources: [configurationstates, configurationstates/status]
  resourceNames: [controller]
  verbs: [patch]
{{- end -}}

{{/* In the release's namespace, the speaker. Its objects bear the node's name or a hash, so they can't be named here. */}}
{{- define "landfall.speaker.rules" -}}
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [{{ include "landfall.fullname" . }}-heartbeat]
  verbs: [get]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [metallb.io]
  resources: [servicel2statuses]
  verbs: [list, create, patch, delete]
- apiGroups: [metallb.io]
  resources: [configurationstates]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [metallb.io]
  resources: [servicel2statuses/status, configurationstates/status]
  verbs: [patch]
{{- end -}}

{{/*
Values of ingress-nginx's chart. What has a counterpart is moved to it, what has no meaning here is dropped, and
whatever is left over is refused by name. docs/migrate-ingress-nginx.md has the same tables for people.
*/}}

{{/* Old path under controller: new path. */}}
{{- define "landfall.compat.moved" -}}
kind: ingress.kind
replicaCount: ingress.replicas
hostPort.ports.http: ingress.hostPorts.http
hostPort.ports.https: ingress.hostPorts.https
dnsPolicy: ingress.dnsPolicy
dnsConfig: ingress.dnsConfig
ingressClass: ingress.nginx.name
ingressClassResource.name: ingress.nginx.name
ingressClassResource.enabled: ingress.nginx.create
ingressClassResource.default: ingress.nginx.default
ingressClassResource.controllerValue: ingress.nginx.controller
watchIngressWithoutClass: ingress.watchIngressWithoutClass
publishService.pathOverride: ingress.publish.service
addHeaders: ingress.addHeaders
proxySetHeaders: ingress.proxySetHeaders
extraEnvs: ingress.extraEnv
resources: ingress.resources
nodeSelector: ingress.nodeSelector
tolerations: ingress.tolerations
affinity: ingress.affinity
topologySpreadConstraints: ingress.topologySpreadConstraints
updateStrategy: ingress.updateStrategy
minReadySeconds: ingress.minReadySeconds
terminationGracePeriodSeconds: ingress.drain.timeoutSeconds
priorityClassName: ingress.priorityClassName
podAnnotations: ingress.podAnnotations
podLabels: ingress.podLabels
podSecurityContext: ingress.podSecurityContext
annotations: ingress.annotations
service.externalTrafficPolicy: ingress.service.externalTrafficPolicy
service.externalIPs: ingress.service.externalIPs
service.loadBalancerIP: ingress.service.loadBalancerIPs
service.loadBalancerClass: ingress.service.loadBalancerClass
service.loadBalancerSourceRanges: ingress.service.loadBalancerSourceRanges
service.allocateLoadBalancerNodePorts: ingress.service.allocateLoadBalancerNodePorts
service.sessionAffinity: ingress.service.sessionAffinity
service.annotations: ingress.service.annotations
service.labels: ingress.service.labels
service.ipFamilyPolicy: ingress.service.ipFamilyPolicy
service.ipFamilies: ingress.service.ipFamilies
service.ports.http: ingress.service.httpPort
service.ports.https: ingress.service.httpsPort
service.nodePorts.http: ingress.service.nodePorts.http
service.nodePorts.https: ingress.service.nodePorts.https
service.nodePorts.tcp: ingress.service.nodePorts.tcp
service.nodePorts.udp: ingress.service.nodePorts.udp
extraArgs.default-ssl-certificate: ingress.defaultCertificate
extraArgs.default-backend-service: ingress.defaultBackend
extraArgs.publish-service: ingress.publish.service
extraArgs.watch-ingress-without-class: ingress.watchIngressWithoutClass
metrics.serviceMonitor.enabled: metrics.serviceMonitor.enabled
metrics.serviceMonitor.namespace: metrics.serviceMonitor.namespace
metrics.serviceMonitor.scrapeInterval: metrics.serviceMonitor.interval
metrics.serviceMonitor.additionalLabels: metrics.serviceMonitor.labels
metrics.serviceMonitor.relabelings: metrics.serviceMonitor.relabelings
metrics.serviceMonitor.metricRelabelings: metrics.serviceMonitor.metricRelabelings
metrics.prometheusRule.enabled: metrics.prometheusRule.enabled
metrics.prometheusRule.namespace: metrics.prometheusRule.namespace
metrics.prometheusRule.additionalLabels: metrics.prometheusRule.labels
networkPolicy.enabled: networkPolicy.enabled
{{- end -}}

{{/* What is true here anyway, or has nothing to act on. */}}
{{- define "landfall.compat.dropped" -}}
- admissionWebhooks
- containerName
- containerPort
- containerSecurityContext
- disableLeaderElection
- electionID
- electionTTL
- enableAnnotationValidations
- enableMimalloc
- enableTopologyAwareRouting
- healthCheckHost
- healthCheckPath
- image
- ingressClassByName
- labels
- lifecycle
- livenessProbe
- metrics.port
- metrics.portName
- metrics.service
- metrics.serviceMonitor.labelLimit
- metrics.serviceMonitor.labelNameLengthLimit
- metrics.serviceMonitor.labelValueLengthLimit
- metrics.serviceMonitor.namespaceSelector
- metrics.serviceMonitor.sampleLimit
- metrics.serviceMonitor.targetLabels
- metrics.serviceMonitor.targetLimit
- name
- progressDeadlineSeconds
- readinessProbe
- service.appProtocol
- service.external
- service.healthCheckNodePort
- service.targetPorts
- service.type
- startupProbe
- tcp.annotations
- tcp.configMapNamespace
- udp.annotations
- udp.configMapNamespace
- unhealthyPodEvictionPolicy
{{- end -}}

{{/* What to do about what is refused, by the beginning of its path. */}}
{{- define "landfall.compat.hints" -}}
extraArgs: Landfall has no such flag; docs/migrate-ingress-nginx.md says what to do instead
keda: set ingress.replicas, or create a ScaledObject of your own
service.internal: create a second Service of type LoadBalancer with an address of another pool
opentelemetry: tracing is not supported
metrics.prometheusRule.rules: create a PrometheusRule of your own
customTemplate: there is no template to customise
extraContainers: not supported
extraInitContainers: not supported
extraModules: there are no modules
extraVolumes: not supported
extraVolumeMounts: not supported
scope.namespaceSelector: list the namespaces in ingress.watchNamespaces
dhParam: only TLS 1.2 and 1.3 with elliptic curves are supported
speaker: this is a value of MetalLB's chart; see docs/migrate-metallb.md and lbAnnouncer.speaker
logLevel: this is a value of MetalLB's chart; see docs/migrate-metallb.md and lbAnnouncer.log.filter
webhookMode: this is a value of MetalLB's chart; Landfall has no webhook
{{- end -}}

{{/* Flags of ingress-nginx that the program takes as they are: it translates them, or says that they have no effect. */}}
{{- define "landfall.compat.flags" -}}
- alsologtostderr
- deep-inspect
- disable-catch-all
- disable-full-test
- disable-leader-election
- disable-svc-external-name
- disable-sync-events
- dynamic-configuration-retries
- election-ttl
- enable-annotation-validation
- enable-ssl-passthrough
- exclude-socket-metrics
- force-namespace-isolation
- health-check-path
- health-check-timeout
- ingress-class-by-name
- log_dir
- log_file
- logtostderr
- metrics-per-host
- monitor-max-batch-size
- post-shutdown-grace-period
- profiling
- sort-backends
- stderrthreshold
- status-update-interval
- sync-period
- sync-rate-limit
- update-status-on-shutdown
- v
- vmodule
{{- end -}}

{{/* Groups that mean nothing while they are switched off. */}}
{{- define "landfall.compat.groups" -}}
- autoscaling
- keda
- opentelemetry
- service.internal
{{- end -}}

{{/* Takes the value at .path out of .from, a map that loses it: JSON {"v": VALUE}, or nothing. */}}
{{- define "landfall.take" -}}
{{- $at := .from -}}
{{- $parts := splitList "." .path -}}
{{- range initial $parts -}}
{{- if and (kindIs "map" $at) (hasKey $at .) -}}{{- $at = get $at . -}}{{- else -}}{{- $at = dict -}}{{- end -}}
{{- end -}}
{{- if and (kindIs "map" $at) (hasKey $at (last $parts)) -}}
{{- dict "v" (get $at (last $parts)) | toJson -}}
{{- $_ := unset $at (last $parts) -}}
{{- end -}}
{{- end -}}

{{/* Puts .value at .path into .into. */}}
{{- define "landfall.put" -}}
{{- $at := .into -}}
{{- range initial (splitList "." .path) -}}
{{- if not (kindIs "map" (get $at .)) -}}{{- $_ := set $at . dict -}}{{- end -}}
{{- $at = get $at . -}}
{{- end -}}
{{- $_ := set $at (last (splitList "." .path)) .value -}}
{{- end -}}

{{/* The paths of all leaves of .map that mean something, one a line. */}}
{{- define "landfall.leaves" -}}
{{- $prefix := .prefix -}}
{{- range $key, $value := .map -}}
{{- $path := printf "%s%s" $prefix $key -}}
{{- if kindIs "map" $value -}}
{{- include "landfall.leaves" (dict "map" $value "prefix" (printf "%s." $path)) -}}
{{- else if or $value (kindIs "float64" $value) (kindIs "int64" $value) -}}
{{- $path -}}{{- "\n" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* How clients get to it, by three of ingress-nginx's values. */}}
{{- define "landfall.compat.expose" -}}
{{- $network := include "landfall.take" (dict "from" .old "path" "hostNetwork") -}}
{{- $port := include "landfall.take" (dict "from" .old "path" "hostPort.enabled") -}}
{{- $service := include "landfall.take" (dict "from" .old "path" "service.enabled") -}}
{{- $type := dig "service" "type" "" .old -}}
{{- if and $network (get (fromJson $network) "v") -}}
HostNetwork
{{- else if and $port (get (fromJson $port) "v") -}}
HostPort
{{- else if $type -}}
{{- $type -}}
{{- else if $service -}}
{{- if not (get (fromJson $service) "v") -}}ClusterIP{{- end -}}
{{- end -}}
{{- end -}}

{{/* Options of ingress-nginx's ConfigMap: some are values of this chart, and all are passed on. */}}
{{- define "landfall.compat.config" -}}
{{- with omit (deepCopy (dig "config" dict .old)) "use-proxy-protocol" -}}
{{- include "landfall.put" (dict "into" $.new "path" "ingress.config" "value" .) -}}
{{- end -}}
{{- $snippets := include "landfall.take" (dict "from" .old "path" "allowSnippetAnnotations") -}}
{{- if and $snippets (get (fromJson $snippets) "v") -}}
{{- include "landfall.put" (dict "into" .new "path" "ingress.config.allow-snippet-annotations" "value" "true") -}}
{{- end -}}
{{- $from := include "landfall.take" (dict "from" .old "path" "config.proxy-real-ip-cidr") -}}
{{- $networks := list "0.0.0.0/0" "::/0" -}}
{{- if $from -}}
{{- $networks = splitList "," (get (fromJson $from) "v" | replace " " "") -}}
{{- end -}}
{{- $forwarded := include "landfall.take" (dict "from" .old "path" "config.use-forwarded-headers") -}}
{{- if and $forwarded (eq (get (fromJson $forwarded) "v" | toString) "true") -}}
{{- include "landfall.put" (dict "into" .new "path" "ingress.trustedProxies" "value" $networks) -}}
{{- end -}}
{{- $proxy := include "landfall.take" (dict "from" .old "path" "config.use-proxy-protocol") -}}
{{- if and $proxy (eq (get (fromJson $proxy) "v" | toString) "true") -}}
{{- include "landfall.put" (dict "into" .new "path" "ingress.proxyProtocol" "value" $networks) -}}
{{- end -}}
{{- $json := include "landfall.take" (dict "from" .old "path" "config.log-format-escape-json") -}}
{{- if and $json (eq (get (fromJson $json) "v" | toString) "true") -}}
{{- include "landfall.put" (dict "into" .new "path" "ingress.log.format" "value" "json") -}}
{{- end -}}
{{- $_ := unset .old "config" -}}
{{- end -}}

{{/* How many pods there are, and how many may be away. */}}
{{- define "landfall.compat.scaling" -}}
{{- $scaling := include "landfall.take" (dict "from" .old "path" "autoscaling") -}}
{{- if $scaling -}}
{{- include "landfall.put" (dict "into" .new "path" "ingress.autoscaling" "value" (get (fromJson $scaling) "v")) -}}
{{- end -}}
{{- /* Of a number of pods that have to stay it is enough to know that they are fewer than there are. */ -}}
{{- $_ := include "landfall.take" (dict "from" .old "path" "minAvailable") -}}
{{- $most := include "landfall.take" (dict "from" .old "path" "maxUnavailable") -}}
{{- if $most -}}
{{- include "landfall.put" (dict "into" .new "path" "ingress.podDisruptionBudget.maxUnavailable" "value" (get (fromJson $most) "v")) -}}
{{- end -}}
{{- end -}}

{{/* The values of this chart, with those of ingress-nginx's chart moved in, as JSON. */}}
{{- define "landfall.values" -}}
{{- $new := deepCopy .Values -}}
{{- $old := deepCopy (.Values.controller | default dict) -}}
{{- $refused := list -}}
{{- /* Ports of TCP and UDP services stand at the top there. */ -}}
{{- range $protocol := list "tcp" "udp" -}}
{{- range $port, $service := get $.Values $protocol | default dict -}}
{{- include "landfall.put" (dict "into" (get $new.ingress $protocol) "path" $port "value" $service) -}}
{{- end -}}
{{- end -}}
{{- if $old -}}
{{- /* Whoever brings values of ingress-nginx has Ingresses of its class. */ -}}
{{- include "landfall.put" (dict "into" $new "path" "ingress.nginx.enabled" "value" true) -}}
{{- with include "landfall.compat.expose" (dict "old" $old) -}}
{{- include "landfall.put" (dict "into" $new "path" "ingress.expose" "value" .) -}}
{{- end -}}
{{- include "landfall.compat.config" (dict "old" $old "new" $new) -}}
{{- with include "landfall.take" (dict "from" $old "path" "metrics.enabled") -}}
{{- if get (fromJson .) "v" -}}
{{- include "landfall.put" (dict "into" $new "path" "metrics.compatibility" "value" "nginx") -}}
{{- end -}}
{{- end -}}
{{- if eq (dig "kind" "" $old | toString) "Both" -}}
{{- $refused = append $refused "controller.kind: there is no \"Both\"; choose Deployment or DaemonSet" -}}
{{- $_ := unset $old "kind" -}}
{{- end -}}
{{- range list "service.enableHttp" "service.enableHttps" -}}
{{- with include "landfall.take" (dict "from" $old "path" .) -}}
{{- if not (get (fromJson .) "v") -}}
{{- $refused = append $refused "controller.service.enableHttp, enableHttps: the Service always has both ports; close one with a network policy" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with include "landfall.take" (dict "from" $old "path" "publishService.enabled") -}}
{{- if not (get (fromJson .) "v") -}}
{{- if not (dig "extraArgs" "publish-status-address" "" $old) -}}
{{- include "landfall.put" (dict "into" $new "path" "ingress.publish.nodes" "value" true) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with include "landfall.take" (dict "from" $old "path" "extraArgs.publish-status-address") -}}
{{- include "landfall.put" (dict "into" $new "path" "ingress.publish.addresses" "value" (splitList "," (get (fromJson .) "v"))) -}}
{{- end -}}
{{- with include "landfall.take" (dict "from" $old "path" "extraArgs.watch-namespace") -}}
{{- include "landfall.put" (dict "into" $new "path" "ingress.watchNamespaces" "value" (list (get (fromJson .) "v"))) -}}
{{- end -}}
{{- $_ := include "landfall.take" (dict "from" $old "path" "extraArgs.shutdown-grace-period") -}}
{{- with include "landfall.take" (dict "from" $old "path" "extraArgs.update-status") -}}
{{- if eq (get (fromJson .) "v" | toString) "false" -}}
{{- include "landfall.put" (dict "into" $new "path" "ingress.publish.enabled" "value" false) -}}
{{- end -}}
{{- end -}}
{{- $scope := include "landfall.take" (dict "from" $old "path" "scope.namespace") -}}
{{- with include "landfall.take" (dict "from" $old "path" "scope.enabled") -}}
{{- if get (fromJson .) "v" -}}
{{- $namespace := $.Release.Namespace -}}
{{- if $scope -}}{{- $namespace = default $namespace (get (fromJson $scope) "v") -}}{{- end -}}
{{- include "landfall.put" (dict "into" $new "path" "ingress.watchNamespaces" "value" (list $namespace)) -}}
{{- end -}}
{{- end -}}
{{- range include "landfall.compat.groups" . | fromYamlArray -}}
{{- $group := include "landfall.take" (dict "from" $old "path" .) -}}
{{- if $group -}}
{{- $value := get (fromJson $group) "v" -}}
{{- if and (kindIs "map" $value) (get $value "enabled") -}}
{{- include "landfall.put" (dict "into" $old "path" . "value" $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- include "landfall.compat.scaling" (dict "old" $old "new" $new) -}}
{{- range $from, $to := include "landfall.compat.moved" . | fromYaml -}}
{{- with include "landfall.take" (dict "from" $old "path" $from) -}}
{{- $value := get (fromJson .) "v" -}}
{{- if not (kindIs "invalid" $value) -}}
{{- include "landfall.put" (dict "into" $new "path" $to "value" $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $args := $new.ingress.extraArgs -}}
{{- $flags := include "landfall.compat.flags" . | fromYamlArray -}}
{{- range $name, $value := dig "extraArgs" dict $old -}}
{{- if has $name $flags -}}
{{- $text := include "landfall.text" $value -}}
{{- $args = append $args (ternary (printf "--%s" $name) (printf "--%s=%s" $name $text) (eq $text "")) -}}
{{- $_ := unset $old.extraArgs $name -}}
{{- end -}}
{{- end -}}
{{- include "landfall.put" (dict "into" $new "path" "ingress.extraArgs" "value" $args) -}}
{{- range include "landfall.compat.dropped" . | fromYamlArray -}}
{{- $_ := include "landfall.take" (dict "from" $old "path" .) -}}
{{- end -}}
{{- end -}}
{{- $others := pick .Values "dhParam" "speaker" -}}
{{- $left := include "landfall.leaves" (dict "map" $old "prefix" "controller.") -}}
{{- range splitList "\n" (printf "%s\n%s" $left (include "landfall.leaves" (dict "map" $others "prefix" ""))) -}}
{{- if . -}}
{{- $path := trimPrefix "controller." . -}}
{{- $hint := "Landfall has no equivalent; remove it" -}}
{{- range $begin, $text := include "landfall.compat.hints" $ | fromYaml -}}
{{- if or (eq $path $begin) (hasPrefix (printf "%s." $begin) $path) -}}{{- $hint = $text -}}{{- end -}}
{{- end -}}
{{- $refused = append $refused (printf "%s: %s" . $hint) -}}
{{- end -}}
{{- end -}}
{{- if and (dig "enabled" false (.Values.defaultBackend | default dict)) (not $new.ingress.defaultBackend) -}}
{{- $service := printf "%s/%s-default-backend" .Release.Namespace (include "landfall.fullname" .) -}}
{{- include "landfall.put" (dict "into" $new "path" "ingress.defaultBackend" "value" $service) -}}
{{- end -}}
{{- if $refused -}}
{{- $refused = uniq $refused -}}
{{- fail (printf "\n\nvalues of another chart that can't be translated (docs/migrate-ingress-nginx.md, docs/migrate-metallb.md):\n  %s\n" (join "\n  " $refused)) -}}
{{- end -}}
{{- $new | toJson -}}
{{- end -}}

{{/* What the templates work on: the root, with the values as above. */}}
{{- define "landfall.root" -}}
{{- $values := include "landfall.values" . | fromJson -}}
{{- dict "Values" $values "Chart" (dict "Name" .Chart.Name "Version" .Chart.Version "AppVersion" .Chart.AppVersion) "Release" (dict "Name" .Release.Name "Namespace" .Release.Namespace "Service" .Release.Service) | toJson -}}
{{- end -}}

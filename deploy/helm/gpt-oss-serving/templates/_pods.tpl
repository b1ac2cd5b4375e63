{{/* What the pods of Ray's cluster share. */}}

{{/* Variables that Ray, Serve and serving read; serving/cluster/run/environment.py explains the RAY_ ones. */}}
{{- define "serving.env" -}}
{{- $times := include "serving.times" . | fromYaml -}}
- {name: RAY_SERVE_ENABLE_HA_PROXY, value: "1"}
- {name: RAY_SERVE_THROUGHPUT_OPTIMIZED, value: "1"}
- {name: RAY_SERVE_HAPROXY_BINARY_PATH, value: /opt/serving/bin/serving-haproxy}
- {name: RAY_SERVE_HAPROXY_NBTHREAD, value: "4"}
- {name: RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S, value: {{ $times.haproxy | quote }}}
- {name: RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S, value: {{ $times.haproxy | quote }}}
- {name: RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S, value: {{ $times.haproxy | quote }}}
- {name: RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S, value: "5"}
- {name: RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH, value: "serving.cluster.middleware:outermost"}
- {name: RAY_SERVE_CONTROL_LOOP_INTERVAL_S, value: "0.25"}
- {name: RAY_LOG_MONITOR_MANY_FILES_THRESHOLD, value: "0"}
- {name: LOG_NAME_UPDATE_INTERVAL_S, value: "86400"}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
- {name: VLLM_NO_USAGE_STATS, value: "1"}
- {name: HF_HUB_DISABLE_TELEMETRY, value: "1"}
{{- if include "serving.redisAddress" . }}
{{- if .Values.redis.passwordSecret }}
# Not REDIS_PASSWORD: KubeRay puts that one into the head itself, and refuses a cluster that has it already.
- name: GPT_OSS_REDIS_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .Values.redis.passwordSecret }}, key: {{ .Values.redis.passwordKey }}}
- {name: SERVING_REDIS__URL, value: "redis://:$(GPT_OSS_REDIS_PASSWORD)@{{ include "serving.redisAddress" . }}/1"}
{{- else }}
- {name: SERVING_REDIS__URL, value: "redis://{{ include "serving.redisAddress" . }}/1"}
{{- end }}
{{- end }}
{{- include "serving.commonEnv" . }}
{{- end }}

{{/* Variables of every container that runs serving, fetching ones too: what leads out of the cluster, and the user's. */}}
{{- define "serving.commonEnv" -}}
{{- with .Values.proxy.url }}
{{- $around := join "," (concat (list "localhost" "127.0.0.1" "::1" ".svc" ".cluster.local" (include "serving.fullname" $) (printf "%s-metrics" (include "serving.fullname" $)) "10.0.0.0/8" "172.16.0.0/12" "192.168.0.0/16") $.Values.proxy.around) }}
{{- range list "HTTPS_PROXY" "https_proxy" "HTTP_PROXY" "http_proxy" }}
- {name: {{ . }}, value: {{ $.Values.proxy.url | quote }}}
{{- end }}
{{- range list "NO_PROXY" "no_proxy" }}
- {name: {{ . }}, value: {{ $around | quote }}}
{{- end }}
{{- end }}
{{- if or .Values.caBundle.configMap .Values.caBundle.secret }}
{{- range list "SSL_CERT_FILE" "REQUESTS_CA_BUNDLE" "CURL_CA_BUNDLE" }}
- {name: {{ . }}, value: /etc/gpt-oss-serving-ca/{{ $.Values.caBundle.key }}}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Nothing of the GPUs, on nodes where NVIDIA's runtime is the default and the image asks for all of them. */}}
{{- define "serving.noGpuEnv" -}}
- {name: NVIDIA_VISIBLE_DEVICES, value: void}
{{- end }}

{{/* Volumes and mounts of the user, and the bundle of certificates, for every container that runs serving. */}}
{{- define "serving.commonMounts" -}}
{{- if or .Values.caBundle.configMap .Values.caBundle.secret }}
- {name: ca, mountPath: /etc/gpt-oss-serving-ca, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "serving.commonVolumes" -}}
{{- if and .Values.caBundle.configMap .Values.caBundle.secret }}
{{- fail "caBundle: both a ConfigMap and a Secret are named; remove one" }}
{{- end }}
{{- with .Values.caBundle.configMap }}
- name: ca
  configMap: {name: {{ . }}}
{{- end }}
{{- with .Values.caBundle.secret }}
- name: ca
  secret: {secretName: {{ . }}}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Variables of each container that loads or fetches checkpoints. */}}
{{- define "serving.hubEnv" -}}
- {name: HF_HUB_CACHE, value: /models/hub}
{{- with .Values.hub.endpoint }}
- {name: HF_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- with .Values.hub.tokenSecret }}
- name: HF_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: {{ $.Values.hub.tokenKey }}}
{{- end }}
{{- end }}

{{/* The root file system is read-only; these are what may be written, and what is given. */}}
{{- define "serving.volumeMounts" -}}
- {name: settings, mountPath: /etc/gpt-oss-serving, readOnly: true}
{{- if include "serving.teamsSecret" . }}
- {name: teams, mountPath: /etc/gpt-oss-serving-teams, readOnly: true}
{{- end }}
{{- if .Values.admin.existingSecret }}
- {name: admin, mountPath: /etc/gpt-oss-serving-admin, readOnly: true}
{{- end }}
- {name: tmp, mountPath: /tmp}
- {name: home, mountPath: /home/serving}
{{- include "serving.commonMounts" . }}
{{- end }}

{{- define "serving.volumes" -}}
- name: settings
  configMap: {name: {{ include "serving.fullname" . }}-settings}
{{- with include "serving.teamsSecret" . }}
- name: teams
  secret: {secretName: {{ . }}}
{{- end }}
{{- with .Values.admin.existingSecret }}
- name: admin
  secret: {secretName: {{ . }}}
{{- end }}
- name: tmp
  emptyDir: {}
- name: home
  emptyDir: {}
{{- include "serving.commonVolumes" . }}
{{- end }}

{{/*
The claim of the model cache. What cannot change in a claim is in its name: another access mode or storage class makes
another claim, and the old one stays until you delete it.
*/}}
{{- define "serving.claim" -}}
{{- $fixed := list .Values.modelCache.accessModes .Values.modelCache.storageClassName -}}
{{- $suffix := ternary "" (printf "-%s" (toJson $fixed | sha256sum | trunc 6)) (eq (toJson $fixed) "[[\"ReadWriteOnce\"],\"\"]") -}}
{{ include "serving.fullname" . }}-models{{ $suffix }}
{{- end }}

{{- define "serving.cacheVolume" -}}
- name: models
  {{- if eq .Values.modelCache.kind "pvc" }}
  persistentVolumeClaim: {claimName: {{ include "serving.claim" . }}}
  {{- else if eq .Values.modelCache.kind "existingClaim" }}
  persistentVolumeClaim: {claimName: {{ required "modelCache.existingClaim: name your claim, or set modelCache.kind to pvc" .Values.modelCache.existingClaim }}}
  {{- else if eq .Values.modelCache.kind "hostPath" }}
  hostPath: {path: {{ required "modelCache.hostPath: name the directory of the nodes, such as /var/lib/models" .Values.modelCache.hostPath }}, type: DirectoryOrCreate}
  {{- else }}
  emptyDir: {sizeLimit: {{ .Values.modelCache.size }}}
  {{- end }}
{{- end }}

{{/*
Whether a Job fetches checkpoints, or every engine pod does. A claim that one node mounts belongs to the engine: a Job
elsewhere would keep it away, and bind it in a zone where there may be no GPU.
*/}}
{{- define "serving.prefetchJob" -}}
{{- if and .Values.prefetch.enabled (not .Values.hub.offline) (has .Values.modelCache.kind (list "pvc" "existingClaim")) (has "ReadWriteMany" .Values.modelCache.accessModes) (include "serving.sources" . | fromYaml).sources -}}
true
{{- end -}}
{{- end }}

{{/* Pod fields that are the same everywhere. */}}
{{- define "serving.podBasics" -}}
serviceAccountName: {{ include "serving.serviceAccount" . }}
enableServiceLinks: false
securityContext: {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Placement; takes a dict of root, options and component (the value of the pods' component label). */}}
{{- define "serving.placement" -}}
{{- with merge (dict) (.options.nodeSelector | default dict) (ternary (dict "kubernetes.io/arch" .root.Values.image.arch) (dict) (not (empty .root.Values.image.arch))) }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .options.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .options.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .options.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .options.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .options.topologySpreadConstraints }}
topologySpreadConstraints:
{{- range . }}
- {{- toYaml (merge (dict) . (dict "labelSelector" (dict "matchLabels" (merge (dict "app.kubernetes.io/component" $.component) (include "serving.selector" $.root | fromYaml))))) | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/*
What the processes of a Ray pod log, on stdout and as JSON, from the beginning of the pod to its end: a sidecar of
Kubernetes, which ends after Ray's container. Takes a dict of root and image.
*/}}
{{- define "serving.logs" -}}
{{- if .root.Values.logs.stdout -}}
- name: logs
  image: {{ .image }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  restartPolicy: Always
  securityContext: {{- toYaml .root.Values.securityContext | nindent 4 }}
  command: [/opt/serving/bin/python, -m, serving.cluster.log_tail]
  env:
  {{- include "serving.noGpuEnv" .root | nindent 2 }}
  resources: {{- toYaml .root.Values.logs.resources | nindent 4 }}
  volumeMounts:
  - {name: tmp, mountPath: /tmp, readOnly: true}
{{- end -}}
{{- end }}

{{/* Ports of every Ray pod. */}}
{{- define "serving.rayPorts" -}}
- {name: serve, containerPort: 8000}
- {name: metrics, containerPort: 8080}
- {name: agent, containerPort: 52365}
{{- end }}

{{/* Ports that Ray would choose itself, put where the NetworkPolicy knows them. */}}
{{- define "serving.rayPortParams" -}}
node-manager-port: "6380"
object-manager-port: "6381"
runtime-env-agent-port: "6382"
dashboard-agent-grpc-port: "6383"
dashboard-agent-listen-port: "52365"
metrics-export-port: "8080"
# Little goes by the object store; what does not fit into /dev/shm Ray would put on disk.
object-store-memory: {{ .Values.objectStoreBytes | int64 | quote }}
min-worker-port: "10002"
max-worker-port: "19999"
{{- end }}

{{/* A worker that has to go first gives its replicas to others and lets their answers end. */}}
{{- define "serving.preStop" -}}
preStop:
  exec:
    command:
    - /opt/serving/bin/python
    - -m
    - serving.cluster.node_drain
    - --deadline
    - {{ (include "serving.times" . | fromYaml).preStop | quote }}
{{- end }}

{{- define "serving.workerProbes" -}}
# Ray's own agent is public about its node's health whether or not Ray asks for tokens.
startupProbe:
  httpGet: {path: /api/local_raylet_healthz, port: agent}
  periodSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /api/local_raylet_healthz, port: agent}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
# HAProxy is on every node that has a replica; a pod without one gets no clients.
readinessProbe:
  httpGet: {path: /-/healthz, port: serve}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end }}

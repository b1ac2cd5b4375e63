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
{{- if include "serving.redisSecret" . }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ include "serving.redisSecret" . }}, key: {{ include "serving.redisKey" . }}}
- {name: SERVING_REDIS__URL, value: "redis://:$(REDIS_PASSWORD)@{{ include "serving.redisAddress" . }}/1"}
{{- else }}
- {name: SERVING_REDIS__URL, value: "redis://{{ include "serving.redisAddress" . }}/1"}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Variables of whoever loads or fetches checkpoints. */}}
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
{{- end }}

{{- define "serving.cacheVolume" -}}
- name: models
  {{- if eq .Values.modelCache.kind "pvc" }}
  persistentVolumeClaim: {claimName: {{ include "serving.fullname" . }}-models}
  {{- else if eq .Values.modelCache.kind "existingClaim" }}
  persistentVolumeClaim: {claimName: {{ required "modelCache.existingClaim: name your claim, or set modelCache.kind to pvc" .Values.modelCache.existingClaim }}}
  {{- else if eq .Values.modelCache.kind "hostPath" }}
  hostPath: {path: {{ required "modelCache.hostPath: name the directory of the nodes, such as /var/lib/models" .Values.modelCache.hostPath }}, type: DirectoryOrCreate}
  {{- else }}
  emptyDir: {sizeLimit: {{ .Values.modelCache.size }}}
  {{- end }}
{{- end }}

{{/* Whether a Job fetches checkpoints (a claim is shared) or every engine pod does. */}}
{{- define "serving.prefetchJob" -}}
{{- if and .Values.prefetch.enabled (not .Values.hub.offline) (has .Values.modelCache.kind (list "pvc" "existingClaim")) (include "serving.sources" . | fromYaml).sources -}}
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
{{- with .options.nodeSelector }}
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

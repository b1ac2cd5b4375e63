{{/* How the cluster is replaced, and how it is reached meanwhile. */}}

{{/* Whether pods on several nodes can mount the model cache at once. */}}
{{- define "serving.cacheIsShared" -}}
{{- if or (has .Values.modelCache.kind (list "hostPath" "emptyDir")) (has "ReadWriteMany" .Values.modelCache.accessModes) (has "ReadOnlyMany" .Values.modelCache.accessModes) .Values.modelCache.oneNode -}}
true
{{- end -}}
{{- end }}

{{/* upgrade.strategy, with auto decided. */}}
{{- define "serving.upgradeStrategy" -}}
{{- $strategy := .Values.upgrade.strategy -}}
{{- $shared := include "serving.cacheIsShared" . -}}
{{- $pods := 0 -}}
{{- range (include "serving.models" . | fromYaml).models -}}
{{- $pods = add $pods (mul .podsPerReplica (add .most .options.sparePods)) -}}
{{- end -}}
{{- if and (not $shared) (gt (int $pods) 1) -}}
{{- fail (printf "modelCache.accessModes: %d engine pods share the model cache, and %s lets one node mount it; set [ReadWriteMany] and a storageClassName that has it, or modelCache.kind to hostPath or emptyDir, or modelCache.oneNode to true if engineWorkers.nodeSelector names a single node" (int $pods) (join ", " .Values.modelCache.accessModes)) -}}
{{- end -}}
{{- if eq $strategy "auto" -}}
{{- $strategy = ternary "NewCluster" "None" (eq $shared "true") -}}
{{- else if and (ne $strategy "None") (not $shared) -}}
{{- fail (printf "upgrade.strategy: %s starts a second engine beside the first, and the model cache (%s) cannot be mounted for both; set modelCache.accessModes to [ReadWriteMany], or upgrade.strategy to None" $strategy (join ", " .Values.modelCache.accessModes)) -}}
{{- end -}}
{{- if eq $strategy "NewClusterWithIncrementalUpgrade" -}}
{{- if not .Values.autoscaling.enabled -}}
{{- fail "upgrade.strategy: KubeRay takes NewClusterWithIncrementalUpgrade with Ray's autoscaler alone; set autoscaling.enabled to true, or upgrade.strategy to NewCluster" -}}
{{- end -}}
{{- if gt (int .Values.upgrade.stepSizePercent) (int .Values.upgrade.maxSurgePercent) -}}
{{- fail (printf "upgrade.stepSizePercent: %d is more than upgrade.maxSurgePercent %d, which KubeRay refuses; lower it" (int .Values.upgrade.stepSizePercent) (int .Values.upgrade.maxSurgePercent)) -}}
{{- end -}}
{{- end -}}
{{- $strategy -}}
{{- end }}

{{/* With the incremental strategy KubeRay makes a Gateway and a route of its own, and no Service of this name. */}}
{{- define "serving.checkExposure" -}}
{{- if eq (include "serving.upgradeStrategy" .) "NewClusterWithIncrementalUpgrade" -}}
{{- range $what, $used := dict "ingress.enabled" .Values.ingress.enabled "httpRoute.enabled" .Values.httpRoute.enabled "service.type" (ne .Values.service.type "ClusterIP") "service.port" (ne (int .Values.service.port) 8000) -}}
{{- if $used -}}
{{- fail (printf "%s: with upgrade.strategy NewClusterWithIncrementalUpgrade clients come in by the Gateway %s-gateway, which KubeRay makes, and there is no Service for this; leave it out" $what (include "serving.fullname" $)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Where a pod of the namespace reaches the API. HAProxy is on the head too, behind the Service for metrics. */}}
{{- define "serving.smokeUrl" -}}
{{- if eq (include "serving.upgradeStrategy" .) "NewClusterWithIncrementalUpgrade" -}}
http://{{ include "serving.fullname" . }}-metrics:8000
{{- else -}}
http://{{ include "serving.fullname" . }}:{{ .Values.service.port }}
{{- end -}}
{{- end }}

{{/*
Annotations of a pod. One that stays (an engine takes minutes to load; the head without Redis ends everything) keeps
autoscalers from its node; `kubectl drain` evicts it all the same. Nothing here may depend on numbers of replicas: another
annotation means a new cluster. Takes a dict of root, stays and annotations (the user's, which win).
*/}}
{{- define "serving.podAnnotations" -}}
{{- $ours := dict -}}
{{- if .stays -}}
{{- $ours = dict "karpenter.sh/do-not-disrupt" "true" "cluster-autoscaler.kubernetes.io/safe-to-evict" "false" -}}
{{- else if gt (int (include "serving.times" .root | fromYaml).grace) 600 -}}
{{- /* cluster-autoscaler kills a pod after 600 s unless told otherwise (--max-graceful-termination-sec). */ -}}
{{- $ours = dict "cluster-autoscaler.kubernetes.io/safe-to-evict" "false" -}}
{{- end -}}
{{- with merge (dict) .annotations $ours -}}
annotations: {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end }}

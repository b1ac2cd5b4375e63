{{/* The settings file and what follows from it. Every helper here gives YAML, to be read with fromYaml. */}}

{{/* The Secret with the teams file; empty where everybody is served. */}}
{{- define "serving.teamsSecret" -}}
{{- if and .Values.teams.existingSecret .Values.teams.file -}}
{{- fail "teams.file: teams.existingSecret names a teams file already; remove one of the two" -}}
{{- else if .Values.teams.existingSecret -}}
{{ .Values.teams.existingSecret }}
{{- else if .Values.teams.file -}}
{{ include "serving.fullname" . }}-teams
{{- else if not .Values.teams.open -}}
{{- fail "teams: nobody could use this; set teams.existingSecret or teams.file, or teams.open to true" -}}
{{- end -}}
{{- end }}

{{/* What the user's settings and the chart's own come to. */}}
{{- define "serving.settings.tree" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- range $key := list "host" "port" "ray_address" "cache_dir" -}}
{{- if hasKey $settings $key -}}
{{- fail (printf "settings.%s: remove it; the chart sets it, and clients are let in by service, ingress and httpRoute" $key) -}}
{{- end -}}
{{- end -}}
{{- if hasKey (dig "http" dict $settings | default dict) "longest_answer_s" -}}
{{- fail "settings.http.longest_answer_s: remove it and set longestAnswerSeconds, from which every other time-out follows too" -}}
{{- end -}}
{{- if hasKey (dig "redis" dict $settings | default dict) "url" -}}
{{- fail "settings.redis.url: remove it, it would show in a ConfigMap; set redis.mode and redis.passwordSecret" -}}
{{- end -}}
{{- range $key, $instead := dict "teams_file" "teams.existingSecret or teams.file" "open" "teams.open" "admin_key_file" "admin.existingSecret" "admin_key_hash" "admin.existingSecret" -}}
{{- if hasKey $settings $key -}}
{{- fail (printf "settings.%s: remove it and set %s" $key $instead) -}}
{{- end -}}
{{- end -}}
{{- if not $settings.models -}}
{{- if eq .Values.profile "cpu" -}}
{{- $_ := set $settings "models" (dict "demo" (dict "source" "demo" "aliases" (list "gpt-oss"))) -}}
{{- else -}}
{{- $_ := set $settings "models" (dict "gpt-oss-20b" (dict "source" "openai/gpt-oss-20b" "aliases" (list "gpt-oss"))) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $settings "http" (merge (dict "longest_answer_s" (int .Values.longestAnswerSeconds)) (dig "http" dict $settings | default dict)) -}}
{{- $_ := set $settings "host" "0.0.0.0" -}}
{{- $_ := set $settings "port" 8000 -}}
{{- /* What engines compile outlives their pods beside the checkpoints, unless nothing may be written there. */ -}}
{{- if or (not (has .Values.modelCache.kind (list "pvc" "existingClaim"))) (ne (join "," .Values.modelCache.accessModes) "ReadOnlyMany") -}}
{{- $_ := set $settings "cache_dir" "/models/serving" -}}
{{- end -}}
{{- if include "serving.teamsSecret" . -}}
{{- $_ := set $settings "teams_file" (printf "/etc/gpt-oss-serving-teams/%s" (ternary .Values.teams.key "teams.yaml" (empty .Values.teams.file))) -}}
{{- else -}}
{{- $_ := set $settings "open" true -}}
{{- end -}}
{{- if .Values.admin.existingSecret -}}
{{- $_ := set $settings "admin_key_file" (printf "/etc/gpt-oss-serving-admin/%s" .Values.admin.key) -}}
{{- end -}}
{{- if ne .Values.redis.mode "none" -}}
{{- range $store := list "limits" "usage" "responses" -}}
{{- $_ := set $settings $store (merge (dict) (get $settings $store | default dict) (dict "backend" "redis")) -}}
{{- end -}}
{{- end -}}
{{- if not (hasKey $settings "ingress_replicas") -}}
{{- $_ := set $settings "ingress_replicas" 2 -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end }}

{{/* Changes with everything in the settings but fixed numbers of replicas, which Serve changes without a restart. */}}
{{- define "serving.revision" -}}
{{- $settings := include "serving.settings.tree" . | fromYaml -}}
{{- $_ := unset $settings "ingress_replicas" -}}
{{- range $settings.models -}}
{{- $replicas := .replicas | default dict -}}
{{- $least := ternary (int $replicas.min) 1 (hasKey $replicas "min") -}}
{{- if eq $least (int ($replicas.max | default $least)) -}}
{{- $_ := unset . "replicas" -}}
{{- end -}}
{{- end -}}
{{- toYaml $settings | sha256sum | trunc 16 -}}
{{- end }}

{{/*
One entry a model, under `models`: name, group, deployment, devices (GPUs, or CPU devices, of a replica), gpus (of a
pod), podsPerReplica, least and most replicas, and the pod options in force.
*/}}
{{- define "serving.models" -}}
{{- $values := .Values -}}
{{- $models := list -}}
{{- $groups := dict -}}
{{- range $name, $model := (include "serving.settings.tree" . | fromYaml).models -}}
{{- $model = $model | default dict -}}
{{- $replicas := $model.replicas | default dict -}}
{{- $least := ternary (int $replicas.min) 1 (hasKey $replicas "min") -}}
{{- $most := int ($replicas.max | default $least) -}}
{{- $devices := mul (int ($model.tensor_parallel_size | default 1)) (int ($model.pipeline_parallel_size | default 1)) -}}
{{- $executor := $model.executor | default "auto" -}}
{{- if eq $executor "auto" -}}
{{- $executor = ternary "mp" "ray" (le (int $devices) 8) -}}
{{- end -}}
{{- $podsPerReplica := 1 -}}
{{- if gt (int $devices) (int $values.engineWorkers.gpusPerNode) -}}
{{- if eq $values.profile "cpu" -}}
{{- fail (printf "settings.models.%s: %d devices fit no single pod of %d, and without GPUs an engine cannot be spread; lower tensor_parallel_size" $name $devices (int $values.engineWorkers.gpusPerNode)) -}}
{{- end -}}
{{- if eq $executor "mp" -}}
{{- fail (printf "settings.models.%s: %d GPUs fit no node of engineWorkers.gpusPerNode %d; lower tensor_parallel_size or set executor: ray" $name $devices (int $values.engineWorkers.gpusPerNode)) -}}
{{- end -}}
{{- $podsPerReplica = div $devices (int $values.engineWorkers.gpusPerNode) -}}
{{- if ne (int $devices) (int (mul $podsPerReplica (int $values.engineWorkers.gpusPerNode))) -}}
{{- fail (printf "settings.models.%s: %d GPUs do not fill nodes of engineWorkers.gpusPerNode %d; use a multiple of it" $name $devices (int $values.engineWorkers.gpusPerNode)) -}}
{{- end -}}
{{- end -}}
{{- $group := include "serving.group" $name -}}
{{- if hasKey $groups $group -}}
{{- fail (printf "settings.models: %s and %s are both called %s in Kubernetes; rename one" (get $groups $group) $name $group) -}}
{{- end -}}
{{- $_ := set $groups $group $name -}}
{{- $override := get $values.engineWorkers.perModel $name | default dict -}}
{{- $options := merge (dict) (omit $values.engineWorkers "perModel") -}}
{{- range $key, $value := $override -}}
{{- $_ := set $options $key $value -}}
{{- end -}}
{{- $models = append $models (dict
  "name" $name "group" $group "deployment" (include "serving.deployment" $name) "source" ($model.source | default "demo")
  "revision" (dig "engine_args" "revision" "" $model) "devices" $devices "executor" $executor "podsPerReplica" $podsPerReplica
  "gpus" (ternary 0 (div $devices $podsPerReplica) (eq $values.profile "cpu")) "least" $least "most" $most
  "target" (int ($replicas.target_ongoing_requests | default 32)) "firstToken" ($replicas.target_first_token_s | default 2.5) "options" $options) -}}
{{- end -}}
{{- range $name := keys $values.engineWorkers.perModel -}}
{{- if not (has $name (values $groups)) -}}
{{- fail (printf "engineWorkers.perModel.%s: there is no model of this name in settings.models" $name) -}}
{{- end -}}
{{- end -}}
{{- toYaml (dict "models" $models) -}}
{{- end }}

{{/* Checkpoints to be fetched from the hub, under `sources`: neither the demo nor a path. */}}
{{- define "serving.sources" -}}
{{- $sources := list -}}
{{- range (include "serving.models" . | fromYaml).models -}}
{{- if and (ne .source "demo") (not (regexMatch "^[/.~]" .source)) -}}
{{- $sources = append $sources (ternary .source (printf "%s@%s" .source .revision) (empty .revision)) -}}
{{- end -}}
{{- end -}}
{{- toYaml (dict "sources" (uniq $sources)) -}}
{{- end }}

{{/*
Seconds, each longer than the one before, all from longestAnswerSeconds: an answer; HAProxy's patience with a silent
client, and with a connection of a configuration it has left; how long a pod that must go waits for its replicas; how
long Kubernetes waits for the pod; how long the operator keeps an old cluster.
*/}}
{{- define "serving.times" -}}
{{- $longest := int .Values.longestAnswerSeconds -}}
answer: {{ $longest }}
haproxy: {{ add $longest 60 }}
preStop: {{ add $longest 90 }}
grace: {{ add $longest 150 }}
deletionDelay: {{ add $longest 180 }}
{{- end }}

{{/* Names and labels. */}}

{{- define "serving.fullname" -}}
{{- $name := default (ternary .Release.Name (printf "%s-%s" .Release.Name .Values.nameOverride) (empty .Values.nameOverride)) .Values.fullnameOverride -}}
{{- if not (regexMatch "^[a-z]" $name) -}}
{{- fail (printf "fullnameOverride: KubeRay wants a name that begins with a letter, and %s does not; set one" $name) -}}
{{- end -}}
{{- /* Two long names that begin alike stay two. */ -}}
{{- if gt (len $name) 40 -}}
{{- $name = printf "%s-%s" ($name | trunc 33 | trimSuffix "-") ($name | sha256sum | trunc 6) -}}
{{- end -}}
{{- $name | trimSuffix "-" -}}
{{- end }}

{{- define "serving.labels" -}}
{{ include "serving.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of pods too: nothing here may change with a release of the chart, or Ray's cluster would be made anew. */}}
{{- define "serving.selector" -}}
app.kubernetes.io/name: gpt-oss-serving
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "serving.serviceAccount" -}}
{{- default (ternary (include "serving.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end }}

{{/* The image of engines. */}}
{{- define "serving.image" -}}
{{- if has "latest" (list .Values.image.tag .Values.image.cpu.tag) -}}
{{- fail "image.tag: latest means something else every day; name a version, or leave it empty for this chart's" -}}
{{- end -}}
{{- $repository := required (printf "image.repository: there is no published image; build one (docker build --file deploy/Dockerfile --target %s --tag REGISTRY/gpt-oss-serving:%s-%s .), push it, and name REGISTRY/gpt-oss-serving here" .Values.profile .Chart.AppVersion .Values.profile) .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ .Values.image.tag | default (printf "%s-%s" .Chart.AppVersion .Values.profile) }}
{{- end -}}
{{- end }}

{{/* The image of everything else: the CPU one where image.cpu names it, which is a third as large. */}}
{{- define "serving.plainImage" -}}
{{- $engines := include "serving.image" . -}}
{{- with .Values.image.cpu -}}
{{- if .digest -}}
{{ .repository | default $.Values.image.repository }}@{{ .digest }}
{{- else if or .repository .tag -}}
{{ .repository | default $.Values.image.repository }}:{{ .tag | default (printf "%s-cpu" $.Chart.AppVersion) }}
{{- else -}}
{{ $engines }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* What a model's worker group is called: a name that Kubernetes takes. */}}
{{- define "serving.group" -}}
{{- printf "engine-%s" (regexReplaceAll "[^a-z0-9]+" (lower .) "-") | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* The deployment that serves a model, as serving/cluster/names.py calls it. */}}
{{- define "serving.deployment" -}}
{{- printf "engine-%s" (regexReplaceAll "[^A-Za-z0-9._-]" . "-") -}}
{{- end }}

{{/*
Labels by which KubeRay's batch schedulers know what belongs together. KubeRay copies a RayService's labels to its cluster and
reads them there (rayservice_controller.go and batchscheduler/ of v1.7.0).
*/}}
{{- define "serving.gangLabels" -}}
{{- $scheduler := .Values.gangScheduling.scheduler -}}
{{- $queue := .Values.gangScheduling.queue -}}
{{- if and $queue (has $scheduler (list "" "scheduler-plugins")) -}}
{{- fail "gangScheduling.queue: name the scheduler that has it in gangScheduling.scheduler; scheduler-plugins has no queues" -}}
{{- end -}}
{{- if and (eq $scheduler "kai-scheduler") (not $queue) -}}
{{- fail "gangScheduling.queue: KubeRay places nothing by kai-scheduler without a queue; name one" -}}
{{- end -}}
{{- if has $scheduler (list "yunikorn" "scheduler-plugins") }}
ray.io/gang-scheduling-enabled: "true"
{{- end }}
{{- if eq $scheduler "yunikorn" }}
yunikorn.apache.org/app-id: {{ include "serving.fullname" . }}
{{- end }}
{{- with $queue }}
{{ get (dict "volcano" "volcano.sh/queue-name" "yunikorn" "yunikorn.apache.org/queue" "kai-scheduler" "kai.scheduler/queue") $scheduler }}: {{ . | quote }}
{{- end }}
{{- end }}

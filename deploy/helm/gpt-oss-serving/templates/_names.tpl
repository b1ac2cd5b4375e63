{{/* Names and labels. */}}

{{- define "serving.fullname" -}}
{{- default (ternary .Release.Name (printf "%s-%s" .Release.Name .Values.nameOverride) (empty .Values.nameOverride)) .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
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

{{- define "serving.image" -}}
{{- if eq .Values.image.tag "latest" -}}
{{- fail "image.tag: latest means something else every day; name a version, or leave it empty for this chart's" -}}
{{- end -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (printf "%s-%s" .Chart.AppVersion .Values.profile) }}
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

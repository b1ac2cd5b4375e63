{{/*
A rule's expression held to this release: rules of several releases in one Prometheus neither mix nor record twice. Series of
ours get namespace and release, those of Kubernetes the namespace and the names of our pods and claim. First selectors that
have braces, then those that have none. Takes a dict of root and expr.
*/}}
{{- define "serving.scoped" -}}
{{- $name := include "serving.fullname" .root -}}
{{- $namespace := printf "namespace=%q" .root.Release.Namespace -}}
{{- $expr := .expr -}}
{{- range $metrics, $scope := dict
  "(?:serving_|vllm:|process_|model:)[a-z0-9_:]+" (printf "%s, release=%q" $namespace .root.Release.Name)
  "kube_pod_[a-z_]+" (printf "%s, pod=~\"%s-.*\"" $namespace $name)
  "kubelet_volume_[a-z_]+" (printf "%s, persistentvolumeclaim=~\"%s-models.*\"" $namespace $name) -}}
{{- $expr = regexReplaceAll (printf "\\b(%s)\\{" $metrics) $expr (printf "${1}{%s, " $scope) -}}
{{- $expr = regexReplaceAll (printf "\\b(%s)([^a-z0-9_:{]|$)" $metrics) $expr (printf "${1}{%s}${2}" $scope) -}}
{{- end -}}
{{- $expr -}}
{{- end }}

{{/* Redis: yours or the trial one. */}}

{{- define "serving.redisAddress" -}}
{{- if eq .Values.redis.mode "existing" -}}
{{ required "redis.address: give host:port, or set redis.mode to none or trial" .Values.redis.address }}
{{- else if eq .Values.redis.mode "trial" -}}
{{ include "serving.fullname" . }}-redis:6379
{{- end -}}
{{- end }}

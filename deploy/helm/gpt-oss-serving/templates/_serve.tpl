{{/* serveConfigV2: what Serve runs. A change here is applied in place. */}}
{{- define "serving.serveConfig" -}}
{{- $settings := include "serving.settings.tree" . | fromYaml -}}
{{- $times := include "serving.times" . | fromYaml -}}
{{- $values := .Values -}}
proxy_location: EveryNode
http_options:
  host: 0.0.0.0
  port: 8000
applications:
- name: gpt-oss-serving
  route_prefix: /
  import_path: serving.cluster.application:application
  args:
    config: /etc/gpt-oss-serving/settings.yaml
    # The application waits until the file has this revision: a ConfigMap reaches pods up to a minute late.
    revision: {{ include "serving.revision" . | quote }}
  deployments:
  - name: ingress
    num_replicas: {{ $settings.ingress_replicas }}
    graceful_shutdown_timeout_s: {{ $times.answer }}
    # New ones start before old ones stop.
    max_surge_percent: 100
    ray_actor_options:
      num_cpus: 0.2
      label_selector: {gpt-oss-serving/ingress: "true"}
  {{- range (include "serving.models" . | fromYaml).models }}
  - name: {{ .deployment | quote }}
    {{- if eq (int .least) (int .most) }}
    # As the application says it; here, so that another number restarts nothing. Those between bounds it says alone: it
    # knows how many run, and Serve would begin anew with the fewest.
    autoscaling_config:
      min_replicas: 0
      initial_replicas: {{ .least }}
      max_replicas: {{ .least }}
      target_ongoing_requests: {{ .target }}
      upscale_delay_s: 0
      downscale_delay_s: 0
      policy:
        policy_function: serving.cluster.scaling:LifePolicy
        policy_kwargs: {model: {{ .name | quote }}}
    {{- end }}
    graceful_shutdown_timeout_s: {{ $times.answer }}
    max_surge_percent: {{ min 100 (div (mul 100 (int .options.sparePods)) (max 1 (int .most) | int)) }}
    {{- if eq $values.profile "cpu" }}
    max_replicas_per_node: 1
    ray_actor_options:
      num_cpus: 0.5
      label_selector: {gpt-oss-serving/engine: {{ .group }}}
    {{- else if eq .executor "ray" }}
    ray_actor_options: {num_cpus: 1, num_gpus: 0}
    placement_group_strategy: PACK
    placement_group_bundles:
    - {CPU: 1, GPU: 1}
    {{- range untilStep 1 (int .devices) 1 }}
    - {GPU: 1}
    {{- end }}
    placement_group_bundle_label_selector:
    {{- $group := .group }}
    {{- range until (int .devices) }}
    - {gpt-oss-serving/engine: {{ $group }}}
    {{- end }}
    {{- else }}
    ray_actor_options:
      num_cpus: 1
      num_gpus: {{ .devices }}
      label_selector: {gpt-oss-serving/engine: {{ .group }}}
    {{- end }}
  {{- end }}
{{- end }}

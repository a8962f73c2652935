{{- define "edge.name" -}}
{{- .Release.Name | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "edge.labels" -}}
{{ include "edge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "edge.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "edge.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* What every pod has; `.root` is the chart. */}}
{{- define "edge.pod" -}}
serviceAccountName: {{ include "edge.name" .root }}
automountServiceAccountToken: false
enableServiceLinks: false # variables of a Service `edge-…` would look like settings, and be refused
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{/* Where pods run; `.values` are those of `.role`, gateway or projector. */}}
{{- define "edge.placement" -}}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
affinity:
  {{- if .values.affinity }}
  {{- toYaml .values.affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "edge.selector" .root | nindent 14 }}
              app.kubernetes.io/component: {{ .role }}
  {{- end }}
{{- end -}}

{{- define "edge.container" -}}
image: {{ include "edge.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* A probe of this path. */}}
{{- define "edge.probe" -}}
httpGet: { path: {{ .path }}, port: http{{ if .root.Values.tls.listeners }}, scheme: HTTPS{{ end }} }
{{- end -}}

{{- define "edge.secretEnv" -}}
{{- range $name, $key := . }}
{{- if $key }}
- { name: {{ $name }}, value: /run/secrets/edge/{{ $key }} }
{{- end }}
{{- end }}
{{- end -}}

{{- define "edge.mounts" -}}
- name: config
  mountPath: /etc/edge/edge.toml
  subPath: edge.toml
  readOnly: true
- name: secrets
  mountPath: /run/secrets/edge
  readOnly: true
{{- if or .Values.tls.secret .Values.tls.configMap }}
- name: tls
  mountPath: /etc/edge/tls
  readOnly: true
{{- end }}
- name: tmp
  mountPath: /tmp
{{- end -}}

{{/* `.keys` are those of the Secret that this pod needs, and no others. */}}
{{- define "edge.volumes" -}}
- name: config
  configMap:
    name: {{ include "edge.name" .root }}
- name: secrets
  secret:
    secretName: {{ required "secrets.name: the Secret with DSNs and passwords" .root.Values.secrets.name }}
    defaultMode: 0440
    items:
      {{- range .keys }}
      {{- if . }}
      - { key: {{ . }}, path: {{ . }} }
      {{- end }}
      {{- end }}
{{- if or .root.Values.tls.secret .root.Values.tls.configMap }}
- name: tls
  projected:
    defaultMode: 0440
    sources:
      {{- with .root.Values.tls.secret }}
      - secret: { name: {{ . }} }
      {{- end }}
      {{- with .root.Values.tls.configMap }}
      - configMap: { name: {{ . }} }
      {{- end }}
{{- end }}
- name: tmp
  emptyDir: {}
{{- end -}}

{{- define "gancho.labels" -}}
app.kubernetes.io/name: gancho
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gancho.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- /* The pod of a part: (dict "root" $ "part" "bridge" "args" list "resources" dict) */ -}}
{{- define "gancho.pod" -}}
metadata:
  labels:
    {{- include "gancho.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .part }}
  annotations:
    # Another configuration is another pod: rules could be reloaded, but not by a change of a map.
    checksum/config: {{ list .root.Values.config .root.Values.rules | toJson | sha256sum }}
spec:
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 60
  securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "gancho.labels" .root | nindent 10 }}
          app.kubernetes.io/component: {{ .part }}
  containers:
    - name: gancho
      image: "{{ .root.Values.image.repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}"
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: {{ toJson .args }}
      env:
        - {name: CREDENTIALS_DIRECTORY, value: /run/gancho/secrets}
      ports:
        - {name: http, containerPort: 8620}
        {{- if .root.Values.console.enabled }}
        - {name: console, containerPort: 8630}
        {{- end }}
      # Alive while the process answers: a restart does not help a source that is down. Ready is for who watches, and for
      # no traffic: a bridge that is not ready still delivers.
      {{- $scheme := ternary "HTTPS" "HTTP" (not (empty .root.Values.tlsSecret)) }}
      livenessProbe: {httpGet: {path: /healthz, port: http, scheme: {{ $scheme }}}, periodSeconds: 15, timeoutSeconds: 5, failureThreshold: 4}
      startupProbe: {httpGet: {path: /healthz, port: http, scheme: {{ $scheme }}}, periodSeconds: 2, failureThreshold: 30}
      readinessProbe: {httpGet: {path: /readyz, port: http, scheme: {{ $scheme }}}, periodSeconds: 15, timeoutSeconds: 6}
      resources: {{ toJson .resources }}
      securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
      volumeMounts:
        - {name: config, mountPath: /etc/gancho, readOnly: true}
        - {name: secrets, mountPath: /run/gancho/secrets, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        {{- if .root.Values.tlsSecret }}
        - {name: tls, mountPath: /run/gancho/tls, readOnly: true}
        {{- end }}
  volumes:
    # One volume: there is no mounting into one that is read only.
    - name: config
      projected:
        sources:
          - configMap: {name: {{ include "gancho.name" .root | quote }} }
          {{- if .root.Values.rules }}
          - configMap:
              name: "{{ include "gancho.name" .root }}-rules"
              items:
                {{- range $file, $_ := .root.Values.rules }}
                - {key: {{ $file | quote }}, path: "rules/{{ $file }}"}
                {{- end }}
          {{- end }}
    - name: secrets
      secret: {secretName: {{ .root.Values.existingSecret | quote }}, defaultMode: 0440}
    {{- with .root.Values.tlsSecret }}
    - name: tls
      secret: {secretName: {{ . | quote }}, defaultMode: 0440}
    {{- end }}
    - name: tmp
      emptyDir: {sizeLimit: {{ .root.Values.spill | quote }} }
{{- end }}

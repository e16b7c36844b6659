{{- /* The arguments of the operator. */}}
{{- define "servicekey-operator.args" -}}
- run
- --cluster-resource-namespace=$(POD_NAMESPACE)
{{- if .Values.namespaces }}
{{- /* Its own namespace is a variable, so that an overlay can move the manifests to another namespace. */}}
{{- $own := .Values.namespaces | has .Release.Namespace | ternary (list "$(POD_NAMESPACE)") list }}
- --namespaces={{ concat $own (without .Values.namespaces .Release.Namespace) | join "," }}
{{- end }}
- --concurrency={{ .Values.operator.concurrency }}
- --check-interval={{ .Values.operator.checkInterval }}
- --http-addr=0.0.0.0:{{ .Values.http.port }}
{{- with .Values.operator.allowCidrs }}
- --allow-cidr={{ join "," . }}
{{- end }}
{{- with .Values.operator.allowHttpsCidrs }}
- --allow-https-cidr={{ join "," . }}
{{- end }}
{{- with .Values.operator.denyCidrs }}
- --deny-cidr={{ join "," . }}
{{- end }}
{{- if .Values.operator.denyPrivateForKeyProviders }}
- --deny-private-for-key-providers
{{- end }}
{{- with .Values.operator.discloseCidrs }}
- --disclose-cidr={{ join "," . }}
{{- end }}
{{- with .Values.operator.verifyCidrs }}
- --verify-cidr={{ join "," . }}
{{- end }}
{{- with .Values.secrets }}
{{- with .types.allowed }}
- --secret-types={{ join "," . }}
{{- end }}
- --denied-secret-types={{ join "," .types.denied }}
{{- with .metadata.allowed }}
- --secret-metadata={{ join "," . }}
{{- end }}
- --denied-secret-metadata={{ join "," .metadata.denied }}
{{- end }}
{{- if .Values.ibmCloud.trustedProfiles.enabled }}
- --service-account-token=/var/run/secrets/tokens/sa-token
{{- with .Values.ibmCloud.trustedProfiles.hosts }}
- --ibm-cloud-host={{ join "," . }}
{{- end }}
{{- end }}
{{- if .Values.leaderElection.enabled }}
- --leader-elect
- --lease-duration={{ .Values.leaderElection.leaseDuration }}
{{- end }}
{{- with .Values.log.format }}
- --log-format={{ . }}
{{- end }}
{{- with .Values.log.level }}
- {{ printf "--log-level=%s" . | quote }}
{{- end }}
{{- with .Values.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "servicekey-operator.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
# For `servicekey-operator log-level`. Do not mount this volume into another container.
- name: CONTROL_SOCKET
  value: /run/servicekey-operator/control.sock
{{- if .Values.trustedCA.configMap }}
# The authorities of the image and those of the ConfigMap.
- name: SSL_CERT_DIR
  value: /etc/ssl/certs:/etc/servicekey-operator/trusted-ca
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "servicekey-operator.volumeMounts" -}}
- name: control
  mountPath: /run/servicekey-operator
{{- if .Values.trustedCA.configMap }}
- name: trusted-ca
  mountPath: /etc/servicekey-operator/trusted-ca
  readOnly: true
{{- end }}
{{- if .Values.ibmCloud.trustedProfiles.enabled }}
- name: trusted-profile-token
  mountPath: /var/run/secrets/tokens
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "servicekey-operator.volumes" -}}
- name: control
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- with .Values.trustedCA }}
{{- if .configMap }}
- name: trusted-ca
  configMap:
    name: {{ .configMap }}
    {{- with .key }}
    items:
      - {key: {{ quote . }}, path: {{ quote . }}}
    {{- end }}
{{- end }}
{{- end }}
{{- with .Values.ibmCloud.trustedProfiles }}
{{- if .enabled }}
- name: trusted-profile-token
  projected:
    sources:
      - serviceAccountToken:
          path: sa-token
          audience: {{ .audience }}
          expirationSeconds: {{ .expirationSeconds }}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

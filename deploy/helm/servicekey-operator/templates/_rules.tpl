{{- /* What the operator does in each namespace that it serves, be it some or all. */}}
{{- define "servicekey-operator.namespaceRules" -}}
# `patch` is for finalizers, here and for the Secrets that hold logins.
- apiGroups: [servicekeys.dev]
  resources: [servicekeys, keyproviders]
  verbs: [list, watch, patch]
- apiGroups: [servicekeys.dev]
  resources: [servicekeys/status, keyproviders/status]
  verbs: [update]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, update, patch, delete]
# For the policies: it may write its marks on Secrets, and, as the operator, is held to its own Secrets.
- apiGroups: [servicekeys.dev]
  resources: [secrets]
  verbs: [mark, operate]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- /* What it does besides where it serves the whole cluster. */}}
{{- define "servicekey-operator.clusterRules" -}}
- apiGroups: [servicekeys.dev]
  resources: [clusterkeyproviders]
  verbs: [list, watch, patch]
- apiGroups: [servicekeys.dev]
  resources: [clusterkeyproviders/status]
  verbs: [update]
# Their labels say which ClusterKeyProviders admit them.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
{{- end }}

{{- /* Whom the roles are bound to. */}}
{{- define "servicekey-operator.subjects" -}}
- kind: ServiceAccount
  name: {{ include "servicekey-operator.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- /* The operator's rules in each namespace that it serves. */}}
{{- define "servicekey-operator.namespaceRules" -}}
# `patch` is for finalizers, also those on Secrets with logins.
- apiGroups: [servicekeys.dev]
  resources: [servicekeys, keyproviders]
  verbs: [list, watch, patch]
- apiGroups: [servicekeys.dev]
  resources: [servicekeys/status, keyproviders/status]
  verbs: [update]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, update, patch, delete]
# The admission policies check these rights. `mark` allows the operator to write its marks on Secrets. `operate` identifies
# the operator, and limits its writes to its own Secrets.
- apiGroups: [servicekeys.dev]
  resources: [secrets]
  verbs: [mark, operate]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- /* Further rules of an operator that serves the whole cluster. */}}
{{- define "servicekey-operator.clusterRules" -}}
- apiGroups: [servicekeys.dev]
  resources: [clusterkeyproviders]
  verbs: [list, watch, patch]
- apiGroups: [servicekeys.dev]
  resources: [clusterkeyproviders/status]
  verbs: [update]
# ClusterKeyProviders may select their allowed namespaces by label.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
{{- end }}

{{- /* The subjects of the bindings. */}}
{{- define "servicekey-operator.subjects" -}}
- kind: ServiceAccount
  name: {{ include "servicekey-operator.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

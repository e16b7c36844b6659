{{- /* A CEL list of the Secrets that a provider references. The argument is the object: `object` or `oldObject`. A test
       compares the list with every `secretRef` in the definitions. */}}
{{- define "servicekey-operator.providerSecrets" -}}
[
  ?{{ . }}.spec.?openServiceBroker.?auth.?basic.?secretRef.?name,
  ?{{ . }}.spec.?openServiceBroker.?auth.?bearer.?secretRef.?name,
  ?{{ . }}.spec.?openServiceBroker.?auth.?clientCredentials.?secretRef.?name,
  ?{{ . }}.spec.?cloudFoundry.?auth.?password.?secretRef.?name,
  ?{{ . }}.spec.?cloudFoundry.?auth.?clientCredentials.?secretRef.?name,
  ?{{ . }}.spec.?cloudFoundry.?auth.?bearer.?secretRef.?name,
  ?{{ . }}.spec.?ibmCloud.?auth.?apiKey.?secretRef.?name,
  ?{{ . }}.spec.?tls.?clientCertificate.?secretRef.?name,
]
{{- end }}

{{- /* A CEL list of the Secrets whose entries a ServiceKey sends to its provider. */}}
{{- define "servicekey-operator.parameterSecrets" -}}
{{ . }}.spec.?parametersFrom.orValue([]).map(source, source.secretKeyRef.name)
{{- end }}

{{- /* Whether a provider is new, or the address, the login or the trusted authorities of its remote side changed. It
       compares whole blocks, so that it also covers fields of later versions. */}}
{{- define "servicekey-operator.remoteSideChanged" -}}
request.operation == 'CREATE'
|| object.spec.?openServiceBroker != oldObject.spec.?openServiceBroker
|| object.spec.?cloudFoundry != oldObject.spec.?cloudFoundry
|| object.spec.?ibmCloud != oldObject.spec.?ibmCloud
|| object.spec.?tls != oldObject.spec.?tls
{{- end }}

{{- /* A validation that the user may `get` the Secret at this position of a list of names, if the list is that long. */}}
{{- define "servicekey-operator.mayGet" -}}
- expression: |-
    size({{ .names }}) <= {{ .place }}
    || authorizer.group('').resource('secrets').namespace({{ .namespace }}).name({{ .names }}[{{ .place }}]).check('get').allowed()
  reason: Forbidden
  message: a user can only reference Secrets that the user may read
  messageExpression: |-
    'user `' + request.userInfo.username + '` needs the right `get` on the Secret `' + {{ .names }}[{{ .place }}]
    + '` in the namespace `' + {{ .namespace }}
    + '`: {{ .what }} it, and the operator sends its entries to the remote side'
{{- end }}

{{- /* CEL: whether two maps have equal entries, except for one key. The arguments are the maps and the key. */}}
{{- define "servicekey-operator.equalExcept" -}}
dyn({{ .now }}).all(key, key in [{{ range $place, $key := .except }}{{ if $place }}, {{ end }}'{{ $key }}'{{ end }}] || (key in dyn({{ .before }}) && dyn({{ .now }})[key] == dyn({{ .before }})[key]))
&& dyn({{ .before }}).all(key, key in [{{ range $place, $key := .except }}{{ if $place }}, {{ end }}'{{ $key }}'{{ end }}] || key in dyn({{ .now }}))
{{- end }}

{{- /* CEL: the annotations of a pod template that are not the operator's. */}}
{{- define "servicekey-operator.foreignAnnotations" -}}
{{ . }}.spec.template.metadata.?annotations.orValue({}).filter(key, !key.startsWith('restart.servicekeys.dev/'))
{{- end }}

{{- /* The binding of a policy, with the action of its chart value. */}}
{{- define "servicekey-operator.policyBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels:
    {{- include "servicekey-operator.labels" .root | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: {{ eq .action "Warn" | ternary "[Warn, Audit]" "[Deny]" }}
{{- end }}

{{- /* The head of a policy. */}}
{{- define "servicekey-operator.policyHead" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ .name }}
  labels:
    {{- include "servicekey-operator.labels" .root | nindent 4 }}
{{- end }}

{{- /* The chart value of a policy. YAML reads an unquoted `Off` as `false`. */}}
{{- define "servicekey-operator.policyAction" -}}
{{- eq (toString .) "false" | ternary "Off" (toString .) }}
{{- end }}

{{- /* A CEL list of strings. */}}
{{- define "servicekey-operator.celStrings" -}}
[{{ range $place, $text := . }}{{ if $place }}, {{ end }}'{{ $text }}'{{ end }}]
{{- end }}

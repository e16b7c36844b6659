{{- /* The Secrets that a provider names, as a list in CEL. The argument is the object: `object` or `oldObject`. A test
       compares it with every `secretRef` in the definitions. */}}
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

{{- /* The Secrets that a ServiceKey sends to its provider, as a list in CEL. */}}
{{- define "servicekey-operator.parameterSecrets" -}}
{{ . }}.spec.?parametersFrom.orValue([]).map(source, source.secretKeyRef.name)
{{- end }}

{{- /* Whether the remote side of a provider is new or another one: its addresses, its login, or the authorities that
       vouch for it. In whole blocks, so that a field that a later version adds is not forgotten. */}}
{{- define "servicekey-operator.remoteSideChanged" -}}
request.operation == 'CREATE'
|| object.spec.?openServiceBroker != oldObject.spec.?openServiceBroker
|| object.spec.?cloudFoundry != oldObject.spec.?cloudFoundry
|| object.spec.?ibmCloud != oldObject.spec.?ibmCloud
|| object.spec.?tls != oldObject.spec.?tls
{{- end }}

{{- /* One validation: the item at this place of a list of names, if there is one, is a Secret that the user may `get`. */}}
{{- define "servicekey-operator.mayGet" -}}
- expression: |-
    size({{ .names }}) <= {{ .place }}
    || authorizer.group('').resource('secrets').namespace({{ .namespace }}).name({{ .names }}[{{ .place }}]).check('get').allowed()
  reason: Forbidden
  message: a Secret can only be named by users who may read it
  messageExpression: |-
    'user `' + request.userInfo.username + '` needs the right `get` on the Secret `' + {{ .names }}[{{ .place }}]
    + '` in the namespace `' + {{ .namespace }}
    + '`: {{ .what }} it, and the operator sends its entries to the remote side'
{{- end }}

{{- /* The binding of a policy, with the action that a value names. */}}
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

{{- /* What a policy begins with. */}}
{{- define "servicekey-operator.policyHead" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ .name }}
  labels:
    {{- include "servicekey-operator.labels" .root | nindent 4 }}
{{- end }}

{{- /* The value of a policy. Without quotes, `Off` is `false` in YAML. */}}
{{- define "servicekey-operator.policyAction" -}}
{{- eq (toString .) "false" | ternary "Off" (toString .) }}
{{- end }}

{{- /* A list of texts in CEL. */}}
{{- define "servicekey-operator.celStrings" -}}
[{{ range $place, $text := . }}{{ if $place }}, {{ end }}'{{ $text }}'{{ end }}]
{{- end }}

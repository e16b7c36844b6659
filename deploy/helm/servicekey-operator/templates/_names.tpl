{{- define "servicekey-operator.chartName" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* The name of all objects. If the release has the name of the chart, that name is not repeated. */}}
{{- define "servicekey-operator.name" -}}
{{- $chart := include "servicekey-operator.chartName" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $chart .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $chart | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "servicekey-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "servicekey-operator.name" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "`serviceAccount.create: false` needs `serviceAccount.name`, that of one which is there" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* The labels that select the operator's pods. They never change during the life of a release. */}}
{{- define "servicekey-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "servicekey-operator.chartName" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "servicekey-operator.labels" -}}
{{ include "servicekey-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "servicekey-operator.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

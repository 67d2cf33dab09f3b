{{- define "finetune.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "finetune.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (ternary (include "finetune.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "finetune.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* The pod of `helm test`, which no selector of the operator's pod may match. */}}
{{- define "finetune.testLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end }}

{{- define "finetune.labels" -}}
{{ include "finetune.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* An image by digest, by tag, or by the chart's appVersion: (list IMAGE CHART). */}}
{{- define "finetune.image" -}}
{{- $image := index . 0 -}}
{{ $image.repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default (index . 1).AppVersion }}{{ end }}
{{- end }}

{{- /* A map as the operator's settings have it: NAME=VALUE,… */}}
{{- define "finetune.pairs" -}}
{{- $pairs := list -}}
{{- range $name, $value := . -}}{{- $pairs = append $pairs (printf "%s=%s" $name $value) -}}{{- end -}}
{{ join "," $pairs }}
{{- end }}

{{- /* What the operator may do, in every namespace it watches. cluster.py's RESOURCES is its other half. */}}
{{- define "finetune.rules" -}}
- apiGroups: [finetune.dev]
  resources: [finetunejobs]
  verbs: [get, list, watch]
- apiGroups: [finetune.dev]
  resources: [engines]
  verbs: [get, list, watch]
- apiGroups: [finetune.dev]
  resources: [finetunejobs/status, engines/status]
  verbs: [patch]
# An Engine falls asleep, and is woken (spec.idleAfter).
- apiGroups: [finetune.dev]
  resources: [engines/scale]
  verbs: [patch]
# Where the cluster checks owner references that block deletion (OpenShift does), setting one asks for this right.
- apiGroups: [finetune.dev]
  resources: [finetunejobs/finalizers, engines/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [services, persistentvolumeclaims, configmaps]
  verbs: [get, list, watch, create, patch, delete]
# Who may reach an Engine's pods.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch]
# An annotation of an Engine's pods says which adapters they should have.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
- apiGroups: [""]
  resources: [events]
  verbs: [list, watch, create]
# What a queued Job waits for, where there is Kueue.
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [list, watch]
{{- end }}

{{- /* The API server, a component of its own: no selector of the operator's pod may match. */}}
{{- define "finetune.apiSelector" -}}
app.kubernetes.io/name: finetune-api
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "finetune.apiLabels" -}}
{{ include "finetune.apiSelector" . }}
app.kubernetes.io/component: api
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* All that the API server may do, in every namespace that the operator watches; its cluster.py has the other half. */}}
{{- define "finetune.apiRules" -}}
- apiGroups: [finetune.dev]
  resources: [finetunejobs]
  verbs: [get, list, create, patch]
# What Engines serve is asked here, too, and one that sleeps is woken.
- apiGroups: [finetune.dev]
  resources: [engines]
  verbs: [get, list]
- apiGroups: [finetune.dev]
  resources: [engines/scale]
  verbs: [patch]
{{- end }}

{{- /* The security settings of the operator's own pods: the `restricted` Pod Security Standard. */}}
{{- define "finetune.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "finetune.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

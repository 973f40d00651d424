{{/* Name of the namespaced objects of this release. */}}
{{- define "flambeau.fullname" -}}
{{- if contains "flambeau" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-flambeau" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "flambeau.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "flambeau.fullname" .) -}}
{{- end -}}

{{/* The user that the API server takes the operator for. */}}
{{- define "flambeau.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "flambeau.serviceAccountName" . }}
{{- end -}}

{{/* What selects the pods of this release, and never changes. */}}
{{- define "flambeau.selectorLabels" -}}
app.kubernetes.io/name: flambeau
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "flambeau.commonLabels" -}}
app.kubernetes.io/name: flambeau
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: flambeau
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Labels of everything that belongs to the operator itself. */}}
{{- define "flambeau.labels" -}}
{{ include "flambeau.commonLabels" . }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "flambeau.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Restricted Pod Security: https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted */}}
{{- define "flambeau.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "flambeau.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "flambeau.lease" -}}
flambeau-operator
{{- end -}}

{{/*
One hub has one Flambeau: two would lead side by side, each with a Lease of its own. ClusterRoles have one name in the
whole cluster, so Helm refuses a second release anyway; this says it in plain words. Without a cluster, as in
`helm template`, nothing is found.
*/}}
{{- define "flambeau.onlyOne" -}}
{{- $other := lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" "flambeau-operator" -}}
{{- if $other -}}
{{- $annotations := ($other.metadata).annotations | default dict -}}
{{- $name := index $annotations "meta.helm.sh/release-name" | default "" -}}
{{- $namespace := index $annotations "meta.helm.sh/release-namespace" | default "" -}}
{{- if and $name (or (ne $name .Release.Name) (ne $namespace .Release.Namespace)) -}}
{{- fail (printf "\n\nFlambeau is installed in this cluster already: release %s in namespace %s. A hub has one Flambeau. Upgrade that release, or uninstall it first: helm uninstall %s --namespace %s" $name $namespace $name $namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}

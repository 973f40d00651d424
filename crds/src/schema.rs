//! Schema pieces that the derive macros cannot say.

use schemars::{Schema, SchemaGenerator, json_schema};

/// `conditions`: a list map keyed by `type`, as the API conventions ask.
pub fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let condition =
        generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>();
    json_schema!({
        "type": "array",
        "description": "Conditions of the object, by the Kubernetes API conventions; Reconciling and Stalled follow kstatus.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": condition,
    })
}

/// `resources`: Kubernetes objects of any namespaced kind.
pub fn resources(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "description": "The Kubernetes objects that make up the application, of any namespaced kind that the member serves. They are created in the namespace of the GamesApplication, with server-side apply.",
        "minItems": 1,
        "maxItems": 128,
        "items": resource(),
    })
}

/// `metadata.name` and `metadata.namespace` are declared, so that CEL can
/// speak of them; the rest is kept as it is.
fn resource() -> Schema {
    json_schema!({
        "type": "object",
        "description": "A Kubernetes object of a namespaced kind, without metadata.namespace: it is created in the namespace of the application.",
        "x-kubernetes-preserve-unknown-fields": true,
        "required": ["apiVersion", "kind", "metadata"],
        "properties": {
            "apiVersion": { "type": "string", "minLength": 1, "maxLength": 317 },
            "kind": { "type": "string", "minLength": 1, "maxLength": 63 },
            "metadata": {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": true,
                "required": ["name"],
                "properties": {
                    "name": {
                        "type": "string", "minLength": 1, "maxLength": 253,
                    },
                    "namespace": { "type": "string", "maxLength": 63 },
                },
            },
        },
        "x-kubernetes-validations": [
            {
                "rule": "!has(self.metadata.namespace)",
                "message": "remove metadata.namespace: resources are created in the application's own namespace",
                "fieldPath": ".metadata.namespace",
            },
            {
                "rule": "!format.dns1123Subdomain().validate(self.metadata.name).hasValue()",
                "message": "metadata.name must be a lowercase DNS subdomain (letters a-z, digits, '-' and '.')",
                "fieldPath": ".metadata.name",
            },
            {
                "rule": "!(self.kind in ['Namespace', 'Node', 'PersistentVolume', 'ClusterRole', 'ClusterRoleBinding', 'CustomResourceDefinition', 'StorageClass', 'PriorityClass', 'IngressClass', 'RuntimeClass', 'APIService', 'CSIDriver', 'CSINode', 'VolumeAttachment', 'CertificateSigningRequest', 'ValidatingWebhookConfiguration', 'MutatingWebhookConfiguration', 'ValidatingAdmissionPolicy', 'ValidatingAdmissionPolicyBinding', 'MutatingAdmissionPolicy', 'MutatingAdmissionPolicyBinding', 'GatewayClass', 'ClusterIssuer'])",
                "message": "kind is of cluster scope: an application holds namespaced kinds only; let the platform team install it on the members",
                "fieldPath": ".kind",
            },
            {
                "rule": "!self.kind.endsWith('List')",
                "message": "kind is a list: put each of its items into resources",
                "fieldPath": ".kind",
            },
            {
                "rule": "!self.apiVersion.startsWith('flambeau.dev/')",
                "message": "Flambeau's own kinds live on the hub and cannot be part of an application",
                "fieldPath": ".apiVersion",
            },
        ],
    })
}

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

/// The name of an object that another field points at.
///
/// A name that no object can have would refuse nothing, or wait for ever,
/// without a word: it is refused here.
pub fn object_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 253,
        "x-kubernetes-validations": [{
            "rule": "!format.dns1123Subdomain().validate(self).hasValue()",
            "message": "must be the metadata.name of an object: lowercase letters a-z, digits, '-' and '.', such as paris-1",
        }],
    })
}

/// The name of an object that is used as a DNS label: a namespace, a Service.
pub fn label_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 63,
        "x-kubernetes-validations": [{
            "rule": "!format.dns1123Label().validate(self).hasValue()",
            "message": "must be a DNS label: lowercase letters a-z, digits and '-', such as paris-1",
        }],
    })
}

/// [`object_name`], for a field that may be absent.
pub fn optional_object_name(generator: &mut SchemaGenerator) -> Schema {
    object_name(generator)
}

/// At most `MAX` DNS labels, each once, in no order.
pub fn label_names<const MAX: usize>(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX,
        "x-kubernetes-list-type": "set",
        "items": label_name(generator),
    })
}

/// At most `MAX` resources of the API, each once, in no order: in the plural,
/// with their group.
pub fn resource_names<const MAX: usize>(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "minLength": 1,
            "maxLength": 253,
            "x-kubernetes-validations": [
                {
                    "rule": "!format.dns1123Subdomain().validate(self).hasValue()",
                    "message": "must be a resource as `kubectl api-resources` prints it, in the plural and with its group, such as services or deployments.apps",
                },
            ],
        },
    })
}

/// At most `MAX` names of objects, each once, in no order.
pub fn object_names<const MAX: usize>(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX,
        "x-kubernetes-list-type": "set",
        "items": object_name(generator),
    })
}

/// At most `MAX` names of objects, the first one first.
///
/// Atomic rather than a set: two field managers must not interleave an order.
pub fn ordered_object_names<const MAX: usize>(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX,
        "x-kubernetes-list-type": "atomic",
        "items": object_name(generator),
        "x-kubernetes-validations": [{
            "rule": "self.all(name, self.exists_one(other, other == name))",
            "message": "names the same object twice: remove one of the two",
        }],
    })
}

/// A Kubernetes quantity that is not negative.
pub fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 32,
        "x-kubernetes-validations": [{
            "rule": "isQuantity(self) && quantity(self).compareTo(quantity('0')) >= 0",
            "message": "must be a Kubernetes quantity that is not negative, such as 64, 500m or 256Gi",
        }],
    })
}

/// A host name, precise or with a wildcard as its first label.
pub fn hostname(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 253,
        "x-kubernetes-validations": [
            {
                "rule": "!format.dns1123Subdomain().validate(self.startsWith('*.') ? self.substring(2) : self).hasValue() && self.split('.').all(label, label.size() <= 63)",
                "message": "must be a host name in lower case without scheme, port or path, such as tickets.example.org or *.example.org, each label at most 63 characters",
            },
            {
                "rule": "!isIP(self)",
                "message": "is an IP address: the edge tells applications apart by host name",
            },
        ],
    })
}

/// `resources`: Kubernetes objects of any namespaced kind.
pub fn resources(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 128,
        "x-kubernetes-list-type": "atomic",
        "items": resource(),
        "x-kubernetes-validations": [{
            "rule": "self.all(one, !has(one.metadata) || !has(one.metadata.name) || self.exists_one(other, other.kind == one.kind && other.apiVersion == one.apiVersion && has(other.metadata) && has(other.metadata.name) && other.metadata.name == one.metadata.name))",
            "message": "the same object (apiVersion, kind and metadata.name) stands here twice: remove one of the two",
        }],
    })
}

/// Kinds of cluster scope, by the group that their apiVersion starts with:
/// those of Kubernetes itself and of two neighbours that are often installed.
/// Kinds of the same name in other groups may well be namespaced. Every other
/// kind is looked up on the member.
const CLUSTER_SCOPED: [(&str, &[&str]); 17] = [
    (
        "v1",
        &["ComponentStatus", "Namespace", "Node", "PersistentVolume"],
    ),
    (
        "admissionregistration.k8s.io/",
        &[
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
    ),
    ("apiextensions.k8s.io/", &["CustomResourceDefinition"]),
    ("apiregistration.k8s.io/", &["APIService"]),
    (
        "authentication.k8s.io/",
        &["SelfSubjectReview", "TokenReview"],
    ),
    (
        "authorization.k8s.io/",
        &[
            "SelfSubjectAccessReview",
            "SelfSubjectRulesReview",
            "SubjectAccessReview",
        ],
    ),
    ("cert-manager.io/", &["ClusterIssuer"]),
    (
        "certificates.k8s.io/",
        &["CertificateSigningRequest", "ClusterTrustBundle"],
    ),
    (
        "flowcontrol.apiserver.k8s.io/",
        &["FlowSchema", "PriorityLevelConfiguration"],
    ),
    ("gateway.networking.k8s.io/", &["GatewayClass"]),
    (
        "networking.k8s.io/",
        &["IPAddress", "IngressClass", "ServiceCIDR"],
    ),
    ("node.k8s.io/", &["RuntimeClass"]),
    (
        "rbac.authorization.k8s.io/",
        &["ClusterRole", "ClusterRoleBinding"],
    ),
    (
        "resource.k8s.io/",
        &["DeviceClass", "DeviceTaintRule", "ResourceSlice"],
    ),
    ("scheduling.k8s.io/", &["PriorityClass"]),
    (
        "storage.k8s.io/",
        &[
            "CSIDriver",
            "CSINode",
            "StorageClass",
            "VolumeAttachment",
            "VolumeAttributesClass",
        ],
    ),
    ("storagemigration.k8s.io/", &["StorageVersionMigration"]),
];

fn cluster_scoped_rule() -> String {
    let kinds = CLUSTER_SCOPED.map(|(version, kinds)| {
        let group = match version.strip_suffix('/') {
            Some(_) => format!("self.apiVersion.startsWith('{version}')"),
            None => format!("self.apiVersion == '{version}'"),
        };
        format!("({group} && self.kind in ['{}'])", kinds.join("', '"))
    });
    format!("!({})", kinds.join(" || "))
}

/// `name`, `namespace` and `ownerReferences` of the metadata are declared, so
/// that CEL can speak of them; the rest is kept as it is. That they are there is asked for
/// by a rule and not by `required`, whose refusal would hide the remedy for
/// lists, which have no name.
fn resource() -> Schema {
    json_schema!({
        "type": "object",
        "description": "A Kubernetes object of a namespaced kind, without metadata.namespace: it is created in the namespace of the application.",
        "x-kubernetes-preserve-unknown-fields": true,
        "required": ["apiVersion", "kind"],
        "properties": {
            "apiVersion": {
                "type": "string", "minLength": 1, "maxLength": 317,
                "description": "Group and version of the kind, such as apps/v1.",
            },
            "kind": {
                "type": "string", "minLength": 1, "maxLength": 63,
                "description": "Kind, such as Deployment.",
            },
            "metadata": {
                "type": "object",
                "description": "Metadata of the object: name, and labels and annotations as needed.",
                "x-kubernetes-preserve-unknown-fields": true,
                "properties": {
                    "name": {
                        "type": "string", "minLength": 1, "maxLength": 253,
                        "description": "Name of the object.",
                    },
                    "namespace": {
                        "type": "string", "maxLength": 63,
                        "description": "Must be absent: the namespace is the application's own.",
                    },
                    "ownerReferences": {
                        "type": "array", "maxItems": 16,
                        "description": "Must be absent: the UID of an owner means nothing on another cluster.",
                        "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                    },
                },
            },
        },
        "x-kubernetes-validations": [
            {
                "rule": "self.kind != 'List' && (!self.kind.endsWith('List') || (has(self.metadata) && has(self.metadata.name)))",
                "message": "is a list: put each of its items into resources",
                "fieldPath": ".kind",
            },
            {
                "rule": "self.kind.endsWith('List') || (has(self.metadata) && has(self.metadata.name))",
                "message": "metadata.name is missing: give every object a name (generateName would make another object at each move)",
                "fieldPath": ".metadata",
            },
            {
                "rule": "!has(self.metadata) || !has(self.metadata.namespace)",
                "message": "remove metadata.namespace: resources are created in the application's own namespace",
                "fieldPath": ".metadata.namespace",
            },
            {
                "rule": "!has(self.metadata) || !has(self.metadata.ownerReferences) || self.metadata.ownerReferences.size() == 0",
                "message": "remove metadata.ownerReferences: an owner is named by a UID, which means nothing on another cluster",
                "fieldPath": ".metadata.ownerReferences",
            },
            {
                // RBAC alone takes any path segment as a name, such as system:reader.
                "rule": "!has(self.metadata) || !has(self.metadata.name) || (self.apiVersion.startsWith('rbac.authorization.k8s.io/') ? self.metadata.name.matches('^[!-~]+$') && !self.metadata.name.matches('[/%]') : !format.dns1123Subdomain().validate(self.metadata.name).hasValue())",
                "message": "must be the name of a Kubernetes object: lowercase letters a-z, digits, '-' and '.'",
                "fieldPath": ".metadata.name",
            },
            {
                "rule": cluster_scoped_rule(),
                "message": "is of cluster scope: an application holds namespaced kinds only; let the platform team install it on the members",
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

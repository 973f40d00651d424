//! What the workloads of an application request in all.

use crate::quantity;
use flambeau_planner::model::Resources;
use serde_json::Value;

/// What the scheduler of a cluster has to find room for, as far as manifests
/// say it. A DaemonSet counts as one pod: how many nodes there are is not known
/// before a cluster is chosen. What other kinds bring about is not known.
pub fn demand(manifests: &[Value]) -> Resources {
    manifests
        .iter()
        .filter_map(workload)
        .map(|(replicas, pod)| times(of_pod(pod), replicas))
        .fold(Resources::default(), plus)
}

/// How many pods an object brings about, and what each is like.
fn workload(manifest: &Value) -> Option<(u64, &Value)> {
    let group_version = manifest.get("apiVersion")?.as_str()?;
    let kind = manifest.get("kind")?.as_str()?;
    let group = group_version.split_once('/').map_or("", |(group, _)| group);
    let spec = manifest.get("spec")?;
    // Without the field, Kubernetes takes 1 for each of these.
    let count = |field: &str| spec.get(field).and_then(Value::as_u64).unwrap_or(1);
    let (replicas, pod) = match (group, kind) {
        ("", "Pod") => return Some((1, spec)),
        ("", "ReplicationController") | ("apps", "Deployment" | "StatefulSet" | "ReplicaSet") => {
            (count("replicas"), spec)
        }
        ("apps", "DaemonSet") => (1, spec),
        ("batch", "Job") => (count("parallelism"), spec),
        _ => return None,
    };
    Some((replicas, pod.pointer("/template/spec")?))
}

/// The effective request of a pod
/// (<https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers>):
/// what runs at the same time is added up, and the most that any moment asks
/// for counts.
fn of_pod(spec: &Value) -> Resources {
    let containers = |field: &str| {
        spec.get(field)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let mut sidecars = Resources::default();
    let mut initially = Resources::default();
    for container in containers("initContainers") {
        let request = of_container(container);
        let stays = container.get("restartPolicy").and_then(Value::as_str) == Some("Always");
        initially = most(initially, plus(sidecars, request));
        if stays {
            sidecars = plus(sidecars, request);
        }
    }
    let running = containers("containers")
        .map(of_container)
        .fold(sidecars, plus);
    let overhead = spec
        .get("overhead")
        .map_or_else(Resources::default, |overhead| {
            resources(|name| overhead.get(name))
        });
    plus(of_whole_pod(spec, most(initially, running)), overhead)
}

/// What a pod requests as a whole stands before what its containers request.
fn of_whole_pod(spec: &Value, containers: Resources) -> Resources {
    let Some(whole) = spec.get("resources") else {
        return containers;
    };
    let said = |name: &str| requested(whole, name).is_some();
    let request = of_requirements(whole);
    Resources {
        milli_cpu: if said("cpu") {
            request.milli_cpu
        } else {
            containers.milli_cpu
        },
        memory: if said("memory") {
            request.memory
        } else {
            containers.memory
        },
    }
}

fn of_container(container: &Value) -> Resources {
    container
        .get("resources")
        .map_or_else(Resources::default, of_requirements)
}

fn of_requirements(requirements: &Value) -> Resources {
    resources(|name| requested(requirements, name))
}

/// A limit without a request is the request.
fn requested<'a>(requirements: &'a Value, name: &str) -> Option<&'a Value> {
    let of = |field: &str| requirements.get(field)?.get(name);
    of("requests").or_else(|| of("limits"))
}

fn resources<'a>(amount: impl Fn(&str) -> Option<&'a Value>) -> Resources {
    // YAML reads a quantity without a suffix as a number.
    let text = |name: &str| {
        amount(name).map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    };
    Resources {
        milli_cpu: text("cpu")
            .and_then(|text| quantity::thousandths(&text))
            .unwrap_or(0),
        memory: text("memory")
            .and_then(|text| quantity::units(&text))
            .unwrap_or(0),
    }
}

fn plus(one: Resources, other: Resources) -> Resources {
    Resources {
        milli_cpu: one.milli_cpu.saturating_add(other.milli_cpu),
        memory: one.memory.saturating_add(other.memory),
    }
}

fn most(one: Resources, other: Resources) -> Resources {
    Resources {
        milli_cpu: one.milli_cpu.max(other.milli_cpu),
        memory: one.memory.max(other.memory),
    }
}

fn times(one: Resources, count: u64) -> Resources {
    Resources {
        milli_cpu: one.milli_cpu.saturating_mul(count),
        memory: one.memory.saturating_mul(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(cpu: &str, memory: &str) -> Value {
        json!({"resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    fn deployment(replicas: Value, pod: Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "spec": {"replicas": replicas, "template": {"spec": pod}}})
    }

    #[test]
    fn replicas_and_containers_are_added_up() {
        let pod = json!({"containers": [container("250m", "64Mi"), container("1", "1Gi")]});
        let manifests = [
            deployment(json!(3), pod.clone()),
            deployment(Value::Null, pod),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {}}),
        ];
        let expected = Resources {
            milli_cpu: 4 * 1250,
            memory: (4 * (1024 + 64)) << 20,
        };
        assert_eq!(demand(&manifests), expected);
    }

    #[test]
    fn what_never_runs_at_the_same_time_is_not_added_up() {
        let mut sidecar = container("100m", "0");
        sidecar["restartPolicy"] = json!("Always");
        let pod = json!({
            "initContainers": [container("900m", "1Mi"), sidecar, container("500m", "10Mi")],
            "containers": [container("200m", "4Mi")],
            "overhead": {"cpu": "10m"},
        });
        // 900 alone; 100 + 500 beside the sidecar; 100 + 200 in the end.
        let expected = Resources {
            milli_cpu: 910,
            memory: 10 << 20,
        };
        assert_eq!(demand(&[deployment(json!(1), pod)]), expected);
    }

    #[test]
    fn limits_and_whole_pods_count() {
        let limited =
            json!({"resources": {"limits": {"cpu": 2, "memory": "1Gi"}, "requests": {"cpu": "1"}}});
        let pod = json!({"containers": [limited]});
        let one = demand(&[deployment(json!(1), pod.clone())]);
        assert_eq!((one.milli_cpu, one.memory), (1000, 1 << 30));
        let mut whole = pod;
        whole["resources"] = json!({"requests": {"cpu": "3"}});
        let one = demand(&[deployment(json!(2), whole)]);
        assert_eq!((one.milli_cpu, one.memory), (6000, 2 << 30));
    }

    #[test]
    fn what_nobody_can_read_asks_for_nothing() {
        let pod = json!({"containers": [container("lots", "-1")]});
        assert_eq!(demand(&[deployment(json!(5), pod)]), Resources::default());
        assert_eq!(
            demand(&[json!({"kind": "Deployment"})]),
            Resources::default()
        );
    }
}

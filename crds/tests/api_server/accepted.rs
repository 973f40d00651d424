//! Good input, some of it near the border, and what is filled in.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use flambeau_crds::{
    CloudProvider, Evacuation, Freeze, GamesApplication, MemberCluster, Migration,
    SovereigntyPolicy,
};
use libtest_mimic::Trial;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    cluster::{Admission, Cluster, SharedCluster},
    documents::{examples, resource, set, smallest},
};

/// What passes: the smallest object of a kind with edits.
type Case = (&'static str, &'static str, Vec<(&'static str, Value)>);

pub fn trials(cluster: &Arc<SharedCluster>) -> Vec<Trial> {
    let mut batch = Vec::new();
    let mut tests = Vec::new();
    for (kind, name, edits) in legal()
        .into_iter()
        .chain(operations())
        .chain(applications())
    {
        let mut object = smallest(kind);
        for (pointer, value) in edits {
            set(&mut object, pointer, value);
        }
        batch.push(object);
        tests.push(format!("accepted::{kind}::{}", name.replace(' ', "_")));
    }
    let admission = Arc::new(Admission::of(batch));
    let mut trials = Vec::new();
    for (index, test) in tests.into_iter().enumerate() {
        let admission = Arc::clone(&admission);
        trials.push(cluster.trial(test, move |cluster| admission.outcome(cluster, index)));
    }
    trials.push(cluster.trial("accepted::every_example", every_example));
    trials.push(cluster.trial(
        "accepted::objects_inside_the_examples",
        resources_of_examples,
    ));
    trials.push(cluster.trial(
        "accepted::Migration::paused_resumed_and_aborted",
        pause_and_abort,
    ));
    trials.push(cluster.trial(
        "accepted::GamesApplication::with_the_default_pace",
        default_pace,
    ));
    trials.push(cluster.trial(
        "accepted::GamesApplication::with_the_default_failover",
        default_failover,
    ));
    trials.push(cluster.trial(
        "accepted::Evacuation::paused_resumed_and_aborted",
        evacuation_steered,
    ));
    trials.push(cluster.trial("accepted::GamesApplication::of_one_megabyte", one_megabyte));
    trials
}

fn legal() -> Vec<Case> {
    let names =
        |count: usize| -> Value { (0..count).map(|number| format!("{number:0>253}")).collect() };
    let owners: Value = (0..64)
        .map(|number| json!({ "name": format!("{number:x>256}"), "country": "ZW", "controls": format!("{:x>256}", 63) }))
        .collect();
    let certificates: Value = (0..32)
        .map(|_| json!({ "scheme": "S", "validUntil": "2030-01-01T00:00:00Z", "clusters": names(64) }))
        .collect();
    vec![
        (
            "CloudProvider",
            "nobody controls it",
            vec![("/spec/ownership", json!({ "chain": "Complete" }))],
        ),
        (
            "CloudProvider",
            "of an unknown owner",
            vec![(
                "/spec/ownership",
                json!({ "chain": "Incomplete", "controllingOwners": [{ "name": "A" }] }),
            )],
        ),
        (
            "CloudProvider",
            "named beyond ASCII",
            vec![("/spec/legalEntity", json!("阿里云 · Société Générale"))],
        ),
        (
            "CloudProvider",
            "as large as it can be",
            vec![
                (
                    "/spec/ownership",
                    json!({ "chain": "Complete", "controllingOwners": owners }),
                ),
                ("/spec/certifications", certificates),
            ],
        ),
        (
            "MemberCluster",
            "named with 63 characters",
            vec![("/metadata/name", json!("p".repeat(63)))],
        ),
        (
            "SovereigntyPolicy",
            "union but for one member",
            vec![(
                "/spec/jurisdiction",
                json!({ "allowed": ["EEA"], "forbidden": ["NO"] }),
            )],
        ),
        (
            "SovereigntyPolicy",
            "only of refused providers",
            vec![
                ("/spec/jurisdiction", Value::Null),
                ("/spec/refusedProviders", json!(["an-operator"])),
            ],
        ),
        (
            "SovereigntyPolicy",
            "to complete with no date of entry",
            vec![
                ("/spec/effectiveFrom", Value::Null),
                ("/spec/completeBy", json!("2030-01-01T00:00:00Z")),
            ],
        ),
        (
            "SovereigntyPolicy",
            "as large as it can be",
            vec![
                ("/spec/residency/allowed", json!(vec!["ZW"; 64])),
                (
                    "/spec/jurisdiction",
                    json!({ "allowed": vec!["ZW"; 64], "forbidden": vec!["EEA"; 64] }),
                ),
                ("/spec/refusedProviders", names(64)),
            ],
        ),
    ]
}

/// What is asked of clusters, moves and windows on a bad night.
fn operations() -> Vec<Case> {
    let names =
        |count: usize| -> Value { (0..count).map(|number| format!("{number:0>253}")).collect() };
    vec![
        (
            "MemberCluster",
            "with room for half a processor and no limit of memory",
            vec![("/spec/capacity", json!({ "cpu": "500m" }))],
        ),
        (
            "MemberCluster",
            "joined for some namespaces and kinds",
            vec![(
                "/spec/access",
                json!({"applicationServiceAccount": "flambeau-applications", "namespaces": ["games", "staff"],
                    "kinds": ["services", "deployments.apps", "roles.rbac.authorization.k8s.io"]}),
            )],
        ),
        (
            "MemberCluster",
            "with no room at all, that need not prove itself",
            vec![
                ("/spec/capacity", json!({ "cpu": "0", "memory": "0" })),
                ("/spec/health/recoveredAfterSeconds", json!(0)),
            ],
        ),
        (
            "Evacuation",
            "of a provider",
            vec![
                ("/spec/cluster", Value::Null),
                ("/spec/provider", json!("an-operator")),
            ],
        ),
        (
            "Evacuation",
            "as large as it can be",
            vec![
                ("/spec/to", names(64)),
                ("/spec/requestedBy", json!("u".repeat(253))),
                ("/spec/reason", json!("r".repeat(1024))),
            ],
        ),
        (
            "Freeze",
            "as large as it can be",
            vec![("/spec/namespaces", names(64))],
        ),
        (
            "Freeze",
            "of one second",
            vec![("/spec/until", json!("2030-07-26T16:00:01Z"))],
        ),
        (
            "Migration",
            "part of an Evacuation across a Freeze",
            vec![
                ("/spec/trigger", json!("Evacuation")),
                ("/spec/evacuation", json!("paris")),
                (
                    "/spec/requestedBy",
                    json!("system:serviceaccount:games:sre"),
                ),
                ("/spec/ignoreFreeze", json!(true)),
            ],
        ),
        (
            "GamesApplication",
            "with a warm standby of nothing that fails over and back at once",
            vec![
                (
                    "/spec/failover",
                    json!({ "standby": "Warm", "standbyReplicas": 0, "cooldownSeconds": 0, "failback": "Automatic", "failbackAfterSeconds": 1 }),
                ),
                ("/spec/objectives/recoveryTimeSeconds", json!(1)),
            ],
        ),
    ]
}

fn applications() -> Vec<Case> {
    const KIND: &str = "GamesApplication";
    const SECOND: &str = "/spec/resources/1";
    let resources: Value = (0..128)
        .map(|number| {
            resource(
                "networking.k8s.io/v1",
                "NetworkPolicy",
                &format!("{number:0>253}"),
            )
        })
        .collect();
    let service = json!({ "name": "web", "port": 65535 });
    let label = "a".repeat(63);
    vec![
        (
            KIND,
            "named with 52 characters",
            vec![("/metadata/name", json!("a".repeat(52)))],
        ),
        (
            KIND,
            "of as many resources as it can have",
            vec![("/spec/resources", resources)],
        ),
        (
            KIND,
            "with a role named in RBAC's way",
            vec![(
                SECOND,
                resource("rbac.authorization.k8s.io/v1", "Role", "system:Reader"),
            )],
        ),
        (
            KIND,
            "with a custom kind",
            vec![(SECOND, resource("example.org/v1", "Database", "main"))],
        ),
        (
            KIND,
            "with a custom kind that is called a list",
            vec![(SECOND, resource("example.org/v1", "AccessList", "main"))],
        ),
        (
            KIND,
            "with a custom kind that shares a name with a cluster-scoped one",
            vec![(SECOND, resource("longhorn.io/v1beta2", "Node", "main"))],
        ),
        (
            KIND,
            "with two kinds of one name",
            vec![(SECOND, resource("v1", "ConfigMap", "web"))],
        ),
        (
            KIND,
            "with host names at the border",
            vec![(
                "/spec/traffic",
                json!({
                    "hostnames": ["*.example.org", "localhost", format!("{label}.{label}.example.org"), "1.example.org"],
                    "service": service,
                }),
            )],
        ),
        (
            KIND,
            "moved in one stage",
            vec![("/spec/migration/stages", json!([100]))],
        ),
        (
            KIND,
            "with nothing said about what may be left out",
            vec![
                ("/spec/traffic", Value::Null),
                ("/spec/placement", Value::Null),
                ("/spec/migration", Value::Null),
                ("/spec/dependsOn", json!([])),
            ],
        ),
    ]
}

/// The objects inside the applications are as good as the applications.
fn resources_of_examples(cluster: &Cluster) -> Result<()> {
    let mut checked = 0;
    for example in examples()? {
        for resource in example["spec"]["resources"]
            .as_array()
            .into_iter()
            .flatten()
        {
            cluster.admit(resource).with_context(|| {
                format!("{} in {}", resource["kind"], example["metadata"]["name"])
            })?;
            checked += 1;
        }
    }
    ensure!(checked >= 4, "only {checked} objects in the examples");
    Ok(())
}

/// Applying twice changes nothing, and the Rust types read and write exactly
/// what the API server stores.
fn every_example(cluster: &Cluster) -> Result<()> {
    let mut kinds = Vec::new();
    for example in examples()? {
        let name = example["metadata"]["name"].to_string();
        let stored = cluster
            .apply(&example)
            .with_context(|| format!("example {name}"))?;
        let again = cluster.apply(&example)?;
        ensure!(
            stored["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"],
            "example {name} changed when it was applied again"
        );
        let kind = stored["kind"].as_str().context("kind")?.to_owned();
        let spec = match kind.as_str() {
            "CloudProvider" => read_and_write::<CloudProvider>(&stored)?,
            "MemberCluster" => read_and_write::<MemberCluster>(&stored)?,
            "SovereigntyPolicy" => read_and_write::<SovereigntyPolicy>(&stored)?,
            "GamesApplication" => read_and_write::<GamesApplication>(&stored)?,
            "Migration" => read_and_write::<Migration>(&stored)?,
            "Evacuation" => read_and_write::<Evacuation>(&stored)?,
            "Freeze" => read_and_write::<Freeze>(&stored)?,
            other => bail!("{other} is not read by any type"),
        };
        ensure!(
            spec == stored["spec"],
            "example {name} is read and written as {spec:#}"
        );
        kinds.push(kind);
    }
    for crd in flambeau_crds::all_crds() {
        ensure!(
            kinds.contains(&crd.spec.names.kind),
            "there is no example of {}",
            crd.spec.names.kind
        );
    }
    Ok(())
}

fn read_and_write<K: Serialize + DeserializeOwned>(stored: &Value) -> Result<Value> {
    let object: K = serde_json::from_value(stored.clone())?;
    Ok(serde_json::to_value(object)?["spec"].take())
}

fn pause_and_abort(cluster: &Cluster) -> Result<()> {
    let mut migration = smallest("Migration");
    set(&mut migration, "/metadata/name", json!("steered"));
    cluster.apply(&migration)?;
    for (field, value) in [
        ("pause", true),
        ("pause", false),
        ("pause", true),
        ("abort", true),
    ] {
        set(&mut migration, &format!("/spec/{field}"), json!(value));
        let stored = cluster.apply(&migration)?;
        ensure!(
            stored["spec"][field] == json!(value),
            "{field} is not {value}"
        );
    }
    Ok(())
}

/// The API server fills in what the Rust default says.
fn default_pace(cluster: &Cluster) -> Result<()> {
    let mut application = smallest("GamesApplication");
    set(&mut application, "/metadata/name", json!("default-pace"));
    set(&mut application, "/spec/migration", json!({}));
    let stored: GamesApplication = serde_json::from_value(cluster.apply(&application)?)?;
    ensure!(
        stored.spec.migration == Some(Default::default()),
        "{:?}",
        stored.spec.migration
    );
    Ok(())
}

/// The same for what happens when a cluster is lost.
fn default_failover(cluster: &Cluster) -> Result<()> {
    let mut application = smallest("GamesApplication");
    set(
        &mut application,
        "/metadata/name",
        json!("default-failover"),
    );
    set(&mut application, "/spec/failover", json!({}));
    let stored: GamesApplication = serde_json::from_value(cluster.apply(&application)?)?;
    ensure!(
        stored.spec.failover == Some(Default::default()),
        "{:?}",
        stored.spec.failover
    );
    Ok(())
}

fn evacuation_steered(cluster: &Cluster) -> Result<()> {
    let mut evacuation = smallest("Evacuation");
    set(&mut evacuation, "/metadata/name", json!("steered"));
    cluster.apply(&evacuation)?;
    for (field, value) in [
        ("pause", true),
        ("pause", false),
        ("ignoreFreeze", true),
        ("abort", true),
    ] {
        set(&mut evacuation, &format!("/spec/{field}"), json!(value));
        let stored = cluster.apply(&evacuation)?;
        ensure!(
            stored["spec"][field] == json!(value),
            "{field} is not {value}"
        );
    }
    Ok(())
}

fn one_megabyte(cluster: &Cluster) -> Result<()> {
    let mut application = smallest("GamesApplication");
    set(&mut application, "/metadata/name", json!("one-megabyte"));
    for index in 1..=10 {
        let mut settings = resource("v1", "ConfigMap", &format!("settings-{index}"));
        set(&mut settings, "/data/text", json!("x".repeat(100_000)));
        set(
            &mut application,
            &format!("/spec/resources/{index}"),
            settings,
        );
    }
    let stored = cluster.apply(&application)?;
    ensure!(
        stored["spec"] == with_defaults(&application),
        "not stored as it was given"
    );
    Ok(())
}

fn with_defaults(application: &Value) -> Value {
    let mut spec = application["spec"].clone();
    set(&mut spec, "/criticality", json!("Standard"));
    spec
}

//! What a member itself refuses to a leader that no longer leads.

use crate::support::{Fleet, Plane, application, kinds, plane, shop};
use flambeau_operator::{
    declared::Declared,
    members::{Erasure, Fencing, MemberError, Verb},
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub async fn fenced(plane: &Plane) -> Fleet {
    let fleet = Fleet::new(plane);
    fleet.reachable().await;
    fleet
        .until("fenced", || {
            fleet.members.fencing("member") == Fencing::Installed
        })
        .await;
    fleet
}

/// Settings of an application of that name, in a namespace.
pub fn settings(namespace: &str, name: &str, value: &str) -> Declared {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": value}});
    application(namespace, "shop", &[object])
}

/// Writes as a leader does that was cut off since: without looking.
struct Stale {
    api: Api<ConfigMap>,
}

impl Stale {
    async fn new(plane: &Plane, namespace: &str) -> Self {
        let kubeconfig: Kubeconfig = serde_yaml::from_slice(&plane.kubeconfig()).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        let client = Client::try_from(config.unwrap()).unwrap();
        Self {
            api: Api::namespaced(client, namespace),
        }
    }

    async fn apply(&self, name: &str, epoch: &str) -> Result<ConfigMap, String> {
        self.apply_for("shop", name, epoch).await
    }

    async fn apply_for(
        &self,
        application: &str,
        name: &str,
        epoch: &str,
    ) -> Result<ConfigMap, String> {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "stale"}, "metadata": {"name": name,
            "labels": {"flambeau.dev/application": application, "app.kubernetes.io/managed-by": "flambeau"},
            "annotations": {"flambeau.dev/epoch": epoch}}});
        let parameters = PatchParams::apply("flambeau").force();
        said(
            self.api
                .patch(name, &parameters, &Patch::Apply(object))
                .await,
        )
    }

    async fn merge(&self, name: &str, patch: Value) -> Result<ConfigMap, String> {
        let parameters = PatchParams {
            field_manager: Some("flambeau".to_owned()),
            ..PatchParams::default()
        };
        said(
            self.api
                .patch(name, &parameters, &Patch::Merge(patch))
                .await,
        )
    }

    async fn epoch(&self, name: &str) -> String {
        let live = self.api.get(name).await.unwrap();
        live.metadata.annotations.unwrap()["flambeau.dev/epoch"].clone()
    }
}

fn said<T>(result: Result<T, kube::Error>) -> Result<T, String> {
    result.map_err(|error| match error {
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    })
}

fn refused<T: std::fmt::Debug>(result: Result<T, String>, what: &str) {
    let message = result.unwrap_err();
    assert!(message.contains(what), "{message}");
    assert!(message.contains("flambeau-fencing"), "{message}");
}

/// Asserts that a write was refused because its epoch is over.
fn outdated(error: &MemberError, newest: i64, written: i64) {
    let MemberError::Fenced { live, epoch, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((*live, *epoch), (newest, written), "{error}");
}

pub fn erasure(declared: &Declared, highest: i64, next: i64) -> Erasure {
    Erasure {
        created: declared.created,
        highest,
        next,
    }
}

async fn erase(fleet: &Fleet, declared: &Declared, erasure: &Erasure) -> Result<(), MemberError> {
    let kinds = kinds(declared);
    fleet
        .members
        .erase("member", &declared.key, &kinds, Some(erasure))
        .await
}

pub async fn gone(fleet: &Fleet, declared: &Declared) {
    fleet
        .until("gone", || {
            let observation = fleet.members.observe("member", &declared.key, 1);
            observation.absent()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_leader_changes_nothing_and_people_are_not_hindered() {
    let plane = plane();
    let fleet = fenced(&plane).await;
    let declared = settings("fence-update", "settings", "new");
    fleet.place(&declared, 5).await;
    let stale = Stale::new(&plane, "fence-update").await;
    refused(
        stale.apply("settings", "4").await,
        "application fence-update/shop is at epoch 5 here, and this write is under epoch 4: a newer leader has taken over",
    );
    refused(stale.apply("settings", "0").await, "is at epoch 5 here");
    assert_eq!(stale.epoch("settings").await, "5");

    // Equal and higher epochs pass, compared as numbers.
    stale.apply("settings", "5").await.unwrap();
    stale.apply("settings", "10").await.unwrap();
    refused(stale.apply("settings", "9").await, "is at epoch 10 here");

    // People keep the epoch, strip it, or never heard of it.
    plane.run(
        "patch configmap/settings -n fence-update --type=merge -p {\"data\":{\"k\":\"edited\"}}",
    );
    plane.run("label configmap/settings -n fence-update team=shop");
    plane.run("annotate configmap/settings -n fence-update flambeau.dev/epoch-");
    plane.run("annotate configmap/settings -n fence-update flambeau.dev/epoch=1");
    plane.run("label configmap/settings -n fence-update flambeau.dev/application-");
    plane.run("annotate --overwrite configmap/settings -n fence-update flambeau.dev/epoch=0");
    plane.run("create configmap theirs -n fence-update");
    plane.run("annotate configmap/theirs -n fence-update flambeau.dev/epoch=3");
    plane.run("annotate --overwrite configmap/theirs -n fence-update flambeau.dev/epoch=2");
    plane.run("delete configmap theirs -n fence-update");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_nobodys_epoch() {
    let plane = plane();
    let fleet = fenced(&plane).await;
    let declared = application("fence-status", "shop", &shop());
    fleet.place(&declared, 3).await;
    // The controller manager makes pods from the Deployment and writes its status, and endpoints of the Service.
    plane.until("status", || {
        plane.get("deployment/shop -n fence-status -o jsonpath={.status.observedGeneration}") == "1"
            && plane
                .get("endpointslices -n fence-status -o name")
                .contains("shop")
    });
    fleet.apply(&declared, 4).await.unwrap();
    assert!(
        erase(&fleet, &declared, &erasure(&declared, 3, 5))
            .await
            .is_err(),
        "a newer copy"
    );
    erase(&fleet, &declared, &erasure(&declared, 4, 5))
        .await
        .unwrap();
    gone(&fleet, &declared).await;
}

#[tokio::test(flavor = "multi_thread")]
#[allow(
    clippy::too_many_lines,
    reason = "one application from its first epoch to its last"
)]
async fn an_old_leader_cannot_bring_back_what_was_erased() {
    let plane = plane();
    let fleet = fenced(&plane).await;
    let declared = settings("fence-create", "settings", "old");
    fleet.place(&declared, 1).await;
    assert!(
        !plane
            .get("configmaps -n fence-create -o name")
            .contains("flambeau-epochs"),
        "a first placement costs nothing"
    );

    let other = fenced(&plane).await;
    other.watch(&declared);
    other
        .until("seen", || other.observe(&declared, 1).present > 0)
        .await;

    // The application moved elsewhere under epoch 2, and its source is erased.
    erase(&fleet, &declared, &erasure(&declared, 2, 2))
        .await
        .unwrap();
    gone(&fleet, &declared).await;
    let stale = Stale::new(&plane, "fence-create").await;
    refused(
        stale.apply("settings", "1").await,
        "application fence-create/shop is at epoch 2 here, and this write is under epoch 1",
    );
    refused(
        stale.apply("of-another-name", "1").await,
        "is at epoch 2 here",
    );
    let error = fleet.apply(&declared, 1).await.unwrap_err();
    outdated(&error, 2, 1);
    assert!(!error.is_refusal());
    assert_eq!(
        fleet.observe(&declared, 1).refused,
        None,
        "nothing is wrong with the member"
    );
    assert_eq!(
        fleet.members.metrics().fenced_writes("member"),
        0,
        "what is known is not tried"
    );

    // Another leader heard nothing of it, and is refused by the member.
    other.declare(&declared);
    gone(&other, &declared).await;
    let error = other.apply(&declared, 1).await.unwrap_err();
    outdated(&error, 2, 1);
    assert_eq!(other.members.metrics().fenced_writes("member"), 1);
    assert_eq!(other.observe(&declared, 1).refused, None);

    // It comes back under epoch 3, and goes on being guarded.
    fleet.apply(&declared, 3).await.unwrap();
    refused(stale.apply("surplus", "2").await, "is at epoch 3 here");
    fleet.apply(&declared, 3).await.unwrap();

    // Deleted and declared anew under the same name, it begins with the first epoch again.
    erase(&fleet, &declared, &erasure(&declared, 3, 4))
        .await
        .unwrap();
    gone(&fleet, &declared).await;
    let mut anew = declared.clone();
    anew.created = declared
        .created
        .map(|created| created + Duration::from_secs(9));
    let third = fenced(&plane).await;
    third.place(&anew, 1).await;
    assert!(third.observe(&anew, 1).settled());
    refused(stale.apply("settings", "0").await, "is at epoch 1 here");
    let entry = plane.get("configmap/flambeau-epochs -n fence-create -o jsonpath={.data.shop}");
    assert!(entry.ends_with("Z/0000000001"), "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_never_goes_back() {
    let plane = plane();
    let fleet = fenced(&plane).await;
    let declared = settings("fence-epochs", "settings", "new");
    fleet.place(&declared, 5).await;
    let stale = Stale::new(&plane, "fence-epochs").await;
    let live = stale.api.get("flambeau-epochs").await.unwrap();
    let entry = live.data.unwrap()["shop"].clone();
    let lower = entry.replace("/0000000005", "/0000000004");
    for (patch, why) in [
        (
            json!({"data": {"shop": lower}}),
            "the epoch of an application never goes back: application fence-epochs/shop",
        ),
        (json!({"data": {"shop": null}}), "never goes back"),
        (json!({"data": {"shop": "nonsense"}}), "never goes back"),
        (json!({"metadata": {"labels": null}}), "keep it"),
    ] {
        refused(stale.merge("flambeau-epochs", patch).await, why);
    }
    refused(
        said(
            stale
                .api
                .delete("flambeau-epochs", &DeleteParams::default())
                .await,
        ),
        "as long as their namespace",
    );
    let all = kube::api::ListParams::default();
    let _ = stale
        .api
        .delete_collection(&DeleteParams::default(), &all)
        .await;
    assert!(
        plane
            .get("configmaps -n fence-epochs -o name")
            .contains("flambeau-epochs")
    );
    let higher = entry.replace("/0000000005", "/0000000006");
    stale.merge("flambeau-epochs", json!({"data": {"shop": higher, "other": "x"}, "metadata": {"annotations": {"a": "b"}}})).await.unwrap();
    stale
        .merge("flambeau-epochs", json!({"data": {"other": null}}))
        .await
        .unwrap();

    // Another ConfigMap, even with such data, is nobody's business; and the namespace can go.
    let theirs: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "theirs", "labels": {"app.kubernetes.io/managed-by": "flambeau"}}, "data": {"shop": entry}})).unwrap();
    stale
        .api
        .create(&PostParams::default(), &theirs)
        .await
        .unwrap();
    stale
        .merge("theirs", json!({"data": {"shop": lower}}))
        .await
        .unwrap();
    stale
        .api
        .delete("theirs", &DeleteParams::default())
        .await
        .unwrap();
    plane.run("delete namespace fence-epochs --wait=true --timeout=60s");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_many_applications_are_written_together_and_once() {
    let plane = plane();
    let fleet = fenced(&plane).await;
    let all: Vec<Declared> = (0..100)
        .map(|number| {
            let name = format!("app-{number}");
            let object =
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
            application("fence-many", &name, &[object])
        })
        .collect();
    plane.run("create namespace fence-many");
    all.iter().for_each(|declared| fleet.declare(declared));
    fleet
        .until("listed", || fleet.observe(&all[0], 1).observed)
        .await;
    let extra = || {
        let metrics = fleet.members.metrics();
        (
            metrics.requests("member", Verb::Patch, &[200]),
            metrics.requests("member", Verb::Create, &[201, 403, 409]),
        )
    };
    let write = async |epoch| {
        let begun = std::time::Instant::now();
        let writes = all.iter().map(|declared| fleet.apply_once(declared, epoch));
        futures::future::join_all(writes)
            .await
            .into_iter()
            .for_each(|result| result.unwrap());
        begun.elapsed()
    };
    let before = extra();
    let first = write(1).await;
    assert_eq!(
        extra(),
        before,
        "a first placement writes objects and nothing else"
    );
    let second = write(2).await;
    let (patches, creates) = extra();
    println!(
        "100 applications: first placement {first:?}; under a new epoch {second:?} with {} more requests",
        patches - before.0 + creates - before.1
    );
    assert!(patches - before.0 <= 4, "{patches} writes of entries");
    let version = || {
        plane.get("configmap/flambeau-epochs -n fence-many -o jsonpath={.metadata.resourceVersion}")
    };
    let remembered = version();
    write(2).await;
    assert_eq!(version(), remembered);
    assert_eq!(extra(), (patches, creates), "nothing is written twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_writer_races_a_new_one_twenty_times_and_never_wins() {
    const TRIALS: usize = 20;
    let plane = plane();
    let fleet = fenced(&plane).await;
    let (mut accepted_before, mut refusals, mut sample) = (0, 0, String::new());
    plane.run("create namespace fence-race");
    for trial in 0..TRIALS {
        let name = format!("settings-{trial}");
        let object = |value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": value}});
        let application = |value| {
            let mut declared = application("fence-race", "shop", &[object(value)]);
            declared.key.name = format!("shop-{trial}").as_str().into();
            declared
        };
        let (old, new) = (application("old"), application("new"));
        fleet.place(&old, 1).await;
        let stale = Arc::new(Stale::new(&plane, "fence-race").await);
        let taken_over = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn({
            let (stale, taken_over, name) = (stale.clone(), taken_over.clone(), name.clone());
            async move {
                let (mut before, mut after, mut refusals) = (0, 0, Vec::new());
                while refusals.len() < 25 {
                    let late = taken_over.load(Ordering::SeqCst);
                    let patch = json!({"metadata": {"annotations": {"flambeau.dev/epoch": "1"}}, "data": {"k": format!("stale {before}")}});
                    let result = match stale.merge(&name, patch).await {
                        // Gone for a moment: then it is made anew.
                        Err(message) if !message.contains("flambeau-fencing") => {
                            let application = format!("shop-{trial}");
                            stale.apply_for(&application, &name, "1").await
                        }
                        result => result,
                    };
                    match result {
                        Ok(_) if late => after += 1,
                        Ok(_) => before += 1,
                        Err(message) if message.contains("flambeau-fencing") => {
                            refusals.push(message);
                        }
                        Err(message) => panic!("{message}"),
                    }
                }
                (before, after, refusals)
            }
        });
        fleet.declare(&new);
        if trial % 2 == 0 {
            // The new leader writes it under the next epoch.
            fleet.until_applied(&new, 2).await;
        } else {
            // The new leader placed it elsewhere and erases it here.
            erase(&fleet, &new, &erasure(&new, 2, 2)).await.unwrap();
            gone(&fleet, &new).await;
        }
        taken_over.store(true, Ordering::SeqCst);
        let (before, after, messages) = writer.await.unwrap();
        assert_eq!(after, 0, "trial {trial}: a stale write was accepted");
        if trial % 2 == 0 {
            assert_eq!(stale.epoch(&name).await, "2", "trial {trial}");
        } else {
            assert!(
                stale.api.get_opt(&name).await.unwrap().is_none(),
                "trial {trial}"
            );
        }
        accepted_before += before;
        refusals += messages.len();
        sample = messages.last().cloned().unwrap();
    }
    println!(
        "{TRIALS} trials: {accepted_before} writes accepted before the new leader wrote, 0 after it, {refusals} refused: {sample}"
    );
}

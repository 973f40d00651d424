//! What members tell of themselves: since when they are silent or answer,
//! their nodes; and copies that stand by.

use crate::support::{self, Fleet, application, plane, shop};
use flambeau_planner::model::{Nodes, Reach, Resources};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::time::Instant;

fn since(fleet: &Fleet) -> Option<Timestamp> {
    match fleet.members.reach("member") {
        Reach::Unreachable { since } => Some(since),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_has_one_beginning_across_restarts_and_ends_with_a_return() {
    let plane = support::own_plane();
    let first = Fleet::new(&plane);
    first.reachable().await;
    let answers = first.members.answers_since("member");
    assert!(answers.is_some() && !first.members.returned("member"));
    assert_eq!(first.members.answers_since("member"), answers);

    let stopped = plane.stop_api_server();
    let (began, stopped_at) = (Instant::now(), Timestamp::now());
    first.until("unreachable", || since(&first).is_some()).await;
    println!("told after {:?}, of a threshold of 1 s", began.elapsed());
    let told = since(&first).unwrap();
    assert!(told <= stopped_at + SignedDuration::from_millis(100));
    assert!(first.members.in_doubt("member"));
    assert_eq!(first.members.answers_since("member"), None);

    // The process before this one stored when it began.
    let stored = told - SignedDuration::from_hours(1);
    let second = Fleet::new(&plane);
    second.members.restore_unreachable("member", stored);
    assert_eq!(second.members.reach("member"), Reach::NotObserved);
    second
        .until("unreachable after a restart", || since(&second).is_some())
        .await;
    assert_eq!(since(&second), Some(stored));
    assert_eq!(since(&first), Some(told));

    drop(stopped);
    for fleet in [&first, &second] {
        fleet
            .until("reachable", || {
                fleet.members.reach("member") == Reach::Reachable
            })
            .await;
        assert!(fleet.members.returned("member"));
        let answers = fleet.members.answers_since("member").unwrap();
        assert!(answers > stopped_at);
    }
}

fn node(name: &str, ready: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {
        "allocatable": {"cpu": "3920m", "memory": "14Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": ready, "reason": "Test", "message": "",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
}

fn lease(name: &str) -> Value {
    // The clock of the node is a quarter of a century late, which means nothing.
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": "2001-01-01T00:00:00.000000Z"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_count_by_their_condition_and_lease_and_are_unknown_where_they_may_not_be_read() {
    // Without a controller that sees to nodes.
    let plane = support::own_plane();
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let nodes = |total, ready| Some(Nodes { total, ready });
    let count = || fleet.members.nodes("member");
    fleet.until("no nodes", || count() == nodes(0, 0)).await;
    assert_eq!(fleet.members.allocatable("member"), None);

    plane.apply(&node("one", "True"));
    fleet
        .until("a node without any lease is not known", || {
            count().is_none()
        })
        .await;
    plane.apply(&lease("one"));
    plane.apply(&node("two", "False"));
    plane.apply(&lease("two"));
    fleet
        .until("one of two is ready", || count() == nodes(2, 1))
        .await;
    let offered = Resources {
        milli_cpu: 3920,
        memory: 14 << 30,
    };
    assert_eq!(fleet.members.allocatable("member"), Some(offered));

    plane.run("create serviceaccount blind -n default");
    plane.run("create clusterrole blind --verb=get,list,watch --resource=configmaps,endpointslices.discovery.k8s.io");
    plane.run("create clusterrolebinding blind --clusterrole=blind --serviceaccount=default:blind");
    let token = plane.run("create token blind -n default");
    let blind = plane.kubeconfig_with_user(&format!("token: {}", token.trim()));
    fleet.configure(Ok(&blind));
    fleet
        .until("nodes may not be read", || count().is_none())
        .await;
    assert_eq!(fleet.members.allocatable("member"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_made_whole_by_writing_what_differs_and_nothing_else() {
    let plane = plane();
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let mut objects = shop();
    objects[3]["spec"]["replicas"] = json!(3);
    objects.push(json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "shop"},
        "spec": {"minReplicas": 3, "maxReplicas": 9, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"}}}));
    let declared = application("standby", "shop", &objects);
    let replicas = || plane.get("deployment/shop -n standby -o jsonpath={.spec.replicas}");
    let scalers = || plane.get("horizontalpodautoscalers -n standby -o name");
    let form = |standby| fleet.members.set_form("member", &declared.key, standby);
    fleet.declare(&declared);
    form(Some(1));
    fleet.apply(&declared, 1).await.unwrap();
    fleet
        .until("a settled standby", || {
            fleet.observe(&declared, 1).settled()
        })
        .await;
    assert_eq!((replicas().as_str(), scalers().as_str()), ("1", ""));
    assert!(!fleet.members.apply_is_due("member", &declared, 1));
    let written = fleet.applies();

    form(None);
    assert!(!fleet.observe(&declared, 1).settled());
    assert!(fleet.members.apply_is_due("member", &declared, 1));
    fleet.apply(&declared, 1).await.unwrap();
    fleet
        .until("a settled whole", || fleet.observe(&declared, 1).settled())
        .await;
    assert_eq!(replicas(), "3");
    assert!(scalers().contains("shop"));
    assert_eq!(fleet.applies() - written, 2, "Deployment and autoscaler");

    // A restart finds both forms as they are, and writes nothing.
    let again = Fleet::new(&plane);
    again.declare(&declared);
    again
        .until("seen again", || again.observe(&declared, 1).settled())
        .await;
    again.apply(&declared, 1).await.unwrap();
    assert_eq!(again.applies(), 0);

    form(Some(0));
    fleet.apply(&declared, 1).await.unwrap();
    fleet
        .until("a standby again", || fleet.observe(&declared, 1).settled())
        .await;
    assert_eq!((replicas().as_str(), scalers().as_str()), ("0", ""));
}

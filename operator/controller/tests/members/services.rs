//! Services of a copy while its API server says nothing, in a network
//! namespace of its own: the API server takes no loopback addresses as
//! endpoints.

use crate::support::{self, Fleet, Plane, application};
use flambeau_operator::{
    clock::Moment,
    declared::{Declared, DeclaredTraffic},
    edge::{Edge, EdgeError, EndpointAddress, Reading, Totals},
    service::{Copies, Services},
};
use flambeau_planner::model::{ApplicationKey, EdgeObservation, Name, Reach, Service};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};

/// Where the pod of the application is (TEST-NET-2, RFC 5737).
const POD: ([u8; 4], u16) = ([198, 51, 100, 1], 9000);

/// An edge whose counts the test makes.
#[derive(Clone, Default)]
pub struct Counts(Arc<Mutex<Totals>>);

impl Counts {
    fn add(&self, failed: u64) {
        let mut totals = self.0.lock().unwrap();
        totals.begun += failed;
        totals.answered += failed;
        totals.failed += failed;
    }
}

impl Edge for Counts {
    fn synced(&self) -> bool {
        true
    }

    async fn reread(&self) {}

    fn unavailable(&self) -> Option<String> {
        None
    }

    fn present(&self, _: &ApplicationKey) -> bool {
        true
    }

    fn intact(&self, _: &ApplicationKey) -> bool {
        true
    }

    fn observe(&self, _: &ApplicationKey) -> EdgeObservation {
        EdgeObservation::default()
    }

    fn endpoints_at_edge(
        &self,
        _: &ApplicationKey,
        _: &str,
        _: impl FnOnce() -> Option<Vec<EndpointAddress>>,
    ) -> Option<usize> {
        Some(1)
    }

    fn problem(&self, _: &ApplicationKey) -> Option<String> {
        None
    }

    async fn apply(
        &self,
        _: &Declared,
        _: &BTreeMap<Name, u8>,
        _: &BTreeMap<Name, Vec<EndpointAddress>>,
    ) -> Result<(), EdgeError> {
        Ok(())
    }

    async fn remove(&self, _: &ApplicationKey) -> Result<(), EdgeError> {
        Ok(())
    }

    fn watch_requests(&self, _: BTreeSet<ApplicationKey>) {}

    fn watch_services(&self, _: BTreeSet<ApplicationKey>, _: bool) {}

    fn reading(&self, _: &ApplicationKey, _: &str) -> Option<Reading> {
        Some(Reading {
            at: Moment::now(),
            totals: *self.0.lock().unwrap(),
        })
    }
}

/// A pod that takes connections.
async fn pod() -> JoinHandle<()> {
    let listener = TcpListener::bind(SocketAddr::from(POD)).await.unwrap();
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    })
}

#[test]
fn services_are_known_while_the_api_server_says_nothing() {
    let script = "ip link set lo up && ip address add 198.51.100.1/32 dev lo && \
                  exec \"$0\" --ignored --exact services::inside_its_own_network --nocapture";
    let output = Command::new("unshare")
        // A user namespace lends the rights over the network namespace.
        .args(["--map-root-user", "--net", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    println!("{}", told(&output.stdout));
    assert!(output.status.success(), "{}", told(&output.stderr));
}

fn shop() -> Declared {
    let objects = [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"}, "spec": {"ports": [{"port": 80}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "shop", "labels": {"kubernetes.io/service-name": "shop"}},
            "ports": [{"port": POD.1}], "endpoints": [{"addresses": ["198.51.100.1"], "conditions": {"ready": true}}]}),
    ];
    Declared {
        traffic: Some(DeclaredTraffic {
            hostnames: Vec::new(),
            service: "shop".into(),
            port: 80,
        }),
        ..application("games", "shop", &objects)
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by services_are_known_while_the_api_server_says_nothing, which makes the network"]
async fn inside_its_own_network() {
    let plane: Plane = support::own_plane();
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let declared = shop();
    fleet.place(&declared, 1).await;
    fleet
        .until("endpoints known", || {
            fleet.members.endpoints("member", &declared.key).len() == 1
        })
        .await;
    let alive = pod().await;
    let counts = Counts::default();
    let services = Services::start(fleet.members.clone(), counts.clone(), fleet.dirty());
    let copies: Copies = [(declared.key.clone(), ["member".into()].into())].into();
    services.watch(copies);
    let service = || services.of(&declared.key, "member").service;
    let silent = || matches!(service(), Service::Silent { .. });
    // Without news that matter nobody is told.
    let polled = async {
        while service() != Service::Answers {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), polled)
        .await
        .unwrap();

    let stopped = plane.stop_api_server();
    fleet
        .until("unreachable, and the service answers", || {
            matches!(fleet.members.reach("member"), Reach::Unreachable { .. })
                && service() == Service::Answers
                && services.answer_from("member")
        })
        .await;
    // The pod dies too: nothing listens any more.
    alive.abort();
    assert!(alive.await.is_err());
    let died = Instant::now();
    fleet.until("silent", silent).await;
    println!("silence told after {:?}", died.elapsed());
    assert!(!services.answer_from("member"));
    let told = service();
    // Connections are tried and fail meanwhile, one each second: the beginning
    // of the silence must not move with them.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(service(), told, "one beginning");
    let alive = pod().await;
    fleet.until("answers again", || service().answers()).await;
    drop(stopped);
    fleet.reachable().await;

    // Users get nothing but errors, although connections are taken.
    let errors = tokio::spawn({
        let counts = counts.clone();
        async move {
            loop {
                counts.add(5);
                // The pace of the users.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    });
    fleet.until("silent for its users", silent).await;
    errors.abort();
    fleet
        .until("connections tell again", || service().answers())
        .await;
    alive.abort();
}

//! A candidate within the test's own process.

use crate::plane::Plane;
use flambeau_operator::{
    leader::{Election, End, Leadership, LeaseSettings, Timing},
    transport,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use std::time::{Duration, Instant};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Far longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Candidate {
    pub leadership: Leadership,
    pub leading: watch::Receiver<bool>,
    pub task: JoinHandle<End>,
    pub stop: watch::Sender<bool>,
}

impl Candidate {
    pub async fn start(plane: &Plane, lease: &str, identity: &str, seconds: u16) -> Self {
        let settings = LeaseSettings {
            namespace: "default".to_owned(),
            name: lease.to_owned(),
            identity: identity.to_owned(),
            timing: Timing::of_seconds(seconds),
        };
        let election = Election::new(client(plane).await, settings);
        let (stop, stopped) = watch::channel(false);
        Self {
            leadership: election.leadership(),
            leading: election.leading(),
            task: tokio::spawn(election.run(stopped)),
            stop,
        }
    }

    /// Waits until it leads; returns how long that took.
    pub async fn leads(&mut self) -> Duration {
        let begun = Instant::now();
        let leads = self.leading.wait_for(|leading| *leading);
        timeout(PATIENCE, leads).await.unwrap().unwrap();
        begun.elapsed()
    }

    pub fn stands_by(&self) -> bool {
        !*self.leading.borrow() && self.leadership.check().is_err() && !self.task.is_finished()
    }

    /// Waits for its end.
    pub async fn end(self) -> End {
        timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }

    pub async fn release(self) {
        self.stop.send(true).unwrap();
        assert_eq!(self.end().await, End::Released);
    }
}

pub async fn client(plane: &Plane) -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(plane.control_plane.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    transport::client(&config, &Leadership::always()).unwrap()
}

/// What is seen of the renewals of a Lease.
pub struct Renewals {
    api: Api<Lease>,
    name: &'static str,
    last: Option<MicroTime>,
}

impl Renewals {
    /// From now on.
    pub async fn of(plane: &Plane, name: &'static str) -> Self {
        let api = Api::namespaced(client(plane).await, "default");
        let last = Self::time(&api, name).await;
        Self { api, name, last }
    }

    /// Waits until it was renewed so many times more.
    pub async fn wait_for(&mut self, times: usize) {
        for _ in 0..times {
            let renewed = async {
                loop {
                    let time = Self::time(&self.api, self.name).await;
                    if time.is_some() && time != self.last {
                        return time;
                    }
                    sleep(Duration::from_millis(50)).await;
                }
            };
            self.last = timeout(PATIENCE, renewed).await.unwrap();
        }
    }

    async fn time(api: &Api<Lease>, name: &str) -> Option<MicroTime> {
        let lease = api.get_opt(name).await.unwrap()?;
        lease.spec?.renew_time
    }
}

/// A holder that writes the Lease by hand, with whatever its clock says.
pub struct ByHand {
    api: Api<Lease>,
    lease: Lease,
}

impl ByHand {
    pub async fn take(plane: &Plane, name: &str, seconds: i32, time: Timestamp) -> Self {
        let api = Api::namespaced(client(plane).await, "default");
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some("hand".to_owned()),
                lease_duration_seconds: Some(seconds),
                acquire_time: Some(MicroTime(time)),
                renew_time: Some(MicroTime(time)),
                ..LeaseSpec::default()
            }),
        };
        let lease = api.create(&PostParams::default(), &lease).await.unwrap();
        Self { api, lease }
    }

    /// Fails when somebody else wrote meanwhile.
    pub async fn renew(&mut self, time: Timestamp) {
        let name = self.lease.metadata.name.clone().unwrap();
        self.lease.spec.as_mut().unwrap().renew_time = Some(MicroTime(time));
        self.lease = self
            .api
            .replace(&name, &PostParams::default(), &self.lease)
            .await
            .unwrap();
    }
}

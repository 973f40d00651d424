//! Small fleets for tests.

use crate::model::{
    Application, ApplicationKey, ApplicationRecord, ApplicationSpec, Cluster, CopyObservation,
    Country, Criticality, EdgeObservation, Failover, JurisdictionFact, Migration, MoveType, Name,
    Placement, Policy, Provider, Reach, Resources, Role, Sensitivity, Service, Snapshot, Step,
    StepRecord, Strategy, Trigger,
};
use crate::{Reason, fleet::Decision, plan};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub const NOW: Timestamp = Timestamp::constant(1_770_400_800, 0);

pub fn later(seconds: i64) -> Timestamp {
    NOW.checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

pub fn country(code: &str) -> Country {
    Country::new(code).unwrap()
}

pub fn fact(code: &str, because: &str) -> JurisdictionFact {
    JurisdictionFact {
        country: country(code),
        because: because.to_owned(),
    }
}

pub fn policy(name: &str) -> Policy {
    Policy {
        name: name.into(),
        sensitivities: Sensitivity::ALL.into_iter().collect(),
        residency_allowed: None,
        jurisdiction_allowed: None,
        jurisdiction_forbidden: BTreeSet::new(),
        certifications: Vec::new(),
        refused_providers: BTreeSet::new(),
        enforce: true,
        effective_from: None,
        complete_by: None,
        invalid: None,
    }
}

pub fn forbid(name: &str, code: &str) -> Policy {
    Policy {
        jurisdiction_forbidden: BTreeSet::from([country(code)]),
        ..policy(name)
    }
}

/// A fleet of clusters in Germany, each with a provider of its own name under
/// the law of a country.
pub fn fleet(clusters: &[(&str, &str)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (name, law) in clusters {
        let name: Name = (*name).into();
        let provider = Provider {
            name: name.clone(),
            jurisdictions: vec![fact(law, "headquarters")],
            unknown: Vec::new(),
            certifications: Vec::new(),
        };
        let cluster = Cluster {
            name: name.clone(),
            provider: name.clone(),
            residency: Country::new("DE"),
            reach: Reach::Reachable,
            ..Cluster::default()
        };
        snapshot.providers.insert(name.clone(), Arc::new(provider));
        snapshot.clusters.insert(name, Arc::new(cluster));
    }
    snapshot
}

pub fn apply(snapshot: &mut Snapshot, policy: Policy) {
    snapshot
        .policies
        .insert(policy.name.clone(), Arc::new(policy));
}

pub fn change_cluster(snapshot: &mut Snapshot, name: &str, change: impl FnOnce(&mut Cluster)) {
    change(Arc::make_mut(snapshot.clusters.get_mut(name).unwrap()));
}

/// Neither the API server of a cluster nor anything on it answers.
pub fn lose(snapshot: &mut Snapshot, cluster: &str) {
    change_cluster(snapshot, cluster, |cluster| {
        cluster.reach = Reach::Unreachable { since: NOW };
        cluster.services_answer = false;
    });
}

pub fn change_spec(application: &mut Application, change: impl FnOnce(&mut ApplicationSpec)) {
    change(Arc::make_mut(&mut application.spec));
}

pub fn key(name: &str) -> ApplicationKey {
    ApplicationKey {
        namespace: "games".into(),
        name: name.into(),
    }
}

pub fn application(name: &str) -> Application {
    let spec = ApplicationSpec {
        key: key(name),
        sensitivity: Sensitivity::Personal,
        criticality: Criticality::Important,
        kinds: BTreeSet::new(),
        traffic: true,
        preferred: Vec::new(),
        strategy: Strategy {
            stages: vec![25, 100],
            stage: SignedDuration::from_secs(5),
            soak: SignedDuration::from_secs(10),
            drain: SignedDuration::from_secs(30),
            ready_timeout: SignedDuration::from_secs(60),
        },
        failover: Failover::default(),
        demand: Resources::default(),
        recovery_time: None,
        depends_on: Vec::new(),
        invalid: None,
    };
    Application {
        spec: Arc::new(spec),
        deleting: false,
        record: Arc::default(),
        copies: BTreeMap::new(),
        edge: EdgeObservation::default(),
        migrations: Vec::new(),
    }
}

pub fn serving() -> CopyObservation {
    CopyObservation {
        observed: true,
        current: 3,
        declared: 3,
        present: 3,
        workloads_ready: 1,
        workloads: 1,
        endpoints: 1,
        endpoints_at_edge: Some(1),
        refused: None,
        hidden: None,
        service: Service::Answers,
        reached: None,
    }
}

/// An application that runs and serves on a cluster.
pub fn running(name: &str, cluster: &str) -> Application {
    let mut running = application(name);
    running.record = Arc::new(ApplicationRecord {
        epoch: 1,
        placements: vec![Placement {
            cluster: cluster.into(),
            role: Role::Active,
            epoch: 1,
            since: NOW,
        }],
        ..ApplicationRecord::default()
    });
    running.copies.insert(cluster.into(), serving());
    running.edge.weights.insert(cluster.into(), 100);
    running.edge.acknowledged = true;
    running
}

pub fn migration(name: &str, from: &str, to: &str) -> Migration {
    Migration {
        name: name.into(),
        from: from.into(),
        to: to.into(),
        move_type: MoveType::Relocate,
        trigger: Trigger::Policy,
        evacuation: None,
        ignore_freeze: false,
        pause: false,
        abort: false,
        record: Arc::default(),
    }
}

/// One application, on atos, among three clusters.
pub fn three() -> Snapshot {
    let mut snapshot = fleet(&[("alibaba", "CN"), ("atos", "FR"), ("ovh", "FR")]);
    snapshot.applications.push(running("web", "atos"));
    snapshot
}

/// What is decided for the first application twenty seconds later.
pub fn decision(snapshot: &Snapshot) -> Decision {
    plan(snapshot, later(20)).applications.remove(0).decision
}

/// Why nothing is done about it.
pub fn reason(snapshot: &Snapshot) -> Option<Reason> {
    decision(snapshot).obstacle().map(|(reason, _)| reason)
}

/// Steps that all began at the beginning.
pub fn steps(steps: &[Step]) -> Vec<StepRecord> {
    let record = |step: &Step| StepRecord {
        step: *step,
        start: NOW,
        end: None,
        verdicts: Vec::new(),
    };
    steps.iter().map(record).collect()
}

//! Stories that are told the same way every time. `UPDATE=1` writes them anew.

use crate::{
    fleet::{self, country},
    links,
    operator::Operator,
    random::Random,
    second, settled,
    story::Story,
    world::{HubApplication, HubMigration, Link, Member, Temper, World},
};
use flambeau_planner::model::{
    ApplicationKey, ApplicationSpec, Cluster, Criticality, JurisdictionFact, MoveType, Name,
    Policy, Provider, Sensitivity, Settings, Strategy, Trigger,
};
use jiff::SignedDuration;
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    sync::Arc,
};

fn fleet() -> World {
    let temper = Temper {
        observation: 100,
        crash: 0,
        skew: 0,
    };
    let settings = Settings::default();
    let mut world = fleet::empty(Random::new(2026), Story::told(), temper, settings);
    for (name, code) in [("alibaba", "CN"), ("atos", "FR"), ("ovh", "FR")] {
        let provider = Provider {
            name: name.into(),
            jurisdictions: country(code)
                .into_iter()
                .map(|country| JurisdictionFact {
                    country,
                    because: "headquarters".to_owned(),
                })
                .collect(),
            unknown: Vec::new(),
            certifications: Vec::new(),
        };
        let cluster = Cluster {
            name: name.into(),
            provider: name.into(),
            residency: country("DE"),
            ..Cluster::default()
        };
        world.providers.insert(name.into(), Arc::new(provider));
        world.clusters.insert(name.into(), Arc::new(cluster));
        world.members.insert(name.into(), Member::new());
    }
    world
}

fn add(world: &mut World, name: &str, sensitivity: Sensitivity, criticality: Criticality) {
    let key = ApplicationKey {
        namespace: "games".into(),
        name: name.into(),
    };
    let spec = ApplicationSpec {
        key: key.clone(),
        sensitivity,
        criticality,
        kinds: BTreeSet::new(),
        traffic: true,
        preferred: vec!["alibaba".into(), "atos".into()],
        strategy: Strategy {
            stages: vec![25, 50, 100],
            stage: SignedDuration::from_secs(3),
            soak: SignedDuration::from_secs(5),
            drain: SignedDuration::from_secs(10),
            ready_timeout: SignedDuration::from_secs(20),
        },
        failover: flambeau_planner::model::Failover::default(),
        demand: flambeau_planner::model::Resources::default(),
        recovery_time: None,
        depends_on: Vec::new(),
        invalid: None,
    };
    world.applications.insert(
        key,
        HubApplication {
            spec: Arc::new(spec),
            generation: 1,
            deleting: false,
            record: Arc::default(),
            served: false,
        },
    );
}

fn ban(world: &mut World) {
    world.story.tell(world.second, || {
        "policy eu-data: nothing Personal or above under the law of CN".to_owned()
    });
    let policy = Policy {
        name: "eu-data".into(),
        sensitivities: Sensitivity::ALL
            .into_iter()
            .filter(|sensitivity| *sensitivity >= Sensitivity::Personal)
            .collect(),
        residency_allowed: None,
        jurisdiction_allowed: None,
        jurisdiction_forbidden: country("CN").into_iter().collect(),
        certifications: Vec::new(),
        refused_providers: BTreeSet::new(),
        enforce: true,
        effective_from: None,
        complete_by: None,
        invalid: None,
    };
    world.policies.insert(policy.name.clone(), Arc::new(policy));
}

fn cordon(world: &mut World, cluster: &str, cordoned: bool) {
    let name: Name = cluster.into();
    if let Some(cluster) = world.clusters.get_mut(&name) {
        Arc::make_mut(cluster).cordoned = cordoned;
    }
    world.story.tell(world.second, || {
        format!(
            "{name} is {}",
            if cordoned { "cordoned" } else { "open again" }
        )
    });
}

fn live(world: &mut World, operator: &mut Operator, seconds: u64) {
    for _ in 0..seconds {
        assert_eq!(second(world, operator), Ok(()));
    }
}

/// Holds the story against the one that is checked in.
fn compare(world: &World, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/simulation/stories")
        .join(name);
    let told = world.story.text();
    if env::var_os("UPDATE").is_some() {
        assert!(
            fs::write(&path, &told).is_ok(),
            "cannot write {}",
            path.display()
        );
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        told, expected,
        "the story of {name} changed: read it, then run with UPDATE=1"
    );
}

#[test]
fn what_the_ban_concerns_leaves_and_the_rest_stays() {
    let (mut world, mut operator) = (fleet(), Operator::default());
    add(
        &mut world,
        "accreditation",
        Sensitivity::Sensitive,
        Criticality::Critical,
    );
    add(
        &mut world,
        "volunteers",
        Sensitivity::Personal,
        Criticality::Important,
    );
    add(
        &mut world,
        "website",
        Sensitivity::Public,
        Criticality::Standard,
    );
    live(&mut world, &mut operator, 20);
    ban(&mut world);
    live(&mut world, &mut operator, 80);
    assert_eq!(settled::unrest(&operator, &world), Ok(()));
    compare(&world, "ban.txt");
}

#[test]
fn what_is_lost_goes_elsewhere_and_comes_back_when_asked() {
    let (mut world, mut operator) = (fleet(), Operator::default());
    let (critical, standard) = ("accreditation", "website");
    add(
        &mut world,
        critical,
        Sensitivity::Sensitive,
        Criticality::Critical,
    );
    add(
        &mut world,
        standard,
        Sensitivity::Public,
        Criticality::Standard,
    );
    for application in world.applications.values_mut() {
        let spec = Arc::make_mut(&mut application.spec);
        spec.preferred = vec!["atos".into(), "ovh".into()];
        spec.failover.cooldown = SignedDuration::from_secs(20);
        let warm = &*spec.key.name == critical;
        spec.failover.standby = warm.then_some(1);
    }
    ban(&mut world);
    live(&mut world, &mut operator, 20);
    links::set(&mut world, &"atos".into(), Link::Dead);
    live(&mut world, &mut operator, 40);
    links::set(&mut world, &"atos".into(), Link::Up);
    live(&mut world, &mut operator, 30);
    go_back(&mut world);
    live(&mut world, &mut operator, 80);
    assert_eq!(settled::unrest(&operator, &world), Ok(()));
    compare(&world, "loss.txt");
}

/// Somebody asks for everything to go back to where it was failed over from.
fn go_back(world: &mut World) {
    let asked: Vec<HubMigration> = world
        .applications
        .iter()
        .filter_map(|(key, application)| {
            Some(HubMigration {
                application: key.clone(),
                name: format!("{}-back", key.name).into(),
                from: application.record.active()?.cluster.clone(),
                to: application.record.failed_over_from.clone()?,
                move_type: MoveType::Failback,
                trigger: Trigger::Request,
                evacuation: None,
                ignore_freeze: false,
                pause: false,
                abort: false,
                created: world.second,
                entered: BTreeMap::new(),
                record: Arc::default(),
            })
        })
        .collect();
    for migration in asked {
        let told = || format!("somebody asks for {}", migration.name);
        world.story.tell(world.second, told);
        world.migrations.push(migration);
    }
}

#[test]
fn without_a_lawful_home_it_stays_until_there_is_one() {
    let (mut world, mut operator) = (fleet(), Operator::default());
    add(
        &mut world,
        "accreditation",
        Sensitivity::Sensitive,
        Criticality::Critical,
    );
    cordon(&mut world, "atos", true);
    cordon(&mut world, "ovh", true);
    live(&mut world, &mut operator, 20);
    ban(&mut world);
    live(&mut world, &mut operator, 20);
    cordon(&mut world, "ovh", false);
    live(&mut world, &mut operator, 60);
    assert_eq!(settled::unrest(&operator, &world), Ok(()));
    compare(&world, "no-home.txt");
}

#[test]
fn a_target_that_never_gets_ready_is_left_for_another() {
    let (mut world, mut operator) = (fleet(), Operator::default());
    add(
        &mut world,
        "accreditation",
        Sensitivity::Sensitive,
        Criticality::Critical,
    );
    live(&mut world, &mut operator, 20);
    let keys: Vec<ApplicationKey> = world.applications.keys().cloned().collect();
    world
        .stuck
        .extend(keys.into_iter().map(|key| (key, "atos".into())));
    world
        .story
        .tell(world.second, || "nothing gets ready on atos".to_owned());
    ban(&mut world);
    live(&mut world, &mut operator, 100);
    assert_eq!(settled::unrest(&operator, &world), Ok(()));
    compare(&world, "never-ready.txt");
}

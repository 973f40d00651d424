//! Random fleets: facts, policies and applications.

use crate::{
    clock::Clock,
    random::Random,
    seeds::Tally,
    story::Story,
    world::{HubApplication, Member, Temper, World, time},
};
use flambeau_planner::model::{
    ApplicationKey, ApplicationSpec, Certification, CertificationRule, Cluster, Country,
    Criticality, Failover, JurisdictionFact, Kind, Name, Policy, Provider, Resources, Sensitivity,
    Settings, Strategy,
};
use jiff::SignedDuration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const CLUSTERS: [&str; 5] = ["north", "south", "east", "west", "island"];
const COUNTRIES: [&str; 4] = ["CN", "DE", "FR", "US"];

pub fn country(code: &str) -> Option<Country> {
    Country::new(code)
}

/// A world of three to five clusters and two to six applications.
pub fn world(seed: u64, story: Story) -> World {
    let mut random = Random::new(seed);
    let temper = Temper {
        observation: random.between(30, 100),
        crash: random.between(0, 40),
        skew: 3_600,
    };
    let settings = Settings {
        concurrent_moves: usize::try_from(random.between(1, 3)).unwrap_or(1),
        concurrent_failovers: usize::try_from(random.between(1, 4)).unwrap_or(1),
        hub_window: SignedDuration::from_secs(10),
        retry_backoff: SignedDuration::from_secs(5),
        retry_backoff_limit: SignedDuration::from_secs(20),
    };
    let mut world = empty(random, story, temper, settings);
    let count = usize::try_from(world.random.between(3, 5)).unwrap_or(3);
    for name in &CLUSTERS[..count] {
        add_cluster(&mut world, name);
    }
    for _ in 0..world.random.between(2, 6) {
        add_application(&mut world);
    }
    world
}

/// A world with nothing in it.
pub fn empty(random: Random, story: Story, temper: Temper, settings: Settings) -> World {
    World {
        second: 0,
        clock: Clock::default(),
        random,
        story,
        temper,
        settings,
        providers: BTreeMap::new(),
        clusters: BTreeMap::new(),
        policies: BTreeMap::new(),
        members: BTreeMap::new(),
        applications: BTreeMap::new(),
        migrations: Vec::new(),
        pending_erasures: BTreeSet::new(),
        taken_with_copies: BTreeSet::new(),
        evacuations: BTreeMap::new(),
        freezes: BTreeMap::new(),
        unreachable: BTreeMap::new(),
        well_since: BTreeMap::new(),
        relied_on: BTreeSet::new(),
        flapping: BTreeMap::new(),
        edge: BTreeMap::new(),
        edge_cut_off: false,
        uncounted_until: BTreeMap::new(),
        stuck: BTreeSet::new(),
        refusing: BTreeSet::new(),
        hub_writes: 0,
        member_writes: 0,
        tally: Tally::default(),
    }
}

fn kind(name: &str) -> Kind {
    Kind {
        api_version: "apps/v1".into(),
        kind: name.into(),
    }
}

fn add_cluster(world: &mut World, name: &str) {
    let provider = random_provider(world, name);
    let mut kinds = BTreeSet::from([kind("Deployment")]);
    if world.random.percent(70) {
        kinds.insert(kind("Cluster"));
    }
    let residency = world
        .random
        .pick(&COUNTRIES[1..3])
        .and_then(|code| country(code));
    world.clusters.insert(
        name.into(),
        Arc::new(Cluster {
            name: name.into(),
            provider: provider.name.clone(),
            residency: residency.filter(|_| world.random.percent(95)),
            kinds: Some(Arc::new(kinds)),
            recovered_after: SignedDuration::from_secs(5),
            ..Cluster::default()
        }),
    );
    world
        .providers
        .insert(provider.name.clone(), Arc::new(provider));
    world.members.insert(name.into(), Member::new());
}

/// A provider with facts by chance.
pub fn random_provider(world: &mut World, cluster: &str) -> Provider {
    let mut countries = vec!["FR"];
    if world.random.percent(40) {
        countries.extend(world.random.pick(&COUNTRIES));
    }
    let jurisdictions = countries
        .iter()
        .filter_map(|code| country(code))
        .map(|country| JurisdictionFact {
            country,
            because: "headquarters".to_owned(),
        })
        .collect();
    let unknown = if world.random.percent(8) {
        vec!["an owner is unknown".to_owned()]
    } else {
        Vec::new()
    };
    let until = world.second + world.random.between(20, 900);
    let certifications = if world.random.percent(70) {
        vec![Certification {
            scheme: "SecNumCloud".to_owned(),
            level: None,
            clusters: BTreeSet::new(),
            valid_until: time(until),
        }]
    } else {
        Vec::new()
    };
    Provider {
        name: format!("provider-{cluster}").into(),
        jurisdictions,
        unknown,
        certifications,
    }
}

/// A policy with rules by chance.
pub fn random_policy(world: &mut World, name: &str) -> Policy {
    let mut sensitivities: BTreeSet<Sensitivity> = Sensitivity::ALL
        .into_iter()
        .filter(|_| world.random.percent(55))
        .collect();
    sensitivities.insert(Sensitivity::Personal);
    let random = &mut world.random;
    let some_country = |random: &mut Random| random.pick(&COUNTRIES).and_then(|code| country(code));
    let mut policy = Policy {
        name: name.into(),
        sensitivities,
        residency_allowed: None,
        jurisdiction_allowed: None,
        jurisdiction_forbidden: BTreeSet::new(),
        certifications: Vec::new(),
        refused_providers: BTreeSet::new(),
        enforce: random.percent(90),
        effective_from: None,
        complete_by: None,
        invalid: None,
    };
    match random.below(5) {
        0 => policy.jurisdiction_forbidden.extend(some_country(random)),
        1 => policy.residency_allowed = Some(some_country(random).into_iter().collect()),
        2 => {
            let allowed = ["FR", "DE"].into_iter().filter_map(country).collect();
            policy.jurisdiction_allowed = Some(allowed);
        }
        3 => policy.certifications.push(CertificationRule {
            scheme: "SecNumCloud".to_owned(),
            levels: BTreeSet::new(),
        }),
        _ => {
            let providers: Vec<Name> = world.providers.keys().cloned().collect();
            policy
                .refused_providers
                .extend(world.random.pick(&providers).cloned());
        }
    }
    if world.random.percent(25) {
        policy.effective_from = Some(time(world.second + world.random.between(1, 60)));
    }
    policy
}

/// One more application.
pub fn add_application(world: &mut World) {
    let number = world.hub_writes + world.applications.len() as u64 + 1;
    let random = &mut world.random;
    let names = [
        "accreditation",
        "volunteers",
        "ticketing",
        "results",
        "website",
    ];
    let base = random.pick(&names).copied().unwrap_or("website");
    let key = ApplicationKey {
        namespace: "games".into(),
        name: format!("{base}-{number}").into(),
    };
    let spec = random_spec(world, key.clone());
    world
        .story
        .tell(world.second, || format!("{key} is created"));
    world.applications.entry(key).or_insert(HubApplication {
        spec: Arc::new(spec),
        generation: 1,
        deleting: false,
        record: Arc::default(),
        served: false,
    });
}

/// What happens when the cluster of an application is lost.
pub fn random_failover(random: &mut Random) -> Failover {
    let seconds = |low, high, random: &mut Random| {
        SignedDuration::from_secs(i64::try_from(random.between(low, high)).unwrap_or(1))
    };
    Failover {
        automatic: random.percent(85),
        standby: random
            .percent(40)
            .then(|| u32::try_from(random.below(2)).unwrap_or(0)),
        unhealthy_after: seconds(5, 10, random),
        cooldown: seconds(0, 15, random),
        failback_after: random.percent(40).then(|| seconds(5, 15, random)),
    }
}

fn random_spec(world: &mut World, key: ApplicationKey) -> ApplicationSpec {
    let others: Vec<Name> = world
        .applications
        .keys()
        .map(|key| key.name.clone())
        .collect();
    let clusters: Vec<Name> = world.clusters.keys().cloned().collect();
    let random = &mut world.random;
    let mut kinds = BTreeSet::from([kind("Deployment")]);
    if random.percent(25) {
        kinds.insert(kind("Cluster"));
    }
    let criticalities = [
        Criticality::Standard,
        Criticality::Important,
        Criticality::Critical,
    ];
    let seconds = |low, high, random: &mut Random| {
        SignedDuration::from_secs(i64::try_from(random.between(low, high)).unwrap_or(1))
    };
    ApplicationSpec {
        key,
        sensitivity: random
            .pick(&Sensitivity::ALL)
            .copied()
            .unwrap_or(Sensitivity::Personal),
        criticality: random
            .pick(&criticalities)
            .copied()
            .unwrap_or(Criticality::Standard),
        kinds,
        traffic: random.percent(85),
        preferred: random.pick(&clusters).cloned().into_iter().collect(),
        strategy: Strategy {
            stages: if random.percent(50) {
                vec![25, 50, 75, 100]
            } else {
                vec![100]
            },
            stage: seconds(1, 3, random),
            soak: seconds(1, 5, random),
            drain: seconds(1, 8, random),
            ready_timeout: seconds(15, 25, random),
        },
        failover: random_failover(random),
        demand: Resources {
            milli_cpu: 500 * random.between(0, 3),
            memory: 0,
        },
        recovery_time: None,
        depends_on: if random.percent(40) {
            random.pick(&others).cloned().into_iter().collect()
        } else {
            Vec::new()
        },
        invalid: None,
    }
}

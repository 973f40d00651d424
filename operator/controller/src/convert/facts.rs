//! Facts: providers, clusters, policies, evacuations, freezes.

use crate::quantity;
use flambeau_crds::{
    CloudProvider, Evacuation, Freeze, MemberCluster, SovereigntyPolicy,
    cluster::{Capacity, PendingErasure},
    country,
    provider::{ControllingOwner, OwnershipChain},
};
use flambeau_planner::model::{
    self, ApplicationKey, Certification, CertificationRule, Cluster, Country, JurisdictionFact,
    Kind, Name, Nodes, Policy, Provider, Reach, Resources,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use std::{collections::BTreeSet, sync::Arc};

/// Legal facts about a provider: the union of everything that puts it under
/// some law, and everything that is missing.
pub fn provider(object: &CloudProvider) -> Provider {
    let spec = &object.spec;
    let mut facts = Facts::default();
    facts.state("registered office", spec.registered_office.as_ref());
    facts.state("headquarters", spec.headquarters.as_ref());
    match &spec.ownership {
        None => facts.unknown.push("its ownership is not stated".to_owned()),
        Some(ownership) => {
            for owner in &ownership.controlling_owners {
                facts.state(&describe(owner), owner.country.as_ref());
            }
            if ownership.chain == OwnershipChain::Incomplete {
                facts
                    .unknown
                    .push("its chain of owners is incomplete".to_owned());
            }
        }
    }
    for law in &spec.extraterritorial_laws {
        facts.state(&law.name, Some(&law.country));
    }
    Provider {
        name: object.name_any().into(),
        jurisdictions: facts.known,
        unknown: facts.unknown,
        certifications: spec
            .certifications
            .iter()
            .map(|held| Certification {
                scheme: held.scheme.clone(),
                level: held.level.clone(),
                clusters: held
                    .clusters
                    .iter()
                    .map(|name| Name::from(name.as_str()))
                    .collect(),
                valid_until: held.valid_until.0,
            })
            .collect(),
    }
}

fn describe(owner: &ControllingOwner) -> String {
    match &owner.controls {
        Some(controlled) => format!("{}, controlling owner of {controlled}", owner.name),
        None => format!("controlling owner {}", owner.name),
    }
}

#[derive(Default)]
struct Facts {
    known: Vec<JurisdictionFact>,
    unknown: Vec<String>,
}

impl Facts {
    fn state(&mut self, because: &str, stated: Option<&country::Country>) {
        match stated.and_then(|code| assigned(&code.0)) {
            Some(country) => {
                self.known.push(JurisdictionFact {
                    country,
                    because: because.to_owned(),
                });
            }
            None => self
                .unknown
                .push(format!("the country of {because} is not stated")),
        }
    }
}

/// The country of a code, if the code is assigned.
fn assigned(code: &str) -> Option<Country> {
    country::is_country(code)
        .then(|| Country::new(code))
        .flatten()
}

/// What is observed of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterObservation {
    /// Whether it answers.
    pub reach: Reach,
    /// Namespaced kinds that it serves; none while unknown.
    pub kinds: Option<Arc<BTreeSet<Kind>>>,
    /// Those of them that applications must not have there.
    pub refused_kinds: Arc<BTreeSet<Kind>>,
    /// An application there answered requests within the last seconds.
    pub services_answer: bool,
    /// Since when it answers without interruption; none while it does not.
    pub answers_since: Option<Timestamp>,
    /// It was unreachable before it answered.
    pub returned: bool,
    /// It has been silent for longer than an answer takes.
    pub in_doubt: bool,
    /// Its nodes; none while unknown.
    pub nodes: Option<Nodes>,
    /// What its nodes offer; none while unknown.
    pub allocatable: Option<Resources>,
}

impl Default for ClusterObservation {
    fn default() -> Self {
        Self {
            reach: Reach::NotObserved,
            kinds: None,
            refused_kinds: Arc::default(),
            services_answer: false,
            answers_since: None,
            returned: false,
            in_doubt: false,
            nodes: None,
            allocatable: None,
        }
    }
}

/// A cluster, with what was observed of it.
pub fn cluster(object: &MemberCluster, observed: ClusterObservation) -> Cluster {
    let spec = &object.spec;
    let health = spec.health.clone().unwrap_or_default();
    let status = object.status.iter();
    Cluster {
        name: object.name_any().into(),
        provider: spec.provider.as_str().into(),
        residency: assigned(&spec.residency.0),
        cordoned: spec.cordoned,
        deleting: object.metadata.deletion_timestamp.is_some(),
        reach: observed.reach,
        kinds: observed.kinds,
        refused_kinds: observed.refused_kinds,
        namespaces: spec
            .access
            .iter()
            .flat_map(|access| &access.namespaces)
            .map(|name| name.as_str().into())
            .collect(),
        services_answer: observed.services_answer,
        answers_since: observed.answers_since,
        returned: observed.returned,
        in_doubt: observed.in_doubt,
        recovered_after: SignedDuration::from_secs(i64::from(health.recovered_after_seconds)),
        nodes: observed.nodes,
        capacity: capacity(spec.capacity.as_ref(), observed.allocatable),
        pending_erasures: status
            .flat_map(|status| &status.pending_erasures)
            .map(erasure_key)
            .collect(),
    }
}

/// What is declared stands before what the nodes offer. Of what neither says,
/// there is no end.
fn capacity(declared: Option<&Capacity>, allocatable: Option<Resources>) -> Option<Resources> {
    let field = |name: fn(&Capacity) -> Option<&String>| declared.and_then(name);
    let milli_cpu =
        field(|capacity| capacity.cpu.as_ref()).and_then(|text| quantity::thousandths(text));
    let memory = field(|capacity| capacity.memory.as_ref()).and_then(|text| quantity::units(text));
    if milli_cpu.is_none() && memory.is_none() {
        return allocatable;
    }
    let beyond = Resources {
        milli_cpu: u64::MAX,
        memory: u64::MAX,
    };
    let otherwise = allocatable.unwrap_or(beyond);
    Some(Resources {
        milli_cpu: milli_cpu.unwrap_or(otherwise.milli_cpu),
        memory: memory.unwrap_or(otherwise.memory),
    })
}

/// The application of a pending erasure.
pub fn erasure_key(erasure: &PendingErasure) -> ApplicationKey {
    ApplicationKey {
        namespace: erasure.namespace.as_str().into(),
        name: erasure.application.as_str().into(),
    }
}

/// What is to be emptied, and how.
pub fn evacuation(object: &Evacuation) -> model::Evacuation {
    let spec = &object.spec;
    let status = object.status.as_ref();
    let name = |name: &String| Name::from(name.as_str());
    model::Evacuation {
        name: object.name_any().into(),
        cluster: spec.cluster.as_ref().map(name),
        provider: spec.provider.as_ref().map(name),
        to: spec.to.iter().map(name).collect(),
        max_concurrent: spec
            .max_concurrent
            .map(|moves| usize::try_from(moves).unwrap_or(1).max(1)),
        reason: spec.reason.clone(),
        requested_by: spec.requested_by.clone(),
        ignore_freeze: spec.ignore_freeze,
        pause: spec.pause,
        abort: spec.abort,
        total: status.map_or(0, |status| usize::try_from(status.total).unwrap_or(0)),
        ended: status.is_some_and(|status| status.outcome.is_some()),
    }
}

/// A window during which no planned move begins.
pub fn freeze(object: &Freeze) -> model::Freeze {
    let spec = &object.spec;
    model::Freeze {
        name: object.name_any().into(),
        from: spec.from.0,
        until: spec.until.0,
        namespaces: spec
            .namespaces
            .iter()
            .map(|namespace| Name::from(namespace.as_str()))
            .collect(),
        reason: spec.reason.clone(),
    }
}

/// A policy; one with a code that nobody knows is marked as invalid, and
/// binds nobody.
pub fn policy(object: &SovereigntyPolicy) -> Policy {
    let spec = &object.spec;
    let mut invalid = Vec::new();
    let mut expand = |field: &str, codes: &[country::CountryOrGroup]| -> BTreeSet<Country> {
        let mut set = BTreeSet::new();
        for code in codes {
            let countries = country::expand(&code.0);
            if countries.is_empty() {
                invalid.push(format!(
                    "{field}: {} is neither a country nor EU or EEA",
                    code.0
                ));
            }
            set.extend(countries.iter().filter_map(|code| Country::new(code)));
        }
        set
    };
    let residency_allowed = spec
        .residency
        .as_ref()
        .map(|rule| expand("spec.residency.allowed", &rule.allowed));
    let jurisdiction = spec.jurisdiction.as_ref();
    let jurisdiction_allowed = jurisdiction
        .and_then(|rule| rule.allowed.as_ref())
        .map(|codes| expand("spec.jurisdiction.allowed", codes));
    let jurisdiction_forbidden = jurisdiction
        .and_then(|rule| rule.forbidden.as_ref())
        .map(|codes| expand("spec.jurisdiction.forbidden", codes))
        .unwrap_or_default();
    Policy {
        name: object.name_any().into(),
        sensitivities: spec
            .sensitivities
            .iter()
            .copied()
            .map(super::sensitivity)
            .collect(),
        residency_allowed,
        jurisdiction_allowed,
        jurisdiction_forbidden,
        certifications: spec
            .required_certifications
            .iter()
            .map(|rule| CertificationRule {
                scheme: rule.scheme.clone(),
                levels: rule.levels.iter().cloned().collect(),
            })
            .collect(),
        refused_providers: spec
            .refused_providers
            .iter()
            .map(|name| Name::from(name.as_str()))
            .collect(),
        enforce: spec.enforcement == flambeau_crds::policy::Enforcement::Enforce,
        effective_from: spec.effective_from.as_ref().map(|time| time.0),
        complete_by: spec.complete_by.as_ref().map(|time| time.0),
        invalid: (!invalid.is_empty()).then(|| invalid.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cpu: Option<&str>, memory: Option<&str>, nodes: Option<Resources>) -> Option<Resources> {
        let declared = Capacity {
            cpu: cpu.map(str::to_owned),
            memory: memory.map(str::to_owned),
        };
        capacity(Some(&declared), nodes)
    }

    #[test]
    fn declared_capacity_stands_before_what_the_nodes_offer() {
        let nodes = Resources {
            milli_cpu: 8000,
            memory: 1 << 34,
        };
        assert_eq!(capacity(None, Some(nodes)), Some(nodes));
        assert_eq!(
            of(None, None, None),
            None,
            "nobody knows: no limit is made up"
        );
        let both = of(Some("500m"), Some("1Gi"), Some(nodes));
        let expected = Resources {
            milli_cpu: 500,
            memory: 1 << 30,
        };
        assert_eq!(both, Some(expected));
        let one = of(Some("0"), None, Some(nodes)).unwrap();
        assert_eq!((one.milli_cpu, one.memory), (0, nodes.memory));
        let one = of(None, Some("0"), None).unwrap();
        assert_eq!((one.milli_cpu, one.memory), (u64::MAX, 0));
    }
}

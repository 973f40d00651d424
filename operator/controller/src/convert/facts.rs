//! Facts: providers, clusters, policies.

use flambeau_crds::{
    CloudProvider, MemberCluster, SovereigntyPolicy, country,
    provider::{ControllingOwner, OwnershipChain},
};
use flambeau_planner::model::{
    Certification, CertificationRule, Cluster, Country, JurisdictionFact, Kind, Name, Policy,
    Provider, Reach,
};
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

/// A cluster, with what was observed of it.
pub fn cluster(
    object: &MemberCluster,
    reach: Reach,
    kinds: Option<Arc<BTreeSet<Kind>>>,
) -> Cluster {
    Cluster {
        name: object.name_any().into(),
        provider: object.spec.provider.as_str().into(),
        residency: assigned(&object.spec.residency.0),
        cordoned: object.spec.cordoned,
        deleting: object.metadata.deletion_timestamp.is_some(),
        reach,
        kinds,
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

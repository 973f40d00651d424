//! Who may run what where: policies held against facts.
//!
//! Every policy in force that governs a sensitivity is asked about every
//! cluster, and all of them must agree; so the strictest wins, whatever their
//! order. A fact that a policy asks for and nobody states is a refusal.

use crate::{
    Reason,
    model::{Certification, Cluster, Country, Name, Policy, Provider, Sensitivity, Snapshot},
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What one policy has against one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The policy.
    pub policy: Name,
    /// The rule that is broken.
    pub reason: Reason,
    /// The fact that breaks it.
    pub message: String,
    /// False when the policy only audits.
    pub enforced: bool,
}

/// What all policies say about one sensitivity on one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Policies in force that govern the sensitivity, by name.
    pub governed_by: Vec<Name>,
    /// What they have against the cluster.
    pub findings: Vec<Finding>,
}

impl Judgement {
    /// The first finding of a policy that is enforced.
    pub fn refusal(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.enforced)
    }

    /// No enforced policy objects.
    pub fn lawful(&self) -> bool {
        self.refusal().is_none()
    }

    /// The stable reason for the judgement.
    pub fn reason(&self) -> Reason {
        match (self.refusal(), self.findings.first()) {
            (Some(finding), _) => finding.reason,
            (None, Some(_)) => Reason::AuditFinding,
            (None, None) if self.governed_by.is_empty() => Reason::NotGoverned,
            (None, None) => Reason::PoliciesSatisfied,
        }
    }

    /// The judgement in a sentence that names policies and facts.
    pub fn message(&self) -> String {
        if self.findings.is_empty() {
            return match self.governed_by.as_slice() {
                [] => "no policy in force governs this sensitivity".to_owned(),
                names => format!("allowed by {}", join(names)),
            };
        }
        self.findings
            .iter()
            .map(|finding| {
                let audit = if finding.enforced {
                    ""
                } else {
                    " (audit only)"
                };
                format!("policy {}{audit}: {}", finding.policy, finding.message)
            })
            .collect::<Vec<_>>()
            .join("; ")
    }
}

/// Judgements for every cluster of the fleet and every sensitivity.
#[derive(Clone, Debug)]
pub struct LawBook {
    judgements: BTreeMap<Name, [Arc<Judgement>; Sensitivity::ALL.len()]>,
    unknown_cluster: [Arc<Judgement>; Sensitivity::ALL.len()],
    /// The next moment at which a judgement can change by itself.
    pub next_change: Option<Timestamp>,
}

impl LawBook {
    /// Holds every policy against every cluster.
    pub fn new(snapshot: &Snapshot, now: Timestamp) -> Self {
        let in_force: Vec<&Policy> = snapshot
            .policies
            .values()
            .map(Arc::as_ref)
            .filter(|policy| policy.in_force(now))
            .collect();
        let judgements = snapshot
            .clusters
            .values()
            .map(|cluster| {
                let provider = snapshot.providers.get(&cluster.provider).map(Arc::as_ref);
                let row = Sensitivity::ALL.map(|sensitivity| {
                    Arc::new(judge(&in_force, sensitivity, cluster, provider, now))
                });
                (cluster.name.clone(), row)
            })
            .collect();
        let unknown_cluster = Sensitivity::ALL.map(|sensitivity| {
            let mut judgement = Judgement::default();
            for policy in governing(&in_force, sensitivity) {
                judgement.governed_by.push(policy.name.clone());
                judgement.findings.push(Finding {
                    policy: policy.name.clone(),
                    reason: Reason::ClusterUnknown,
                    message: "the cluster is not part of the fleet, so nothing is known about it"
                        .to_owned(),
                    enforced: policy.enforce,
                });
            }
            Arc::new(judgement)
        });
        Self {
            judgements,
            unknown_cluster,
            next_change: next_change(snapshot, now),
        }
    }

    /// What the law says about data of a sensitivity on a cluster.
    pub fn judge(&self, cluster: &str, sensitivity: Sensitivity) -> &Arc<Judgement> {
        let row = self
            .judgements
            .get(cluster)
            .unwrap_or(&self.unknown_cluster);
        &row[sensitivity as usize]
    }
}

impl LawBook {
    /// The same for every cluster of the fleet, in the order of their names.
    pub fn row(&self, sensitivity: Sensitivity) -> impl Iterator<Item = &Judgement> {
        self.judgements
            .values()
            .map(move |row| &*row[sensitivity as usize])
    }
}

fn governing<'a>(
    in_force: &'a [&'a Policy],
    sensitivity: Sensitivity,
) -> impl Iterator<Item = &'a Policy> {
    in_force
        .iter()
        .copied()
        .filter(move |policy| policy.sensitivities.contains(&sensitivity))
}

fn judge(
    in_force: &[&Policy],
    sensitivity: Sensitivity,
    cluster: &Cluster,
    provider: Option<&Provider>,
    now: Timestamp,
) -> Judgement {
    let mut judgement = Judgement::default();
    for policy in governing(in_force, sensitivity) {
        judgement.governed_by.push(policy.name.clone());
        let rules = [
            refused_provider(policy, cluster),
            residency(policy, cluster),
            jurisdiction(policy, cluster, provider),
            certifications(policy, cluster, provider, now),
        ];
        for (reason, message) in rules.into_iter().flatten() {
            judgement.findings.push(Finding {
                policy: policy.name.clone(),
                reason,
                message,
                enforced: policy.enforce,
            });
        }
    }
    judgement
}

type Objection = Option<(Reason, String)>;

fn refused_provider(policy: &Policy, cluster: &Cluster) -> Objection {
    policy
        .refused_providers
        .contains(&cluster.provider)
        .then(|| {
            (
                Reason::ProviderRefused,
                format!("provider {} is refused by name", cluster.provider),
            )
        })
}

fn residency(policy: &Policy, cluster: &Cluster) -> Objection {
    let allowed = policy.residency_allowed.as_ref()?;
    match cluster.residency {
        None => Some((
            Reason::ResidencyUnknown,
            format!(
                "it is not known where data on cluster {} lies",
                cluster.name
            ),
        )),
        Some(country) if allowed.contains(&country) => None,
        Some(country) => Some((
            Reason::ResidencyNotAllowed,
            format!(
                "data on cluster {} lies in {country}, allowed is {}",
                cluster.name,
                countries(allowed)
            ),
        )),
    }
}

fn jurisdiction(policy: &Policy, cluster: &Cluster, provider: Option<&Provider>) -> Objection {
    let allowed = policy.jurisdiction_allowed.as_ref();
    let forbidden = &policy.jurisdiction_forbidden;
    if allowed.is_none() && forbidden.is_empty() {
        return None;
    }
    let Some(provider) = provider else {
        return Some(unknown_provider(cluster));
    };
    let facts = &provider.jurisdictions;
    if let Some(fact) = facts.iter().find(|fact| forbidden.contains(&fact.country)) {
        return Some((
            Reason::JurisdictionForbidden,
            format!(
                "provider {} is under the law of {} ({})",
                provider.name, fact.country, fact.because
            ),
        ));
    }
    let beyond = allowed.and_then(|allowed| {
        facts
            .iter()
            .find(|fact| !allowed.contains(&fact.country))
            .map(|fact| (allowed, fact))
    });
    if let Some((allowed, fact)) = beyond {
        return Some((
            Reason::JurisdictionNotAllowed,
            format!(
                "provider {} is under the law of {} ({}), allowed is {}",
                provider.name,
                fact.country,
                fact.because,
                countries(allowed)
            ),
        ));
    }
    (!provider.unknown.is_empty()).then(|| {
        (
            Reason::JurisdictionUnknown,
            format!(
                "not every law over provider {} is known: {}",
                provider.name,
                provider.unknown.join(", ")
            ),
        )
    })
}

fn certifications(
    policy: &Policy,
    cluster: &Cluster,
    provider: Option<&Provider>,
    now: Timestamp,
) -> Objection {
    if policy.certifications.is_empty() {
        return None;
    }
    let Some(provider) = provider else {
        return Some(unknown_provider(cluster));
    };
    policy.certifications.iter().find_map(|rule| {
        let matching = |certification: &&Certification| {
            certification.scheme == rule.scheme
                && (rule.levels.is_empty()
                    || certification
                        .level
                        .as_ref()
                        .is_some_and(|level| rule.levels.contains(level)))
                && (certification.clusters.is_empty()
                    || certification.clusters.contains(&cluster.name))
        };
        let latest = provider
            .certifications
            .iter()
            .filter(matching)
            .max_by_key(|held| held.valid_until);
        match latest {
            Some(held) if held.valid_until > now => None,
            Some(held) => Some((
                Reason::CertificationExpired,
                format!(
                    "{} of provider {} expired at {}",
                    rule.scheme, provider.name, held.valid_until
                ),
            )),
            None => Some((
                Reason::CertificationMissing,
                format!(
                    "provider {} does not hold {} for cluster {}",
                    provider.name,
                    wanted(rule),
                    cluster.name
                ),
            )),
        }
    })
}

fn wanted(rule: &crate::model::CertificationRule) -> String {
    if rule.levels.is_empty() {
        return rule.scheme.clone();
    }
    let levels: Vec<&str> = rule.levels.iter().map(String::as_str).collect();
    format!("{} {}", rule.scheme, levels.join(" or "))
}

fn unknown_provider(cluster: &Cluster) -> (Reason, String) {
    (
        Reason::ProviderUnknown,
        format!(
            "cluster {} names provider {}, which does not exist",
            cluster.name, cluster.provider
        ),
    )
}

/// Another policy that, together with one, leaves no country in the world for
/// a sensitivity that both govern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The other policy.
    pub with: Name,
    /// What they contradict each other in, below `spec`.
    pub field: &'static str,
    /// When the later of the two comes into force; none when both are.
    pub from: Option<Timestamp>,
}

/// What other enforced policies contradict one in: what holds now first, then
/// what is to come, the soonest first, so that it can be corrected before it
/// binds anybody.
pub fn contradictions(snapshot: &Snapshot, policy: &Policy, now: Timestamp) -> Vec<Contradiction> {
    let binding = |policy: &Policy| policy.enforce && policy.invalid.is_none();
    if !binding(policy) {
        return Vec::new();
    }
    let mut found: Vec<Contradiction> = snapshot
        .policies
        .values()
        .filter(|other| other.name != policy.name && binding(other))
        .filter(|other| !other.sensitivities.is_disjoint(&policy.sensitivities))
        .filter_map(|other| {
            let from = policy.effective_from.max(other.effective_from);
            Some(Contradiction {
                with: other.name.clone(),
                field: contradiction(policy, other)?,
                from: from.filter(|from| *from > now),
            })
        })
        .collect();
    found.sort_by_key(|one| one.from);
    found
}

fn contradiction(one: &Policy, other: &Policy) -> Option<&'static str> {
    let disjoint = |left: &Option<BTreeSet<Country>>, right: &Option<BTreeSet<Country>>| matches!((left, right), (Some(left), Some(right)) if left.is_disjoint(right));
    if disjoint(&one.residency_allowed, &other.residency_allowed) {
        return Some("residency.allowed");
    }
    let all_forbidden = |allowed: &Option<BTreeSet<Country>>, forbidden: &BTreeSet<Country>| {
        allowed
            .as_ref()
            .is_some_and(|allowed| allowed.is_subset(forbidden))
    };
    (disjoint(&one.jurisdiction_allowed, &other.jurisdiction_allowed)
        || all_forbidden(&one.jurisdiction_allowed, &other.jurisdiction_forbidden)
        || all_forbidden(&other.jurisdiction_allowed, &one.jurisdiction_forbidden))
    .then_some("jurisdiction")
}

fn next_change(snapshot: &Snapshot, now: Timestamp) -> Option<Timestamp> {
    let policies = snapshot
        .policies
        .values()
        .flat_map(|policy| [policy.effective_from, policy.complete_by])
        .flatten();
    let certificates = snapshot
        .providers
        .values()
        .flat_map(|provider| &provider.certifications)
        .map(|certification| certification.valid_until);
    policies
        .chain(certificates)
        .filter(|time| *time > now)
        .min()
}

/// Names as a list for people.
pub fn join(names: &[Name]) -> String {
    names
        .iter()
        .map(|name| &**name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn countries(set: &BTreeSet<Country>) -> String {
    const SHOWN: usize = 5;
    let mut text = set
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if set.len() > SHOWN {
        text.push_str(&format!(" and {} more", set.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests;

//! The law once more, as plainly as it can be said, to judge the planner by.

use flambeau_planner::model::{Cluster, Policy, Provider, Sensitivity, Snapshot};
use jiff::Timestamp;

/// Whether every enforced policy in force allows a sensitivity on a cluster.
pub fn lawful(
    snapshot: &Snapshot,
    cluster: &str,
    sensitivity: Sensitivity,
    now: Timestamp,
) -> bool {
    let Some(cluster) = snapshot.clusters.get(cluster) else {
        return !snapshot
            .policies
            .values()
            .any(|policy| binds(policy, sensitivity, now));
    };
    let provider = snapshot.providers.get(&cluster.provider);
    snapshot
        .policies
        .values()
        .filter(|policy| binds(policy, sensitivity, now))
        .all(|policy| allows(policy, cluster, provider.map(|found| &**found), now))
}

fn binds(policy: &Policy, sensitivity: Sensitivity, now: Timestamp) -> bool {
    policy.enforce
        && policy.invalid.is_none()
        && policy.sensitivities.contains(&sensitivity)
        && match policy.effective_from {
            None => true,
            Some(from) => from <= now,
        }
}

fn allows(policy: &Policy, cluster: &Cluster, provider: Option<&Provider>, now: Timestamp) -> bool {
    if policy.refused_providers.contains(&cluster.provider) {
        return false;
    }
    if let Some(allowed) = &policy.residency_allowed
        && !cluster
            .residency
            .is_some_and(|country| allowed.contains(&country))
    {
        return false;
    }
    let about_law =
        policy.jurisdiction_allowed.is_some() || !policy.jurisdiction_forbidden.is_empty();
    if !about_law && policy.certifications.is_empty() {
        return true;
    }
    let Some(provider) = provider else {
        return false;
    };
    let reached_by = |fact: &flambeau_planner::model::JurisdictionFact| {
        policy.jurisdiction_forbidden.contains(&fact.country)
            || policy
                .jurisdiction_allowed
                .as_ref()
                .is_some_and(|allowed| !allowed.contains(&fact.country))
    };
    if about_law && (!provider.unknown.is_empty() || provider.jurisdictions.iter().any(reached_by))
    {
        return false;
    }
    policy.certifications.iter().all(|rule| {
        provider.certifications.iter().any(|held| {
            held.scheme == rule.scheme
                && (rule.levels.is_empty()
                    || held
                        .level
                        .as_ref()
                        .is_some_and(|level| rule.levels.contains(level)))
                && (held.clusters.is_empty() || held.clusters.contains(&cluster.name))
                && now < held.valid_until
        })
    })
}

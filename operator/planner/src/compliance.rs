//! What every policy finds in the fleet.

use crate::{
    fleet::ApplicationPlan,
    law::{self, Contradiction, LawBook},
    model::{ApplicationKey, Name, Snapshot},
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What the plan says about one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyPlan {
    /// Name of the policy.
    pub name: Name,
    /// Whether it binds now.
    pub in_force: bool,
    /// Number of applications that it governs.
    pub governed: usize,
    /// Applications that run where it refuses.
    pub violations: Vec<ApplicationKey>,
    /// Policies that leave no country together with it, now or from a date on.
    pub contradicts: Vec<Contradiction>,
    /// Its deadline has passed with violations left.
    pub deadline_missed: bool,
}

/// One entry for each policy, by name.
pub fn policies(
    snapshot: &Snapshot,
    law: &LawBook,
    applications: &[ApplicationPlan],
    now: Timestamp,
) -> Vec<PolicyPlan> {
    let mut plans: BTreeMap<&Name, PolicyPlan> = snapshot
        .policies
        .values()
        .map(|policy| {
            let plan = PolicyPlan {
                name: policy.name.clone(),
                in_force: policy.in_force(now),
                governed: 0,
                violations: Vec::new(),
                contradicts: law::contradictions(snapshot, policy, now),
                deadline_missed: false,
            };
            (&policy.name, plan)
        })
        .collect();
    for (application, planned) in snapshot.applications.iter().zip(applications) {
        for policy in snapshot.policies.values() {
            if policy.sensitivities.contains(&application.spec.sensitivity)
                && let Some(plan) = plans.get_mut(&policy.name)
            {
                plan.governed += 1;
            }
        }
        // Every copy counts, not only the one that serves: data lies there.
        let mut violated = BTreeSet::new();
        for placement in &planned.record.placements {
            let judgement = law.judge(&placement.cluster, application.spec.sensitivity);
            violated.extend(judgement.findings.iter().map(|finding| &finding.policy));
        }
        for policy in violated {
            if let Some(plan) = plans.get_mut(policy) {
                plan.violations.push(planned.key.clone());
            }
        }
    }
    for policy in snapshot.policies.values() {
        if let Some(plan) = plans.get_mut(&policy.name) {
            let passed = policy.complete_by.is_some_and(|deadline| deadline <= now);
            plan.deadline_missed = plan.in_force && passed && !plan.violations.is_empty();
        }
    }
    plans.into_values().collect()
}

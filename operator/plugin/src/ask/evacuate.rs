//! Everything leaves a cluster or a provider.

use super::{
    made::{Asked, draft},
    opinion::Opinion,
};
use crate::{cli, failure::Failure, hub::Hub, live::Subject, moves, print};
use anyhow::bail;
use flambeau_crds::{Evacuation, EvacuationSpec};
use flambeau_operator::{
    convert,
    offline::{objects::Objects, print as offline, read},
};
use flambeau_planner::{
    Plan, Reason,
    fleet::EvacuationPlan,
    model::{Reach, Snapshot},
    plan,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use std::{process::ExitCode, sync::Arc};

const NAME: &str = "not-asked-for-yet";

/// `evacuate`.
///
/// # Errors
/// When a rule or the hub refuses, or the Evacuation does not end as asked.
pub async fn run(hub: &Hub, options: cli::Evacuate) -> anyhow::Result<ExitCode> {
    let (cluster, provider) = place(&options.place)?;
    let (objects, user) = tokio::try_join!(hub.fleet(), hub.user())?;
    let request = &options.request;
    let spec = EvacuationSpec {
        cluster,
        provider,
        to: options.to.clone(),
        max_concurrent: options.max_concurrent,
        reason: options.reason.clone(),
        requested_by: Some(user),
        ignore_freeze: request.ignore_freeze,
        pause: false,
        abort: false,
    };
    let now = Timestamp::now();
    let forecast = Forecast::of(objects, &spec, now);
    let told = forecast.told();
    let object = evacuation(spec);
    if request.dry_run {
        print::raw(&draft(&object, &told)?)?;
    } else {
        eprint!("{told}");
    }
    if let Opinion::Refused { reason, message } = forecast.opinion {
        let remedy = match reason {
            Reason::Frozen => {
                "Ask again after the freeze, or cross it, which is recorded: --ignore-freeze"
            }
            Reason::AnotherMove => {
                "Let it go on, or end it first: kubectl flambeau abort evacuation/NAME"
            }
            _ => "What each application says: kubectl flambeau plan",
        };
        return Err(Failure::Refused {
            reason,
            message,
            remedy: remedy.to_owned(),
        }
        .into());
    }
    let asked = Asked {
        api: Api::all(hub.client.clone()),
        about: format!("everything leaves {}", moves::place(&object.spec)),
        object,
        follow: "-A".to_owned(),
        request,
    };
    let subject = |name: &str| Subject::Evacuation(name.to_owned());
    asked.create(hub, subject).await
}

fn evacuation(spec: EvacuationSpec) -> Evacuation {
    Evacuation {
        metadata: ObjectMeta {
            generate_name: Some(prefix(&spec)),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

fn prefix(spec: &EvacuationSpec) -> String {
    let place = spec.cluster.as_ref().or(spec.provider.as_ref());
    format!("{}-", place.map_or("", String::as_str))
}

/// What is to be emptied: a cluster or a provider.
fn place(text: &str) -> anyhow::Result<(Option<String>, Option<String>)> {
    match text.split_once('/') {
        Some(("cluster" | "member" | "membercluster", name)) if !name.is_empty() => {
            Ok((Some(name.to_owned()), None))
        }
        Some(("provider" | "cprov" | "cloudprovider", name)) if !name.is_empty() => {
            Ok((None, Some(name.to_owned())))
        }
        _ => bail!("{text}: say what is to be emptied, as cluster/NAME or provider/NAME"),
    }
}

/// What would happen if the Evacuation were there.
struct Forecast {
    snapshot: Snapshot,
    plan: Plan,
    opinion: Opinion,
}

impl Forecast {
    fn of(objects: Objects, spec: &EvacuationSpec, now: Timestamp) -> Self {
        let other = objects.evacuations.iter().find(|(_, other)| {
            let over = other
                .status
                .as_ref()
                .is_some_and(|status| status.outcome.is_some());
            !over
                && !other.spec.abort
                && (&other.spec.cluster, &other.spec.provider) == (&spec.cluster, &spec.provider)
        });
        let other = other.map(|(name, _)| {
            let message = format!("Evacuation {name} of {} is under way", moves::place(spec));
            Opinion::refused(Reason::AnotherMove, message)
        });
        let mut snapshot = read::snapshot(objects, &Reach::NotObserved);
        let object = Evacuation::new(NAME, spec.clone());
        snapshot
            .evacuations
            .insert(NAME.into(), Arc::new(convert::evacuation(&object)));
        let plan = plan(&snapshot, now);
        let mut forecast = Self {
            snapshot,
            plan,
            opinion: Opinion::Passed,
        };
        forecast.opinion = other.unwrap_or_else(|| forecast.judge(spec));
        forecast
    }

    fn evacuation(&self) -> Option<&EvacuationPlan> {
        self.plan
            .evacuations
            .iter()
            .find(|evacuation| &*evacuation.name == NAME)
    }

    fn judge(&self, spec: &EvacuationSpec) -> Opinion {
        let clusters = &self.snapshot.clusters;
        if let Some(unknown) = spec
            .to
            .iter()
            .find(|name| !clusters.contains_key(name.as_str()))
        {
            let known: Vec<&str> = clusters.keys().map(|name| &**name).collect();
            let message = format!(
                "--to: cluster {unknown} is not part of the fleet, which is {}",
                known.join(", ")
            );
            return Opinion::refused(Reason::ClusterUnknown, message);
        }
        let Some(evacuation) = self.evacuation() else {
            return Opinion::Passed;
        };
        if evacuation.state == Reason::ClusterUnknown {
            return Opinion::refused(evacuation.state, evacuation.message.as_str());
        }
        let remaining = &evacuation.remaining;
        let Some(first) = remaining.first() else {
            return Opinion::Passed;
        };
        if remaining.iter().all(|one| one.stuck) {
            let message = format!(
                "none of {} applications can leave, the first of them {}: {}",
                remaining.len(),
                first.key,
                first.message
            );
            return Opinion::refused(first.reason, message);
        }
        if remaining.iter().all(|one| one.reason == Reason::Frozen) {
            return Opinion::refused(Reason::Frozen, first.message.as_str());
        }
        Opinion::Passed
    }

    /// Where each application would go, or why it would not.
    fn told(&self) -> String {
        let Some(evacuation) = self.evacuation() else {
            return String::new();
        };
        let mut text = format!("{} applications would leave\n", evacuation.remaining.len());
        for (application, planned) in self
            .snapshot
            .applications
            .iter()
            .zip(&self.plan.applications)
        {
            if evacuation
                .remaining
                .iter()
                .any(|one| one.key == planned.key)
            {
                let summary = offline::summary(application, planned);
                text.push_str(&format!("  {}: {summary}\n", planned.key));
            }
        }
        if let Some(shortfall) = &evacuation.shortfall {
            text.push_str(&format!("SHORTFALL: {shortfall}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_cluster_or_a_provider() {
        assert_eq!(
            place("cluster/atos").unwrap(),
            (Some("atos".to_owned()), None)
        );
        assert_eq!(
            place("provider/ovh").unwrap(),
            (None, Some("ovh".to_owned()))
        );
        for wrong in ["atos", "cluster/", "node/one"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}

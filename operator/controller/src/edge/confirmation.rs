//! What a gateway owes to say of a route.
//!
//! A gateway's controller that could not store what it has to say, because the
//! hub's API server was away at that moment, may never say it: Contour 1.33
//! tries once, and again only when something behind the route changes. A move
//! waits for the word, so something is changed: an annotation of a Service
//! behind the route, which means nothing.

use super::{
    seen::{Detail, Seen},
    store::Store,
};
use crate::dirty::Dirty;
use flambeau_crds::FIELD_MANAGER;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Error,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// The annotation that changes.
const ANNOTATION: &str = "flambeau.dev/confirmation-asked";
/// How often it is looked whether a gateway is late.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a gateway is waited for before it is asked again: far longer than
/// one takes that does its work. Twice as long each further time.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest time between two attempts.
const LONGEST: Duration = Duration::from_secs(300);

/// A route of which a gateway speaks in an older generation only. One that no
/// gateway ever spoke of has none.
#[derive(Debug, PartialEq, Eq)]
pub struct Owed {
    route: u64,
    since: Instant,
    patience: Duration,
}

impl Owed {
    /// What is owed for a route, given what was before.
    pub fn of(route: &Seen, before: Option<Self>, now: Instant) -> Option<Self> {
        let outdated = matches!(&route.detail, Detail::Route(detail) if detail.outdated);
        if !outdated {
            return None;
        }
        let same = before.filter(|before| before.route == route.digest);
        Some(same.unwrap_or(Self {
            route: route.digest,
            since: now,
            patience: PATIENCE,
        }))
    }

    /// Whether it has been waited for long enough.
    pub fn overdue(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= self.patience
    }

    /// It was asked for.
    pub fn asked(&mut self, now: Instant) {
        self.since = now;
        self.patience = (self.patience * 2).min(LONGEST);
    }
}

/// Looks for ever whether a gateway is late, and asks for a plan then.
pub async fn watch(store: Arc<Store>, dirty: Dirty) {
    loop {
        sleep(PERIOD).await;
        if store.any_overdue(Instant::now()) {
            dirty.mark();
        }
    }
}

/// Changes something that means nothing about a Service.
///
/// # Errors
/// Whatever the hub says.
pub async fn ask_again(services: &Api<Service>, name: &str) -> Result<(), Error> {
    let now = Timestamp::now().to_string();
    let change = json!({ "metadata": { "annotations": { ANNOTATION: now } } });
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    services
        .patch_metadata(name, &parameters, &Patch::Merge(change))
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::seen::RouteDetail;
    use flambeau_planner::model::ApplicationKey;

    fn route(digest: u64, outdated: bool) -> Seen {
        Seen {
            key: ApplicationKey {
                namespace: "games".into(),
                name: "shop".into(),
            },
            cluster: None,
            name: "shop".into(),
            version: 1,
            digest,
            detail: Detail::Route(RouteDetail {
                outdated,
                ..RouteDetail::default()
            }),
        }
    }

    #[test]
    fn a_gateway_is_asked_less_and_less_often() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut owed = Owed::of(&route(1, true), None, start).expect("a word is owed");
        assert!(!owed.overdue(after(4)));
        assert!(owed.overdue(after(5)));
        owed.asked(after(5));
        assert!(!owed.overdue(after(14)));
        assert!(owed.overdue(after(15)));
        // The same route, seen again, waits on; a new one waits anew.
        let owed = Owed::of(&route(1, true), Some(owed), after(20)).expect("still owed");
        assert!(owed.overdue(after(20)));
        let owed = Owed::of(&route(2, true), Some(owed), after(20)).expect("owed for another");
        assert!(!owed.overdue(after(24)));
        assert_eq!(Owed::of(&route(2, false), Some(owed), after(24)), None);
    }
}

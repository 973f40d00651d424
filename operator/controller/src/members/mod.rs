//! Connections to members: observation of them, and the only writes to them.
//!
//! Every member has its own connection, health, discovery and watches, so
//! that a member in trouble concerns no other. What is kept of an object is a
//! digest ([`seen`]); what an application's copy looks like is counted from
//! these ([`observe`]). A member that cannot be read keeps its last
//! observation: unknown is not absent.

mod admission;
mod apply;
mod body;
mod connection;
mod covers;
mod credentials;
mod discovery;
mod endpoints;
mod erase;
mod error;
mod fencing;
mod form;
mod fresh;
mod health;
mod kubeconfig;
mod limits;
mod live;
mod member;
mod metrics;
mod namespace;
mod nodes;
mod observe;
mod order;
mod pages;
mod probe;
mod readiness;
mod refusal;
pub mod rights;
mod secrets;
mod seen;
mod store;
pub mod token;
mod watch;
mod weight;
mod work;

pub use credentials::{Renewal, read_kubeconfig};
pub use erase::Erasure;
pub use error::MemberError;
pub use fencing::Fencing;
pub use metrics::{MemberMetrics, Verb};

use crate::{declared::Declared, dirty::Dirty, edge::EndpointAddress, leader::Leadership};
use flambeau_crds::{MemberClusterSpec, cluster::DEFAULT_UNREACHABLE_AFTER_SECONDS};
use flambeau_planner::model::{
    ApplicationKey, CopyObservation, Kind, Name, Nodes, Reach, Resources,
};
use member::{Member, Shared};
use prometheus_client::registry::Registry;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// How members are talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSettings {
    /// Writes to one member at the same time.
    pub concurrent_writes: usize,
    /// How often is checked whether a member still carries the policy that
    /// refuses writes under an old epoch.
    pub fencing_check: Duration,
}

impl Default for MemberSettings {
    fn default() -> Self {
        Self {
            concurrent_writes: 16,
            fencing_check: Duration::from_mins(1),
        }
    }
}

/// The members of the fleet. Cheap to clone; when the last clone is dropped,
/// every task ends.
#[derive(Clone)]
pub struct Members(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    members: RwLock<HashMap<Name, Arc<Member>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let members = self
            .members
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        members.values().for_each(|member| member.stop());
    }
}

impl Members {
    /// No members yet. Whatever is observed later asks for a new plan; what is
    /// written is written as long as this process leads.
    pub fn new(dirty: Dirty, settings: MemberSettings, leadership: Leadership) -> Self {
        // Fails only when somebody chose a provider before, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self(Arc::new(Inner {
            shared: Arc::new(Shared::new(dirty, settings, leadership)),
            members: RwLock::default(),
        }))
    }

    /// Registers the counters of requests, and how old observations are.
    pub fn register(&self, registry: &mut Registry) {
        self.0.shared.metrics.register(registry);
        registry.register_collector(Box::new(metrics::States(Arc::downgrade(&self.0))));
    }

    /// The counters of requests.
    pub fn metrics(&self) -> &MemberMetrics {
        &self.0.shared.metrics
    }

    /// Takes a member's specification and kubeconfig; `Err` says why there is
    /// no kubeconfig. Idempotent: connects anew only when the kubeconfig
    /// changed. Needs a Tokio runtime.
    pub fn configure(
        &self,
        name: &Name,
        spec: &MemberClusterSpec,
        kubeconfig: Result<&[u8], String>,
    ) {
        let seconds = spec
            .health
            .as_ref()
            .map_or(DEFAULT_UNREACHABLE_AFTER_SECONDS, |health| {
                health.unreachable_after_seconds
            });
        let unreachable_after = Duration::from_secs(u64::try_from(seconds).unwrap_or(1).max(1));
        let member = self.member(name).unwrap_or_else(|| self.add(name));
        member.set_unreachable_after(unreachable_after);
        if !member.configure(spec.access.as_ref(), kubeconfig.clone()) {
            // Another cluster under the same name: nothing is known of it.
            let member = self.add(name);
            member.set_unreachable_after(unreachable_after);
            member.configure(spec.access.as_ref(), kubeconfig);
            self.0.shared.dirty.mark();
        }
    }

    fn add(&self, name: &Name) -> Arc<Member> {
        let member = Arc::new(Member::new(name.clone(), self.0.shared.clone()));
        self.0.shared.metrics.join(name);
        let mut members = self
            .0
            .members
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = members.insert(name.clone(), member.clone()) {
            before.stop();
        }
        member
    }

    fn member(&self, name: &str) -> Option<Arc<Member>> {
        self.0
            .members
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// A member of the fleet, or an error that says that it is none.
    fn known(&self, name: &str) -> Result<Arc<Member>, MemberError> {
        self.member(name).ok_or_else(|| MemberError::NotConnected {
            cluster: name.into(),
            message: "it is no member of the fleet".to_owned(),
        })
    }

    /// Leaves a member alone: stops its tasks and forgets what was seen.
    pub fn forget(&self, name: &str) {
        let removed = self
            .0
            .members
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
        if let Some(member) = removed {
            member.stop();
            self.0.shared.metrics.leave(name);
            self.0.shared.dirty.mark();
        }
    }

    /// Whether a member answers.
    pub fn reach(&self, name: &str) -> Reach {
        self.member(name)
            .map_or(Reach::NotObserved, |member| member.health.reach())
    }

    /// Since when a member answers without interruption; none while it does
    /// not. The same time for as long as it answers.
    pub fn answers_since(&self, name: &str) -> Option<jiff::Timestamp> {
        self.member(name)?.health.answers_since()
    }

    /// Whether a member that answers was unreachable before: known of this
    /// process, or of the one before it.
    pub fn returned(&self, name: &str) -> bool {
        self.member(name)
            .is_some_and(|member| member.health.returned())
    }

    /// Whether a member has not answered for longer than it should take, or is
    /// unreachable.
    pub fn in_doubt(&self, name: &str) -> bool {
        self.member(name)
            .is_some_and(|member| member.health.in_doubt())
    }

    /// Takes over since when a member is unreachable, as the process before
    /// this one stored it; to be told right after [`Members::configure`]. If
    /// the member does not answer at once, it is unreachable since then; if it
    /// does, it has returned. Of no account, and harmless, later on.
    pub fn restore_unreachable(&self, name: &str, since: jiff::Timestamp) {
        if let Some(member) = self.member(name) {
            member.health.restore(since);
        }
    }

    /// Takes over that a member answered the process before this one, as its
    /// stored health says; to be told right after [`Members::configure`].
    pub fn vouch_for(&self, name: &str) {
        if let Some(member) = self.member(name) {
            member.health.vouch();
        }
    }

    /// Nodes of a member, as last listed; none while unknown.
    pub fn nodes(&self, name: &str) -> Option<Nodes> {
        self.member(name)?.nodes.nodes()
    }

    /// What the ready nodes of a member offer to pods, as last listed; none
    /// while unknown, and of a member without nodes.
    pub fn allocatable(&self, name: &str) -> Option<Resources> {
        self.member(name)?.nodes.allocatable()
    }

    /// Whether a member refuses writes under an old epoch by itself.
    pub fn fencing(&self, name: &str) -> Fencing {
        self.member(name)
            .map_or(Fencing::Unknown, |member| member.fence.state())
    }

    /// Version of Kubernetes that a member reports.
    pub fn version(&self, name: &str) -> Option<String> {
        self.member(name)?.version()
    }

    /// Namespaced kinds that a member serves and that can be kept there; none
    /// while unknown.
    pub fn kinds(&self, name: &str) -> Option<Arc<BTreeSet<Kind>>> {
        self.member(name)?.kinds()
    }

    /// Those of them that applications must not have there.
    pub fn refused_kinds(&self, name: &str) -> Arc<BTreeSet<Kind>> {
        self.member(name)
            .map(|member| member.refused_kinds())
            .unwrap_or_default()
    }

    /// Asks for kinds to be watched on every member that serves them. Kinds
    /// are never given up while the process runs: something may be left of
    /// them.
    pub fn watch_kinds(&self, kinds: &BTreeSet<Kind>) {
        self.0.shared.wanted.send_if_modified(|wanted| {
            if kinds.is_subset(wanted) {
                return false;
            }
            let union = wanted.union(kinds).cloned().collect();
            *wanted = Arc::new(union);
            true
        });
    }

    /// Whether a member answers, and everything asked for was listed there.
    pub fn observes(&self, name: &str) -> bool {
        self.member(name).is_some_and(|member| {
            let wanted = self.0.shared.wanted.borrow().clone();
            let contents = member.store.lock();
            let listed = wanted
                .iter()
                .all(|kind| contents.coverage(kind) != store::Coverage::Pending);
            listed && member.health.reach() == Reach::Reachable
        })
    }

    /// Takes what an application declares, so that its objects on members can
    /// be compared with it.
    pub fn declare(&self, declared: Arc<Declared>) {
        let mut all = self
            .0
            .shared
            .declared
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        all.insert(declared.key.clone(), declared.clone());
        drop(all);
        let members = self
            .0
            .members
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        members
            .values()
            .for_each(|member| member.compare(&member.forms.of(declared.clone())));
    }

    /// Forgets what an application declared.
    pub fn undeclare(&self, key: &ApplicationKey) {
        let mut all = self
            .0
            .shared
            .declared
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        all.remove(key);
        drop(all);
        let members = self
            .0
            .members
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        for member in members.values() {
            member.works.forget(key);
            member.fence.forget(key);
            member.forms.set(key, None);
        }
    }

    /// Sets the form of an application's copy on a member: the replicas of a
    /// standby, or none for whole, as every copy is to begin with. Everything
    /// that is asked or done of the copy here is of that form. Cheap when
    /// nothing changes. When it does, what was observed of the copy before is
    /// of the form that it had, so a new plan is asked for.
    pub fn set_form(&self, cluster: &str, key: &ApplicationKey, standby: Option<u32>) {
        let Some(member) = self.member(cluster) else {
            return;
        };
        if member.forms.set(key, standby) {
            if let Some(declared) = member.declared(key) {
                member.compare(&declared);
            }
            self.0.shared.dirty.mark();
        }
    }

    /// What an application's copy on a member looks like. An object is
    /// current when it is there as declared under `epoch`. Endpoints at the
    /// edge are left 0. Where Flambeau may not look, nothing is known.
    pub fn observe(&self, cluster: &str, key: &ApplicationKey, epoch: i64) -> CopyObservation {
        let Some(member) = self.member(cluster) else {
            return CopyObservation::default();
        };
        let limits = member.limits();
        if let Some(why) = limits.hide_namespace(&key.namespace) {
            return CopyObservation {
                hidden: Some(format!("namespace {} {why}", key.namespace)),
                ..CopyObservation::default()
            };
        }
        let declared = member.declared(key);
        let wanted = self.0.shared.wanted.borrow().clone();
        let mut contents = member.store.lock();
        let mut observation =
            observe::observe(&mut contents, key, declared.as_ref(), &wanted, epoch);
        // Limits change before what they let in is listed.
        observation.observed &= !contents.listed_elsewhere(&limits.scope(&key.namespace));
        observation.hidden = declared
            .iter()
            .flat_map(|declared| {
                let slices = declared.traffic.is_some().then(endpoints::slice_kind);
                let kinds = declared.objects.iter().map(|object| object.kind.clone());
                kinds.chain(slices)
            })
            .find_map(|kind| contents.trouble(&kind).map(str::to_owned));
        drop(contents);
        observation.refused = member.works.refused(key);
        observation
    }

    /// Addresses behind the Service that takes an application's traffic, on a
    /// member, in order.
    pub fn endpoints(&self, cluster: &str, key: &ApplicationKey) -> Vec<EndpointAddress> {
        let (Some(member), Some(declared)) = (self.member(cluster), self.0.shared.declared(key))
        else {
            return Vec::new();
        };
        let contents = member.store.lock();
        contents
            .copies
            .get(key)
            .map_or_else(Vec::new, |copy| observe::addresses(copy, &declared))
    }

    /// Members with a copy of an application, and the UID of the application
    /// for which all of it was written: one of the same name may be another
    /// hub's.
    pub fn written_on(&self) -> HashMap<ApplicationKey, Vec<(Name, Box<str>)>> {
        let members = self
            .0
            .members
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut written: HashMap<ApplicationKey, Vec<(Name, Box<str>)>> = HashMap::new();
        for member in members.values() {
            for (key, copy) in &member.store.lock().copies {
                if let Some(uid) = observe::written_for(copy) {
                    let place = (member.name.clone(), uid.into());
                    written.entry(key.clone()).or_default().push(place);
                }
            }
        }
        written
    }

    /// Writes what is declared to a member, under an epoch: one server-side
    /// apply for every object that is not there as declared, in an order in
    /// which each finds what it needs; then deletes what is no longer
    /// declared. Nothing is written when nothing differs.
    ///
    /// # Errors
    /// When the member does not answer or refuses, or the last failure is too
    /// recent; a plan is asked for when the next attempt is due.
    pub async fn apply(
        &self,
        cluster: &str,
        declared: &Declared,
        epoch: i64,
    ) -> Result<(), MemberError> {
        let member = self.known(cluster)?;
        let declared = member.forms.apply(declared);
        apply::apply(&member, &declared, epoch).await
    }

    /// Whether [`Members::apply`] has anything to do: not while all that
    /// differs is being deleted, and has to go before it can come again.
    pub fn apply_is_due(&self, cluster: &str, declared: &Declared, epoch: i64) -> bool {
        let Some(member) = self.member(cluster) else {
            return false;
        };
        let declared = member.forms.apply(declared);
        let pending = observe::pending(&member.store.lock(), &member.name, &declared, epoch);
        // What stands in the way is told by trying.
        pending.map_or(true, |pending| !pending.is_empty())
    }

    /// Whether [`Members::erase`] has anything to do: not while everything is
    /// being deleted.
    pub fn erase_is_due(
        &self,
        cluster: &str,
        key: &ApplicationKey,
        kinds: &BTreeSet<Kind>,
    ) -> bool {
        self.member(cluster).is_some_and(|member| {
            let contents = member.store.lock();
            let unknown = |kind| contents.coverage(kind) == store::Coverage::Pending;
            kinds.iter().any(unknown) || !observe::erasable(&contents, key).is_empty()
        })
    }

    /// Deletes every object of an application from a member: of the kinds
    /// given and of all that are watched; with an [`Erasure`], only what was
    /// not written under a higher epoch, and so that no old leader writes it
    /// again. Returns when all deletions are under
    /// way; [`Members::observe`] tells when they are done, and
    /// [`Members::verify_absent`] makes sure.
    ///
    /// # Errors
    /// As [`Members::apply`].
    pub async fn erase(
        &self,
        cluster: &str,
        key: &ApplicationKey,
        kinds: &BTreeSet<Kind>,
        erasure: Option<&Erasure>,
    ) -> Result<(), MemberError> {
        erase::erase(&*self.known(cluster)?, key, kinds, erasure).await
    }

    /// Whether an application's copy serves now, by reading the member anew:
    /// everything declared is there, every workload is ready and, where there
    /// is traffic, an endpoint is.
    ///
    /// # Errors
    /// When the member does not answer: nothing is known then.
    pub async fn serves(&self, cluster: &str, key: &ApplicationKey) -> Result<bool, MemberError> {
        let member = self.known(cluster)?;
        match member.declared(key) {
            Some(declared) => fresh::serves(&member, &declared).await,
            None => Ok(false),
        }
    }

    /// Whether nothing of an application is left on a member, by reading the
    /// member anew: of the kinds given and of those seen there.
    ///
    /// # Errors
    /// When the member does not answer: nothing is known then.
    pub async fn verify_absent(
        &self,
        cluster: &str,
        key: &ApplicationKey,
        kinds: &BTreeSet<Kind>,
    ) -> Result<bool, MemberError> {
        fresh::verify_absent(&*self.known(cluster)?, key, kinds).await
    }
}

//! The one task that takes, renews and releases the Lease.

use super::{Leadership, LeaseSettings, leadership::since_boot, record::Record, record::Term};
use crate::again;
use futures::{Stream, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client, Error,
    api::PostParams,
    runtime::{WatchStreamExt, watcher},
};
use std::{
    fmt::Display,
    pin::{Pin, pin},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// Changes of the Lease that come faster are looked at together.
const PAUSE: Duration = Duration::from_millis(20);

/// An election in which this process is a candidate.
pub struct Election {
    api: Api<Lease>,
    settings: LeaseSettings,
    leadership: Leadership,
    leading: watch::Sender<bool>,
    /// Said last, so that the same trouble is told once.
    trouble: Option<String>,
}

/// How an election ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// As asked; whoever stands by may lead.
    #[error("the Lease was released")]
    Released,
    /// Somebody else holds the Lease.
    #[error("the Lease {lease} is {now}")]
    Taken {
        /// Namespace and name.
        lease: String,
        /// What it is now.
        now: String,
    },
    /// The hub did not take a renewal in time.
    #[error("the Lease {lease} was not renewed for {} s: {why}", .after.as_secs_f32())]
    Expired {
        /// Namespace and name.
        lease: String,
        /// How long a renewal is waited for.
        after: Duration,
        /// What the last attempt met.
        why: String,
    },
}

/// What a Lease was when it was last seen to change.
struct Seen {
    record: Record,
    at: Duration,
}

/// Why an attempt did not succeed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Hub(#[from] Error),
    #[error("the hub did not answer within {} s", .0.as_secs_f32())]
    Silent(Duration),
    #[error("the Lease is {0}")]
    Taken(String),
    /// Who made it anew is seen at the next attempt.
    #[error("the Lease was deleted, made by somebody, and deleted again")]
    Overtaken,
}

/// Changes of the Lease; see [`changes`].
type Changes<'a> = Pin<&'a mut (dyn Stream<Item = Option<Lease>> + Send)>;

/// Ends the leadership however the task that holds it ends.
struct Guard(Leadership);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Election {
    /// A candidate that has not asked yet. The client must be one that may
    /// write without leading: see [`crate::transport`].
    pub fn new(client: Client, settings: LeaseSettings) -> Self {
        Self {
            api: Api::namespaced(client, &settings.namespace),
            settings,
            leadership: Leadership::standby(),
            leading: watch::Sender::new(false),
            trouble: None,
        }
    }

    /// What is to be asked before every write.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Turns true when this process begins to lead. It never turns back: the
    /// process ends.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// Waits for the Lease, and keeps it until `stop`. From the return on
    /// this process must not write, and nothing that [`Leadership`] is asked
    /// about does.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> End {
        let _guard = Guard(self.leadership.clone());
        let changes = changes(&self.api, &self.settings.name);
        let mut changes: Changes<'_> = pin!(changes);
        tracing::info!(lease = %self.lease(), identity = self.settings.identity, "waits to lead");
        let Some((mut term, since)) = self.take(&mut changes, &mut stop).await else {
            return End::Released;
        };
        self.leadership
            .hold_until(since + self.settings.timing.deadline());
        self.leading.send_replace(true);
        tracing::info!(lease = %self.lease(), identity = self.settings.identity, "leads");
        let lost = self.hold(&mut term, since, &mut changes, &mut stop).await;
        self.leadership.end();
        match lost {
            Some(lost) => lost,
            None => {
                self.release(term).await;
                End::Released
            }
        }
    }

    fn lease(&self) -> String {
        format!("{}/{}", self.settings.namespace, self.settings.name)
    }

    /// Waits until the Lease is taken; returns when that was asked for. None
    /// when asked to stop before.
    async fn take(
        &mut self,
        changes: &mut Changes<'_>,
        stop: &mut watch::Receiver<bool>,
    ) -> Option<(Term, Duration)> {
        let mut seen = None;
        loop {
            let since = since_boot();
            match self.try_take(&mut seen).await {
                Ok(Some(term)) => return Some((term, since)),
                Ok(None) => self.trouble = None,
                Err(failure) => self.tell("the Lease cannot be taken, it is tried again", &failure),
            }
            // Asked between attempts only: one that is cut off may have taken
            // the Lease.
            tokio::select! {
                () = sleep(self.settings.timing.period()) => {}
                Some(_) = changes.next() => sleep(PAUSE).await,
                () = asked(stop) => return None,
            }
        }
    }

    async fn try_take(&self, seen: &mut Option<Seen>) -> Result<Option<Term>, Failure> {
        let stored = self.ask(self.api.get_opt(&self.settings.name)).await?;
        let now = since_boot();
        let Some(lease) = stored else {
            // Deleted by hand: whoever held it may write for as long as it was
            // granted, and makes it anew.
            if seen.as_ref().is_some_and(|seen| !self.over(seen, now)) {
                return Ok(None);
            }
            let term = Term::new(&self.settings, None);
            return self.create(term).await;
        };
        let record = Record::of(&lease);
        if seen.as_ref().is_none_or(|seen| seen.record != record) {
            if !record.free()
                && seen
                    .as_ref()
                    .is_none_or(|seen| seen.record.holder != record.holder)
            {
                tracing::info!(lease = %self.lease(), holder = record.holder, "stands by");
            }
            *seen = Some(Seen {
                record: record.clone(),
                at: now,
            });
        }
        let over = seen.as_ref().is_some_and(|seen| self.over(seen, now));
        if !over && record.holder != self.settings.identity {
            return Ok(None);
        }
        let mut term = Term::new(&self.settings, Some((lease, &record)));
        match self.replace(&mut term).await {
            Ok(()) => Ok(Some(term)),
            // Somebody was faster, and is seen at the next look.
            Err(Failure::Hub(Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Whether nobody holds what was seen any more.
    fn over(&self, seen: &Seen, now: Duration) -> bool {
        let granted = seen.record.granted.unwrap_or(self.settings.timing.lease);
        seen.record.free() || now.saturating_sub(seen.at) > granted
    }

    /// Renews until that is no longer possible, or until asked to stop: none
    /// then.
    async fn hold(
        &mut self,
        term: &mut Term,
        mut since: Duration,
        changes: &mut Changes<'_>,
        stop: &mut watch::Receiver<bool>,
    ) -> Option<End> {
        let timing = self.settings.timing;
        let mut why = "this process was stopped".to_owned();
        loop {
            let deadline = since + timing.deadline();
            let left = deadline.saturating_sub(since_boot());
            tokio::select! {
                () = sleep(timing.period().min(left)) => {}
                () = self.disturbed(term, changes) => {}
                () = asked(stop) => return None,
            }
            let asked = since_boot();
            let renewed = match deadline.saturating_sub(asked) {
                Duration::ZERO => None,
                left => timeout(left, self.renew(term)).await.ok(),
            };
            // An answer that comes too late does not bring leadership back:
            // somebody may have been told already that it is over.
            let (Some(renewed), true) = (renewed, since_boot() < deadline) else {
                return Some(End::Expired {
                    lease: self.lease(),
                    after: timing.deadline(),
                    why,
                });
            };
            match renewed {
                Ok(()) => {
                    since = asked;
                    self.leadership.hold_until(since + timing.deadline());
                    self.trouble = None;
                }
                Err(Failure::Taken(now)) => {
                    return Some(End::Taken {
                        lease: self.lease(),
                        now,
                    });
                }
                Err(failure) => {
                    self.tell("the Lease is not renewed, it is tried again", &failure);
                    why = failure.to_string();
                }
            }
        }
    }

    /// Returns when somebody else changed the Lease.
    async fn disturbed(&self, term: &Term, changes: &mut Changes<'_>) {
        loop {
            let Some(change) = changes.next().await else {
                return std::future::pending().await;
            };
            let ours = |lease: &Lease| term.holds(&self.settings, &Record::of(lease));
            if !change.as_ref().is_some_and(ours) {
                return;
            }
        }
    }

    /// One renewal, whatever happened to the Lease as long as it is ours.
    async fn renew(&self, term: &mut Term) -> Result<(), Failure> {
        term.fill(&self.settings);
        // One without a version was to be made anew: whether that happened is
        // to be looked at, the API server would refuse it as invalid.
        if term.lease.metadata.resource_version.is_some() {
            match self.replace(term).await {
                Err(Failure::Hub(Error::Api(status))) if matches!(status.code, 404 | 409) => {}
                answer => return answer,
            }
        }
        if let Some(lease) = self.ours(term).await? {
            return self.renew_stored(term, lease).await;
        }
        term.unstored(&self.settings);
        if let Some(made) = self.create(term.clone()).await? {
            *term = made;
            return Ok(());
        }
        // Somebody made it first. If that is another process it leads by now.
        let lease = self.ours(term).await?.ok_or(Failure::Overtaken)?;
        self.renew_stored(term, lease).await
    }

    async fn renew_stored(&self, term: &mut Term, lease: Lease) -> Result<(), Failure> {
        term.lease = lease;
        term.fill(&self.settings);
        self.replace(term).await
    }

    /// The stored Lease, which somebody may have put a label on, or which an
    /// own write changed whose answer was lost; none when there is none.
    async fn ours(&self, term: &Term) -> Result<Option<Lease>, Failure> {
        let stored = self.ask(self.api.get_opt(&self.settings.name)).await?;
        if let Some(lease) = &stored {
            let record = Record::of(lease);
            if !term.holds(&self.settings, &record) {
                return Err(Failure::Taken(self.words(&record)));
            }
        }
        Ok(stored)
    }

    fn words(&self, record: &Record) -> String {
        if record.free() {
            "held by nobody: somebody released it".to_owned()
        } else if record.holder == self.settings.identity {
            format!(
                "held by another process with the same --identity {}: give each replica its own",
                record.holder
            )
        } else {
            format!("held by {} now", record.holder)
        }
    }

    /// Says that nobody leads; what cannot be said now expires.
    async fn release(&self, mut term: Term) {
        term.clear(&self.settings);
        let mut answer = self.replace(&mut term).await;
        if answer.is_err() {
            answer = self.release_anew(&mut term).await;
        }
        match answer {
            Ok(()) => tracing::info!(lease = %self.lease(), "released"),
            Err(failure) => {
                tracing::warn!(lease = %self.lease(), %failure, "not released, it expires");
            }
        }
    }

    async fn release_anew(&self, term: &mut Term) -> Result<(), Failure> {
        let Some(lease) = self.ours(term).await? else {
            return Ok(());
        };
        term.lease = lease;
        term.clear(&self.settings);
        self.replace(term).await
    }

    /// Stores a Lease that is not there; none when another one is.
    async fn create(&self, mut term: Term) -> Result<Option<Term>, Failure> {
        let parameters = PostParams::default();
        match self.ask(self.api.create(&parameters, &term.lease)).await {
            Ok(lease) => {
                term.lease = lease;
                Ok(Some(term))
            }
            Err(Failure::Hub(Error::Api(status))) if status.code == 409 => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Stores a Lease, unless it is another version than the one known.
    async fn replace(&self, term: &mut Term) -> Result<(), Failure> {
        let parameters = PostParams::default();
        let answer = self
            .api
            .replace(&self.settings.name, &parameters, &term.lease);
        term.lease = self.ask(answer).await?;
        Ok(())
    }

    async fn ask<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
        let limit = self.settings.timing.request();
        let answer = timeout(limit, answer).await;
        Ok(answer.map_err(|_| Failure::Silent(limit))??)
    }

    fn tell(&mut self, what: &'static str, failure: &(impl Display + ?Sized)) {
        let trouble = failure.to_string();
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!(lease = %self.lease(), error = trouble, "{what}");
            self.trouble = Some(trouble);
        }
    }
}

/// Returns when asked to stop, or when nobody is there any more to ask.
async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Changes of the Lease, as soon as they are heard of: none for a deletion.
/// Only a hint to look: without the right to watch Leases, or with a watch
/// that hangs, all goes on by the clock.
fn changes(api: &Api<Lease>, name: &str) -> impl Stream<Item = Option<Lease>> + use<> {
    let only = again::watched().fields(&format!("metadata.name={name}"));
    watcher(api.clone(), only)
        .backoff(again::soon())
        .filter_map(async |event| match event {
            Ok(watcher::Event::Apply(lease) | watcher::Event::InitApply(lease)) => Some(Some(lease)),
            Ok(watcher::Event::Delete(_)) => Some(None),
            Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
            Err(error) => {
                tracing::debug!(%error, "the Lease cannot be watched, it is looked at by the clock");
                None
            }
        })
}

//! The loop: observe -> decide -> act -> report, whenever something changed.

use crate::{
    act::{ActError, Actor, HubWrites, Work},
    clock::Clock,
    dirty::Dirty,
    edge::Edge,
    hub::Hub,
    lanes::Lanes,
    members::Members,
    metrics::Metrics,
    progress::Signals,
    report,
    service::{self, Services},
    work::Due,
    world,
};
use flambeau_planner::{model::Settings, plan};
use jiff::Timestamp;
use std::time::{Duration, Instant};
use tokio::{sync::watch, task::JoinSet};

/// A plan may take at most one part in this many of the time, however fast
/// changes come.
const PLANNING_SHARE: u32 = 2;

/// How long the loop sleeps at most before a moment at which the plan changes
/// by itself: the clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How long work under way gets to end when the operator is asked to.
const GRACE: Duration = Duration::from_secs(10);

/// Everything that the loop needs.
pub struct Engine<E> {
    hub: Hub,
    members: Members,
    edge: E,
    services: Services,
    settings: Settings,
    dirty: Dirty,
    actor: Actor<E>,
    lanes: Lanes,
    clock: Clock,
    metrics: Metrics,
    tasks: JoinSet<()>,
}

impl<E: Edge> Engine<E> {
    /// A loop that has not begun. Needs a Tokio runtime.
    pub fn new(
        hub: Hub,
        members: Members,
        edge: E,
        settings: Settings,
        dirty: Dirty,
        writes: HubWrites,
        signals: Signals,
    ) -> Self {
        let actor = Actor::new(
            hub.clone(),
            members.clone(),
            edge.clone(),
            writes,
            signals.clone(),
        );
        let services = Services::start(members.clone(), edge.clone(), dirty.clone());
        Self {
            hub,
            members,
            edge,
            services,
            settings,
            dirty,
            actor,
            lanes: Lanes::default(),
            clock: Clock::now(),
            metrics: signals.metrics,
            tasks: JoinSet::new(),
        }
    }

    /// Waits until this process leads, then runs until asked to stop; then
    /// lets work under way end.
    pub async fn run(
        mut self,
        mut leading: watch::Receiver<bool>,
        mut stop: watch::Receiver<bool>,
    ) {
        let leads = async {
            if leading.wait_for(|leading| *leading).await.is_err() {
                // The election is over: the process ends.
                std::future::pending::<()>().await;
            }
            futures::join!(self.hub.reread(), self.edge.reread());
        };
        tokio::select! {
            () = leads => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        // What another process wrote down is by a clock of its own.
        self.clock = Clock::now();
        // What came while another process led is not waited for.
        self.dirty.take_since();
        let mut rested = Instant::now();
        loop {
            let until = self.alarm();
            tokio::select! {
                () = self.dirty.wait() => {}
                () = sleep_until(until) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
            while self.tasks.try_join_next().is_some() {}
            // Only what is left of the rest: a single event is planned at once.
            tokio::time::sleep_until(rested.into()).await;
            let spent = self.pass();
            rested = Instant::now() + spent * (PLANNING_SHARE - 1);
        }
        tracing::info!(
            under_way = self.tasks.len(),
            "stopping: work under way ends first"
        );
        let drained = tokio::time::timeout(GRACE, async {
            while self.tasks.join_next().await.is_some() {}
        })
        .await;
        if drained.is_err() {
            tracing::warn!(
                left = self.tasks.len(),
                "work was cut off; it is done again after the start"
            );
        }
    }

    fn alarm(&self) -> Option<Instant> {
        let planned = self.metrics.wake_at().map(|at| {
            let wait = at.duration_since(Timestamp::now());
            let wait = Duration::try_from(wait).unwrap_or(Duration::ZERO);
            Instant::now() + wait.min(LONGEST_SLEEP)
        });
        let waiting = [
            planned,
            self.lanes.next_rested(),
            self.actor.reports.next_due(),
        ];
        waiting.into_iter().flatten().min()
    }

    /// One pass; returns how long the thinking took.
    fn pass(&mut self) -> Duration {
        // Before hub and edge were read once, what is not there is unknown,
        // not absent. A hub without the edge's kinds is known to have none.
        let edge_known = self.edge.synced() || self.edge.unavailable().is_some();
        if !self.hub.synced() || !edge_known {
            return Duration::ZERO;
        }
        let (started, asked) = (Instant::now(), self.dirty.take_since());
        let now = Timestamp::now();
        let (snapshot, versions) = world::snapshot(
            &self.hub,
            &self.members,
            &self.edge,
            &self.services,
            &self.lanes,
            &self.settings,
            self.clock.goes_since(),
        );
        self.edge.watch_requests(world::moving(&snapshot));
        self.services.watch(service::copies(&snapshot));
        let plan = plan(&snapshot, now);
        let due = Due {
            hub: &self.hub,
            members: &self.members,
            edge: &self.edge,
            actor: &self.actor,
            snapshot: &snapshot,
            versions: &versions,
            plan: &plan,
            now,
            at: started,
        };
        let mut work = due.applications();
        work.extend(due.pending_erasures());
        work.extend(report::facts(
            &self.hub,
            &self.members,
            &self.actor,
            (&snapshot, &versions),
            &plan,
            now,
        ));
        if versions.overtaken(&self.hub) {
            self.dirty.mark();
        }
        let spent = started.elapsed();
        let waited = asked.map(|asked| asked.elapsed());
        self.metrics.planned(&snapshot, &plan, spent, waited);
        for work in work {
            self.start(work);
        }
        self.lanes.forget_rested(started);
        self.actor.reports.forget_due(started);
        spent
    }

    fn start(&mut self, work: Work) {
        let Some(held) = self.lanes.take(work.lane()) else {
            return;
        };
        // The write before it ended after the snapshot was taken.
        if self.actor.outdated(&work) {
            held.succeed();
            self.dirty.mark();
            return;
        }
        let (actor, dirty) = (self.actor.clone(), self.dirty.clone());
        self.tasks.spawn(async move {
            let (lane, pause) = (work.lane(), work.pause());
            match actor.perform(work).await {
                Ok(()) => match pause {
                    Some(pause) => held.pause(pause),
                    None => held.succeed(),
                },
                Err(ActError::Member(error)) => {
                    // Members keep their own pace, and ask for a plan when
                    // the next attempt is due.
                    tracing::debug!(?lane, %error, "the member has not taken this yet");
                    held.succeed();
                    return;
                }
                Err(error) => {
                    tracing::warn!(?lane, %error, "work is not done yet, it is tried again");
                    drop(held);
                }
            }
            dirty.mark();
        });
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

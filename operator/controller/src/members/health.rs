//! Whether a member answers: what is thought of its silence.
//!
//! Silence is measured with the monotonic clock, and only while this process
//! runs: neither a clock that is set nor a process that was stopped for a
//! while makes a member look lost.

use super::{connection::Connection, member::Member};
use crate::clock::Moment;
use flambeau_planner::model::Reach;
use jiff::Timestamp;
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// A member whose last answer is older is in doubt.
const DOUBT: Duration = Duration::from_secs(2);

/// What is known about whether a member answers.
pub(super) struct Health {
    state: Mutex<State>,
    /// Grows whenever the member answers again.
    generation: watch::Sender<u64>,
    doubt: AtomicBool,
}

struct State {
    reach: Reach,
    /// It answered since this process runs.
    ever: bool,
    /// When it last answered, or else since when it is asked.
    last: Instant,
    /// When it was last seen to be well, or else since when it is asked.
    well: Instant,
    /// Since when it answers without interruption.
    answers: Option<Moment>,
    /// When it last answered, while it is unreachable.
    silent: Option<Moment>,
    /// It was unreachable before it answered.
    returned: bool,
    /// It was unreachable, and did not answer well since.
    lost: bool,
    /// Since when it was unreachable, as stored by the process before this one.
    restored: Option<Timestamp>,
    /// It answered a process before this one.
    vouched: bool,
    /// What is wrong with the connection details although it answers.
    complaint: Option<String>,
    /// Why the last probe had no answer.
    trouble: Option<String>,
}

/// What a probe found.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The member is well.
    Answers,
    /// It is not, or says nothing.
    Silent(String),
    /// It does not accept the connection details.
    Refused(String),
}

impl Health {
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                reach: Reach::NotObserved,
                ever: false,
                last: Instant::now(),
                well: Instant::now(),
                answers: None,
                silent: None,
                returned: false,
                lost: false,
                restored: None,
                vouched: false,
                complaint: None,
                trouble: None,
            }),
            generation: watch::Sender::new(0),
            doubt: AtomicBool::new(false),
        }
    }

    /// Whether the member answers.
    pub fn reach(&self) -> Reach {
        self.lock().told()
    }

    /// Since when the member answers without interruption.
    pub fn answers_since(&self) -> Option<Timestamp> {
        self.lock().answers.as_mut().map(Moment::time)
    }

    /// How long ago it last answered with what was asked for, or else since
    /// when it is asked.
    pub fn unobserved(&self, connection: Option<&Connection>) -> Duration {
        let well = self.lock().well;
        let answer = connection.and_then(Connection::last_answer);
        answer.map_or(well, |answer| answer.max(well)).elapsed()
    }

    /// Whether the member was unreachable before it answered.
    pub fn returned(&self) -> bool {
        self.lock().returned
    }

    /// Whether the member has not answered for longer than it should take.
    pub fn in_doubt(&self) -> bool {
        self.doubt.load(Ordering::Relaxed)
    }

    /// Tells when the member answers again.
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Takes over since when the member was unreachable, from the process
    /// before this one; of no account once it is known to answer or not.
    pub fn restore(&self, since: Timestamp) {
        let mut state = self.lock();
        let known = state.ever || matches!(state.reach, Reach::Unreachable { .. });
        if !known {
            // What is still to come was written by a clock that was ahead.
            state.restored = Some(since.min(Timestamp::now()));
            state.lost = true;
        }
    }

    /// Takes over that the member answered the process before this one: a
    /// silence is one then, and not a mistake in the connection details.
    pub fn vouch(&self) {
        self.lock().vouched = true;
    }

    /// Notes that new connection details are tried. What is known stays: an
    /// unreachable member is so until it answers.
    pub fn try_again(&self, member: &Member) {
        let mut state = self.lock();
        state.complaint = None;
        state.trouble = None;
        if !state.ever {
            state.last = Instant::now();
        }
        if matches!(state.reach, Reach::Misconfigured { .. }) {
            state.reach = Reach::NotObserved;
            member.shared.dirty.mark();
        }
    }

    /// Notes that the connection details cannot be used.
    pub fn misconfigured(&self, member: &Member, message: String) {
        self.set(member, self.lock(), Reach::Misconfigured { message });
    }

    /// Notes, or takes back, that the connection details do not suffice
    /// although the member answers.
    pub fn complain(&self, member: &Member, complaint: Option<String>) {
        let mut state = self.lock();
        let healed = complaint.is_none() && state.complaint.is_some();
        state.complaint.clone_from(&complaint);
        match complaint {
            Some(message) => self.set(member, state, Reach::Misconfigured { message }),
            None if healed => self.set(member, state, Reach::Reachable),
            None => {}
        }
    }

    /// Takes what a probe found.
    pub fn judge(&self, member: &Member, connection: &Connection, verdict: Verdict) {
        let mut state = self.lock();
        let reach = match verdict {
            Verdict::Silent(message) => {
                state.trouble = Some(message);
                drop(state);
                return self.look(member, connection);
            }
            Verdict::Answers => {
                state.ever = true;
                state.well = Instant::now();
                match &state.complaint {
                    Some(message) => Reach::Misconfigured {
                        message: message.clone(),
                    },
                    None => Reach::Reachable,
                }
            }
            Verdict::Refused(message) => Reach::Misconfigured { message },
        };
        let broken_off = state.silence(connection) >= member.unreachable_after() / 2;
        state.last = Instant::now();
        state.trouble = None;
        let before = state.reach == reach;
        self.set(member, state, reach);
        if before && broken_off {
            self.again();
        }
        self.look(member, connection);
    }

    /// Looks at how long the member has been silent.
    pub fn look(&self, member: &Member, connection: &Connection) {
        let mut state = self.lock();
        let silence = state.silence(connection);
        let unreachable = matches!(state.reach, Reach::Unreachable { .. });
        let doubt = unreachable || silence >= doubt_after(member);
        // How many members are in doubt tells whether the hub is.
        if self.doubt.swap(doubt, Ordering::Relaxed) != doubt {
            member.shared.dirty.mark();
        }
        if unreachable || silence < state.limit(member) {
            return;
        }
        let reach = if state.ever || state.vouched || state.restored.is_some() {
            let restored = state.restored.filter(|_| !state.ever);
            let mut last = Moment::at(state.last_answer(connection));
            state.silent = restored.is_none().then_some(last);
            Reach::Unreachable {
                since: restored.unwrap_or_else(|| last.time()),
            }
        } else {
            let silent = || {
                let limit = member.unreachable_after().as_secs_f32();
                format!("no answer within {limit} s")
            };
            Reach::Misconfigured {
                message: format!(
                    "{} never answered: {}: correct server in the kubeconfig, or bring the cluster up",
                    connection.server,
                    state.trouble.clone().unwrap_or_else(silent)
                ),
            }
        };
        self.set(member, state, reach);
        self.doubt.store(true, Ordering::Relaxed);
    }

    /// When the silence of the member is to be looked at next, if it matters.
    pub fn due(&self, member: &Member, connection: &Connection) -> Option<Instant> {
        let state = self.lock();
        let told = match state.reach {
            Reach::Unreachable { .. } => true,
            Reach::Misconfigured { .. } => !state.ever,
            Reach::Reachable | Reach::NotObserved => false,
        };
        let due = state.last_answer(connection) + state.limit(member);
        (!told).then_some(due)
    }

    /// Takes time out of the silence in which this process did not run:
    /// nobody listened.
    pub fn excuse(&self, connection: &Connection, time: Duration) {
        let mut state = self.lock();
        let last = state.last_answer(connection) + time;
        state.last = last.min(Instant::now());
    }

    fn set(&self, member: &Member, mut state: MutexGuard<'_, State>, reach: Reach) {
        if state.reach == reach {
            return;
        }
        if !matches!(reach, Reach::Unreachable { .. }) {
            state.silent = None;
        }
        match &reach {
            Reach::Reachable => {
                tracing::info!(cluster = %member.name, "member answers");
                state.answers = Some(Moment::now());
                state.returned = std::mem::take(&mut state.lost);
                state.restored = None;
            }
            Reach::Unreachable { since } => {
                tracing::warn!(cluster = %member.name, %since, "member does not answer");
                state.answers = None;
                state.lost = true;
            }
            Reach::Misconfigured { message } => {
                tracing::warn!(cluster = %member.name, %message, "member cannot be asked");
                state.answers = None;
            }
            Reach::NotObserved => {}
        }
        let again = reach == Reach::Reachable;
        state.reach = reach;
        drop(state);
        if again {
            // What failed in the silence is tried at once.
            member.works.clear();
            self.again();
        }
        member.shared.dirty.mark();
    }

    /// Connections that were open during a silence may be dead without a word.
    fn again(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Silences that are compared are told by one clock, also when it was set
    /// between their beginnings.
    fn told(&mut self) -> Reach {
        match self.silent.as_mut().map(Moment::time) {
            Some(since) => Reach::Unreachable { since },
            None => self.reach.clone(),
        }
    }

    fn last_answer(&self, connection: &Connection) -> Instant {
        connection
            .last_answer()
            .map_or(self.last, |answer| answer.max(self.last))
    }

    fn silence(&self, connection: &Connection) -> Duration {
        self.last_answer(connection).elapsed()
    }

    /// How long a silence says that the member is unreachable. Where the
    /// process before this one knew that already, it takes no such proof.
    fn limit(&self, member: &Member) -> Duration {
        if self.restored.is_some() && !self.ever {
            doubt_after(member)
        } else {
            member.unreachable_after()
        }
    }
}

/// How long a silence puts a member in doubt.
pub(super) fn doubt_after(member: &Member) -> Duration {
    DOUBT.min(member.unreachable_after() / 4)
}

#[cfg(test)]
mod tests {
    use super::super::{MemberSettings, kubeconfig, member::Shared, metrics::MemberMetrics};
    use super::*;
    use crate::{dirty::Dirty, leader::Leadership};
    use std::sync::Arc;
    use tokio::time::advance;

    const KUBECONFIG: &[u8] = br#"{"apiVersion": "v1", "kind": "Config", "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        "clusters": [{"name": "one", "cluster": {"server": "https://member.example:6443"}}],
        "users": [{"name": "one", "user": {"token": "sesame"}}]}"#;

    struct Case {
        member: Member,
        connection: Connection,
    }

    impl Case {
        fn new() -> Self {
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let access = kubeconfig::read(KUBECONFIG).unwrap();
            let metrics = MemberMetrics::default();
            let shared = Shared::new(
                Dirty::default(),
                MemberSettings::default(),
                Leadership::always(),
            );
            let member = Member::new("one".into(), Arc::new(shared));
            member.set_unreachable_after(Duration::from_secs(8));
            Self {
                member,
                connection: Connection::new(
                    "one".into(),
                    &access,
                    None,
                    metrics,
                    &Leadership::always(),
                )
                .unwrap(),
            }
        }

        fn judge(&self, verdict: Verdict) {
            self.member
                .health
                .judge(&self.member, &self.connection, verdict);
        }

        fn silent(&self) {
            self.judge(Verdict::Silent("connection refused".to_owned()));
        }

        fn look(&self) -> Reach {
            self.member.health.look(&self.member, &self.connection);
            self.member.health.reach()
        }
    }

    async fn wait(millis: u64) {
        advance(Duration::from_millis(millis)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_told_when_the_threshold_passes_and_as_of_the_same_moment() {
        let case = Case::new();
        case.judge(Verdict::Answers);
        let health = &case.member.health;
        assert!(health.answers_since().is_some());
        assert!(!health.returned());
        wait(1900).await;
        assert_eq!(case.look(), Reach::Reachable);
        assert!(!health.in_doubt());
        wait(200).await;
        case.silent();
        assert!(health.in_doubt());
        let due = health.due(&case.member, &case.connection).unwrap();
        assert_eq!(due - Instant::now(), Duration::from_millis(5900));
        wait(5899).await;
        assert_eq!(case.look(), Reach::Reachable);
        wait(1).await;
        let Reach::Unreachable { since } = case.look() else {
            panic!("{:?}", case.look());
        };
        assert_eq!(health.answers_since(), None);
        for _ in 0..3 {
            wait(500).await;
            case.silent();
            assert_eq!(case.look(), Reach::Unreachable { since });
        }
        assert_eq!(health.due(&case.member, &case.connection), None);
        case.judge(Verdict::Answers);
        assert_eq!(case.look(), Reach::Reachable);
        assert!(health.returned() && !health.in_doubt());
    }

    /// Silences that began together are told so, although the clock was set
    /// between the moments at which they were noticed.
    #[tokio::test(start_paused = true)]
    async fn a_silence_is_told_anew_when_the_clock_is_set() {
        let case = Case::new();
        case.judge(Verdict::Answers);
        wait(8000).await;
        let Reach::Unreachable { since } = case.look() else {
            panic!("{:?}", case.look());
        };
        // The time of day stands still here: it is as if it was set back.
        wait(3_600_000).await;
        case.silent();
        let Reach::Unreachable { since: anew } = case.look() else {
            panic!("{:?}", case.look());
        };
        let back = since.duration_since(anew).as_secs();
        assert!((3598..=3602).contains(&back), "{back} s");
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_the_api_server_says_breaks_the_silence() {
        let case = Case::new();
        case.judge(Verdict::Answers);
        for _ in 0..4 {
            wait(7000).await;
            case.connection.answered();
            case.silent();
            assert_eq!(case.look(), Reach::Reachable);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_stopped_holds_its_own_absence_against_nobody() {
        let case = Case::new();
        case.judge(Verdict::Answers);
        wait(20_000).await;
        let away = Duration::from_millis(19_500);
        case.member.health.excuse(&case.connection, away);
        assert_eq!(case.look(), Reach::Reachable);
        wait(7400).await;
        assert_eq!(case.look(), Reach::Reachable);
        wait(200).await;
        assert!(matches!(case.look(), Reach::Unreachable { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_takes_over_since_when_a_dead_member_is_so() {
        let since = Timestamp::UNIX_EPOCH;
        let case = Case::new();
        case.member.health.restore(since);
        case.silent();
        assert_eq!(case.look(), Reach::NotObserved);
        wait(2000).await;
        assert_eq!(case.look(), Reach::Unreachable { since });
        wait(60_000).await;
        case.silent();
        assert_eq!(case.look(), Reach::Unreachable { since });
        case.judge(Verdict::Answers);
        assert!(case.member.health.returned());
        // The status is as old as before for a while.
        case.member.health.restore(since);
        wait(8000).await;
        let Reach::Unreachable { since: anew } = case.look() else {
            panic!("{:?}", case.look());
        };
        assert_ne!(anew, since);
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_answered_the_process_before_is_lost_when_it_is_silent() {
        let case = Case::new();
        case.member.health.vouch();
        wait(7000).await;
        assert_eq!(case.look(), Reach::NotObserved);
        wait(1000).await;
        assert!(matches!(case.look(), Reach::Unreachable { .. }));
        case.judge(Verdict::Answers);
        assert!(case.member.health.returned());
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_never_answered_is_no_lost_one() {
        let case = Case::new();
        case.silent();
        wait(8000).await;
        let Reach::Misconfigured { message } = case.look() else {
            panic!("{:?}", case.look());
        };
        assert!(
            message.contains("never answered: connection refused"),
            "{message}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_gets_older_until_the_member_says_something_useful() {
        let case = Case::new();
        let age = || case.member.health.unobserved(Some(&case.connection));
        wait(3000).await;
        assert_eq!(age(), Duration::from_secs(3), "it was never observed");
        case.judge(Verdict::Answers);
        assert_eq!(age(), Duration::ZERO);
        wait(5000).await;
        case.judge(Verdict::Refused("unauthorized".to_owned()));
        case.silent();
        assert_eq!(age(), Duration::from_secs(5));
        case.connection.answered();
        assert_eq!(age(), Duration::ZERO, "a watch tells as well as a probe");
    }
}

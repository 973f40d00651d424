//! Whether a member answers.

use super::{
    connection::{Connection, RequestError, get},
    member::Member,
    metrics::Verb,
};
use flambeau_planner::model::Reach;
use jiff::Timestamp;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::sleep};

/// How often a member is asked whether it is ready.
const INTERVAL: Duration = Duration::from_secs(2);
/// How seldom a member is asked whose connection details are refused.
const INTERVAL_LIMIT: Duration = Duration::from_secs(15);
/// How long an answer may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// What is known about whether a member answers.
pub(super) struct Health {
    state: Mutex<State>,
    /// Grows whenever the member answers again.
    generation: watch::Sender<u64>,
}

struct State {
    reach: Reach,
    /// It answered since this process runs.
    ever: bool,
    /// When it last answered, or else since when it is asked: milliseconds of
    /// Unix time.
    last: i64,
    /// What is wrong with the connection details although it answers.
    complaint: Option<String>,
}

enum Verdict {
    Answers,
    Silent(String),
    Refused(String),
}

impl Health {
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                reach: Reach::NotObserved,
                ever: false,
                last: now(),
                complaint: None,
            }),
            generation: watch::Sender::new(0),
        }
    }

    /// Whether the member answers.
    pub fn reach(&self) -> Reach {
        self.lock().reach.clone()
    }

    /// Tells when the member answers again.
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Notes that new connection details are tried. What is known stays: an
    /// unreachable member is so until it answers.
    pub fn try_again(&self, member: &Member) {
        let mut state = self.lock();
        state.complaint = None;
        state.last = if state.ever { state.last } else { now() };
        if matches!(state.reach, Reach::Misconfigured { .. }) {
            state.reach = Reach::NotObserved;
            member.shared.dirty.mark();
        }
    }

    /// Notes that the connection details cannot be used.
    pub fn misconfigured(&self, member: &Member, message: String) {
        self.set(member, Reach::Misconfigured { message });
    }

    /// Notes, or takes back, that the connection details do not suffice
    /// although the member answers.
    pub fn complain(&self, member: &Member, complaint: Option<String>) {
        let mut state = self.lock();
        let healed = complaint.is_none() && state.complaint.is_some();
        state.complaint.clone_from(&complaint);
        drop(state);
        match complaint {
            Some(message) => self.misconfigured(member, message),
            None if healed => self.set(member, Reach::Reachable),
            None => {}
        }
    }

    fn set(&self, member: &Member, reach: Reach) {
        let mut state = self.lock();
        if state.reach == reach {
            return;
        }
        match &reach {
            Reach::Reachable => tracing::info!(cluster = %member.name, "member answers"),
            Reach::Unreachable { since } => {
                tracing::warn!(cluster = %member.name, %since, "member does not answer")
            }
            Reach::Misconfigured { message } => {
                tracing::warn!(cluster = %member.name, %message, "member cannot be asked")
            }
            Reach::NotObserved => {}
        }
        let again = reach == Reach::Reachable;
        state.reach = reach;
        drop(state);
        if again {
            // What failed in the silence is tried at once.
            member.works.clear();
            self.generation.send_modify(|generation| *generation += 1);
        }
        member.shared.dirty.mark();
    }

    fn judge(&self, member: &Member, connection: &Connection, verdict: Verdict) {
        let mut state = self.lock();
        state.last = state.last.max(connection.last_answer());
        let silent = Duration::from_millis(u64::try_from(now() - state.last).unwrap_or(0));
        let due = silent >= member.unreachable_after();
        let reach = match verdict {
            Verdict::Answers => {
                state.ever = true;
                match &state.complaint {
                    Some(message) => Reach::Misconfigured {
                        message: message.clone(),
                    },
                    None => Reach::Reachable,
                }
            }
            Verdict::Refused(message) => Reach::Misconfigured { message },
            Verdict::Silent(_) if !due => return,
            Verdict::Silent(_) if state.ever => Reach::Unreachable {
                since: Timestamp::from_millisecond(state.last).unwrap_or_default(),
            },
            Verdict::Silent(message) => Reach::Misconfigured {
                message: format!(
                    "{} never answered: {message}: correct server in the kubeconfig, or bring the cluster up",
                    connection.server
                ),
            },
        };
        drop(state);
        self.set(member, reach);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks a member again and again, until it is stopped.
pub(super) async fn run(member: Arc<Member>, connection: Arc<Connection>) {
    let mut pause = INTERVAL;
    loop {
        let verdict = probe(&connection).await;
        pause = match verdict {
            Verdict::Refused(_) => (pause * 2).min(INTERVAL_LIMIT),
            _ => INTERVAL
                .min(member.unreachable_after() / 3)
                .max(Duration::from_millis(200)),
        };
        member.health.judge(&member, &connection, verdict);
        sleep(pause).await;
    }
}

async fn probe(connection: &Connection) -> Verdict {
    let answer = match get("/readyz") {
        Ok(request) => connection.call(Verb::Get, request, PROBE_TIMEOUT).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(_) => Verdict::Answers,
        Err(RequestError::Certificate(message)) => Verdict::Refused(format!(
            "TLS with {} fails: {message}: correct certificate-authority-data or the client certificate in the kubeconfig",
            connection.server
        )),
        Err(error) => match error.code() {
            Some(401) => Verdict::Refused(format!(
                "{} does not accept the credentials of the kubeconfig: renew them",
                connection.server
            )),
            Some(code) if code < 500 => Verdict::Answers,
            _ => Verdict::Silent(error.to_string()),
        },
    }
}

fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

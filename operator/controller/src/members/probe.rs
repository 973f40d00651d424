//! Asks a member again and again whether it is ready: more often while it is
//! in doubt, so that its return is seen soon.

use super::{
    connection::{Connection, RequestError, get},
    credentials,
    health::Verdict,
    member::Member,
    metrics::Verb,
};
use flambeau_planner::model::Reach;
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// How often a member is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often a member is asked that is in doubt.
const INTERVAL_IN_DOUBT: Duration = Duration::from_millis(500);
/// How seldom a member is asked whose connection details are refused.
const INTERVAL_LIMIT: Duration = Duration::from_secs(15);
/// How long an answer may take: a member that is slow is not silent.
const TIMEOUT: Duration = Duration::from_secs(4);
/// How many questions are open at once at most.
const OPEN: usize = 8;
/// How late the loop may be before it is said that this process did not run.
const LATE: Duration = Duration::from_secs(1);

/// Asks a member again and again, until it is stopped.
pub(super) async fn run(member: Arc<Member>, connection: Arc<Connection>) {
    let mut probes: JoinSet<Verdict> = JoinSet::new();
    let mut asked: Option<Instant> = None;
    let mut refusals = 0;
    loop {
        let pace = pace(&member, refusals);
        let now = Instant::now();
        let due = asked.map_or(now, |asked| asked + pace);
        if due <= now {
            if probes.len() < OPEN {
                probes.spawn(probe(connection.clone(), timeout(&member)));
            }
            asked = Some(now);
            continue;
        }
        let tick = now + INTERVAL_IN_DOUBT.min(member.unreachable_after() / 8);
        let look = member.health.due(&member, &connection);
        let wake = look
            .map_or(tick, |look| look.max(now).min(tick))
            .min(due.max(now));
        let verdict = tokio::select! {
            Some(verdict) = probes.join_next() => verdict.ok(),
            () = sleep_until(wake) => None,
        };
        let late = wake.elapsed();
        if late > LATE {
            tracing::warn!(cluster = %member.name, ?late, "this process did not run for a while: that is not held against the member");
            member.health.excuse(&connection, late);
        }
        match verdict {
            Some(verdict) => {
                refusals = match verdict {
                    Verdict::Refused(_) => refusals + 1,
                    _ => 0,
                };
                member.health.judge(&member, &connection, verdict);
            }
            None => member.health.look(&member, &connection),
        }
    }
}

fn pace(member: &Member, refusals: u32) -> Duration {
    let quarter = member.unreachable_after() / 4;
    if refusals > 0 {
        // A refusal is an answer: asked less often than silence is judged, the member would count as silent in between,
        // and its applications would fail over because of a token.
        INTERVAL
            .saturating_mul(1 << refusals.min(8))
            .min(INTERVAL_LIMIT)
            .min(member.unreachable_after() / 2)
    } else if member.health.in_doubt()
        && !matches!(member.health.reach(), Reach::Unreachable { .. })
    {
        INTERVAL_IN_DOUBT.min(quarter / 2)
    } else {
        INTERVAL.min(quarter)
    }
}

fn timeout(member: &Member) -> Duration {
    TIMEOUT.min(member.unreachable_after())
}

async fn probe(connection: Arc<Connection>, limit: Duration) -> Verdict {
    let answer = match get("/readyz") {
        Ok(request) => connection.call(Verb::Get, request, limit).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(_) => Verdict::Answers,
        Err(RequestError::Certificate(message)) => Verdict::Refused(format!(
            "TLS with {} fails: {message}: correct certificate-authority-data or the client certificate in the kubeconfig",
            connection.server
        )),
        Err(error) => match error.code() {
            Some(401) => {
                let (server, token) = (&connection.server, connection.token.as_ref());
                Verdict::Refused(credentials::not_accepted(server, token, Timestamp::now()))
            }
            // An API server that is asked too much, or by whom it does not let, is there; what redirects or does not know the path is none.
            Some(400 | 403 | 405..500) => Verdict::Answers,
            Some(code @ (300..400 | 404)) => Verdict::Silent(format!(
                "{} answers /readyz with {code}, as no API server does: correct the server in the kubeconfig, or look at the proxy or load balancer there",
                connection.server
            )),
            _ => Verdict::Silent(error.to_string()),
        },
    }
}

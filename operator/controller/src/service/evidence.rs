//! What is known of the services of one copy, and what follows from it.

use crate::{
    clock::Moment,
    edge::{Reading, Totals},
};
use flambeau_planner::model::Service;
use jiff::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

/// An older answer says nothing any more.
pub(super) const FRESH: Duration = Duration::from_secs(3);
/// Where nobody could look since, the last answer holds for this long.
const UNSEEN: Duration = Duration::from_secs(15);
/// So many requests without a byte in return are no slow requests.
const WAITING: u64 = 10;

/// So long it is remembered of a copy that answers that it was silent.
const AFTERMATH: Duration = Duration::from_secs(15);

/// How a connection that the operator tried itself went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It was taken.
    Taken,
    /// It was turned down: somebody is there, but not the service.
    Refused,
    /// Nothing came back in time.
    Unanswered,
}

/// What is known of the services of one copy.
///
/// Requests of users say more than connections that the operator tries: a
/// service that takes connections and answers none of its requests does not
/// answer. Without requests, connections tell.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    reading: Option<Reading>,
    /// Requests begun when bytes last came from there.
    heard: u64,
    /// When a request was last seen answered.
    answered: Option<Instant>,
    /// When requests were last seen to fail, and none answered.
    failed: Option<Instant>,
    /// When a connection was last taken.
    taken: Option<Instant>,
    /// When a connection last was not.
    untaken: Option<Instant>,
    /// When anything last came from there, be it an error.
    life: Option<Instant>,
    /// When bytes last came from there through the edge.
    reached: Option<Moment>,
    /// The first failure since the last answer.
    failing: Option<Moment>,
    silent: Option<Moment>,
    /// When the last silence began, and its end.
    silence: Option<(Timestamp, Instant)>,
}

impl Evidence {
    /// Takes what the edge's proxy says.
    pub fn read(&mut self, reading: Reading) {
        let Some(before) = self.reading.replace(reading) else {
            self.heard = reading.totals.begun;
            return;
        };
        if before.at == reading.at {
            return;
        }
        let (at, now, then) = (reading.at.began(), reading.totals, before.totals);
        // The proxy started anew: what it counted before is not known.
        if now.begun < then.begun || now.received < then.received || now.answered < then.answered {
            self.heard = now.begun;
            return;
        }
        if now.received > then.received {
            self.heard = now.begun;
            self.life = Some(at);
            self.reached = Some(reading.at);
        }
        let failed = now.failed.saturating_sub(then.failed);
        let answered = (now.answered - then.answered).saturating_sub(failed);
        let streams = failed == 0 && now.received > then.received;
        if answered > 0 || streams {
            self.answered = Some(at);
            self.failing = None;
        } else if failed > 0 || self.waits(now) {
            self.failed = Some(at);
            self.failing.get_or_insert(reading.at);
        }
    }

    fn waits(&self, now: Totals) -> bool {
        now.open > 0 && now.begun.saturating_sub(self.heard) >= WAITING
    }

    /// Takes how a connection that was tried went; `known` that connections to
    /// that cluster were answered before, so that silence means something.
    pub fn tried(&mut self, attempt: Attempt, known: bool) {
        let now = Instant::now();
        match attempt {
            Attempt::Taken => {
                self.taken = Some(now);
                self.untaken = None;
                self.life = Some(now);
                if !self.requests_fail(now) {
                    self.failing = None;
                }
            }
            Attempt::Refused | Attempt::Unanswered if known => {
                self.untaken = Some(now);
                self.failing.get_or_insert_with(|| Moment::at(now));
            }
            Attempt::Refused | Attempt::Unanswered => {}
        }
    }

    /// What follows; silence begins only while the copy has `endpoints`.
    pub fn judge(&mut self, endpoints: impl FnOnce() -> bool) -> Service {
        let now = Instant::now();
        let answers =
            self.requests_answered(now) || (!self.requests_fail(now) && fresh(self.taken, now));
        if answers {
            if let Some(mut silent) = self.silent.take() {
                self.silence = Some((silent.time(), now));
            }
            return match self.silence {
                Some((silent_since, end)) if now.duration_since(end) < AFTERMATH => {
                    Service::AnswersAgain { silent_since }
                }
                _ => Service::Answers,
            };
        }
        let fails = self.requests_fail(now) || fresh(self.untaken, now);
        if fails && self.silent.is_none() && endpoints() {
            self.silent = Some(self.failing.unwrap_or_else(|| Moment::at(now)));
        }
        match &mut self.silent {
            Some(since) => Service::Silent {
                since: since.time(),
            },
            None => Service::Unknown,
        }
    }

    /// When anything last came from there through the edge.
    pub fn reached(&mut self) -> Option<Timestamp> {
        self.reached.as_mut().map(Moment::time)
    }

    /// Whether anything came from there within the last seconds.
    pub fn lives(&self) -> bool {
        let now = Instant::now();
        fresh(self.life, now) || self.unseen(self.life, now)
    }

    /// Whether there is doubt that only a further look can settle.
    pub fn in_doubt(&self) -> bool {
        self.silent.is_some() || self.requests_fail(Instant::now())
    }

    /// Takes time out of the age of everything in which this process did not
    /// run: nobody looked.
    pub fn excuse(&mut self, time: Duration) {
        let now = Instant::now();
        let times = [
            &mut self.answered,
            &mut self.failed,
            &mut self.taken,
            &mut self.untaken,
            &mut self.life,
        ];
        for at in times.into_iter().flatten() {
            *at = (*at + time).min(now);
        }
    }

    fn requests_answered(&self, now: Instant) -> bool {
        fresh(self.answered, now) || self.unseen(self.answered, now)
    }

    fn requests_fail(&self, now: Instant) -> bool {
        !self.requests_answered(now) && fresh(self.failed, now)
    }

    /// Whether something was so at the last look, and nobody could look since.
    fn unseen(&self, at: Option<Instant>, now: Instant) -> bool {
        let looked = self.reading.map(|reading| reading.at.began());
        at.is_some_and(|at| {
            looked.is_some_and(|looked| at >= looked) && now.duration_since(at) < UNSEEN
        }) && !fresh(self.untaken, now)
    }
}

fn fresh(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| now.saturating_duration_since(at) < FRESH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    /// Requests that the edge counts each second.
    #[derive(Default)]
    struct Copy {
        evidence: Evidence,
        totals: Totals,
    }

    impl Copy {
        fn new() -> Self {
            let mut copy = Self::default();
            copy.read();
            copy
        }

        fn read(&mut self) {
            let at = Moment::now();
            let totals = self.totals;
            self.evidence.read(Reading { at, totals });
        }

        /// A second passes in which requests were answered and failed.
        async fn second(&mut self, answered: u64, failed: u64) -> Service {
            advance(Duration::from_secs(1)).await;
            self.totals.begun += answered + failed;
            self.totals.answered += answered + failed;
            self.totals.failed += failed;
            self.totals.received += answered * 200;
            self.read();
            self.judge()
        }

        fn judge(&mut self) -> Service {
            self.evidence.judge(|| true)
        }
    }

    fn silent(service: Service) -> bool {
        matches!(service, Service::Silent { .. })
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_all_fail_are_silence_as_of_the_first() {
        let mut copy = Copy::new();
        assert_eq!(copy.judge(), Service::Unknown);
        assert_eq!(copy.second(5, 5).await, Service::Answers);
        for _ in 0..2 {
            assert_eq!(copy.second(0, 5).await, Service::Answers);
        }
        for seconds in 3..20 {
            assert!(silent(copy.second(0, 5).await));
            let since = copy.evidence.silent.unwrap().elapsed();
            assert_eq!(since, Duration::from_secs(seconds - 1));
        }
        let again = copy.second(1, 99).await;
        assert!(again.answers() && again != Service::Answers, "{again:?}");
        for _ in 0..14 {
            assert_eq!(copy.second(5, 0).await, again);
        }
        assert_eq!(copy.second(5, 0).await, Service::Answers);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_begins_only_where_there_were_endpoints_and_lasts_without() {
        let mut copy = Copy::new();
        copy.second(0, 5).await;
        copy.evidence.silent = None;
        assert_eq!(copy.evidence.judge(|| false), Service::Unknown);
        assert!(silent(copy.evidence.judge(|| true)));
        assert!(silent(copy.evidence.judge(|| false)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_error_in_a_quiet_hour_is_no_silence_where_connections_are_taken() {
        let mut copy = Copy::new();
        assert!(silent(copy.second(0, 1).await));
        for second in 0..10 {
            copy.evidence.tried(Attempt::Taken, true);
            let service = copy.second(0, 0).await;
            assert!(second < 2 || service.answers(), "{second} {service:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_application_that_answers_every_request_with_an_error_is_silent_but_alive() {
        let mut copy = Copy::new();
        for _ in 0..12 {
            copy.totals.received += 1000;
            copy.evidence.tried(Attempt::Taken, true);
            assert!(silent(copy.second(0, 9).await));
            assert!(copy.evidence.lives());
            assert_eq!(
                copy.evidence.reached,
                copy.evidence.reading.map(|read| read.at)
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_wait_for_ever_are_silence_and_streams_are_not() {
        let mut copy = Copy::new();
        copy.second(9, 0).await;
        for _ in 0..5 {
            copy.totals.begun += 5;
            copy.totals.open += 5;
            copy.second(0, 0).await;
        }
        assert!(silent(copy.judge()), "no byte came back");
        copy.totals.received += 20;
        assert!(copy.second(0, 0).await.answers());
    }

    #[tokio::test(start_paused = true)]
    async fn without_requests_connections_tell_where_they_ever_worked() {
        let mut copy = Copy::new();
        for _ in 0..5 {
            copy.evidence.tried(Attempt::Unanswered, false);
            assert_eq!(copy.second(0, 0).await, Service::Unknown);
        }
        copy.evidence.tried(Attempt::Taken, true);
        assert_eq!(copy.judge(), Service::Answers);
        assert!(copy.evidence.lives());
        for _ in 0..4 {
            copy.evidence.tried(Attempt::Unanswered, true);
            copy.second(0, 0).await;
        }
        assert!(silent(copy.judge()) && !copy.evidence.lives());
        assert_eq!(copy.evidence.reached, None, "nobody tried through the edge");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_fades_within_seconds_unless_nobody_could_look_since() {
        let mut copy = Copy::new();
        copy.second(5, 0).await;
        advance(Duration::from_secs(14)).await;
        assert_eq!(
            copy.judge(),
            Service::Answers,
            "the proxy said nothing since"
        );
        assert_eq!(copy.second(0, 0).await, Service::Unknown);
        copy.second(5, 0).await;
        for _ in 0..3 {
            copy.second(0, 0).await;
        }
        assert_eq!(copy.judge(), Service::Unknown);
        assert!(!copy.evidence.lives());
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_starts_anew_tells_nothing_of_before() {
        let mut copy = Copy::new();
        copy.second(5, 0).await;
        copy.totals = Totals::default();
        copy.totals.failed = 3;
        copy.totals.answered = 3;
        for _ in 0..4 {
            copy.second(0, 0).await;
        }
        assert_eq!(copy.judge(), Service::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_stopped_does_not_forget_an_answer() {
        let mut copy = Copy::new();
        copy.evidence.tried(Attempt::Taken, true);
        advance(Duration::from_secs(20)).await;
        copy.evidence.excuse(Duration::from_secs(19));
        assert_eq!(copy.judge(), Service::Answers);
    }
}

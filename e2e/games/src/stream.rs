//! The event stream: one event a second for as long as the client listens, and a goodbye when the process leaves.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior},
};

use crate::{
    application::Application,
    site::{Body, Phase},
};

/// Who is speaking, in every event.
#[derive(Serialize)]
pub(crate) struct Greeting {
    pub(crate) application: Application,
    pub(crate) cloud: String,
    pub(crate) pod: String,
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(flatten)]
    greeting: &'a Greeting,
    number: u64,
    time: Timestamp,
}

struct State {
    greeting: Greeting,
    interval: Interval,
    number: u64,
    phase: watch::Receiver<Phase>,
    /// The phase in which this stream says goodbye.
    ends_at: Phase,
    ended: bool,
}

/// An answer that goes on, one event a second, until the process leaves.
///
/// A stream that a client opens when the others are already being ended has come in through a proxy that has not heard
/// yet; it lives until the process closes, so that its client does not come back in a tight loop.
pub(crate) fn response(greeting: Greeting, phase: watch::Receiver<Phase>) -> Response<Body> {
    let ends_at = if *phase.borrow() < Phase::EndingStreams {
        Phase::EndingStreams
    } else {
        Phase::Closing
    };
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let state = State {
        greeting,
        interval,
        number: 0,
        phase,
        ends_at,
        ended: false,
    };
    let events = futures::stream::unfold(state, |mut state| async move {
        let event = state.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(event)), state))
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

impl State {
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let ends_at = self.ends_at;
        let name = tokio::select! {
            // A sender that is gone means that the process is going: that ends the stream as well.
            _ = self.phase.wait_for(|phase| *phase >= ends_at) => {
                self.ended = true;
                "bye"
            }
            _ = self.interval.tick() => "result",
        };
        self.number += 1;
        let event = Event {
            greeting: &self.greeting,
            number: self.number,
            time: Timestamp::now(),
        };
        let data = serde_json::to_string(&event).ok()?;
        Some(Bytes::from(format!(
            "id: {}\nevent: {name}\ndata: {data}\n\n",
            self.number
        )))
    }
}

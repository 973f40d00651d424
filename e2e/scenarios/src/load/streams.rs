//! Clients that listen to event streams, come back at once when one ends, and count how it ended.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use http_body_util::BodyExt;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    config::{StreamLoad, Target},
    recorder::{Clock, EXAMPLES, milliseconds},
    request::{HttpClient, Shared, chain, judge, request, unknown_cloud},
    result::{Reconnect, StreamFailure, StreamsResult},
};

/// Events come once a second; a stream without one for this long is as good as cut.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
/// How long to wait before the next attempt when one did not get as far as its first event.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(100);
/// More than any event is long.
const LONGEST_EVENT: usize = 64 * 1024;
const RECONNECTS: usize = 1000;

/// Counts of the streams of one application.
pub(crate) struct StreamsRecorder {
    name: String,
    host: String,
    clients: Vec<Client>,
    opened: u64,
    pub(crate) events: u64,
    pub(crate) clean_ends: u64,
    pub(crate) broken_ends: u64,
    pub(crate) refused: u64,
    longest_gap: Duration,
    reconnects: Vec<Reconnect>,
    examples: Vec<StreamFailure>,
}

/// What is known of one client.
#[derive(Clone, Default)]
struct Client {
    /// The last event: when, and from which cloud.
    last: Option<(Duration, usize)>,
    /// Whether the stream before ended cleanly; none while a stream delivers events.
    ended: Option<bool>,
    open: bool,
}

impl StreamsRecorder {
    pub(crate) fn new(load: &StreamLoad) -> Self {
        Self {
            name: load.name.clone(),
            host: load.host.clone(),
            clients: vec![Client::default(); load.count],
            opened: 0,
            events: 0,
            clean_ends: 0,
            broken_ends: 0,
            refused: 0,
            longest_gap: Duration::ZERO,
            reconnects: Vec::new(),
            examples: Vec::new(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How many streams are open now, by number of the cloud that they listen to.
    pub(crate) fn open(&self) -> impl Iterator<Item = usize> {
        self.clients
            .iter()
            .filter(|client| client.open)
            .filter_map(|client| client.last)
            .map(|(_, cloud)| cloud)
    }

    fn event(
        &mut self,
        client: usize,
        cloud: usize,
        at: Duration,
        names: impl Fn(usize) -> String,
        clock: Clock,
    ) {
        self.events += 1;
        let state = &mut self.clients[client];
        let before = state.last.replace((at, cloud));
        let ended = state.ended.take();
        let Some((last, from)) = before else { return };
        let gap = at.saturating_sub(last);
        self.longest_gap = self.longest_gap.max(gap);
        if let Some(clean) = ended
            && self.reconnects.len() < RECONNECTS
        {
            let gap_ms = milliseconds(gap);
            let (from, to) = (names(from), names(cloud));
            self.reconnects.push(Reconnect {
                time: clock.time(at),
                stream: client,
                from,
                to,
                gap_ms,
                clean,
            });
        }
    }

    fn failure(&mut self, client: usize, at: Duration, clock: Clock, detail: String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(StreamFailure {
                time: clock.time(at),
                stream: client,
                detail,
            });
        }
    }

    pub(crate) fn result(&self, stopped: Duration) -> StreamsResult {
        // A client that waits for an event right now has a gap, too.
        let waiting = self.clients.iter().map(|client| {
            let (last, _) = client.last.unwrap_or_default();
            stopped.saturating_sub(last)
        });
        let longest_gap = waiting.max().unwrap_or_default().max(self.longest_gap);
        StreamsResult {
            name: self.name.clone(),
            host: self.host.clone(),
            count: self.clients.len(),
            opened: self.opened,
            events: self.events,
            clean_ends: self.clean_ends,
            broken_ends: self.broken_ends,
            refused: self.refused,
            open_at_end: self.clients.iter().filter(|client| client.open).count() as u64,
            longest_gap_ms: milliseconds(longest_gap),
            reconnects: self.reconnects.clone(),
            examples: self.examples.clone(),
        }
    }
}

/// How one stream ended.
enum End {
    /// It said goodbye and ended whole.
    Clean,
    /// It was open and then was cut.
    Broken(String),
    /// It never opened.
    Refused(String),
}

/// One client of one application's streams.
pub(crate) struct Listener {
    pub(crate) client: HttpClient,
    pub(crate) shared: Shared,
    pub(crate) clock: Clock,
    pub(crate) target: Arc<Target>,
    /// Which application's streams.
    pub(crate) streams: usize,
    /// Which of its clients.
    pub(crate) number: usize,
}

impl Listener {
    /// Listens until `stop` says so.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        loop {
            let opened = Instant::now();
            let end = tokio::select! {
                end = self.listen() => end,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let pause = match &end {
                End::Refused(_) => PAUSE_AFTER_REFUSAL,
                // One that ends as soon as it opens would otherwise be opened in a tight loop.
                End::Clean | End::Broken(_) => PAUSE_AFTER_REFUSAL.saturating_sub(opened.elapsed()),
            };
            self.ended(end);
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
    }

    async fn listen(&self) -> End {
        let sent = self
            .client
            .request(request(&self.target.uri, &self.target.host));
        let response = match timeout(LONGEST_SILENCE, sent).await {
            Ok(Ok(response)) if response.status() == StatusCode::OK => response,
            Ok(Ok(response)) => return End::Refused(format!("status {}", response.status())),
            Ok(Err(error)) => return End::Refused(chain(&error)),
            Err(_) => return End::Refused(format!("no answer within {LONGEST_SILENCE:?}")),
        };
        {
            let recorder = &mut *self.shared.lock();
            let streams = &mut recorder.streams[self.streams];
            streams.opened += 1;
            streams.clients[self.number].open = true;
        }
        let mut body = response.into_body();
        let mut buffer = Vec::new();
        let mut goodbye = false;
        loop {
            let frame = match timeout(LONGEST_SILENCE, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return End::Broken(chain(&error)),
                Ok(None) if goodbye && buffer.is_empty() => return End::Clean,
                Ok(None) => return End::Broken("ended without a goodbye".to_owned()),
                Err(_) => return End::Broken(format!("no event for {LONGEST_SILENCE:?}")),
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            buffer.extend_from_slice(&data);
            while let Some(event) = take_event(&mut buffer) {
                match self.event(&event) {
                    Ok(last) => goodbye |= last,
                    Err(detail) => return End::Broken(detail),
                }
            }
            if buffer.len() > LONGEST_EVENT {
                return End::Broken("an event does not end".to_owned());
            }
        }
    }

    /// Counts an event. True when it is the goodbye.
    fn event(&self, event: &str) -> Result<bool, String> {
        let field = |name: &str| {
            event
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map_or("", str::trim)
        };
        let recorder = &mut *self.shared.lock();
        let streams = &mut recorder.streams[self.streams];
        let speaker =
            judge(field("data").as_bytes(), &streams.name).map_err(|(_, detail)| detail)?;
        let cloud = recorder
            .clouds
            .number(&speaker.cloud)
            .ok_or_else(|| unknown_cloud(&speaker.cloud).1)?;
        let clouds = &recorder.clouds;
        let names = |number| clouds.name(number).to_owned();
        streams.event(self.number, cloud, self.clock.elapsed(), names, self.clock);
        Ok(field("event") == "bye")
    }

    fn ended(&self, end: End) {
        let at = self.clock.elapsed();
        let recorder = &mut *self.shared.lock();
        let streams = &mut recorder.streams[self.streams];
        streams.clients[self.number].open = false;
        match end {
            End::Clean => {
                streams.clean_ends += 1;
                streams.clients[self.number].ended = Some(true);
            }
            End::Broken(detail) => {
                streams.broken_ends += 1;
                streams.clients[self.number].ended = Some(false);
                streams.failure(self.number, at, self.clock, detail);
            }
            End::Refused(detail) => {
                streams.refused += 1;
                streams.failure(self.number, at, self.clock, format!("not opened: {detail}"));
            }
        }
    }
}

/// Takes the first whole event off the buffer.
fn take_event(buffer: &mut Vec<u8>) -> Option<String> {
    let end = buffer.windows(2).position(|pair| pair == b"\n\n")?;
    let event = buffer.drain(..end + 2).collect::<Vec<_>>();
    Some(String::from_utf8_lossy(&event).into_owned())
}

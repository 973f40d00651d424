//! Counted load: requests that leave when they are due, whatever became of those before, and clients of long-lived
//! streams.
//!
//! Open loop: a request that is due is sent, even when others wait for their answers, and its latency counts from when
//! it was due. A service that stalls for a second therefore shows a second's worth of slow requests, where a closed
//! loop would show one. See Gil Tene, "How NOT to Measure Latency" (coordinated omission).
//!
//! Nothing is sent twice: a request whose kept connection breaks has failed.

mod config;
mod recorder;
mod request;
mod result;
mod snapshot;
mod streams;

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};
use rustix::process::setpriority_process;
use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::sleep_until,
};

pub use config::{ApplicationLoad, LoadConfig, StreamLoad};
pub use result::{
    ApplicationResult, CloudResult, Failure, FailureCause, GeneratorResult, Latency, LoadResult,
    Outage, Reconnect, Seconds, StreamFailure, StreamsResult, Window,
};
pub use snapshot::{ApplicationSnapshot, LoadSnapshot, StreamsSnapshot};

use config::Target;
use recorder::{Clock, Recorder};
use request::{HttpClient, Shared, send};
use streams::Listener;

/// How much more than others the generator's thread is entitled to processor time, as in nice(1).
const PRIORITY: i32 = -10;

/// Kept connections that nothing was sent on for this long are closed by us, long before an edge would do it.
const IDLE: Duration = Duration::from_secs(30);

/// Load that is being sent. It runs in a thread of its own, so that nothing else holds it up. Stops when dropped.
pub struct LoadGenerator {
    shared: Shared,
    stop: watch::Sender<bool>,
    result: oneshot::Receiver<LoadResult>,
}

impl LoadGenerator {
    /// Begins to send load. Raises this process's limit of open files as far as it may, since every request that waits
    /// for its answer holds a connection.
    ///
    /// # Errors
    /// When the configuration makes no sense, naming what to change, or the thread cannot be started.
    pub fn start(config: LoadConfig) -> Result<Self> {
        let plan = Plan::new(&config)?;
        // Without more files, a service that hangs shows as refused connections instead of timeouts.
        if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        let clock = Clock::start();
        let shared = Shared::new(Recorder::new(&config, clock));
        let (stop, stopped) = watch::channel(false);
        let (sender, result) = oneshot::channel();
        let generator = Generator {
            plan,
            client: client(),
            shared: shared.clone(),
            clock,
        };
        thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || {
                // On Linux, of this thread alone. A measuring instrument that waits for its turn measures that; not
                // everybody may ask for this, and the result tells how late requests left.
                let _ = setpriority_process(None, PRIORITY);
                let result = runtime.block_on(generator.run(stopped));
                // Nobody waits for the result of a generator that was dropped.
                let _ = sender.send(result);
            })
            .context("cannot start a thread")?;
        Ok(Self {
            shared,
            stop,
            result,
        })
    }

    /// What was counted so far.
    pub fn snapshot(&self) -> LoadSnapshot {
        snapshot::take(&self.shared.lock())
    }

    /// Sends nothing more, waits for the answers that are still out, for as long as the timeout at most, and returns
    /// what was counted.
    ///
    /// # Errors
    /// When the generator's thread has died.
    pub async fn stop(self) -> Result<LoadResult> {
        self.stop.send_replace(true);
        self.result.await.context("the load generator has died")
    }
}

fn client() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new())
        .retry_canceled_requests(false)
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(connector)
}

/// A configuration that was found to make sense.
struct Plan {
    applications: Vec<Arrivals>,
    streams: Vec<(Arc<Target>, usize)>,
    timeout: Duration,
}

/// When requests of one application are due: evenly spaced, at times that depend on nothing but the rate.
struct Arrivals {
    targets: Vec<Arc<Target>>,
    rate: f64,
    /// Part of a request's distance by which the first is late, so that applications do not all ask at once.
    phase: f64,
    sent: usize,
}

impl Arrivals {
    #[allow(clippy::cast_precision_loss)]
    fn next(&self) -> Duration {
        Duration::from_secs_f64((self.sent as f64 + self.phase) / self.rate)
    }

    fn target(&self) -> Arc<Target> {
        Arc::clone(&self.targets[self.sent % self.targets.len()])
    }
}

impl Plan {
    #[allow(clippy::cast_precision_loss)]
    fn new(config: &LoadConfig) -> Result<Self> {
        let edge = config.validate()?;
        let count = config.applications.len() as f64;
        let arrivals = |(index, load): (usize, &ApplicationLoad)| {
            let targets = load
                .paths
                .iter()
                .map(|path| edge.target(&load.host, path).map(Arc::new));
            let targets = targets.collect::<Result<Vec<_>>>()?;
            Ok(Arrivals {
                targets,
                rate: load.rate,
                phase: index as f64 / count,
                sent: 0,
            })
        };
        let stream =
            |load: &StreamLoad| Ok((Arc::new(edge.target(&load.host, &load.path)?), load.count));
        Ok(Self {
            applications: config
                .applications
                .iter()
                .enumerate()
                .map(arrivals)
                .collect::<Result<_>>()?,
            streams: config.streams.iter().map(stream).collect::<Result<_>>()?,
            timeout: config.timeout,
        })
    }
}

struct Generator {
    plan: Plan,
    client: HttpClient,
    shared: Shared,
    clock: Clock,
}

impl Generator {
    async fn run(mut self, stop: watch::Receiver<bool>) -> LoadResult {
        let mut listeners = self.listen(&stop);
        // Every request holds a sender; the channel closes when the last one is judged.
        let (in_flight, mut landed) = mpsc::channel::<()>(1);
        self.send_until(stop, &in_flight).await;
        let stopped = self.clock.elapsed();
        drop(in_flight);
        while landed.recv().await.is_some() {}
        while listeners.join_next().await.is_some() {}
        // Of this thread, which has done nothing else.
        let cpu = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
            .map(Duration::from)
            .unwrap_or_default();
        self.shared.lock().result(stopped, cpu)
    }

    fn listen(&self, stop: &watch::Receiver<bool>) -> JoinSet<()> {
        let mut listeners = JoinSet::new();
        for (streams, (target, count)) in self.plan.streams.iter().enumerate() {
            for number in 0..*count {
                let listener = Listener {
                    client: self.client.clone(),
                    shared: self.shared.clone(),
                    clock: self.clock,
                    target: Arc::clone(target),
                    streams,
                    number,
                };
                listeners.spawn(listener.run(stop.clone()));
            }
        }
        listeners
    }

    async fn send_until(&mut self, mut stop: watch::Receiver<bool>, in_flight: &mpsc::Sender<()>) {
        loop {
            let next = self
                .plan
                .applications
                .iter()
                .map(Arrivals::next)
                .min()
                .unwrap_or_default();
            let due: Instant = self.clock.start + next;
            tokio::select! {
                // A generator that was dropped stops as well.
                _ = stop.wait_for(|stop| *stop) => return,
                () = sleep_until(due.into()) => self.send_due(in_flight),
            }
        }
    }

    fn send_due(&mut self, in_flight: &mpsc::Sender<()>) {
        let now = self.clock.elapsed();
        let recorder = &mut *self.shared.lock();
        for (index, arrivals) in self.plan.applications.iter_mut().enumerate() {
            loop {
                let due = arrivals.next();
                if due > now {
                    break;
                }
                let target = arrivals.target();
                arrivals.sent += 1;
                recorder.applications[index].sent += 1;
                recorder.lateness.record(now - due);
                let (client, shared, clock) =
                    (self.client.clone(), self.shared.clone(), self.clock);
                let (timeout, guard) = (self.plan.timeout, in_flight.clone());
                tokio::spawn(async move {
                    send(client, shared, clock, index, target, due, timeout).await;
                    drop(guard);
                });
            }
        }
    }
}

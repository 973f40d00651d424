//! Counts the requests of applications, from the proxy's statistics: often
//! for those that move, now and then for the others.

use super::{
    ledger::{Ledger, Ledgers, Reading, Requests},
    seen::RouteDetail,
    stats::{Parser, STATISTICS, Totals},
    store::Store,
};
use crate::{clock::Moment, dirty::Dirty};
use flambeau_planner::model::{ApplicationKey, Name};
use http::Uri;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

/// Time between two readings of applications that move.
const PERIOD: Duration = Duration::from_millis(500);
/// Time between two readings of the others.
const PERIOD_OF_SERVICES: Duration = Duration::from_secs(1);
/// With more applications than this, reading costs the proxy so much that it
/// is done less often, unless there is doubt about any: Envoy 1.40 spends 13 ms
/// on 300 applications on two clusters each, and 80 ms on 1,000.
const MANY: usize = 300;
const PERIOD_OF_MANY: Duration = Duration::from_secs(5);
/// A reading that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);
/// Readings larger than this are given up.
const LARGEST: usize = 32 * 1024 * 1024;
/// With more backends than this, they are all asked for, not each by name:
/// the address would get too long.
const NAMED_BACKENDS: usize = 64;

/// Whose requests are counted.
#[derive(Debug, Default)]
struct Wanted {
    moving: BTreeSet<ApplicationKey>,
    serving: BTreeSet<ApplicationKey>,
    /// There is doubt about some of those that serve.
    hurry: bool,
}

impl Wanted {
    fn is_empty(&self) -> bool {
        self.moving.is_empty() && self.serving.is_empty()
    }

    /// Time between two readings of all that serve.
    fn period(&self) -> Duration {
        if self.hurry || self.serving.len() <= MANY {
            PERIOD_OF_SERVICES
        } else {
            PERIOD_OF_MANY
        }
    }
}

/// Reads the statistics as long as somebody wants to know.
pub struct Poller {
    wanted: watch::Sender<Wanted>,
    ledgers: Arc<Ledgers>,
    /// There is a proxy to ask.
    asks: bool,
    /// It was told whom to ask about.
    told: AtomicBool,
}

impl Poller {
    /// Starts one; without an address, or with an unusable one, it never
    /// knows anything.
    pub fn start(
        address: Option<&str>,
        store: Arc<Store>,
        dirty: Dirty,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let (wanted, receiver) = watch::channel(Wanted::default());
        let ledgers = Arc::new(Ledgers::default());
        let address = address.map(usable).transpose();
        let asks = matches!(address, Ok(Some(_)));
        match address {
            Ok(Some(address)) => {
                let reader = Reader {
                    client: Client::builder(TokioExecutor::new()).build_http(),
                    address,
                    store,
                    dirty,
                    ledgers: ledgers.clone(),
                };
                tasks.spawn(reader.run(receiver));
            }
            Ok(None) => {}
            Err(message) => tracing::error!("{message}; requests are not counted"),
        }
        Self {
            wanted,
            ledgers,
            asks,
            told: AtomicBool::new(false),
        }
    }

    /// Sets the applications whose requests are counted. Counts of others
    /// are dropped.
    pub fn watch(&self, keys: BTreeSet<ApplicationKey>) {
        self.ledgers.watch(&keys);
        self.told.store(true, Ordering::Relaxed);
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.moving != keys;
            wanted.moving = keys;
            changed
        });
    }

    /// Sets the applications that [`Poller::reading`] is asked about. Readings
    /// of others are dropped. In a hurry, all of them are read every second.
    pub fn watch_services(&self, keys: BTreeSet<ApplicationKey>, hurry: bool) {
        self.ledgers.services().retain(|key, _| keys.contains(key));
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.serving != keys || wanted.hurry != hurry;
            wanted.serving = keys;
            wanted.hurry = hurry;
            changed
        });
    }

    /// The last reading of an application's Service, however old.
    pub fn reading(&self, key: &ApplicationKey, service: &str) -> Option<Reading> {
        self.ledgers.services().get(key)?.get(service).copied()
    }

    /// Requests of an application; nothing while the proxy does not say.
    pub fn requests(&self, key: &ApplicationKey) -> Requests {
        self.ledgers
            .fresh(key, Ledger::requests)
            .unwrap_or_default()
    }

    /// Endpoints of a Service to which the proxy itself sends requests.
    pub fn healthy(&self, key: &ApplicationKey, service: &str) -> Healthy {
        let read = |ledger: &Ledger| match ledger.last.get(service) {
            Some(totals) => Healthy::At(usize::try_from(totals.healthy).unwrap_or(usize::MAX)),
            None => Healthy::Missing,
        };
        let soon = || !self.told.load(Ordering::Relaxed) || self.ledgers.soon(key);
        match self.ledgers.fresh(key, read) {
            Some(healthy) => healthy,
            None if self.asks && soon() => Healthy::NotYet,
            None => Healthy::Unknown,
        }
    }
}

/// What the proxy says of the endpoints of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Healthy {
    /// It is not asked, or does not answer.
    Unknown,
    /// It is asked within moments.
    NotYet,
    /// It knows the application and not that Service.
    Missing,
    /// It sends requests to so many.
    At(usize),
}

fn usable(address: &str) -> Result<Uri, String> {
    let uri: Uri = address
        .parse()
        .map_err(|error| format!("address of the edge's statistics {address}: {error}"))?;
    if uri.scheme_str() != Some("http") || uri.host().is_none() {
        return Err(format!(
            "address of the edge's statistics {address}: must begin with http:// and a host"
        ));
    }
    Ok(uri)
}

/// One watched backend.
struct Watched {
    key: ApplicationKey,
    /// Name of the Service.
    service: Name,
    /// Name within the proxy.
    statistic: String,
}

struct Reader {
    client: Client<HttpConnector, Empty<Bytes>>,
    address: Uri,
    store: Arc<Store>,
    dirty: Dirty,
    ledgers: Arc<Ledgers>,
}

impl Reader {
    async fn run(self, mut wanted: watch::Receiver<Wanted>) {
        let mut failing = false;
        let mut all_read: Option<Instant> = None;
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if wanted.wait_for(|wanted| !wanted.is_empty()).await.is_err() {
                return;
            }
            ticks.tick().await;
            let keys = {
                let wanted = wanted.borrow();
                // A tick that is a little early is this one.
                let due = wanted.period() - PERIOD / 2;
                if all_read.is_none_or(|read| read.elapsed() >= due) {
                    all_read = Some(Instant::now());
                    wanted.moving.union(&wanted.serving).cloned().collect()
                } else {
                    wanted.moving.clone()
                }
            };
            if keys.is_empty() {
                continue;
            }
            match self.read(&keys, &wanted).await {
                Ok(changed) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(address = %self.address, "the edge's statistics answer again");
                    }
                    if changed {
                        self.dirty.mark();
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(address = %self.address, error, "the edge's statistics cannot be read");
                    }
                }
            }
        }
    }

    /// Reads once; returns whether anything changed of those that move.
    async fn read(
        &self,
        keys: &BTreeSet<ApplicationKey>,
        wanted: &watch::Receiver<Wanted>,
    ) -> Result<bool, String> {
        let routes: Vec<(&ApplicationKey, RouteDetail)> = keys
            .iter()
            .filter_map(|key| Some((key, self.store.route(key)?)))
            .collect();
        let mut stages = BTreeMap::new();
        let mut watched = Vec::new();
        for (key, route) in &routes {
            let backends = route.backends.iter();
            let weights = backends
                .clone()
                .map(|backend| (backend.name.clone(), backend.weight));
            stages.insert((*key).clone(), weights.collect());
            watched.extend(backends.map(|backend| Watched {
                key: (*key).clone(),
                service: backend.name.clone(),
                statistic: format!("{}_{}_{}", key.namespace, backend.name, backend.port),
            }));
        }
        if watched.is_empty() {
            return Ok(false);
        }
        let address = self.address_for(&watched)?;
        let totals = timeout(PATIENCE, self.fetch(address))
            .await
            .map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))??;
        let moving = wanted.borrow().moving.clone();
        let now = Moment::now();
        let readings = readings(watched, &totals);
        self.enter_services(now, &readings);
        Ok(self.enter_moves(now.began(), stages, readings, &moving))
    }

    fn enter_services(
        &self,
        at: Moment,
        readings: &BTreeMap<ApplicationKey, BTreeMap<Name, Totals>>,
    ) {
        let mut services = self.ledgers.services();
        for (key, services_read) in readings {
            let read = services_read.iter().map(|(service, totals)| {
                (
                    service.clone(),
                    Reading {
                        at,
                        totals: *totals,
                    },
                )
            });
            services.insert(key.clone(), read.collect());
        }
    }

    fn enter_moves(
        &self,
        now: Instant,
        stages: BTreeMap<ApplicationKey, BTreeMap<Name, i32>>,
        mut readings: BTreeMap<ApplicationKey, BTreeMap<Name, Totals>>,
        moving: &BTreeSet<ApplicationKey>,
    ) -> bool {
        let mut changed = false;
        let mut ledgers = self.ledgers.lock();
        // A proxy that names nothing at all uses other names, and is not heard.
        let named = !readings.is_empty();
        for (key, weights) in stages.into_iter().filter(|_| named) {
            if !moving.contains(&key) {
                continue;
            }
            let reading = readings.remove(&key).unwrap_or_default();
            let ledger = ledgers.entry(key).or_default();
            changed |= !ledger.says(&reading) || ledger.weights != weights;
            ledger.enter(now, weights, reading);
        }
        changed
    }

    fn address_for(&self, watched: &[Watched]) -> Result<Uri, String> {
        let names = if watched.len() > NAMED_BACKENDS {
            "[^.]%2B".to_owned()
        } else {
            let names: Vec<&str> = watched.iter().map(|backend| &*backend.statistic).collect();
            names.join("%7C")
        };
        // A regular expression, percent-encoded where a query needs it.
        let statistics = STATISTICS.replace('|', "%7C");
        let filter = format!("%5Ecluster%5C.({names})%5C.({statistics})$");
        // What was never counted is 0, and is most of what there is: passing
        // it over saves Envoy three quarters of the work.
        format!(
            "{}://{}{}?usedonly&filter={filter}",
            self.address.scheme_str().unwrap_or("http"),
            self.address
                .authority()
                .map_or("", |authority| authority.as_str()),
            self.address.path(),
        )
        .parse()
        .map_err(|error| format!("{error}"))
    }

    async fn fetch(&self, address: Uri) -> Result<BTreeMap<String, Totals>, String> {
        let response = self
            .client
            .get(address)
            .await
            .map_err(|error| chain(&error))?;
        if !response.status().is_success() {
            return Err(format!("answered {}", response.status()));
        }
        let mut parser = Parser::default();
        let mut read = 0;
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| chain(&error))?;
            if let Some(piece) = frame.data_ref() {
                read += piece.len();
                if read > LARGEST {
                    return Err(format!("the answer is larger than {LARGEST} bytes"));
                }
                parser.feed(piece);
            }
        }
        Ok(parser.finish())
    }
}

/// What was read of each backend that is watched and known to the proxy.
fn readings(
    watched: Vec<Watched>,
    totals: &BTreeMap<String, Totals>,
) -> BTreeMap<ApplicationKey, BTreeMap<Name, Totals>> {
    let mut readings: BTreeMap<ApplicationKey, BTreeMap<Name, Totals>> = BTreeMap::new();
    for backend in watched {
        if let Some(totals) = totals.get(&backend.statistic) {
            let reading = readings.entry(backend.key).or_default();
            reading.insert(backend.service, *totals);
        }
    }
    readings
}

/// An error with its causes: hyper's own text names none of them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_that_can_be_asked_is_used() {
        assert!(usable("http://127.0.0.1:8002/stats/prometheus").is_ok());
        for address in ["https://edge/stats", "/stats/prometheus", "edge:8002", ""] {
            assert!(usable(address).is_err(), "{address}");
        }
    }
}

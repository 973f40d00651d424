//! What load to send.

use std::{collections::HashSet, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use flambeau_games::{Application, application::STREAM_PATH};
use http::{HeaderValue, Uri};

/// Load on one edge.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// Address of the edge, `http://<address>[:<port>]`.
    pub edge: String,
    /// The applications behind the edge, told apart by host.
    pub applications: Vec<ApplicationLoad>,
    /// Long-lived event streams.
    pub streams: Vec<StreamLoad>,
    /// Clouds that may answer, in the order in which reports list them. When empty, any cloud may.
    pub clouds: Vec<String>,
    /// A request that has no whole answer this long after it should have been sent has failed.
    pub timeout: Duration,
}

/// Requests to one application.
#[derive(Clone, Debug)]
pub struct ApplicationLoad {
    /// What its answers must call themselves.
    pub name: String,
    /// Host under which the edge knows it.
    pub host: String,
    /// Requests per second.
    pub rate: f64,
    /// Paths to ask for, one after the other.
    pub paths: Vec<String>,
}

/// Event streams of one application.
#[derive(Clone, Debug)]
pub struct StreamLoad {
    /// What its events must call themselves.
    pub name: String,
    /// Host under which the edge knows it.
    pub host: String,
    /// Path of the stream.
    pub path: String,
    /// How many streams to keep open.
    pub count: usize,
}

/// Requests per second to each application in the demo: 815 in all, the rate of security events at the Games of Tokyo.
const DEMO_RATES: [(Application, f64); 6] = [
    (Application::Accreditation, 70.0),
    (Application::AccessControl, 150.0),
    (Application::Volunteers, 35.0),
    (Application::Ticketing, 120.0),
    (Application::Results, 240.0),
    (Application::Website, 200.0),
];

impl LoadConfig {
    /// A request has failed after this long, unless told otherwise.
    pub const TIMEOUT: Duration = Duration::from_secs(5);

    /// The load of the demo: six applications at 815 requests a second in all, each under the host
    /// `<application>.<domain>`, and `streams` streams of results.
    pub fn games(edge: &str, domain: &str, clouds: &[&str], streams: usize) -> Self {
        let host = |application: Application| format!("{application}.{domain}");
        let stream = |application: Application| StreamLoad {
            name: application.name().to_owned(),
            host: host(application),
            path: STREAM_PATH.to_owned(),
            count: streams,
        };
        Self {
            edge: edge.to_owned(),
            applications: DEMO_RATES
                .map(|(application, rate)| ApplicationLoad::games(application, domain, rate))
                .to_vec(),
            streams: Application::ALL
                .into_iter()
                .filter(|application| application.streams())
                .map(stream)
                .collect(),
            clouds: clouds.iter().map(|cloud| (*cloud).to_owned()).collect(),
            timeout: Self::TIMEOUT,
        }
    }

    /// Requests per second in all.
    pub fn rate(&self) -> f64 {
        self.applications
            .iter()
            .map(|application| application.rate)
            .sum()
    }

    pub(crate) fn validate(&self) -> Result<Edge> {
        let uri: Uri = self
            .edge
            .parse()
            .with_context(|| format!("the edge's address {:?} is not a URL", self.edge))?;
        if uri.scheme_str() != Some("http") {
            bail!(
                "the edge's address {:?} does not begin with http://, and load is sent without TLS",
                self.edge
            );
        }
        let Some(authority) = uri.authority() else {
            bail!("the edge's address {:?} has no host", self.edge)
        };
        ensure!(
            !self.applications.is_empty(),
            "there is no application to send load to; name one at least"
        );
        let mut names = HashSet::new();
        for application in &self.applications {
            let name = &application.name;
            ensure!(
                names.insert(name),
                "the application {name:?} is there twice; give each one rate"
            );
            ensure!(
                application.rate.is_finite() && application.rate > 0.0,
                "the rate of {name:?} is {}; give a number of requests per second above 0",
                application.rate
            );
            ensure!(
                !application.paths.is_empty(),
                "there is no path to ask {name:?} for; give / at least"
            );
        }
        ensure!(
            !self.timeout.is_zero(),
            "with a timeout of 0 every request fails; give some seconds"
        );
        Ok(Edge {
            authority: authority.to_string(),
        })
    }
}

impl ApplicationLoad {
    /// Requests to the documents of an example application under the host `<application>.<domain>`.
    pub fn games(application: Application, domain: &str, rate: f64) -> Self {
        Self {
            name: application.name().to_owned(),
            host: format!("{application}.{domain}"),
            rate,
            paths: application
                .documents()
                .iter()
                .map(|document| document.path.to_owned())
                .collect(),
        }
    }
}

/// A validated address of the edge.
pub(crate) struct Edge {
    authority: String,
}

impl Edge {
    /// What to ask the edge for: the URL of a path, and the host that goes into the header.
    pub(crate) fn target(&self, host: &str, path: &str) -> Result<Target> {
        let url = format!("http://{}{path}", self.authority);
        let uri = url.parse().with_context(|| {
            format!("the path {path:?} does not fit into a URL; begin it with /")
        })?;
        let host = HeaderValue::from_str(host)
            .with_context(|| format!("{host:?} cannot be the name of a host"))?;
        Ok(Target {
            uri,
            host,
            path: path.to_owned(),
        })
    }
}

/// One thing to ask the edge for.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) uri: Uri,
    pub(crate) host: HeaderValue,
    pub(crate) path: String,
}

//! The operator as a process of its own: how long it ran on a processor, how much memory it took.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use flambeau_testbed::operator::program;
use flambeau_testbed::process::Component;
use flambeau_testbed::process::bound::BoundProcess;
use serde::Serialize;

/// What the operator used so far.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Usage {
    /// Seconds on a processor.
    pub cpu_seconds: f64,
    /// Peak of resident memory, in MiB.
    pub peak_mib: f64,
    /// Resident memory now, in MiB.
    pub resident_mib: f64,
}

/// A running operator; it is killed when dropped.
pub struct Operator {
    process: BoundProcess,
    address: String,
    /// When it was started.
    pub started: Instant,
}

impl Operator {
    /// Starts the release build against a hub; its log gets this name in the folder.
    pub async fn start(kubeconfig: &Path, folder: &Path, log: &str) -> Result<Self> {
        let program = program();
        if !program.exists() {
            bail!(
                "{} is not built yet: run `make operator`",
                program.display()
            );
        }
        let free = TcpListener::bind("127.0.0.1:0").context("find a free port on loopback")?;
        let address = free.local_addr()?.to_string();
        drop(free);
        let component = Component::new(log, &program)
            .argument("run")
            .path("kubeconfig", kubeconfig)
            // One process after the other: the next takes leadership over at once.
            .flag("identity", "bench")
            .flag("listen", &address);
        let started = Instant::now();
        let process = BoundProcess::start(&component, folder)?;
        Ok(Self {
            process,
            address,
            started,
        })
    }

    /// What it used since it was started.
    pub fn usage(&mut self) -> Result<Usage> {
        self.process.check()?;
        let folder = format!("/proc/{}", self.process.id());
        let stat = fs::read_to_string(format!("{folder}/stat")).context("read /proc/PID/stat")?;
        // Fields 14 and 15 of proc_pid_stat(5), in clock ticks; the name before them may hold spaces.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<f64>().ok())
        };
        let (Some(user), Some(system)) = (ticks(11), ticks(12)) else {
            bail!("{folder}/stat has another form than expected: {stat}");
        };
        let status =
            fs::read_to_string(format!("{folder}/status")).context("read /proc/PID/status")?;
        let mib = |field: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            Ok(kib.with_context(|| format!("{folder}/status has no {field}"))? / 1024.0)
        };
        Ok(Usage {
            // Linux counts in hundredths of a second for every program (sysconf _SC_CLK_TCK).
            cpu_seconds: (user + system) / 100.0,
            peak_mib: mib("VmHWM:")?,
            resident_mib: mib("VmRSS:")?,
        })
    }

    /// Waits until it says at `/readyz` that it is ready.
    pub async fn ready(&mut self, patience: Duration) -> Result<Instant> {
        self.until("operator ready", patience, "/readyz", |answer| {
            answer.starts_with("HTTP/1.1 200")
        })
        .await
    }

    /// Waits until its metrics show a number of applications that are lawful and ready.
    pub async fn applications_ready(
        &mut self,
        count: usize,
        patience: Duration,
    ) -> Result<Instant> {
        let line = format!("flambeau_applications{{lawful=\"true\",ready=\"true\"}} {count}\n");
        self.until("every application ready", patience, "/metrics", |answer| {
            answer.contains(&line)
        })
        .await
    }

    async fn until(
        &mut self,
        what: &str,
        patience: Duration,
        path: &str,
        mut done: impl FnMut(&str) -> bool,
    ) -> Result<Instant> {
        const PAUSE: Duration = Duration::from_millis(10);
        let begun = Instant::now();
        loop {
            self.process.check()?;
            let answer = self.ask(path).await.unwrap_or_default();
            if done(&answer) {
                return Ok(Instant::now());
            }
            if begun.elapsed() > patience {
                bail!(
                    "{what}: not within {} s; {path} answers:\n{answer}",
                    patience.as_secs()
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Reads its metrics.
    pub async fn metrics(&self) -> Result<String> {
        self.ask("/metrics").await
    }

    async fn ask(&self, path: &str) -> Result<String> {
        let (address, path) = (self.address.clone(), path.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(&address)?;
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
        .await?
    }
}

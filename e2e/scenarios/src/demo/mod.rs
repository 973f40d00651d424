//! The story of the demo: six applications serve, a policy is signed, those that it concerns leave, a second one
//! follows, and nobody who asks notices. Then a cluster dies: what it served serves elsewhere within seconds, and goes
//! home when the cluster is back and somebody says so.

mod acts;
pub mod cast;
pub mod judge;
mod told;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use flambeau_crds::{Migration, migration::MigrationStep};
use flambeau_testbed::{paths, progress::Progress, testbed::Testbed};
use jiff::Timestamp;

use crate::{
    fleet,
    hub::{Edge, Hub, outcome, unrest_but_for},
    load::{LoadConfig, LoadGenerator},
    report::{MigrationReport, Moment, Report, ReportFiles},
};
use cast::{ACTS, CAST, DOMAIN, NAMESPACE};
use told::Narrator;

const TITLE: &str =
    "A banned provider is emptied, a cluster dies and comes back, and applications keep serving";

/// Event streams of results that are kept open.
const STREAMS: usize = 10;

/// Load before anything happens, and after everything has.
const QUIET_BEFORE: Duration = Duration::from_secs(10);
const QUIET_AFTER: Duration = Duration::from_secs(5);

/// What is never waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Tells the story, once, on a testbed of its own that is brought up for it.
pub struct Story<'a> {
    narrator: Narrator,
    /// Set from outside to end the story early.
    interrupted: &'a AtomicBool,
    columns_shown: bool,
}

/// What the story is told on.
struct Stage<'a> {
    testbed: &'a Testbed,
    hub: &'a Hub,
    load: &'a LoadGenerator,
}

/// What comes out of the story.
pub struct Told {
    /// The report, judged.
    pub report: Report,
    /// Where it was written.
    pub files: ReportFiles,
}

/// Where the demo leaves what it writes.
pub fn folder() -> PathBuf {
    paths::repository().join("target/demo")
}

impl<'a> Story<'a> {
    /// A story that ends early when the flag is set.
    pub fn new(interrupted: &'a AtomicBool) -> Self {
        Self {
            narrator: Narrator::start(),
            interrupted,
            columns_shown: false,
        }
    }

    /// Brings the testbed up and tells the story on it. The testbed stays up.
    ///
    /// # Errors
    /// When the story cannot be told to its end; what goes wrong in the story itself stands in the report.
    pub fn tell(&mut self, progress: Progress) -> Result<Told> {
        self.narrator
            .chapter("Four clusters, an edge and the operator come up");
        let testbed = Testbed::up(flambeau_testbed::testbed::Options::default(), progress)?;
        let hub = Hub::new(testbed.hub())?;
        self.set_up(&testbed, &hub)?;

        let clouds: Vec<&str> = testbed
            .members()
            .iter()
            .map(|member| member.name())
            .collect();
        let config = LoadConfig::games(&testbed.edge_url(), DOMAIN, &clouds, STREAMS);
        self.narrator.chapter(&format!(
            "{} requests a second, and {STREAMS} streams of results",
            config.rate()
        ));
        let load = LoadGenerator::start(config)?;
        let mut moments = Vec::new();
        let mut problems = Vec::new();
        self.let_run(QUIET_BEFORE, &hub, &load)?;
        self.narrator.table(&load.snapshot(), &clouds);
        let mut losses = Vec::new();
        let stage = Stage {
            testbed: &testbed,
            hub: &hub,
            load: &load,
        };
        for (number, act) in ACTS.iter().enumerate() {
            self.narrator.chapter(&act.title());
            moments.push(moment(&act.title()));
            let played = self.play(act, number + 1, &stage, &mut losses);
            if let Err(error) = played {
                if self.interrupted.load(Ordering::Relaxed) {
                    return Err(error);
                }
                problems.push(format!("{error:#}."));
            }
            moments.push(moment(act.answered()));
            self.narrator.table(&load.snapshot(), &clouds);
            if !problems.is_empty() {
                break;
            }
        }
        self.let_run(QUIET_AFTER, &hub, &load)?;
        let result = block_on(load.stop())??;

        let applications = hub.applications(NAMESPACE)?;
        let migrations = hub.migrations(NAMESPACE)?;
        let migrations = migrations.iter().map(MigrationReport::from).collect();
        let mut report = Report::new(TITLE, result, migrations, &losses);
        report.moments = moments;
        report.placements = judge::placements(&applications);
        report.problems.extend(problems);
        judge::judge(&mut report, &applications, &testbed)?;
        let files = report.write(&folder())?;
        Ok(Told { report, files })
    }

    /// Does what platform team and application teams do, with files that a user can read and apply again.
    fn set_up(&self, testbed: &Testbed, hub: &Hub) -> Result<()> {
        let applications: Result<Vec<String>> = CAST
            .iter()
            .map(|role| Ok(serde_yaml::to_string(&role.asked().object()?)?))
            .collect();
        let files = [
            ("1-providers.yaml", fleet::providers()?),
            ("3-clusters.yaml", fleet::clusters()?),
            (
                "4-applications.yaml",
                format!(
                    "{}---\n{}",
                    fleet::namespace(NAMESPACE)?,
                    applications?.join("---\n")
                ),
            ),
        ];
        let folder = manifests();
        if folder.exists() {
            let context = || format!("remove {} of an earlier story", folder.display());
            std::fs::remove_dir_all(&folder).with_context(context)?;
        }
        for (name, text) in &files {
            write(&folder.join(name), text)?;
        }
        for act in &ACTS {
            if let Some((file, text)) = acts::manifest(act)? {
                write(&folder.join(file), &text)?;
            }
        }
        self.narrator.chapter(&format!(
            "Providers, clusters and six applications are declared; all of it in {}",
            folder.display()
        ));
        for (number, (name, _)) in files.iter().enumerate() {
            let file = folder.join(name).display().to_string();
            testbed.hub().kubectl(&["apply", "--filename", &file])?;
            self.narrator
                .say("hub", &format!("kubectl apply --filename {name}"));
            if number == 0 {
                self.join(testbed)?;
            }
        }
        let edge = Edge::new(&testbed.edge_url());
        self.until("All applications serve", || {
            let unrest = self.unrest(hub, 0, None)?;
            Ok(unrest.or_else(|| CAST.iter().find_map(|role| edge.silence(&role.host()))))
        })?;
        self.narrator
            .say("games", "all six applications serve through the edge");
        Ok(())
    }

    /// Makes the clusters members, with no more rights than the story needs.
    fn join(&self, testbed: &Testbed) -> Result<()> {
        let limit = format!("--namespace={NAMESPACE}");
        let commands = fleet::join(testbed, &[&limit])?;
        for command in &commands {
            self.narrator.say("hub", command);
        }
        let script = manifests().join("2-join.sh");
        write(&script, &(commands.join("\n") + "\n"))
    }

    /// Waits until everything is where it has to be after that many acts, telling what happens. Old copies may be left
    /// on the cluster that is `dead`.
    fn settled(&mut self, acts: usize, dead: Option<&str>, stage: &Stage<'_>) -> Result<()> {
        let started = Instant::now();
        loop {
            self.check_interrupted()?;
            let migrations = self.look(stage.hub, stage.load)?;
            let shifting = |migration: &Migration| {
                let status = migration.status.as_ref();
                status.and_then(|status| status.step) == Some(MigrationStep::Shift)
            };
            if !self.columns_shown && migrations.iter().any(shifting) {
                self.columns_shown = true;
                self.show_columns(stage.testbed)?;
            }
            let open = migrations
                .iter()
                .find(|migration| outcome(migration).is_none())
                .map(|migration| format!("{} is under way", migration.spec.application));
            let Some(seen) = self.unrest(stage.hub, acts, dead)?.or(open) else {
                return Ok(());
            };
            if started.elapsed() > PATIENCE {
                bail!(
                    "not everything is where it has to be after {} s: {seen}",
                    PATIENCE.as_secs()
                );
            }
            sleep(LOOK_EVERY);
        }
    }

    /// What a user sees in the middle of it.
    fn show_columns(&self, testbed: &Testbed) -> Result<()> {
        let arguments = ["--namespace", NAMESPACE, "get", "gapp,migrations"];
        let shown = testbed.hub().kubectl(&arguments)?;
        eprintln!("\n          $ kubectl {}", arguments.join(" "));
        for line in shown.lines() {
            eprintln!("          {line}");
        }
        eprintln!();
        Ok(())
    }

    /// Why an application is not at rest where it has to be after that many acts.
    fn unrest(&self, hub: &Hub, acts: usize, dead: Option<&str>) -> Result<Option<String>> {
        let applications = hub.applications(NAMESPACE)?;
        let unrest = CAST.iter().find_map(|role| {
            let application = applications
                .iter()
                .find(|application| application.metadata.name.as_deref() == Some(role.name()));
            let why = match application {
                Some(application) => unrest_but_for(application, role.place(acts), dead),
                None => Some("the hub does not have it".to_owned()),
            };
            why.map(|why| format!("{}: {why}", role.name()))
        });
        Ok(unrest)
    }

    fn let_run(&mut self, time: Duration, hub: &Hub, load: &LoadGenerator) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < time {
            self.check_interrupted()?;
            self.look(hub, load)?;
            sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Tells what is new.
    fn look(&mut self, hub: &Hub, load: &LoadGenerator) -> Result<Vec<Migration>> {
        let migrations = hub.migrations(NAMESPACE)?;
        self.narrator.moves(&migrations);
        self.narrator.load_now_and_then(&load.snapshot());
        Ok(migrations)
    }

    /// Waits until `obstacle` sees none any more.
    fn until(
        &self,
        what: &str,
        mut obstacle: impl FnMut() -> Result<Option<String>>,
    ) -> Result<()> {
        let started = Instant::now();
        while let Some(seen) = obstacle()? {
            self.check_interrupted()?;
            if started.elapsed() > PATIENCE {
                bail!("{what}: not within {} s: {seen}", PATIENCE.as_secs());
            }
            sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn check_interrupted(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }
}

fn manifests() -> PathBuf {
    folder().join("manifests")
}

/// Writes a file that only its owner can read: some hold credentials.
fn write(file: &Path, text: &str) -> Result<()> {
    let context = || format!("write {}", file.display());
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(context)?;
    }
    fs::write(file, text).with_context(context)?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).with_context(context)
}

fn moment(label: &str) -> Moment {
    Moment {
        time: Timestamp::now(),
        label: label.to_owned(),
    }
}

/// Waits for a future on a thread that has no runtime.
pub fn block_on<F: Future>(future: F) -> Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    Ok(runtime.block_on(future))
}

//! The whole testbed: up, found again, down.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::cgroup::ROOT;
use crate::cluster::Cluster;
use crate::helm::{self, Helm};
use crate::network::{self, Addresses, CLUSTERS};
use crate::operator::Operator;
use crate::progress::Progress;
use crate::state::{Entry, Journal, Lock, Standing};
use crate::{edge, images, operator, paths, prerequisites};

/// What a testbed consists of.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Options {
    /// How the operator runs.
    pub operator: Operator,
    /// Let etcd wait for the disk at every write, as in production; for measurements.
    pub fsync: bool,
    /// The addresses of everything.
    pub addresses: Addresses,
}

/// A running testbed. Dropping it changes nothing; it runs until [`Testbed::down`] or `make down`.
pub struct Testbed {
    folder: PathBuf,
    options: Options,
    clusters: Vec<Cluster>,
}

impl Testbed {
    /// Brings a new testbed up; what an earlier one of this repository left is taken down first, and what one of another
    /// left of which nothing runs any more.
    ///
    /// # Errors
    /// When the machine lacks something (nothing is changed then), another repository's testbed runs, or a part does
    /// not get ready; what was started stays for a look at its logs, and the next `up` or `down` removes it.
    pub fn up(options: Options, progress: Progress) -> Result<Self> {
        prerequisites::check()?;
        let images = images::for_nodes()?;
        if options.operator == Operator::Pods {
            // Before anything is changed.
            Helm::offline()?;
            images::operator()?;
        }
        let _lock = Lock::take()?;
        give_back(progress)?;
        options.addresses.refuse_clash()?;
        let folder = paths::testbed();
        empty(&folder)?;
        let journal = Journal::of_this_machine();
        let testbed = Self::new(folder, options)?;
        journal.begin(&paths::repository())?;
        journal.add(&Entry::Group {
            name: ROOT.to_owned(),
        })?;
        network::create(&testbed.options.addresses, &journal)?;
        progress.say(
            "network",
            &format!(
                "{} namespaces on {}",
                CLUSTERS.len(),
                testbed.options.addresses
            ),
        );
        let file = testbed.folder.join("options.json");
        fs::write(&file, serde_json::to_string(&testbed.options)?)
            .with_context(|| format!("write {}", file.display()))?;
        testbed.start_clusters(&images, progress)?;
        testbed.write_environment()?;
        match testbed.options.operator {
            Operator::Pods => {
                testbed.await_rollout()?;
                testbed.say_who_leads(progress)?;
            }
            Operator::Process => testbed.renew_process(progress)?,
            Operator::Absent => {}
        }
        journal.add(&Entry::Complete)?;
        Ok(testbed)
    }

    /// Finds the testbed of this repository that runs already.
    ///
    /// # Errors
    /// When there is none, its `up` did not come to its end, or a cluster is dead.
    pub fn attach() -> Result<Self> {
        let testbed = Self::find()?;
        match testbed.clusters.iter().find(|cluster| !cluster.runs()) {
            Some(dead) => bail!(
                "cluster {} is dead; start again with `make up`",
                dead.name()
            ),
            None => Ok(testbed),
        }
    }

    /// Finds the testbed of this repository that was brought up, whatever became of its clusters since.
    ///
    /// # Errors
    /// When there is none, or its `up` did not come to its end.
    pub fn find() -> Result<Self> {
        let (standing, owner) = Journal::of_this_machine().standing()?;
        match (standing, owner) {
            (Standing::Complete, Some(owner)) if owner == paths::repository() => {}
            (Standing::Nothing, _) => bail!("no testbed runs; start one with `make up`"),
            (Standing::Unclean, _) => {
                bail!("the testbed did not come up; start it again with `make up`")
            }
            (_, owner) => bail!(
                "the testbed of {} runs on this machine",
                owner.unwrap_or_default().display()
            ),
        }
        let folder = paths::testbed();
        let file = folder.join("options.json");
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let options =
            serde_json::from_str(&text).with_context(|| format!("parse {}", file.display()))?;
        Self::new(folder, options)
    }

    /// Stops everything that was started and gives back everything that was taken, also after a crash; logs stay.
    ///
    /// # Errors
    /// When another repository's testbed runs, or something cannot be given back; call it again then.
    pub fn down(progress: Progress) -> Result<()> {
        prerequisites::require_root()?;
        let _lock = Lock::take()?;
        if !give_back(progress)? {
            progress.say("down", "no testbed runs");
        }
        keep_logs(&paths::testbed())
    }

    fn new(folder: PathBuf, options: Options) -> Result<Self> {
        let clusters = CLUSTERS
            .iter()
            .map(|name| Cluster::new(name, &folder, options.addresses, options.fsync));
        Ok(Self {
            clusters: clusters.collect::<Result<_>>()?,
            folder,
            options,
        })
    }

    /// The folder of everything that belongs to the testbed.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The addresses of everything.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.options.addresses
    }

    /// The cluster that runs the operator and the edge.
    #[must_use]
    pub fn hub(&self) -> &Cluster {
        &self.clusters[0]
    }

    /// The clusters that applications run on.
    #[must_use]
    pub fn members(&self) -> &[Cluster] {
        &self.clusters[1..]
    }

    /// All clusters, the hub first.
    #[must_use]
    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    /// A cluster by its name.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn cluster(&self, name: &str) -> Result<&Cluster> {
        let index = usize::from(network::number(name)?) - 1;
        Ok(&self.clusters[index])
    }

    /// Where applications are reached; they are told apart by the Host header.
    #[must_use]
    pub fn edge_url(&self) -> String {
        edge::url(self.hub().control_plane().address)
    }

    /// Where Envoy shows its statistics in Prometheus' format.
    #[must_use]
    pub fn edge_stats_url(&self) -> String {
        edge::stats_url(self.hub().control_plane().address)
    }

    /// Replaces a running operator by the one that is built now, whichever way either runs.
    ///
    /// # Errors
    /// When it cannot be installed, or does not start.
    pub fn renew_operator(&self, operator: Operator, progress: Progress) -> Result<()> {
        self.stop_operator()?;
        if operator != Operator::Pods {
            self.uninstall_operator()?;
        }
        match operator {
            Operator::Pods => {
                self.install_operator()?;
                self.say_who_leads(progress)
            }
            Operator::Process => self.renew_process(progress),
            Operator::Absent => Ok(()),
        }
    }

    fn renew_process(&self, progress: Progress) -> Result<()> {
        self.install_crds()?;
        self.start_operator()?;
        progress.say("operator", &format!("ready at {}", self.operator_url()));
        Ok(())
    }

    fn say_who_leads(&self, progress: Progress) -> Result<()> {
        let (pods, leader) = (self.operator_pods()?, self.leader()?.unwrap_or_default());
        progress.say(
            "operator",
            &format!("{} pods ready, {leader} leads", pods.len()),
        );
        Ok(())
    }

    /// Packs the images anew, when their programs have changed, and gives them to every node.
    ///
    /// # Errors
    /// When a program is not built or a node refuses an image.
    pub fn renew_images(&self) -> Result<()> {
        let images = images::for_nodes()?;
        for node in self.clusters.iter().map(Cluster::node) {
            images.iter().try_for_each(|image| node.import(image))?;
        }
        Ok(())
    }

    fn start_clusters(&self, images: &[images::Image], progress: Progress) -> Result<()> {
        let start = |cluster: &Cluster| -> Result<()> {
            cluster.prepare()?;
            if cluster.name() == "hub" {
                return self.start_hub(images, progress);
            }
            cluster.start(images, progress)
        };
        thread::scope(|scope| {
            let started: Vec<_> = self
                .clusters
                .iter()
                .map(|cluster| scope.spawn(move || start(cluster)))
                .collect();
            // All are joined, so that the first error does not leave others half-way and unseen.
            let results: Vec<_> = started
                .into_iter()
                .map(|handle| {
                    handle
                        .join()
                        .unwrap_or_else(|_| Err(anyhow!("a starting thread panicked")))
                })
                .collect();
            results.into_iter().collect()
        })
    }

    /// The hub, with the edge and the chart, which need no more than its API, while its node gets ready.
    fn start_hub(&self, images: &[images::Image], progress: Progress) -> Result<()> {
        let hub = self.hub();
        hub.start_control_plane(images, progress)?;
        thread::scope(|scope| {
            let node = scope.spawn(|| hub.start_node(progress));
            let rest = self.start_hub_services(progress);
            let node = node.join();
            rest.and(node.unwrap_or_else(|_| Err(anyhow!("a starting thread panicked"))))
        })
    }

    fn start_hub_services(&self, progress: Progress) -> Result<()> {
        edge::install(self.hub(), progress).context("the edge")?;
        edge::start_processes(self.hub()).context("the edge")?;
        if self.options.operator == Operator::Pods {
            self.install_chart(&helm::chart(), &[])?;
            progress.say("operator", "chart installed");
        }
        edge::await_ready(self.hub(), progress).context("the edge")
    }

    /// Writes `env`, to be sourced by a shell.
    fn write_environment(&self) -> Result<()> {
        let values = [
            ("EDGE_URL", self.edge_url()),
            ("EDGE_STATS_URL", self.edge_stats_url()),
            ("FLAMBEAU_LOG", self.operator_log().display().to_string()),
            ("KUBECONFIG", self.hub().kubeconfig().display().to_string()),
        ];
        let mut text: String = values
            .iter()
            .map(|(name, value)| format!("{name}={}\n", quote(value)))
            .collect();
        let names = values.map(|(name, _)| name);
        text += &format!("export {}\n", names.join(" "));
        // Machines without kubectl get the testbed's own.
        if let Some(folder) = self.hub().tools().kubectl.parent() {
            let folder = quote(&folder.display().to_string());
            text += &format!("command -v kubectl >/dev/null || export PATH=\"$PATH\":{folder}\n");
        }
        // kubectl finds its plugins on the PATH.
        if let Some(folder) = operator::program().parent() {
            let folder = quote(&folder.display().to_string());
            text += &format!("export PATH=\"$PATH\":{folder}\n");
        }
        let file = self.folder.join("env");
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    }
}

/// Quotes a value for a shell, when it needs quotes.
fn quote(value: &str) -> String {
    if value
        .chars()
        .all(|letter| letter.is_ascii_alphanumeric() || "/:._-".contains(letter))
    {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// Takes down what the journal knows; says whether there was anything.
fn give_back(progress: Progress) -> Result<bool> {
    let journal = Journal::of_this_machine();
    let (standing, owner) = journal.standing()?;
    if standing == Standing::Nothing {
        return Ok(false);
    }
    let owner = owner.unwrap_or_default();
    if owner != paths::repository() && owner.exists() && journal.runs()? {
        bail!(
            "the testbed of {} runs on this machine; run `make down` there first",
            owner.display()
        );
    }
    journal.give_back()?;
    progress.say(
        "down",
        if standing == Standing::Unclean {
            "what an unclean end left is removed"
        } else {
            "stopped"
        },
    );
    Ok(true)
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))
}

/// Removes everything but logs from a folder, and the folders that are empty then.
fn keep_logs(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        let (path, kind) = (entry.path(), entry.file_type().context("look at a file")?);
        let context = || format!("remove {}", path.display());
        if kind.is_dir()
            && path
                .file_name()
                .is_some_and(|name| name == "node" || name == "etcd")
        {
            fs::remove_dir_all(&path).with_context(context)?;
        } else if kind.is_dir() {
            keep_logs(&path)?;
            // Stays when a log is left in it.
            let _ = fs::remove_dir(&path);
        } else if path.extension().is_none_or(|extension| extension != "log") {
            fs::remove_file(&path).with_context(context)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn down_keeps_logs_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for sub in ["hub/etcd/member", "hub/certificates", "ovh/node/lib"] {
            fs::create_dir_all(root.join(sub)).unwrap();
        }
        for file in [
            "hub/etcd.log",
            "hub/kubeconfig",
            "hub/certificates/ca.key",
            "ovh/node/lib/x.log",
            "env",
        ] {
            fs::write(root.join(file), "x").unwrap();
        }
        keep_logs(root).unwrap();
        assert!(root.join("hub/etcd.log").exists());
        for gone in [
            "hub/kubeconfig",
            "hub/certificates",
            "hub/etcd",
            "ovh",
            "env",
        ] {
            assert!(!root.join(gone).exists(), "{gone}");
        }
    }

    #[test]
    fn values_survive_a_shell() {
        for value in ["http://10.231.0.10:8080", "/a folder/it's here/$HOME"] {
            let script = format!("V={}; printf %s \"$V\"", quote(value));
            assert_eq!(crate::command::run("sh", &["-c", &script]).unwrap(), value);
        }
    }
}

//! What the testbed has taken from the machine, written down before it is taken, so that it can all be given back:
//! also after a crash, by another process.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::cgroup::Hierarchies;
use crate::network;
use crate::partition;
use crate::process::recorded::ProcessId;

/// Machine-wide, because names of links and addresses are: one testbed per machine.
const FOLDER: &str = "/run/flambeau-testbed";

/// One thing that was taken, or a milestone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Entry {
    /// First of all: which boot of the machine, and whose testbed.
    Begun {
        /// The kernel's random id of this boot.
        boot: String,
        /// The repository whose testbed this is.
        repository: PathBuf,
    },
    /// A tree of control groups, by its name in each hierarchy.
    Group {
        /// The tree's name.
        name: String,
    },
    /// A network namespace, by the file it is bound to.
    Namespace {
        /// The file.
        file: PathBuf,
    },
    /// A network link of the root namespace.
    Link {
        /// The link's name.
        name: String,
    },
    /// A packet filter of the root namespace, as arguments of iptables.
    Filter {
        /// The chain and what follows it.
        rule: Vec<String>,
    },
    /// A process.
    Process {
        /// What it is.
        name: String,
        /// Which process.
        #[serde(flatten)]
        id: ProcessId,
    },
    /// Last of all: `up` came to its end.
    Complete,
}

/// The machine-wide lock: one `up` or `down` at a time.
pub struct Lock {
    _file: Flock<File>,
}

/// The record of what was taken.
#[derive(Clone)]
pub struct Journal {
    file: PathBuf,
}

/// What a journal says about the state of the testbed.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was taken, or a reboot has given it all back.
    Nothing,
    /// An `up` ended half-way, or its work is (partly) dead.
    Unclean,
    /// An `up` came to its end.
    Complete,
}

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// When another process holds it, or the machine-wide folder cannot be written.
    pub fn take() -> Result<Self> {
        fs::create_dir_all(FOLDER).with_context(|| format!("create {FOLDER}"))?;
        let path = Path::new(FOLDER).join("lock");
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, Errno::EWOULDBLOCK)) => bail!(
                "another `up` or `down` of a testbed is under way on this machine; wait for it"
            ),
            Err((_, error)) => Err(error).with_context(|| format!("lock {}", path.display())),
        }
    }
}

impl Journal {
    /// The machine's journal, there or not.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self {
            file: Path::new(FOLDER).join("journal"),
        }
    }

    /// The folder for the files that network namespaces are bound to.
    #[must_use]
    pub fn namespaces() -> PathBuf {
        Path::new(FOLDER).join("networks")
    }

    /// Starts a new journal for the testbed of `repository`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(&self, repository: &Path) -> Result<()> {
        let _ = fs::remove_file(&self.file);
        self.add(&Entry::Begun {
            boot: this_boot()?,
            repository: repository.to_path_buf(),
        })
    }

    /// Writes one thing down; call it before the thing is taken (a process: as soon as its number is known).
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&self, entry: &Entry) -> Result<()> {
        let line = serde_json::to_string(entry)? + "\n";
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(&self.file)
            .with_context(|| format!("open {}", self.file.display()))?;
        file.write_all(line.as_bytes())
            .with_context(|| format!("write {}", self.file.display()))
    }

    /// All that was written down in this boot of the machine.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(error).with_context(|| format!("read {}", self.file.display()));
            }
        };
        Ok(of_boot(&text, &this_boot()?))
    }

    /// How the testbed stands, and whose it is.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn standing(&self) -> Result<(Standing, Option<PathBuf>)> {
        let entries = self.entries()?;
        let owner = entries.iter().find_map(|entry| match entry {
            Entry::Begun { repository, .. } => Some(repository.clone()),
            _ => None,
        });
        let standing = match (entries.is_empty(), entries.contains(&Entry::Complete)) {
            (true, _) => Standing::Nothing,
            (false, true) => Standing::Complete,
            (false, false) => Standing::Unclean,
        };
        Ok((standing, owner))
    }

    /// Whether any process runs that was written down. What is left of a testbed whose processes were all killed serves
    /// nobody.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn runs(&self) -> Result<bool> {
        let entries = self.entries()?;
        Ok(entries
            .iter()
            .any(|entry| matches!(entry, Entry::Process { id, .. } if id.alive())))
    }

    /// Gives back everything that was taken: stops processes first, then removes links, namespaces and groups.
    /// Things that are gone already are no error, so it can be repeated after a crash.
    ///
    /// # Errors
    /// When something cannot be given back; the journal stays, so that the next call tries again.
    pub fn give_back(&self) -> Result<()> {
        let entries = self.entries()?;
        let hierarchies = Hierarchies::mounted()?;
        for entry in &entries {
            if let Entry::Group { name } = entry {
                hierarchies.group(name)?.kill()?;
            }
        }
        for entry in entries.iter().rev() {
            match entry {
                Entry::Process { id, .. } => id.signal(Signal::SIGKILL)?,
                Entry::Filter { rule } => partition::remove_filter(rule)?,
                Entry::Link { name } => network::remove_link(name)?,
                Entry::Namespace { file } => network::remove_namespace(file)?,
                Entry::Group { .. } | Entry::Begun { .. } | Entry::Complete => {}
            }
        }
        for entry in &entries {
            if let Entry::Group { name } = entry {
                hierarchies.remove(name)?;
            }
        }
        let _ = fs::remove_dir(Self::namespaces());
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", self.file.display()))
            }
            _ => Ok(()),
        }
    }
}

/// The entries of a journal's text, none when it is of another boot. A last line that a crash cut short was written
/// before its thing was taken, so it is left out.
fn of_boot(text: &str, boot: &str) -> Vec<Entry> {
    let entries: Vec<Entry> = text
        .lines()
        .map_while(|line| serde_json::from_str(line).ok())
        .collect();
    match entries.first() {
        Some(Entry::Begun { boot: of, .. }) if of == boot => entries,
        _ => Vec::new(),
    }
}

fn this_boot() -> Result<String> {
    let file = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(file)
        .with_context(|| format!("read {file}"))?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(folder: &Path) -> Journal {
        Journal {
            file: folder.join("journal"),
        }
    }

    #[test]
    fn an_up_without_an_end_is_unclean() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path());
        assert_eq!(journal.standing().unwrap(), (Standing::Nothing, None));
        journal.begin(Path::new("/somewhere")).unwrap();
        journal
            .add(&Entry::Link {
                name: "x".to_owned(),
            })
            .unwrap();
        assert_eq!(
            journal.standing().unwrap(),
            (Standing::Unclean, Some(PathBuf::from("/somewhere")))
        );
        journal.add(&Entry::Complete).unwrap();
        assert_eq!(journal.standing().unwrap().0, Standing::Complete);
    }

    #[test]
    fn a_reboot_gives_everything_back() {
        let begun = Entry::Begun {
            boot: "earlier".to_owned(),
            repository: PathBuf::new(),
        };
        let text =
            serde_json::to_string(&begun).unwrap() + "\n{\"kind\":\"link\",\"name\":\"eth0\"}\n";
        assert_eq!(of_boot(&text, "now"), Vec::new());
        assert_eq!(of_boot(&text, "earlier").len(), 2);
    }

    #[test]
    fn a_line_cut_short_by_a_crash_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path());
        journal.begin(Path::new("/somewhere")).unwrap();
        journal
            .add(&Entry::Group {
                name: "g".to_owned(),
            })
            .unwrap();
        let mut file = File::options().append(true).open(&journal.file).unwrap();
        file.write_all(b"{\"kind\":\"link\",\"na").unwrap();
        assert_eq!(journal.entries().unwrap().len(), 2);
    }

    #[test]
    fn only_the_recorded_process_is_killed_and_twice_is_as_once() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path());
        let sleep = || {
            std::process::Command::new("sleep")
                .arg("60")
                .spawn()
                .unwrap()
        };
        let (mut ours, mut other) = (sleep(), sleep());
        let id = ProcessId::of(i32::try_from(ours.id()).unwrap()).unwrap();
        let recycled = ProcessId {
            pid: i32::try_from(other.id()).unwrap(),
            start_time: 1,
        };
        journal.begin(folder.path()).unwrap();
        journal
            .add(&Entry::Process {
                name: "ours".to_owned(),
                id,
            })
            .unwrap();
        journal
            .add(&Entry::Process {
                name: "recycled".to_owned(),
                id: recycled,
            })
            .unwrap();
        assert!(journal.runs().unwrap());
        journal.give_back().unwrap();
        let _ = ours.wait();
        assert!(!id.alive());
        assert!(other.try_wait().unwrap().is_none());
        journal.give_back().unwrap();
        assert_eq!(journal.standing().unwrap().0, Standing::Nothing);
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn a_testbed_whose_processes_were_killed_does_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path());
        let mut other = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        journal.begin(folder.path()).unwrap();
        let process = |start_time| Entry::Process {
            name: "kubelet".to_owned(),
            id: ProcessId {
                pid: i32::try_from(other.id()).unwrap(),
                start_time,
            },
        };
        // Its number is another's now.
        journal.add(&process(1)).unwrap();
        assert!(!journal.runs().unwrap());
        let now = ProcessId::of(i32::try_from(other.id()).unwrap()).unwrap();
        journal.add(&process(now.start_time)).unwrap();
        assert!(journal.runs().unwrap());
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!journal.runs().unwrap());
    }
}

//! Control groups: the kernel's own record of every process that belongs to the testbed, children included.
//!
//! A process joins its group before it becomes the component, so nothing that a component starts can escape: not
//! even when the testbed itself is killed half-way. Groups live in the unified (version 2) hierarchy, which needs no
//! controllers for this; container runtimes may add groups of the same name to version 1 hierarchies.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::wait::{self, Probe};

/// The name of the testbed's group in each hierarchy; everything is below it.
pub const ROOT: &str = "flambeau-testbed";

const EMPTY_WITHIN: Duration = Duration::from_secs(30);

/// The mount points of all hierarchies of this system.
pub struct Hierarchies {
    unified: Option<PathBuf>,
    all: Vec<PathBuf>,
}

impl Hierarchies {
    /// Reads which hierarchies are mounted.
    ///
    /// # Errors
    /// When the mount table cannot be read.
    pub fn mounted() -> Result<Self> {
        let table =
            fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
        Ok(Self::parse(&table))
    }

    fn parse(table: &str) -> Self {
        let (mut unified, mut all) = (None, Vec::new());
        for line in table.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let kind = right.split(' ').next().unwrap_or_default();
            let Some(point) = left.split(' ').nth(4) else {
                continue;
            };
            if kind == "cgroup2" && unified.is_none() {
                unified = Some(PathBuf::from(point));
            }
            if kind == "cgroup" || kind == "cgroup2" {
                all.push(PathBuf::from(point));
            }
        }
        Self { unified, all }
    }

    /// The group called `name` (a path relative to the hierarchy's root) in the unified hierarchy.
    ///
    /// # Errors
    /// When this system has no unified hierarchy.
    pub fn group(&self, name: &str) -> Result<Group> {
        let Some(unified) = &self.unified else {
            bail!(
                "no cgroup version 2 hierarchy is mounted (mount one: `mount -t cgroup2 none /sys/fs/cgroup/unified`)"
            );
        };
        Ok(Group {
            folder: unified.join(name),
        })
    }

    /// Makes the group called `name` in every hierarchy, so that a container runtime can put groups below it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create_everywhere(&self, name: &str) -> Result<()> {
        for hierarchy in &self.all {
            let mut folder = hierarchy.clone();
            for part in Path::new(name) {
                let parent = folder.clone();
                folder.push(part);
                if self.all.len() == 1 {
                    pass_controllers_on(&parent)?;
                }
                fs::create_dir_all(&folder)
                    .with_context(|| format!("create control group {}", folder.display()))?;
                inherit_cpuset(&parent, &folder)?;
            }
            give_pods_their_share(hierarchy)?;
        }
        Ok(())
    }

    /// Removes the tree of groups called `name` from all hierarchies. It must hold no process any more.
    ///
    /// # Errors
    /// When a group cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.all
            .iter()
            .try_for_each(|hierarchy| remove_tree(&hierarchy.join(name)))
    }
}

/// A group in the unified hierarchy.
#[derive(Clone, Debug)]
pub struct Group {
    folder: PathBuf,
}

impl Group {
    /// Makes the group if it is not there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create(&self) -> Result<()> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("create control group {}", self.folder.display()))
    }

    /// A group below this one.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        Self {
            folder: self.folder.join(name),
        }
    }

    /// The file that a process writes its id to when it joins.
    #[must_use]
    pub fn entrance(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Kills every process in the group and below with SIGKILL, and waits until none is left.
    ///
    /// # Errors
    /// When the kernel refuses, or a process does not vanish within half a minute.
    pub fn kill(&self) -> Result<()> {
        if !self.folder.exists() {
            return Ok(());
        }
        self.write("cgroup.kill", "1")?;
        wait::until(
            &format!("no process left in {}", self.folder.display()),
            EMPTY_WITHIN,
            || {
                Ok(if self.populated()? {
                    Probe::Pending("processes remain".to_owned())
                } else {
                    Probe::Done(())
                })
            },
        )
    }

    /// Stops every process in the group where it is, or lets all go on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// Whether any process is in the group or below.
    ///
    /// # Errors
    /// When the group cannot be read.
    pub fn populated(&self) -> Result<bool> {
        let file = self.folder.join("cgroup.events");
        let events =
            fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        Ok(events.lines().any(|line| line == "populated 1"))
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let file = self.folder.join(file);
        fs::write(&file, value).with_context(|| format!("write {value} to {}", file.display()))
    }
}

/// In version 2, a group has only the controllers that its parent passes on; the kubelet wants all of them.
/// Beside version 1 hierarchies, which have the controllers, there is nothing to pass on.
fn pass_controllers_on(parent: &Path) -> Result<()> {
    let available = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
    let passed = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
    let missing = available
        .split_whitespace()
        .filter(|name| passed.split_whitespace().all(|other| other != *name));
    let wanted: Vec<String> = missing.map(|name| format!("+{name}")).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let file = parent.join("cgroup.subtree_control");
    fs::write(&file, wanted.join(" "))
        .with_context(|| format!("write {} to {}", wanted.join(" "), file.display()))
}

/// In the version 1 cpu hierarchy only pods are in groups, while every thread of the control planes and of the edge
/// counts by itself: on machines of their own, pods of three clusters would not count as one thread together.
fn give_pods_their_share(hierarchy: &Path) -> Result<()> {
    /// Sixteen times the share of one thread.
    const SHARES: &str = "16384";
    let file = hierarchy.join(ROOT).join("cpu.shares");
    if !file.exists() {
        return Ok(());
    }
    fs::write(&file, SHARES).with_context(|| format!("write {SHARES} to {}", file.display()))
}

/// A new group of the version 1 cpuset hierarchy has no processors and takes no process until it is given some.
fn inherit_cpuset(parent: &Path, child: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(file), child.join(file));
        let Ok(own) = fs::read_to_string(&to) else {
            continue;
        };
        if own.trim().is_empty()
            && let Ok(value) = fs::read_to_string(&from)
        {
            fs::write(&to, value.trim()).with_context(|| format!("write {}", to.display()))?;
        }
    }
    Ok(())
}

fn remove_tree(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries.filter_map(std::result::Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(folder).with_context(|| format!("remove control group {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_unified_hierarchy_beside_version_1() {
        let table = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                     41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw\n\
                     50 1 0:2 / / rw - ext4 /dev/vda rw\n";
        let found = Hierarchies::parse(table);
        assert_eq!(found.unified, Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(found.all.len(), 2);
    }

    #[test]
    fn controllers_are_passed_on_once_and_only_where_there_are_any() {
        let folder = tempfile::tempdir().unwrap();
        let control = folder.path().join("cgroup.subtree_control");
        pass_controllers_on(folder.path()).unwrap();
        assert!(!control.exists());
        fs::write(
            folder.path().join("cgroup.controllers"),
            "cpu memory pids\n",
        )
        .unwrap();
        fs::write(&control, "cpu\n").unwrap();
        pass_controllers_on(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(&control).unwrap(), "+memory +pids");
    }

    #[test]
    fn without_a_unified_hierarchy_there_is_no_group() {
        assert!(
            Hierarchies::parse("50 1 0:2 / / rw - ext4 /dev/vda rw\n")
                .group(ROOT)
                .is_err()
        );
    }
}

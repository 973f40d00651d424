//! Processes that outlive this one, found again by their id and start time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::{Component, last_lines};
use crate::cgroup::Group;

/// Joins a control group, then becomes the program, with the same process id. When the group is gone, because the
/// testbed was torn down meanwhile, the program does not start at all.
const JOIN_AND_BECOME: &str = r#"echo $$ > "$0" && exec "$@""#;

/// Binds folders over others (pairs before `--`) in a mount namespace of its own, then becomes the program.
const BIND_AND_BECOME: &str =
    r#"while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 1; shift 2; done; shift; exec "$@""#;

/// Where a process runs.
pub struct Placement {
    /// The control group it joins.
    pub group: Group,
    /// The file of its network namespace; none for that of this process.
    pub network: Option<PathBuf>,
    /// Its view of the file system.
    pub mounts: Mounts,
}

/// A process's view of the file system.
pub enum Mounts {
    /// The same as this process's.
    Shared,
    /// Its own, with each first folder bound over the second. All mounts made in there vanish with the last process
    /// in there.
    Private(Vec<(PathBuf, PathBuf)>),
    /// That of another process.
    Of(ProcessId),
}

/// A process, told from a later one with the same number by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process id.
    pub pid: i32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
}

impl ProcessId {
    /// Identifies the running process `pid`; none when there is none, or it has ended and waits to be reaped.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start_time) = state_and_start(&stat)?;
        (state != "Z" && state != "X").then_some(Self { pid, start_time })
    }

    /// Whether this very process runs.
    #[must_use]
    pub fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal to this very process; nothing happens when it is gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(self, signal: Signal) -> Result<()> {
        if !self.alive() {
            return Ok(());
        }
        match signal::kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => {
                Err(error).with_context(|| format!("send {signal} to process {}", self.pid))
            }
        }
    }
}

/// The state letter and the start time in a line of `/proc/PID/stat`. The second field, the program's name in
/// brackets, may hold spaces and brackets itself: so count from the last bracket.
fn state_and_start(stat: &str) -> Option<(&str, u64)> {
    let rest = stat.rsplit_once(')')?.1;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    // The state is field 3; the start time is field 22.
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

/// Starts a component that goes on when this process ends; its output goes to a log in `folder`, its identity to
/// `folder/processes`.
///
/// # Errors
/// When it cannot be started or recorded.
pub fn start(component: &Component, placement: &Placement, folder: &Path) -> Result<ProcessId> {
    let log = component.log(folder);
    let output = File::options()
        .create(true)
        .append(true)
        .open(&log)
        .with_context(|| format!("open {}", log.display()))?;
    let mut words = vec!["setsid".to_owned()];
    if placement.network.is_some() || matches!(placement.mounts, Mounts::Of(_)) {
        words.push("nsenter".to_owned());
        words.extend(
            placement
                .network
                .iter()
                .map(|file| format!("--net={}", file.display())),
        );
        if let Mounts::Of(process) = placement.mounts {
            words.push(format!("--mount=/proc/{}/ns/mnt", process.pid));
        }
        words.push("--".to_owned());
    }
    if let Mounts::Private(pairs) = &placement.mounts {
        words.extend(["unshare", "--mount", "--propagation", "private", "--"].map(str::to_owned));
        words.extend(["sh", "-c", BIND_AND_BECOME, "sh"].map(str::to_owned));
        for (folder, over) in pairs {
            words.extend([folder.display().to_string(), over.display().to_string()]);
        }
        words.push("--".to_owned());
    }
    let mut child = Command::new("sh")
        .args(["-c", JOIN_AND_BECOME])
        .arg(placement.group.entrance())
        .args(words)
        .arg(&component.program)
        .args(&component.arguments)
        .current_dir(folder)
        // Colours are for terminals; a log is read by people and programs.
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(output.try_clone().context("duplicate a log's handle")?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("start {}", component.name))?;
    let pid = i32::try_from(child.id()).context("a process id beyond the kernel's own range")?;
    let Some(process) = ProcessId::of(pid) else {
        let status = child
            .wait()
            .with_context(|| format!("look at {}", component.name))?;
        bail!(
            "{} ended at once ({status}); {}",
            component.name,
            last_lines(&log)
        );
    };
    // Whoever stays to see the process end must reap it, or it would look alive to those who only know its number.
    std::thread::spawn(move || child.wait());
    record(folder, &component.name, process)?;
    Ok(process)
}

fn record_file(folder: &Path, name: &str) -> PathBuf {
    folder.join("processes").join(format!("{name}.json"))
}

fn record(folder: &Path, name: &str, process: ProcessId) -> Result<()> {
    let file = record_file(folder, name);
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    fs::write(&file, serde_json::to_string(&process)?)
        .with_context(|| format!("write {}", file.display()))
}

/// The process that was last started under this name in this folder, if it still runs.
#[must_use]
pub fn running(folder: &Path, name: &str) -> Option<ProcessId> {
    let text = fs::read_to_string(record_file(folder, name)).ok()?;
    let process: ProcessId = serde_json::from_str(&text).ok()?;
    process.alive().then_some(process)
}

/// Succeeds when the process that was started under this name runs.
///
/// # Errors
/// When it has ended: with the last lines of its log.
pub fn check(folder: &Path, name: &str) -> Result<ProcessId> {
    match running(folder, name) {
        Some(process) => Ok(process),
        None => bail!(
            "{name} has ended; {}",
            last_lines(&folder.join(format!("{name}.log")))
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_start_time_behind_a_name_with_brackets() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 1";
        assert_eq!(state_and_start(stat), Some(("S", 987_654)));
    }

    #[test]
    fn a_process_with_the_same_number_but_another_start_is_another() {
        let own = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.alive());
        assert!(
            !ProcessId {
                start_time: own.start_time + 1,
                ..own
            }
            .alive()
        );
    }

    #[test]
    fn signals_do_not_reach_a_stranger_with_a_recycled_number() {
        let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
        let id = ProcessId::of(i32::try_from(stranger.id()).unwrap()).unwrap();
        ProcessId {
            start_time: id.start_time + 1,
            ..id
        }
        .signal(Signal::SIGKILL)
        .unwrap();
        assert!(stranger.try_wait().unwrap().is_none(), "the stranger lives");
        id.signal(Signal::SIGKILL).unwrap();
        let _ = stranger.wait();
        assert!(!id.alive());
    }
}

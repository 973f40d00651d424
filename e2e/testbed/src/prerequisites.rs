//! What the machine must have before anything is changed.

pub mod install;

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use nix::unistd::geteuid;

use crate::cgroup::{Hierarchies, ROOT};
use crate::node::CNI_PLUGINS;
use crate::paths;

/// Programs of the system, each with Debian's package that carries it.
const PROGRAMS: [(&str, &str); 17] = [
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setsid", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("runc", "runc"),
    ("buildah", "buildah"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("promtool", "prometheus"),
    // Operators whose clock is wrong.
    ("faketime", "faketime"),
    // For the bill of materials.
    ("jq", "jq"),
];

/// The packages that are missing, each once.
#[must_use]
pub fn missing_packages() -> Vec<&'static str> {
    let mut missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !Path::new(CNI_PLUGINS).join("bridge").exists() {
        missing.push("containernetworking-plugins");
    }
    missing.sort_unstable();
    missing.dedup();
    missing
}

/// Succeeds when the testbed can run on this machine; changes nothing.
///
/// # Errors
/// Lists everything that is missing, each with its remedy.
pub fn check() -> Result<()> {
    let mut problems = unsupported();
    let packages = missing_packages();
    if !packages.is_empty() {
        problems.push(format!(
            "missing packages: {} (`make prerequisites` installs them)",
            packages.join(" ")
        ));
    }
    report(&problems)
}

/// Succeeds when the system is of a kind that the testbed supports, whatever is installed; changes nothing.
///
/// # Errors
/// Lists what is not supported.
pub fn check_system() -> Result<()> {
    report(&unsupported())
}

/// Succeeds when this process is root.
///
/// # Errors
/// When it is not.
pub fn require_root() -> Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    bail!("the testbed makes network namespaces and runs containers: run this as root");
}

fn report(problems: &[String]) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    bail!(
        "the testbed cannot run here; nothing was changed:\n  - {}",
        problems.join("\n  - ")
    );
}

fn unsupported() -> Vec<String> {
    let mut problems = Vec::new();
    if (env::consts::OS, env::consts::ARCH) != ("linux", "x86_64") {
        problems.push(format!(
            "it needs Linux on x86_64, this is {} on {}",
            env::consts::OS,
            env::consts::ARCH
        ));
    }
    problems.extend(require_root().err().map(|error| error.to_string()));
    problems.extend(
        Hierarchies::mounted()
            .and_then(|found| found.group(ROOT))
            .err()
            .map(|error| error.to_string()),
    );
    if !Path::new("/proc/self/ns/net").exists() {
        problems.push("the kernel has no network namespaces".to_owned());
    }
    let root = paths::repository();
    // Nodes have their own view of these folders, in which files below the machine's would be hidden.
    if let Some(hidden) = ["/run", "/var/lib", "/var/log"]
        .iter()
        .find(|hidden| root.starts_with(hidden))
    {
        problems.push(format!("the repository must not be below {hidden}"));
    }
    problems
}

/// A program on the search path, or where Debian keeps those of administrators.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

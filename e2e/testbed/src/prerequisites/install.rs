//! Installing what is missing, with Debian's own tools.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{check_system, find, missing_packages};
use crate::upstream::Tools;

/// Asked by package scripts whether a service may be started (`man invoke-rc.d`).
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str = "#!/bin/sh\n# Put here by Flambeau's testbed while it installs packages: no service is started.\nexit 101\n";

/// Installs missing packages and starts no service; says nothing when nothing is missing.
///
/// # Errors
/// When the system is not supported (nothing is changed then), or the installation fails.
pub fn packages() -> Result<()> {
    check_system()?;
    let mut missing = missing_packages();
    if Tools::built().is_err() {
        if find("go").is_none() {
            bail!(
                "Go 1.26 or newer is missing; it builds Kubernetes and Contour: https://go.dev/doc/install"
            );
        }
        if !Command::new("python3")
            .args(["-m", "pip", "--version"])
            .output()
            .is_ok_and(|said| said.status.success())
        {
            missing.push("python3-pip");
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        bail!(
            "missing packages: {}; install them with this system's package manager",
            missing.join(" ")
        );
    }
    eprintln!("Installing packages: {}", missing.join(" "));
    let _no_services = NoServices::begin()?;
    apt(&["update"])?;
    apt(&[
        &["install", "--yes", "--no-install-recommends"],
        missing.as_slice(),
    ]
    .concat())
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .args(["--quiet", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .stdin(Stdio::null());
    let status = command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("run apt-get")?;
    if !status.success() {
        bail!("apt-get {} failed ({status})", arguments.join(" "));
    }
    Ok(())
}

/// Forbids package scripts to start services, until it is dropped. A machine that has a policy of its own keeps it.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        // One that a crash of ours left behind is ours to remove.
        let ours = fs::read_to_string(POLICY).map_or(true, |text| text == POLICY_TEXT);
        if ours {
            fs::write(POLICY, POLICY_TEXT).with_context(|| format!("write {POLICY}"))?;
            fs::set_permissions(Path::new(POLICY), fs::Permissions::from_mode(0o755))
                .context("make it executable")?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}

//! The chart in the hands of Helm and a real API server: what it installs, what its roles allow, what its admission
//! policies refuse, and what an uninstallation leaves.

mod admission;
mod cluster;
mod older;
mod pods;
mod release;
mod roles;

use std::process::ExitCode;

use anyhow::Result;
use cluster::{Cluster, SharedCluster};
use libtest_mimic::Arguments;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let cluster = SharedCluster::new(Cluster::start);
    let mut trials = vec![release::trial(), release::documented(), older::trial()];
    trials.extend(pods::trials(&cluster));
    trials.extend(roles::trials(&cluster));
    trials.extend(admission::trials(&cluster));
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

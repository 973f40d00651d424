//! The chart in the hands of Helm and a real API server: what it installs, what its roles allow, what its admission
//! policies refuse, and what an uninstallation leaves.

mod admission;
mod cluster;
mod pods;
mod release;
mod roles;

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use cluster::{Cluster, SharedCluster};
use libtest_mimic::{Arguments, Trial};

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let cluster = Arc::new(SharedCluster::default());
    let mut trials = vec![release::trial()];
    trials.extend(pods::trials(&cluster));
    trials.extend(roles::trials(&cluster));
    trials.extend(admission::trials(&cluster));
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

/// A test that is given the cluster, which the first one starts.
fn trial(
    cluster: &Arc<SharedCluster>,
    name: impl Into<String>,
    test: impl FnOnce(&Cluster) -> Result<()> + Send + 'static,
) -> Trial {
    let cluster = Arc::clone(cluster);
    Trial::test(name, move || {
        test(cluster.get()?).map_err(|error| format!("{error:#}").into())
    })
}

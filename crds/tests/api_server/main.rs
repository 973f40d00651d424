//! The API in the hands of a real API server: what it takes, what it refuses
//! and with which words, and what it shows.

mod accepted;
mod cluster;
mod columns;
mod commands;
mod definitions;
mod documents;
mod refused;

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use cluster::{Cluster, SharedCluster};
use libtest_mimic::{Arguments, Trial};

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let cluster = Arc::new(SharedCluster::default());
    let mut trials = Vec::new();
    trials.extend(definitions::trials(&cluster));
    trials.extend(refused::trials(&cluster)?);
    trials.extend(accepted::trials(&cluster));
    trials.extend(columns::trials(&cluster)?);
    trials.extend(commands::trials(&cluster));
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

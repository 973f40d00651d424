//! The API in the hands of a real API server: what it takes, what it refuses
//! and with which words, and what it shows.

mod accepted;
mod cluster;
mod columns;
mod commands;
mod definitions;
mod documents;
mod refused;

use std::process::ExitCode;

use anyhow::Result;
use cluster::{Cluster, SharedCluster};
use libtest_mimic::Arguments;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let cluster = SharedCluster::new(Cluster::start);
    let mut trials = Vec::new();
    trials.extend(definitions::trials(&cluster));
    trials.extend(refused::trials(&cluster)?);
    trials.extend(accepted::trials(&cluster));
    trials.extend(columns::trials(&cluster)?);
    trials.extend(commands::trials(&cluster));
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

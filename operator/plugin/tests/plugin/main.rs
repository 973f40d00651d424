//! The plugin as people run it, against a real API server. What the operator
//! would report is written by the tests.

mod asked;
mod hub;
mod joined;
mod looked;
mod objects;
mod refused;
mod steered;

use anyhow::Result;
use hub::{Hub, SharedHub};
use libtest_mimic::{Arguments, Trial};
use std::{process::ExitCode, sync::Arc};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let hub = SharedHub::new(Hub::start);
    let mut trials = Vec::new();
    trials.extend(looked::trials(&hub));
    trials.extend(asked::trials(&hub));
    trials.extend(refused::trials(&hub));
    trials.extend(steered::trials(&hub));
    trials.extend(joined::trials(&hub));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test that is given the hub, with nothing in it but the usual fleet.
fn trial(hub: &Arc<SharedHub>, name: &str, test: fn(&Hub) -> Result<()>) -> Trial {
    hub.trial(name, move |hub| hub.lend(test))
}

//! `testbed`: four real Kubernetes clusters and an edge on this machine.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use flambeau_testbed::images;
use flambeau_testbed::network::Addresses;
use flambeau_testbed::operator::Operator;
use flambeau_testbed::prerequisites::install;
use flambeau_testbed::progress::Progress;
use flambeau_testbed::testbed::{Options, Testbed};
use flambeau_testbed::upstream::build;

/// Four real Kubernetes clusters and an edge on this machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the clusters up; one that runs already is kept, with images and operator renewed
    Up(Up),
    /// Say what is missing, and install missing packages of the system
    Prerequisites,
    /// Build or fetch the upstream programs that are not in the cache
    Upstream,
    /// Stop everything that `up` started, also after a crash
    Down,
    /// Break one cluster of a running testbed, or mend it
    Cluster {
        /// Its name, such as atos
        name: String,
        /// What happens to it
        #[command(subcommand)]
        event: Event,
    },
}

#[derive(Subcommand)]
enum Event {
    /// Kill every process at once, pods included, as a fire would
    Kill,
    /// Bring a killed cluster back with the data that it had
    Restart,
    /// Cut its link: nothing comes in or goes out
    Cut,
    /// Restore its link
    Mend,
    /// Stop every process where it is; connections stay open and silent
    Pause,
    /// Let a paused cluster go on
    Resume,
}

#[derive(Args)]
struct Up {
    /// Run the operator as a process beside the clusters rather than as pods on the hub: it starts faster when it was built
    /// anew, and a debugger reaches it
    #[arg(long, conflicts_with = "without_operator")]
    operator_outside: bool,
    /// Leave the operator out
    #[arg(long)]
    without_operator: bool,
    /// Let etcd wait for the disk at every write
    #[arg(long)]
    fsync: bool,
    /// The private /16 network of all addresses
    #[arg(long, env = "FLAMBEAU_NETWORK", default_value_t)]
    network: Addresses,
    /// Take a running testbed down first
    #[arg(long)]
    fresh: bool,
}

impl Up {
    fn operator(&self) -> Operator {
        match (self.without_operator, self.operator_outside) {
            (true, _) => Operator::Absent,
            (false, true) => Operator::Process,
            (false, false) => Operator::Pods,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Up(up) => bring_up(&up),
        Command::Prerequisites => install::packages(),
        Command::Upstream => build::all(),
        Command::Down => Testbed::down(Progress::start()),
        Command::Cluster { name, event } => happen(&name, &event),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn happen(name: &str, event: &Event) -> Result<()> {
    let testbed = Testbed::find()?;
    let cluster = testbed.cluster(name)?;
    let progress = Progress::start();
    let done = match event {
        Event::Kill => cluster.kill().map(|()| "dead"),
        Event::Restart => {
            progress.say(name, "comes back, which takes some 20 seconds");
            cluster.restart(&images::for_nodes()?).map(|()| "is back")
        }
        Event::Cut => cluster.cut_link().map(|()| "cut off"),
        Event::Mend => cluster.restore_link().map(|()| "linked"),
        Event::Pause => cluster.pause().map(|()| "stands still"),
        Event::Resume => cluster.resume().map(|()| "goes on"),
    }?;
    progress.say(name, done);
    Ok(())
}

fn bring_up(up: &Up) -> Result<()> {
    let progress = Progress::start();
    let testbed = match Testbed::attach() {
        Ok(running) if !up.fresh => {
            progress.say(
                "testbed",
                "runs already and is kept (`make down` first for a fresh one)",
            );
            running.renew_images()?;
            if !up.without_operator {
                running.renew_operator(up.operator(), progress)?;
            }
            running
        }
        _ => {
            let options = Options {
                operator: up.operator(),
                fsync: up.fsync,
                addresses: up.network,
            };
            Testbed::up(options, progress)?
        }
    };
    let folder = testbed.folder().display();
    println!(
        "Ready. For a shell: `source {folder}/env`; kubeconfigs: {folder}/<cluster>/kubeconfig"
    );
    Ok(())
}

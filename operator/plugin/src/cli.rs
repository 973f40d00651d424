//! The command line.

use crate::hub::Connection;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::{SignedDuration, Timestamp};
use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes:
  0    done, or nothing to do
  1    an error: input, connection, anything unexpected
  2    plan: something is pending; a request: a rule refuses it, and nothing was created or changed
  3    --wait: the time was over; what was begun goes on
  4    --wait: it ended, but not as asked: walked back, or aborted
  5    a permission is missing on the hub
  130  interrupted from the keyboard; what was begun goes on";

/// What runs where and why, what would happen if, and moves by hand: the
/// plugin of kubectl for Flambeau.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-flambeau",
    bin_name = "kubectl flambeau",
    version,
    after_help = EXIT_CODES,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Which hub.
    #[command(flatten)]
    pub connection: Connection,
    /// No colours; NO_COLOR in the environment says the same.
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// Verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Where applications run, whether that is lawful, whether they serve, what
    /// moves, and what is stuck and why.
    Status(Status),
    /// What would happen now, or if a cluster were lost, or if a policy came
    /// into force: the operator's own planner on what the hub knows.
    Plan(Plan),
    /// Move an application to another cluster, make-before-break.
    Relocate(Relocate),
    /// Bring an application up elsewhere because its cluster is lost.
    Failover(Failover),
    /// Move an application back to the cluster that it was failed over from.
    Failback(Failback),
    /// Move every application off a cluster or a provider.
    Evacuate(Evacuate),
    /// Hold a move, or all that an Evacuation has not begun.
    Pause(Steer),
    /// Let what was paused go on.
    Resume(Steer),
    /// Walk a move back, or a whole Evacuation.
    Abort(Steer),
    /// Keep new applications away from a cluster; what runs there stays.
    Cordon(Cordon),
    /// Let applications come to a cluster again.
    Uncordon(Cordon),
    /// Make a cluster a member of the fleet: rights and the policy of fencing on
    /// the cluster, credentials and MemberCluster on the hub.
    Join(Join),
    /// Take a cluster out of the fleet, and everything of Flambeau off it.
    Unjoin(Unjoin),
    /// Every move of an application: who, why, when, how long, what was
    /// measured.
    History(History),
    /// A completion script for a shell, or for kubectl's own completion.
    Completion(Completion),
    /// Candidates for what is being typed, as kubectl asks for them.
    #[command(hide = true, name = "__complete")]
    Complete(Complete),
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For people, with more columns.
    Wide,
    /// For machines.
    Json,
    /// For machines.
    Yaml,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Name of the application; all of them without it.
    pub application: Option<String>,
    /// Go on showing what changes, step by step, until interrupted.
    #[arg(short, long)]
    pub watch: bool,
    /// How to print.
    #[arg(short, long, default_value = "table", conflicts_with = "watch")]
    pub output: Output,
}

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// As if this cluster were lost; once for each.
    #[arg(long, value_name = "CLUSTER")]
    pub without_cluster: Vec<String>,
    /// As if every cluster of this provider were lost; once for each.
    #[arg(long, value_name = "PROVIDER")]
    pub without_provider: Vec<String>,
    /// As if these manifests were applied, such as a policy not yet signed;
    /// files or folders, once for each.
    #[arg(long, value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// As if it were this moment (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub at: Option<Timestamp>,
    /// How many planned moves may be under way at once: what the operator was
    /// started with.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrent_moves: u16,
    /// How to print.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
}

/// Options of every request that moves something.
#[derive(Debug, Args)]
pub struct Request {
    /// Print what would be made and what the planner says of it; make nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Show the progress and return when it is over.
    #[arg(long, conflicts_with = "dry_run")]
    pub wait: bool,
    /// How long to wait, such as 90s, 10m or 2h; 0 waits for ever.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "30m",
        requires = "wait"
    )]
    pub timeout: SignedDuration,
    /// Begin although a Freeze is in force: recorded with the request.
    #[arg(long)]
    pub ignore_freeze: bool,
    /// How to print what was made.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
}

/// What a dry run shows where a reason will have to stand.
const NO_REASON_YET: &str = "no reason given yet";

/// Options of `relocate`.
#[derive(Debug, Args)]
pub struct Relocate {
    /// Name of the application.
    pub application: String,
    /// Cluster to go to.
    #[arg(long, value_name = "CLUSTER")]
    pub to: String,
    /// Why; kept as evidence.
    #[arg(long, default_value = "relocated by hand")]
    pub reason: String,
    /// What else.
    #[command(flatten)]
    pub request: Request,
}

/// Options of `failover`.
#[derive(Debug, Args)]
pub struct Failover {
    /// Name of the application.
    pub application: String,
    /// Cluster to go to.
    #[arg(long, value_name = "CLUSTER")]
    pub to: String,
    /// Why; kept as evidence. Required, but for a dry run: the former copy is
    /// given up.
    #[arg(
        long,
        required = false,
        required_unless_present = "dry_run",
        default_value_if("dry_run", "true", NO_REASON_YET)
    )]
    pub reason: String,
    /// What else.
    #[command(flatten)]
    pub request: Request,
}

/// Options of `failback`.
#[derive(Debug, Args)]
pub struct Failback {
    /// Name of the application.
    pub application: String,
    /// Why; kept as evidence.
    #[arg(long, default_value = "failed back by hand")]
    pub reason: String,
    /// What else.
    #[command(flatten)]
    pub request: Request,
}

/// Options of `evacuate`.
#[derive(Debug, Args)]
pub struct Evacuate {
    /// What is emptied: cluster/NAME or provider/NAME.
    #[arg(value_name = "cluster/NAME|provider/NAME")]
    pub place: String,
    /// The only clusters to go to, the best first; every lawful one without it.
    #[arg(long, value_name = "CLUSTER", value_delimiter = ',')]
    pub to: Vec<String>,
    /// Moves at the same time, within the budget of the fleet.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub max_concurrent: Option<i32>,
    /// Why; kept as evidence. Required, but for a dry run: fewer clusters are
    /// left.
    #[arg(
        long,
        required = false,
        required_unless_present = "dry_run",
        default_value_if("dry_run", "true", NO_REASON_YET)
    )]
    pub reason: String,
    /// What else.
    #[command(flatten)]
    pub request: Request,
}

/// Options of `pause`, `resume` and `abort`.
#[derive(Debug, Args)]
pub struct Steer {
    /// A Migration, an application that is moving, or evacuation/NAME.
    #[arg(value_name = "MIGRATION|APPLICATION|evacuation/NAME")]
    pub target: String,
    /// Why; kept as an annotation.
    #[arg(long)]
    pub reason: Option<String>,
    /// Ask the hub whether it could be changed; change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Show the progress and return when it is over.
    #[arg(long, conflicts_with = "dry_run")]
    pub wait: bool,
    /// How long to wait, such as 90s, 10m or 2h; 0 waits for ever.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "30m",
        requires = "wait"
    )]
    pub timeout: SignedDuration,
}

/// Options of `cordon` and `uncordon`.
#[derive(Debug, Args)]
pub struct Cordon {
    /// Name of the MemberCluster.
    pub cluster: String,
    /// Why; kept as an annotation.
    #[arg(long)]
    pub reason: Option<String>,
    /// Ask the hub whether it could be changed; change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Who Flambeau and applications are on a cluster, and where the credential
/// is; `unjoin` goes by the MemberCluster, and by these where there is none any
/// more.
#[derive(Debug, Args)]
pub struct Identity {
    /// Namespace of Flambeau's ServiceAccount on the cluster.
    #[arg(long, value_name = "NAMESPACE", default_value = "flambeau-system")]
    pub member_namespace: String,
    /// Flambeau's ServiceAccount on the cluster.
    #[arg(long, value_name = "NAME", default_value = "flambeau")]
    pub service_account: String,
    /// ServiceAccount as which applications are written, in each of their
    /// namespaces.
    #[arg(long, value_name = "NAME", default_value = "flambeau-applications")]
    pub application_service_account: String,
    /// Namespace of the Secret on the hub.
    #[arg(long, value_name = "NAMESPACE", default_value = "flambeau-system")]
    pub secret_namespace: String,
}

/// Options of `join`.
#[derive(Debug, Args)]
pub struct Join {
    /// Name of the MemberCluster.
    pub name: String,
    /// Kubeconfig of an administrator of the cluster: used now, and not kept.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig_of_member: PathBuf,
    /// Context of that kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub context_of_member: Option<String>,
    /// CloudProvider that operates the cluster.
    #[arg(long)]
    pub provider: String,
    /// Country where the data of the cluster lies, such as FR.
    #[arg(long, value_name = "COUNTRY")]
    pub residency: String,
    /// The only namespaces for applications, once for each; without it, any
    /// but those of the system, and Flambeau makes them.
    #[arg(short = 'n', long = "namespace", id = "namespace")]
    pub namespaces: Vec<String>,
    /// The only kinds for applications, once for each, as `kubectl
    /// api-resources` prints them: deployments.apps; without it, the usual
    /// ones, which grant no permissions and stay within their namespace.
    #[arg(long, value_delimiter = ',')]
    pub kind: Vec<String>,
    /// URL of the API server as the hub reaches it; the one of the kubeconfig
    /// without it.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// How long a token lasts, such as 24h; Flambeau renews it at half of its
    /// life.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = token_lifetime)]
    pub token_lifetime: SignedDuration,
    #[command(flatten)]
    pub identity: Identity,
    /// Print the manifests of both, or of one, and make nothing.
    #[arg(
        long,
        value_name = "WHERE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "all"
    )]
    pub dry_run: Option<DryRun>,
}

/// Which manifests are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// Those of the member and of the hub.
    All,
    /// Those of the member.
    Member,
    /// Those of the hub.
    Hub,
}

/// What the API servers of Kubernetes take: ten minutes at least.
fn token_lifetime(text: &str) -> Result<SignedDuration, String> {
    let lifetime: SignedDuration = text
        .parse()
        .map_err(|_| "must be a duration, such as 24h".to_owned())?;
    if lifetime < SignedDuration::from_mins(10) {
        return Err("must be at least 10m, the shortest that Kubernetes issues".to_owned());
    }
    Ok(lifetime)
}

/// Options of `unjoin`.
#[derive(Debug, Args)]
pub struct Unjoin {
    /// Name of the MemberCluster.
    pub name: String,
    /// Kubeconfig of an administrator of the cluster.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "without_member",
        conflicts_with = "without_member"
    )]
    pub kubeconfig_of_member: Option<PathBuf>,
    /// Context of that kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub context_of_member: Option<String>,
    /// The cluster is gone: only the hub is cleaned up, and what would be left
    /// on the cluster is said.
    #[arg(long)]
    pub without_member: bool,
    #[command(flatten)]
    pub identity: Identity,
    /// Say what would be deleted; delete nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `history`.
#[derive(Debug, Args)]
pub struct History {
    /// Name of the application.
    pub application: String,
    /// How to print.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
}

/// Options of `completion`.
#[derive(Debug, Args)]
pub struct Completion {
    /// For which shell; kubectl: a program that kubectl's own completion asks,
    /// to be saved as kubectl_complete-flambeau on the PATH.
    pub shell: CompletionShell,
}

/// What asks for completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompletionShell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
    /// PowerShell
    Powershell,
    /// kubectl's own completion
    Kubectl,
}

impl CompletionShell {
    /// The shell, if it is one.
    pub fn shell(self) -> Option<Shell> {
        match self {
            Self::Bash => Some(Shell::Bash),
            Self::Zsh => Some(Shell::Zsh),
            Self::Fish => Some(Shell::Fish),
            Self::Powershell => Some(Shell::PowerShell),
            Self::Kubectl => None,
        }
    }
}

/// What stands on the line to be completed.
#[derive(Debug, Args)]
pub struct Complete {
    /// Words after `kubectl flambeau`, the last of them unfinished.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use flambeau_testbed::documentation::{self, Class};

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_the_documentation_asks_is_understood() {
        let (mut asked, mut wrong) = (0, Vec::new());
        for command in documentation::commands().unwrap() {
            if command.class() != Some(Class::Plugin) {
                continue;
            }
            asked += 1;
            let words = command.words();
            let line = ["kubectl-flambeau".to_owned()]
                .into_iter()
                .chain(words.into_iter().skip(2));
            if let Err(error) = Cli::try_parse_from(line) {
                wrong.push(format!("{}: {}\n{error}", command.place, command.text));
            }
        }
        assert!(asked > 20, "only {asked} commands were found");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn what_drops_redundancy_needs_a_reason() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("kubectl-flambeau relocate badges --to ovh").is_ok());
        for line in [
            "kubectl-flambeau failover badges --to ovh",
            "kubectl-flambeau evacuate cluster/atos",
        ] {
            let refused = parse(line).unwrap_err().to_string();
            assert!(refused.contains("--reason"), "{refused}");
            let dry = parse(&format!("{line} --dry-run"));
            assert!(dry.is_ok(), "a dry run drops nothing: {}", dry.unwrap_err());
        }
    }

    #[test]
    fn timeouts_are_written_as_people_do() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        let cli = parse("kubectl-flambeau relocate badges --to ovh --wait --timeout 90s");
        let Ok(Command::Relocate(relocate)) = cli.map(|cli| cli.command) else {
            panic!("not understood");
        };
        assert_eq!(relocate.request.timeout, SignedDuration::from_secs(90));
    }
}

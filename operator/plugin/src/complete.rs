//! Completion: scripts for shells, and candidates for kubectl's own.

use crate::{
    cli::{Cli, Completion},
    hub::{Connection, Hub},
    print,
};
use clap::CommandFactory;
use flambeau_operator::offline::objects::Objects;
use std::process::ExitCode;

/// What kubectl looks for on the PATH and asks for candidates
/// (<https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/#shell-completion>).
const KUBECTL: &str = "#!/bin/sh\n\
# Save as kubectl_complete-flambeau on the PATH, and make it executable.\n\
exec kubectl-flambeau __complete -- \"$@\"\n";

/// `completion`.
///
/// # Errors
/// When standard output is closed.
pub fn script(options: &Completion) -> anyhow::Result<ExitCode> {
    match options.shell.shell() {
        None => print::raw(KUBECTL)?,
        Some(shell) => {
            let mut script = Vec::new();
            let mut command = Cli::command().bin_name("kubectl-flambeau");
            clap_complete::generate(shell, &mut command, "kubectl-flambeau", &mut script);
            print::raw(&String::from_utf8_lossy(&script))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `__complete`: one candidate a line, then the directive that no file names
/// are to be added (the protocol of cobra, `ShellCompDirectiveNoFileComp`).
///
/// # Errors
/// When standard output is closed.
pub async fn candidates(hub: Option<Hub>, words: &[String]) -> anyhow::Result<ExitCode> {
    let wanted = wanted(words);
    let found = match wanted {
        Wanted::Words(words) => words,
        // Somebody is typing: an error would only stand in the way.
        names => match hub {
            Some(hub) => hub
                .scope()
                .await
                .map_or_else(|_| Vec::new(), |all| names.of(&all)),
            None => Vec::new(),
        },
    };
    let unfinished = words.last().map_or("", String::as_str);
    let mut text: String = found
        .iter()
        .filter(|candidate| candidate.starts_with(unfinished))
        .map(|candidate| format!("{candidate}\n"))
        .collect();
    text.push_str(":4\n");
    print::raw(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Where to look for names: what kubectl and the line itself say.
pub fn connection(mut connection: Connection, words: &[String]) -> Connection {
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) => (option, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let mut value = || value.clone().or_else(|| rest.next().cloned());
        match option {
            "-n" | "--namespace" => connection.namespace = value(),
            "--context" => connection.context = value(),
            "--kubeconfig" => connection.kubeconfig = value().map(Into::into),
            "-A" | "--all-namespaces" => connection.all_namespaces = true,
            _ => {}
        }
    }
    connection
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Words(Vec<String>),
    Applications,
    Clusters,
    Moves,
    Places,
}

impl Wanted {
    fn of(&self, objects: &Objects) -> Vec<String> {
        let applications = || objects.applications.keys().map(|key| key.name.to_string());
        let clusters = || objects.clusters.keys().map(ToString::to_string);
        match self {
            Wanted::Words(words) => words.clone(),
            Wanted::Applications => applications().collect(),
            Wanted::Clusters => clusters().collect(),
            Wanted::Moves => {
                let open = objects.migrations.iter();
                let open = open.filter(|(_, object)| !crate::moves::over(object));
                open.map(|(key, _)| key.name.to_string())
                    .chain(
                        objects
                            .evacuations
                            .keys()
                            .map(|name| format!("evacuation/{name}")),
                    )
                    .chain(applications())
                    .collect()
            }
            Wanted::Places => {
                let providers = objects
                    .clusters
                    .values()
                    .map(|one| one.spec.provider.clone());
                let providers: std::collections::BTreeSet<String> = providers.collect();
                clusters()
                    .map(|name| format!("cluster/{name}"))
                    .chain(providers.into_iter().map(|name| format!("provider/{name}")))
                    .collect()
            }
        }
    }
}

fn wanted(words: &[String]) -> Wanted {
    let command = Cli::command();
    let (unfinished, before) = words
        .split_last()
        .map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let verb = before
        .iter()
        .find_map(|word| command.get_subcommands().find(|one| one.get_name() == word));
    let Some(verb) = verb else {
        let verbs = command.get_subcommands().filter(|one| !one.is_hide_set());
        return Wanted::Words(verbs.map(|one| one.get_name().to_owned()).collect());
    };
    if unfinished.starts_with('-') {
        let options = verb.get_arguments().chain(command.get_arguments());
        let long = options.filter_map(|option| option.get_long());
        return Wanted::Words(long.map(|name| format!("--{name}")).collect());
    }
    match before.last().map(String::as_str) {
        Some("--to" | "--without-cluster") => return Wanted::Clusters,
        Some("-o" | "--output") => {
            let formats = ["table", "wide", "json", "yaml"];
            return Wanted::Words(formats.map(str::to_owned).to_vec());
        }
        _ => {}
    }
    match verb.get_name() {
        "status" | "relocate" | "failover" | "failback" | "history" => Wanted::Applications,
        "pause" | "resume" | "abort" => Wanted::Moves,
        "cordon" | "uncordon" | "unjoin" => Wanted::Clusters,
        "evacuate" => Wanted::Places,
        "completion" => {
            let shells = ["bash", "zsh", "fish", "powershell", "kubectl"];
            Wanted::Words(shells.map(str::to_owned).to_vec())
        }
        _ => Wanted::Words(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Wanted {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        wanted(&words)
    }

    #[test]
    fn candidates_are_of_the_kind_that_the_place_asks_for() {
        assert_eq!(asked("relocate "), Wanted::Applications);
        assert_eq!(asked("relocate badges --to "), Wanted::Clusters);
        assert_eq!(asked("-n games abort "), Wanted::Moves);
        assert_eq!(asked("evacuate cl"), Wanted::Places);
        let Wanted::Words(verbs) = asked("") else {
            panic!("verbs come first");
        };
        assert!(verbs.contains(&"history".to_owned()));
        assert!(!verbs.contains(&"__complete".to_owned()));
        let Wanted::Words(options) = asked("failover badges --") else {
            panic!("options begin with dashes");
        };
        assert!(options.contains(&"--reason".to_owned()));
    }
}

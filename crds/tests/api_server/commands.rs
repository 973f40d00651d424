//! The commands of the documentation: every `kubectl` that only reads is asked
//! of a real API server, with names filled in. That there is no object of such
//! a name is fine; an unknown kind, option or path is not.

use std::sync::Arc;

use anyhow::{Result, ensure};
use flambeau_testbed::{
    documentation::{self, Class, Command},
    upstream::Tools,
};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::cluster::{Cluster, SharedCluster};

/// What only reads, and needs no more than an API server.
const READING: [&str; 4] = ["get", "describe", "explain", "auth"];

/// What changes something: asked without effect.
const CHANGING: [&str; 8] = [
    "annotate", "apply", "create", "delete", "label", "patch", "replace", "scale",
];

/// What stands for something else in a command, and what it is here.
const PLACEHOLDERS: [(&str, &str); 8] = [
    (
        "$(kubectl get gapp lost-property -o jsonpath={.status.cluster})",
        "paris-1",
    ),
    ("$cluster", "paris-1"),
    ("MEMBER", "paris-1"),
    ("POD", "flambeau"),
    ("NAMESPACE", "default"),
    ("CLUSTER", "paris-1"),
    ("NAME", "web"),
    ("APP", "web"),
];

pub fn trials(cluster: &Arc<SharedCluster>) -> Vec<Trial> {
    vec![
        cluster.trial(
            "commands::what_the_documentation_asks_of_kubectl_is_understood",
            understood,
        ),
        cluster.trial(
            "commands::what_the_documentation_does_with_kubectl_is_taken",
            taken,
        ),
    ]
}

fn understood(cluster: &Cluster) -> Result<()> {
    let gateway_api = Tools::places()?.contour_crds.join("gateway-api.yaml");
    let gateway_api = gateway_api.display().to_string();
    cluster.kubectl(&["apply", "--server-side", "-f", &gateway_api])?;
    cluster.kubectl(&["wait", "--for=condition=Established", "-f", &gateway_api])?;
    let (mut asked, mut wrong) = (0, Vec::new());
    for (page, text) in documentation::pages()? {
        for command in commands(&text) {
            let arguments = documentation::words(&filled(&command));
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            asked += 1;
            if let Err(error) = cluster.kubectl(&arguments) {
                let error = format!("{error:#}");
                // `auth can-i` answers no with an exit code.
                let answered = error.contains("NotFound") || arguments[0] == "auth";
                if !answered {
                    wrong.push(format!("{page}: kubectl {command}\n{error}"));
                }
            }
        }
    }
    ensure!(asked > 20, "only {asked} commands were found");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

/// Arguments of every reading `kubectl` of a page, in a block or within a
/// line; up to a comment, a pipe or a remark in parentheses. What is for a
/// member says so, and is asked all the same: kinds are the same there.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let block = line.strip_prefix("$ kubectl ");
        let within = line
            .split('`')
            .skip(1)
            .step_by(2)
            .filter_map(|code| code.strip_prefix("kubectl "));
        for command in block.into_iter().chain(within) {
            let end = [" (", " #", " |", " >", ";", "…"]
                .iter()
                .filter_map(|mark| command.find(mark))
                .min();
            let command = command[..end.unwrap_or(command.len())].trim();
            let mut words = command.split(' ');
            let reads = words.next().is_some_and(|verb| READING.contains(&verb));
            // Less than that is a way of speaking, such as `kubectl get -o yaml`.
            let whole = words.next().is_some_and(|word| !word.starts_with('-'));
            if reads && whole && !command.contains("--watch") {
                found.push(command.to_owned());
            }
        }
    }
    found
}

fn filled(text: &str) -> String {
    PLACEHOLDERS
        .iter()
        .fold(text.to_owned(), |text, (placeholder, name)| {
            text.replace(placeholder, name)
        })
}

/// Every other kubectl of a block, whether it waits, shows or changes: without
/// effect, and against a cluster that has no operator, and may have objects of
/// other tests.
fn taken(cluster: &Cluster) -> Result<()> {
    let (mut asked, mut wrong) = (0, Vec::new());
    let pages = documentation::pages()?;
    // A refusal that the page shows under its command.
    let shown = |error: &str| {
        let mut lines = pages.iter().flat_map(|(_, text)| text.lines());
        lines.any(|line| line.contains(" is invalid: ") && error.contains(line))
    };
    let within = pages
        .iter()
        .flat_map(|(page, text)| within_lines(page, text));
    for command in documentation::commands()?.into_iter().chain(within) {
        if command.class() != Some(Class::Kubectl) {
            continue;
        }
        let text = filled(&command.text);
        let (line, document) = text.split_once("<<END\n").unwrap_or((&text, ""));
        let mut arguments = documentation::words(line).split_off(1);
        without_option(&mut arguments, "--kubeconfig");
        arguments.retain(|word| !matches!(word.as_str(), "--watch" | "-w"));
        let document = document.trim_end().trim_end_matches("END");
        if !document.is_empty() {
            let document: Value = serde_yaml::from_str(document)?;
            let file = cluster.manifest(&document)?;
            let place = arguments.iter_mut().filter(|word| *word == "-");
            place.for_each(|word| word.clone_from(&file));
        }
        for word in &mut arguments {
            if word.starts_with("crds/") {
                *word = format!("../{word}");
            }
        }
        if CHANGING.contains(&arguments[0].as_str()) {
            arguments.push("--dry-run=server".to_owned());
        }
        if arguments[0] == "wait" {
            arguments.retain(|word| !word.starts_with("--timeout"));
            arguments.push("--timeout=1s".to_owned());
        }
        asked += 1;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if let Err(error) = cluster.kubectl(&arguments) {
            let error = format!("{error:#}");
            let answers = [
                "NotFound",
                "no matching resources found",
                "timed out waiting for the condition",
            ];
            let answered = answers.iter().any(|answer| error.contains(answer));
            if !answered && arguments[0] != "auth" && !shown(&error) {
                wrong.push(format!("{}: {}\n{error}", command.place, command.text));
            }
        }
    }
    ensure!(asked > 40, "only {asked} commands were found");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

/// What changes something, or waits, in the middle of a text or a table. Less than a verb and what it is for is a way of
/// speaking, such as `kubectl create -f`.
fn within_lines(page: &str, text: &str) -> Vec<Command> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for code in line.split('`').skip(1).step_by(2) {
            let words: Vec<&str> = code.split(' ').collect();
            let ["kubectl", verb, what, ..] = words[..] else {
                continue;
            };
            let changes = CHANGING.contains(&verb) || verb == "wait";
            if changes && !what.starts_with('-') && !code.contains('…') {
                found.push(Command {
                    place: format!("{page}:{}", number + 1),
                    text: code.to_owned(),
                });
            }
        }
    }
    found
}

/// Takes away an option and its value.
fn without_option(arguments: &mut Vec<String>, option: &str) {
    if let Some(place) = arguments.iter().position(|word| word == option) {
        arguments.drain(place..place + 2);
    }
}

//! The commands of the documentation: every `kubectl` that only reads is asked
//! of a real API server, with names filled in. That there is no object of such
//! a name is fine; an unknown kind, option or path is not.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use flambeau_testbed::upstream::Tools;
use libtest_mimic::Trial;

use crate::cluster::{Cluster, SharedCluster};

/// What only reads, and needs no more than an API server.
const READING: [&str; 4] = ["get", "describe", "explain", "auth"];

/// What stands for something else in a command, and what it is here.
const PLACEHOLDERS: [(&str, &str); 4] = [
    ("NAMESPACE", "default"),
    ("CLUSTER", "paris-1"),
    ("NAME", "web"),
    ("APP", "web"),
];

pub fn trials(cluster: &Arc<SharedCluster>) -> Vec<Trial> {
    vec![cluster.trial(
        "commands::what_the_documentation_asks_of_kubectl_is_understood",
        understood,
    )]
}

fn understood(cluster: &Cluster) -> Result<()> {
    let gateway_api = Tools::places()?.contour_crds.join("gateway-api.yaml");
    let gateway_api = gateway_api.display().to_string();
    cluster.kubectl(&["apply", "--server-side", "-f", &gateway_api])?;
    cluster.kubectl(&["wait", "--for=condition=Established", "-f", &gateway_api])?;
    let (mut asked, mut wrong) = (0, Vec::new());
    for page in pages()? {
        let text = fs::read_to_string(&page)?;
        for command in commands(&text) {
            let arguments = words(&command);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            asked += 1;
            if let Err(error) = cluster.kubectl(&arguments) {
                let error = format!("{error:#}");
                // `auth can-i` answers no with an exit code.
                let answered = error.contains("NotFound") || arguments[0] == "auth";
                if !answered {
                    wrong.push(format!("{}: kubectl {command}\n{error}", page.display()));
                }
            }
        }
    }
    ensure!(asked > 20, "only {asked} commands were found");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

/// The pages for people: Markdown in the root, in `docs` and below it.
fn pages() -> Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages = Vec::new();
    for folder in ["", "docs", "docs/runbooks", "docs/reference"] {
        for entry in fs::read_dir(root.join(folder)).with_context(|| format!("read {folder}"))? {
            let file = entry?.path();
            let markdown = file.extension().is_some_and(|extension| extension == "md");
            if markdown {
                pages.push(file);
            }
        }
    }
    Ok(pages)
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

/// The words of a command, as a shell would split them, with names filled in.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in command.chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            letter => words
                .last_mut()
                .into_iter()
                .for_each(|word| word.push(letter)),
        }
    }
    words.retain(|word| !word.is_empty());
    let filled = words.into_iter().map(|word| {
        PLACEHOLDERS.iter().fold(word, |word, (placeholder, name)| {
            word.replace(placeholder, name)
        })
    });
    filled.collect()
}

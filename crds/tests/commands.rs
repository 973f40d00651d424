//! Every command of the documentation is run by a test, or stands here with
//! the reason why it is not.

#![allow(clippy::unwrap_used, reason = "a test ends with what goes wrong")]

use flambeau_testbed::documentation::{self, Class, Command};
use std::{collections::BTreeMap, fs, path::Path};

/// Beginnings of commands that no test runs, and why.
const NOT_RUN: [(&str, &str); 13] = [
    (
        "buildah push",
        "there is no registry to push to; tests of the image build it",
    ),
    ("chmod", "changes the home of whoever reads it"),
    (
        "cluster=",
        "a variable for the commands after it, which are run",
    ),
    (
        "curl",
        "asks an edge that is up: the demo and the scenarios do so, and count",
    ),
    ("echo $?", "the exit code is checked by tests of the plugin"),
    (
        "for member in",
        "gives kubeconfigs of a testbed that is up to the hub: tests of the operator give it such ones",
    ),
    (
        "tail ",
        "shows the log of a testbed that is up: which file it is, tests of the testbed know",
    ),
    (
        "helm test",
        "starts a pod: done on the testbed; tests run the program in it",
    ),
    ("install", "changes the home of whoever reads it"),
    ("ping", "asks a machine of whoever reads it"),
    ("source", "changes the shell of whoever reads it"),
    (
        "target/debug/testbed cluster",
        "kills a cluster that is up: tests of the testbed do so",
    ),
    (
        "while sleep",
        "asks an edge that is up: the demo and the scenarios do so, and count",
    ),
];

#[test]
fn every_command_is_run_by_a_test_or_marked_as_not() {
    let commands = documentation::commands().unwrap();
    let mut classes: BTreeMap<Option<Class>, usize> = BTreeMap::new();
    let mut idle: Vec<&str> = NOT_RUN.iter().map(|(beginning, _)| *beginning).collect();
    let mut wrong = Vec::new();
    for command in &commands {
        *classes.entry(command.class()).or_default() += 1;
        let exists = match command.class() {
            Some(Class::Make) => is_target(command),
            Some(Class::Cargo) => is_package(command),
            Some(_) => true,
            None => {
                let before = idle.len();
                idle.retain(|beginning| !command.text.starts_with(beginning));
                let marked = |(beginning, _): &(&str, &str)| command.text.starts_with(beginning);
                before != idle.len() || NOT_RUN.iter().any(marked)
            }
        };
        if !exists {
            wrong.push(format!("{}: {}", command.place, command.text));
        }
    }
    println!("{} commands: {classes:?}", commands.len());
    assert!(
        wrong.is_empty(),
        "neither run by a test nor marked as not:\n{}",
        wrong.join("\n")
    );
    assert!(idle.is_empty(), "no page says so any more: {idle:?}");
    assert!(commands.len() > 100, "only {} commands", commands.len());
    assert_eq!(
        classes.len(),
        7,
        "a kind of command is not found: {classes:?}"
    );
}

/// What does not look like a command is not found by the tests that run them: a
/// block is of a language that they know, and commands stand after a prompt.
#[test]
fn no_command_hides() {
    let mut wrong = Vec::new();
    for (page, text) in documentation::pages().unwrap() {
        wrong.extend(hidden(&page, &text));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for page in [
        "```sh\nhelm install a b\n```",
        "```\n$ make up\n```",
        "```yaml\n$ make up\n```",
        "```console\nmake up\n```",
        "~~~console\n$ make up\n~~~",
        "    $ make up",
        "1. `$ make up`",
    ] {
        assert_eq!(hidden("page", page).len(), 1, "{page}");
    }
}

fn hidden(page: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut wrong = |line: usize, what: &str| found.push(format!("{page}:{}: {what}", line + 1));
    // Where a block begins, its language, and whether it has a command.
    let mut block: Option<(usize, &str, bool)> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let prompted = line.starts_with("$ ");
        // Beyond the prompt itself, of which a page may speak.
        let mut within = line.split("`$ ").skip(1);
        if line.starts_with("~~~") {
            wrong(number, "a block begins with ```");
            return found;
        }
        if let Some(language) = line.strip_prefix("```") {
            block = match block {
                None => Some((number, language, false)),
                Some((began, "console", false)) => {
                    wrong(began, "commands stand after `$ `");
                    None
                }
                Some(_) => None,
            };
            if block.is_some() && !["console", "yaml", ""].contains(&language) {
                wrong(number, "a block of commands is of `console`");
            }
            continue;
        }
        match &mut block {
            Some((_, "console", commands)) => *commands |= prompted,
            _ if prompted || within.any(|rest| !rest.starts_with('`')) => {
                wrong(number, "a command stands in a block of `console`");
            }
            _ => {}
        }
    }
    found
}

fn repository(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)).unwrap()
}

fn is_target(command: &Command) -> bool {
    let makefile = repository("Makefile");
    let words = command.words();
    let mut targets = words[1..].iter().filter(|word| !word.contains('='));
    targets.all(|target| {
        let rule = format!("{target}:");
        makefile.lines().any(|line| line.starts_with(&rule))
    })
}

fn is_package(command: &Command) -> bool {
    let words = command.words();
    let package = words.iter().skip_while(|word| *word != "-p").nth(1);
    let workspace = repository("Cargo.toml");
    package.is_some_and(|package| workspace.contains(&format!("{package} = {{ path")))
}

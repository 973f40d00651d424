//! The commands of the documentation, for tests that run them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::paths;

/// Where pages for people are: Markdown right in these folders of the repository.
const FOLDERS: [&str; 5] = [
    "",
    "docs",
    "docs/runbooks",
    "docs/reference",
    "charts/flambeau",
];

/// One command of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Page and line, for people.
    pub place: String,
    /// What a shell is given after the prompt, without a comment at its end; several lines where it goes on.
    pub text: String,
}

/// The pages for people, by their path in the repository.
///
/// # Errors
/// When a folder or a page cannot be read.
pub fn pages() -> Result<Vec<(String, String)>> {
    let mut pages = Vec::new();
    for folder in FOLDERS {
        let path = paths::repository().join(folder);
        let entries = fs::read_dir(&path).with_context(|| format!("read {}", path.display()))?;
        let files = entries.map(|entry| entry.map(|entry| entry.path()));
        let mut files = files.collect::<Result<Vec<PathBuf>, _>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
        files.sort();
        for file in files {
            let text =
                fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            let name = file.strip_prefix(paths::repository()).unwrap_or(&file);
            pages.push((name.display().to_string(), text));
        }
    }
    Ok(pages)
}

/// Every command in a block of any page.
///
/// # Errors
/// When a page cannot be read.
pub fn commands() -> Result<Vec<Command>> {
    let pages = pages()?;
    Ok(pages
        .iter()
        .flat_map(|(page, text)| of_page(page, text))
        .collect())
}

/// The commands in the blocks of a page: what stands after `$ `, and the lines with which it goes on: after a backslash,
/// up to the end of a here-document, or of a loop.
#[must_use]
pub fn of_page(page: &str, text: &str) -> Vec<Command> {
    let mut found: Vec<Command> = Vec::new();
    let mut open = None;
    let mut block = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            block = !block;
            open = None;
            continue;
        }
        if !block {
            continue;
        }
        if let (Some(end), Some(last)) = (open.as_deref(), found.last_mut()) {
            last.text.push('\n');
            last.text.push_str(line);
            let goes_on = match end {
                "\\" => line.trim_end().ends_with('\\'),
                end => !line.trim_start().starts_with(end),
            };
            if !goes_on {
                open = None;
            }
            continue;
        }
        let Some(command) = line.trim_start().strip_prefix("$ ") else {
            continue;
        };
        let command = without_comment(command);
        open = if command.ends_with('\\') {
            Some("\\".to_owned())
        } else if let Some((_, end)) = command.split_once("<<") {
            Some(end.trim().to_owned())
        } else if command.ends_with("; do") {
            Some("done".to_owned())
        } else {
            None
        };
        found.push(Command {
            place: format!("{page}:{}", number + 1),
            text: command.to_owned(),
        });
    }
    found
}

fn without_comment(command: &str) -> &str {
    let end = command.find(" #").unwrap_or(command.len());
    command[..end].trim_end()
}

/// Which test runs a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// kubectl, against a real API server; what changes something, without effect.
    Kubectl,
    /// `kubectl flambeau`, by the plugin's own parser.
    Plugin,
    /// Helm, against a real API server.
    Helm,
    /// `flambeau-operator`, on the examples.
    Operator,
    /// A target of the Makefile that exists.
    Make,
    /// Tests of a package that exists.
    Cargo,
}

impl Command {
    /// Which test runs it; none for what no test can run.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        let words = self.words();
        let words: Vec<&str> = words.iter().map(String::as_str).take(3).collect();
        match words.as_slice() {
            ["kubectl", "flambeau", ..] => Some(Class::Plugin),
            ["kubectl", ..] => Some(Class::Kubectl),
            ["helm", "install" | "rollback" | "uninstall" | "upgrade", ..] => Some(Class::Helm),
            [program, "plan", ..] if program.ends_with("flambeau-operator") => {
                Some(Class::Operator)
            }
            ["make", ..] => Some(Class::Make),
            ["cargo", "test", ..] => Some(Class::Cargo),
            _ => None,
        }
    }

    /// Its words, as a shell would split them, up to a pipe, a redirection or the end of the first command; a backslash
    /// at the end of a line and quotes are taken away.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        words(&self.text)
    }

    /// Whether it begins with these words.
    #[must_use]
    pub fn is(&self, beginning: &str) -> bool {
        let rest = self.text.strip_prefix(beginning);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\n']))
    }
}

/// The words of a command, as a shell would split them.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in text.chars() {
        match (letter, quote) {
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(end)) if letter == end => quote = None,
            (' ' | '\n' | '\\', None) => words.push(String::new()),
            ('|' | '>' | ';', None) => break,
            (letter, _) => words
                .last_mut()
                .into_iter()
                .for_each(|word| word.push(letter)),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_with_all_their_lines() {
        let page = "text\n```console\n$ make up   # comment\noutput\n$ helm install a b \\\n    --set 'x=1 2'\nNAME\n\
                    $ while sleep 1; do\n    curl x\n  done | uniq\n$ kubectl create -f - <<END\nkind: A\nEND\nmade\n```\n$ not a block\n";
        let found = of_page("page", page);
        let texts: Vec<&str> = found.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "make up",
                "helm install a b \\\n    --set 'x=1 2'",
                "while sleep 1; do\n    curl x\n  done | uniq",
                "kubectl create -f - <<END\nkind: A\nEND"
            ]
        );
        assert_eq!(found[0].place, "page:3");
        assert_eq!(
            found[1].words(),
            ["helm", "install", "a", "b", "--set", "x=1 2"]
        );
        assert!(found[0].is("make up") && !found[0].is("make u"));
    }
}

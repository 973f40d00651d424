//! Running a component: what is run, with a log file, either bound to this process or recorded to outlive it.

pub mod bound;
pub mod recorded;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// A program with its arguments: what to run, not where or how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Names the process, its log and its record; unique within one folder.
    pub name: String,
    /// The program's file.
    pub program: PathBuf,
    /// The arguments, without the program itself.
    pub arguments: Vec<String>,
}

impl Component {
    /// A component called `name` that runs `program` without arguments.
    #[must_use]
    pub fn new(name: &str, program: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_path_buf(),
            arguments: Vec::new(),
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds a flag in the form `--name=value`.
    #[must_use]
    pub fn flag(self, name: &str, value: impl std::fmt::Display) -> Self {
        self.argument(format!("--{name}={value}"))
    }

    /// Adds a flag whose value is a file or a folder.
    #[must_use]
    pub fn path(self, name: &str, value: &Path) -> Self {
        self.flag(name, value.display())
    }

    /// The file that the component's output goes to.
    #[must_use]
    pub fn log(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.log", self.name))
    }
}

/// The last lines of a log with its path, for a message about a failure.
#[must_use]
pub fn last_lines(log: &Path) -> String {
    const LINES: usize = 12;
    const LONGEST: usize = 400;
    let mut tail = VecDeque::with_capacity(LINES + 1);
    if let Ok(file) = File::open(log) {
        for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
            tail.push_back(
                String::from_utf8_lossy(&line)
                    .chars()
                    .take(LONGEST)
                    .collect::<String>(),
            );
            if tail.len() > LINES {
                tail.pop_front();
            }
        }
    }
    let lines: Vec<String> = tail.into();
    format!("last lines of {}:\n  {}", log.display(), lines.join("\n  "))
}

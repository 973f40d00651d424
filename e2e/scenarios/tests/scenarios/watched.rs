//! What became of the objects of applications in the members: every version of each is seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::world::World;

/// Watches that see every version of every object of a namespace in every member.
pub struct Watched {
    watches: Vec<Child>,
    seen: Arc<Mutex<Seen>>,
    readers: Vec<JoinHandle<()>>,
}

/// What the watches saw.
#[derive(Clone, Default)]
pub struct Seen {
    /// Objects whose epoch fell.
    fallen: Vec<String>,
    /// How often an object was made anew: the identities that each had, by member and name.
    made: BTreeMap<(String, String), BTreeSet<String>>,
}

impl Watched {
    /// Begins to watch; what is there already is seen too.
    pub fn begin(world: &World, namespace: &str) -> Result<Self> {
        let mut watched = Self {
            watches: Vec::new(),
            seen: Arc::default(),
            readers: Vec::new(),
        };
        for member in world.testbed.members() {
            for kind in ["deployments", "services", "configmaps"] {
                watched.watch(member.kubectl_command(), member.name(), namespace, kind)?;
            }
        }
        Ok(watched)
    }

    fn watch(
        &mut self,
        mut command: Command,
        member: &str,
        namespace: &str,
        kind: &str,
    ) -> Result<()> {
        let shown = r#"jsonpath={.metadata.uid} {.metadata.name} {.metadata.annotations.flambeau\.dev/epoch}{"\n"}"#;
        let mut child = command
            .args([
                "--namespace",
                namespace,
                "get",
                kind,
                "--watch",
                "--output",
                shown,
            ])
            .args(["--selector", flambeau_crds::APPLICATION_LABEL])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start a watch")?;
        let output = child.stdout.take().context("the watch's output")?;
        let (seen, member, kind) = (Arc::clone(&self.seen), member.to_owned(), kind.to_owned());
        self.readers.push(std::thread::spawn(move || {
            follow(output, &seen, &member, &kind)
        }));
        self.watches.push(child);
        Ok(())
    }

    /// Ends the watches and returns what they saw.
    pub fn end(mut self) -> Result<Seen> {
        for watch in &mut self.watches {
            ensure!(watch.try_wait()?.is_none(), "a watch ended by itself");
            watch.kill()?;
            watch.wait()?;
        }
        for reader in self.readers.drain(..) {
            reader.join().map_err(|_| anyhow!("a reader panicked"))?;
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(seen.clone())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        for watch in &mut self.watches {
            // Fails only when it has ended already.
            let _ = watch.kill();
            let _ = watch.wait();
        }
    }
}

fn follow(output: ChildStdout, seen: &Mutex<Seen>, member: &str, kind: &str) {
    let mut highest = BTreeMap::new();
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let mut words = line.split(' ').map(str::to_owned);
        let (Some(uid), Some(name)) = (words.next(), words.next()) else {
            continue;
        };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let object = (member.to_owned(), format!("{kind}/{name}"));
        seen.made.entry(object).or_default().insert(uid);
        let Some(epoch) = words.next().and_then(|epoch| epoch.parse::<i64>().ok()) else {
            continue;
        };
        // By name, so that an object made anew counts too.
        let known = highest.entry(name.clone()).or_insert(epoch);
        if epoch < *known {
            let fell = format!("{kind}/{name} of {member} fell from {known} to {epoch}");
            seen.fallen.push(fell);
        }
        *known = epoch.max(*known);
    }
}

impl Seen {
    /// No member took anything under a lower epoch than it had seen.
    pub fn nothing_fell(&self) -> Result<()> {
        ensure!(
            self.fallen.is_empty(),
            "members took writes under a stale epoch: {}",
            self.fallen.join("; ")
        );
        Ok(())
    }

    /// Every object was made as often as its application came to the member, and not once more.
    pub fn made(&self, times: &[(&str, usize)]) -> Result<()> {
        ensure!(!self.made.is_empty(), "the watches saw nothing");
        for ((member, object), identities) in &self.made {
            let expected = times.iter().find(|(name, _)| name == member);
            let expected = expected.map_or(0, |(_, times)| *times);
            ensure!(
                identities.len() == expected,
                "{object} was made {} times in {member} instead of {expected}",
                identities.len()
            );
        }
        Ok(())
    }
}

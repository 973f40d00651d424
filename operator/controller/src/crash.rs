//! How the process ends when it has a defect: told by place, not by content.
//!
//! The message of a panic may repeat what the process holds, which are
//! credentials of members and Secrets of applications: `unwrap` writes out a
//! value, and a slice of a text writes out the text. So whatever was put into a
//! message at run time is left out; the place in the source says enough. And
//! the memory of the process is not written to a file.

use nix::sys::resource::{Resource, setrlimit};
use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    panic, thread,
};

/// Stands for the words that are left out.
const LEFT_OUT: &str = "its words are left out, as they may repeat what is secret";

/// From here on a crash of this process tells nothing that is secret.
pub fn keep_discreet() {
    panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        let place = panic.location().map(ToString::to_string);
        let place = place.as_deref().unwrap_or("a place that is not known");
        // Not by way of the log: that may be what panicked.
        eprintln!(
            "thread {name} panicked at {place}: {}",
            said(panic.payload())
        );
        // Names of functions alone; RUST_BACKTRACE asks for it.
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            eprintln!("{trace}");
        }
    }));
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        tracing::warn!(%error, "a crash may leave an image of the memory of this process");
    }
}

/// What a panic says, if it stands so in the source.
fn said(payload: &(dyn Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().unwrap_or(&LEFT_OUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::{ByteString, api::core::v1::Secret};
    use std::{collections::BTreeMap, env, fs, process::Command};

    const SONG: &str = "canary-of-a-crash-2718281828459";
    const HOW: &str = "CRASHES_BY";

    fn secret() -> Result<(), Box<Secret>> {
        let value = ByteString(SONG.as_bytes().to_vec());
        Err(Box::new(Secret {
            data: Some(BTreeMap::from([("key".to_owned(), value)])),
            string_data: Some(BTreeMap::from([("key".to_owned(), SONG.to_owned())])),
            ..Secret::default()
        }))
    }

    /// Crashes when the process was started by the next test.
    #[test]
    fn crashes_when_asked_to() {
        let Ok(how) = env::var(HOW) else {
            return;
        };
        if how != "unguarded" {
            keep_discreet();
        }
        println!("{}", fs::read_to_string("/proc/self/limits").unwrap());
        match how.as_str() {
            "unwrap" | "unguarded" => secret().unwrap(),
            "expect" => secret().expect(SONG),
            "slice" => drop(format!("{SONG}é")[..=SONG.len()].to_owned()),
            "equality" => assert_eq!(secret(), Ok(())),
            "thread" => thread::spawn(|| secret().unwrap()).join().unwrap(),
            _ => panic!("words of the source"),
        }
    }

    /// What a process says that crashes like this.
    fn last_words(how: &str) -> String {
        let itself = env::current_exe().unwrap();
        let output = Command::new(itself)
            .args([
                "--exact",
                "crash::tests::crashes_when_asked_to",
                "--nocapture",
            ])
            .env(HOW, how)
            .env("RUST_BACKTRACE", "full")
            .output()
            .unwrap();
        assert!(!output.status.success(), "{how}: it crashes");
        [output.stdout, output.stderr]
            .map(|said| String::from_utf8_lossy(&said).into_owned())
            .concat()
    }

    #[test]
    fn a_crash_tells_the_place_and_nothing_that_is_secret() {
        assert!(last_words("unguarded").contains(SONG), "Rust itself does");
        for how in ["unwrap", "expect", "slice", "equality", "thread"] {
            let told = last_words(how);
            assert!(!told.contains(SONG), "{how}: {told}");
            assert!(told.contains(LEFT_OUT), "{how}: {told}");
            assert!(told.contains("src/crash.rs:"), "{how}: the place: {told}");
            assert!(told.contains("crashes_when_asked_to"), "{how}: the trace");
            let cores = told.lines().find(|line| line.starts_with("Max core file"));
            let words: Vec<&str> = cores.unwrap().split_whitespace().collect();
            assert_eq!(words[4..6], ["0", "0"], "no image of the memory");
        }
        assert!(last_words("literal").contains(": words of the source\n"));
    }
}

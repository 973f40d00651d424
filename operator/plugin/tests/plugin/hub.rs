//! A hub with a small fleet, and the plugin.

use crate::objects::{application, cluster, healthy, name, provider, serving};
use anyhow::{Context, Result, anyhow, bail, ensure};
use flambeau_testbed::{
    control_plane::{ControlPlane, Options},
    shared::Shared,
    wait::{self, Probe},
};
use nix::pty::{Winsize, openpty};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// The hub of all tests.
pub type SharedHub = Shared<Hub>;

/// A control plane with the kinds of Flambeau, for one test at a time.
pub struct Hub {
    plane: ControlPlane,
    turn: Mutex<()>,
}

/// How a run of the plugin ended.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Hub {
    pub fn start() -> Result<Self> {
        let hub = Self {
            plane: ControlPlane::start_temporary(&Options::default())?,
            turn: Mutex::default(),
        };
        let definitions = flambeau_crds::all_crds();
        let definitions: Vec<Value> = definitions
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()?;
        hub.apply(&definitions)?;
        hub.plane.await_definitions()?;
        hub.kubectl(&["create", "namespace", "games"])?;
        hub.kubectl(&["create", "namespace", "flambeau-system"])?;
        Ok(hub)
    }

    /// Gives a test the hub with nothing in it but the usual fleet.
    pub fn lend(&self, test: fn(&Self) -> Result<()>) -> Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.reset()?;
        test(self)
    }

    /// Three clusters that are well, each of a provider of its own, and two
    /// applications that serve.
    fn reset(&self) -> Result<()> {
        self.kubectl(&[
            "delete",
            "gapp,migrations,member,cprov,sovpol,evacuations,freezes",
            "--all",
            "--all-namespaces",
        ])?;
        let clusters = ["alibaba", "atos", "ovh"];
        let mut objects: Vec<Value> = clusters.iter().map(|name| provider(name)).collect();
        objects.extend(clusters.iter().map(|name| cluster(name)));
        objects.extend(["badges", "results"].iter().map(|name| application(name)));
        self.apply(&objects)?;
        let mut statuses: Vec<Value> = clusters.iter().map(|name| healthy(name)).collect();
        statuses.extend(
            ["badges", "results"]
                .iter()
                .map(|name| serving(name, "alibaba")),
        );
        self.report(&statuses)
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.plane.kubectl(arguments)
    }

    /// The object as it is stored.
    pub fn get(&self, what: &str) -> Result<Value> {
        let text = self.kubectl(&["get", "-n", "games", what, "-o", "json"])?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Every Migration.
    pub fn migrations(&self) -> Result<Vec<Value>> {
        let list = self.get("migrations")?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    pub fn apply(&self, objects: &[Value]) -> Result<()> {
        self.plane.apply(objects)
    }

    /// Writes status as the operator would.
    pub fn report(&self, objects: &[Value]) -> Result<()> {
        let file = self.file(objects)?;
        self.kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "--subresource=status",
            "--field-manager=flambeau",
            "--validate=false",
            "-f",
            &file,
        ])?;
        Ok(())
    }

    /// A file with these objects.
    pub fn file(&self, objects: &[Value]) -> Result<String> {
        self.plane.manifests(objects)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = self.anywhere(line);
        command.args(["--namespace", "games"]);
        command
    }

    fn anywhere(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-flambeau"));
        command
            .args(line.split_whitespace().map(|word| word.replace('_', " ")))
            .arg("--kubeconfig")
            .arg(self.plane.kubeconfig())
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null());
        command
    }

    /// Runs the plugin in namespace `games`; an underscore in a word is a blank.
    pub fn run(&self, line: &str) -> Result<Answer> {
        answer(&mut self.command(line))
    }

    /// Runs the plugin in no namespace, which has to end with this code.
    pub fn expect_anywhere(&self, code: i32, line: &str) -> Result<Answer> {
        check(code, line, answer(&mut self.anywhere(line))?)
    }

    /// Runs the plugin, which has to end with this code.
    pub fn expect(&self, code: i32, line: &str) -> Result<Answer> {
        let answer = self.run(line)?;
        check(code, line, answer)
    }

    /// Starts the plugin, to read what it says meanwhile.
    pub fn begin(&self, line: &str) -> Result<Running> {
        let mut child = self
            .command(line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("no standard output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Running {
            child,
            lines,
            said: Vec::new(),
        })
    }

    /// Starts the plugin on a terminal of 100 columns and 30 rows.
    pub fn begin_on_terminal(&self, line: &str) -> Result<OnTerminal> {
        let size = Winsize {
            ws_row: 30,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let terminal = openpty(Some(&size), None)?;
        let child = self
            .command(line)
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdout(Stdio::from(terminal.slave))
            .spawn()?;
        let shown = Arc::new(Mutex::new(Vec::new()));
        let screen = Arc::clone(&shown);
        let mut master = fs::File::from(terminal.master);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The terminal answers with an error when its last user is gone.
            while let Ok(read @ 1..) = master.read(&mut buffer) {
                let mut screen = screen.lock().unwrap_or_else(PoisonError::into_inner);
                screen.extend_from_slice(&buffer[..read]);
            }
        });
        Ok(OnTerminal {
            child,
            shown,
            reader,
        })
    }

    /// Waits for a Migration to be made, and says its name.
    pub fn made(&self) -> Result<String> {
        wait::until("a Migration", PATIENCE, || {
            let made = self.migrations()?;
            Ok(match made.first() {
                Some(made) => Probe::Done(name(made)),
                None => Probe::Pending("none yet".to_owned()),
            })
        })
    }

    /// The kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.plane.kubeconfig().to_owned()
    }
}

/// Waits until a process ended; one that does not is killed, and holds up no other test.
fn await_end(child: &mut Child) -> Result<ExitStatus> {
    let ended = wait::until("the plugin's end", PATIENCE, || {
        Ok(match child.try_wait()? {
            Some(status) => Probe::Done(status),
            None => Probe::Pending("it runs".to_owned()),
        })
    });
    if ended.is_err() {
        child.kill()?;
    }
    ended
}

fn answer(command: &mut Command) -> Result<Answer> {
    let output = command.output()?;
    Ok(Answer {
        code: output.status.code().context("ended by a signal")?,
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

fn check(code: i32, line: &str, answer: Answer) -> Result<Answer> {
    ensure!(
        answer.code == code,
        "kubectl flambeau {line}: expected exit code {code}, got {answer:#?}"
    );
    Ok(answer)
}

/// The plugin while it runs.
pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    said: Vec<String>,
}

impl Running {
    /// Waits for a line that holds this text.
    pub fn says(&mut self, text: &str) -> Result<String> {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(text) {
                        return Ok(line);
                    }
                }
                Err(_) => bail!("does not say `{text}`, but:\n{}", self.said.join("\n")),
            }
        }
    }

    /// Asks it to end, as Ctrl-C does.
    pub fn interrupt(&self) -> Result<()> {
        let id = self.child.id().to_string();
        ensure!(Command::new("kill").args(["-INT", &id]).status()?.success());
        Ok(())
    }

    /// Waits until it ended.
    pub fn ends(mut self) -> Result<Answer> {
        await_end(&mut self.child)?;
        let output = self.child.wait_with_output()?;
        Ok(Answer {
            code: output.status.code().context("ended by a signal")?,
            out: self
                .said
                .into_iter()
                .chain(self.lines)
                .collect::<Vec<_>>()
                .join("\n"),
            err: String::from_utf8(output.stderr)?,
        })
    }
}

/// The plugin while it runs on a terminal.
pub struct OnTerminal {
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl OnTerminal {
    fn all(&self) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Waits until this text was shown.
    pub fn shows(&self, text: &str) -> Result<()> {
        wait::until(text, PATIENCE, || {
            let all = self.all();
            Ok(if all.contains(text) {
                Probe::Done(())
            } else {
                Probe::Pending(all)
            })
        })
    }

    /// Ends it as Ctrl-C does, and says everything that was shown.
    pub fn ends(mut self) -> Result<String> {
        let id = self.child.id().to_string();
        ensure!(Command::new("kill").args(["-INT", &id]).status()?.success());
        ensure!(await_end(&mut self.child)?.success());
        let reader = std::mem::replace(&mut self.reader, std::thread::spawn(|| ()));
        reader.join().map_err(|_| anyhow!("the reader failed"))?;
        Ok(self.all())
    }
}

//! Processes that live no longer than this one.

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};

use super::{Component, last_lines};

type Order = (Command, Sender<io::Result<Child>>);

/// The kernel's parent-death signal is sent when the *thread* that started a child ends, and a test's thread ends
/// long before its process; so one thread that never ends starts all of them.
static STARTER: OnceLock<Sender<Order>> = OnceLock::new();

/// A child process that is killed when this value is dropped, and by the kernel when this process dies.
pub struct BoundProcess {
    name: String,
    child: Child,
    log: PathBuf,
}

impl BoundProcess {
    /// Starts the component with its output going to a log in `folder`.
    ///
    /// # Errors
    /// When the log cannot be made or the program cannot be started.
    pub fn start(component: &Component, folder: &Path) -> Result<Self> {
        let log = component.log(folder);
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        // util-linux's setpriv sets the parent-death signal and then becomes the program: same process id.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&component.program)
            .args(&component.arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("duplicate a log's handle")?)
            .stderr(output);
        let child =
            start(command).with_context(|| format!("start {} through setpriv", component.name))?;
        Ok(Self {
            name: component.name.clone(),
            child,
            log,
        })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Succeeds as long as the process runs.
    ///
    /// # Errors
    /// When it has ended: with its exit status and the last lines of its log.
    pub fn check(&mut self) -> Result<()> {
        let Some(status) = self
            .child
            .try_wait()
            .with_context(|| format!("look at {}", self.name))?
        else {
            return Ok(());
        };
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with exit code {code}"),
            (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
        };
        bail!("{} {how}; {}", self.name, last_lines(&self.log))
    }
}

impl Drop for BoundProcess {
    fn drop(&mut self) {
        // Both fail only when the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(command: Command) -> Result<Child> {
    let starter = STARTER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, answer) = channel();
    starter
        .send((command, reply))
        .map_err(|_| anyhow!("the thread that starts processes has ended"))?;
    answer
        .recv()
        .context("the thread that starts processes has ended")?
        .map_err(Into::into)
}

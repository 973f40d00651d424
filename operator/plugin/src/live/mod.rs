//! What changes, while it changes: redrawn in place on a terminal, a line for
//! each change in a pipe.

mod feed;
mod log;
mod screen;

use crate::{
    failure::Failure,
    hub::Hub,
    moves,
    status::{self, View},
    text::{Line, Tone, human},
};
use feed::{Feed, Told};
use flambeau_crds::{evacuation::EvacuationOutcome, migration::MigrationOutcome};
use flambeau_operator::offline::objects::Objects;
use flambeau_planner::model::ApplicationKey;
use jiff::{SignedDuration, Timestamp};
use log::Log;
use screen::Screen;
use std::{
    io::{self, IsTerminal},
    time::Duration,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What is looked at.
#[derive(Clone, Debug)]
pub enum Subject {
    /// Everything in the namespaces asked for.
    Fleet,
    /// One application.
    Application(ApplicationKey),
    /// One Migration.
    Migration(ApplicationKey),
    /// One Evacuation.
    Evacuation(String),
}

/// How the wait for something ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is completed.
    Completed,
    /// It is walked back.
    Aborted,
}

/// What ends a look from outside. To be made before anything is said that
/// somebody may answer with Ctrl-C.
pub struct Interruption {
    keyboard: Signal,
    termination: Signal,
}

impl Interruption {
    /// Takes the signals over, so that the terminal is given back as it was
    /// whichever comes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn expected() -> io::Result<Self> {
        Ok(Self {
            keyboard: signal(SignalKind::interrupt())?,
            termination: signal(SignalKind::terminate())?,
        })
    }

    async fn came(&mut self) {
        tokio::select! {
            _ = self.keyboard.recv() => {}
            _ = self.termination.recv() => {}
        }
    }
}

/// Shows the fleet or an application until the person has seen enough.
///
/// # Errors
/// When the hub refuses to tell.
pub async fn watch(hub: &Hub, chosen: Option<ApplicationKey>) -> anyhow::Result<()> {
    let subject = chosen.map_or(Subject::Fleet, Subject::Application);
    match show(hub, &subject, Interruption::expected()?, |_| Ok(false)).await {
        Err(error) if matches!(error.downcast_ref(), Some(Failure::Interrupted)) => Ok(()),
        other => other,
    }
}

/// Shows a move or an Evacuation until it is over, as wanted.
///
/// # Errors
/// When it ended otherwise, when the time is over, or when the hub refuses to
/// tell.
pub async fn follow(
    hub: &Hub,
    subject: &Subject,
    wanted: Wanted,
    limit: SignedDuration,
    interruption: Interruption,
) -> anyhow::Result<()> {
    let over = |objects: &Objects| ended(objects, subject, wanted);
    let shown = show(hub, subject, interruption, over);
    if limit.is_zero() {
        return shown.await;
    }
    match tokio::time::timeout(limit.unsigned_abs(), shown).await {
        Ok(shown) => shown,
        Err(_) => Err(Failure::TimedOut(human(limit)).into()),
    }
}

/// Whether the wait is over.
fn ended(objects: &Objects, subject: &Subject, wanted: Wanted) -> anyhow::Result<bool> {
    let (what, found) = match subject {
        Subject::Migration(key) => {
            let object = objects.migrations.get(key);
            let outcome = object.map(|object| {
                let status = object.status.clone().unwrap_or_default();
                let why = status.abort_reason.clone().unwrap_or_default();
                status.outcome.map(|outcome| match outcome {
                    MigrationOutcome::Completed => (Wanted::Completed, why),
                    MigrationOutcome::Aborted => (Wanted::Aborted, why),
                })
            });
            (format!("Migration {}", key.name), outcome)
        }
        Subject::Evacuation(name) => {
            let object = objects.evacuations.get(name.as_str());
            let outcome = object.map(|object| {
                let status = object.status.clone().unwrap_or_default();
                status.outcome.map(|outcome| match outcome {
                    EvacuationOutcome::Completed => (Wanted::Completed, String::new()),
                    EvacuationOutcome::Aborted => (Wanted::Aborted, String::new()),
                })
            });
            (format!("Evacuation {name}"), outcome)
        }
        Subject::Fleet | Subject::Application(_) => return Ok(false),
    };
    match found {
        None => Err(Failure::Undone(format!("{what} was deleted before it was over")).into()),
        Some(None) => Ok(false),
        Some(Some((outcome, _))) if outcome == wanted => Ok(true),
        Some(Some((Wanted::Aborted, why))) => {
            Err(Failure::Undone(format!("{what} was walked back: {why}")).into())
        }
        Some(Some((Wanted::Completed, _))) => {
            Err(Failure::Undone(format!("{what} was completed before it could be aborted")).into())
        }
    }
}

async fn show(
    hub: &Hub,
    subject: &Subject,
    mut interruption: Interruption,
    mut over: impl FnMut(&Objects) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let mut feed = Feed::open(hub);
    let mut display = Display::choose();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut trouble = None;
    loop {
        tokio::select! {
            told = feed.next() => match told? {
                Told::News => trouble = None,
                Told::Trouble(message) => trouble = Some(message),
            },
            _ = tick.tick() => {}
            () = interruption.came() => return Err(Failure::Interrupted.into()),
        }
        if !feed.complete() {
            continue;
        }
        let result = over(&feed.objects);
        display.show(&feed.objects, subject, trouble.as_deref())?;
        if result? {
            return Ok(());
        }
    }
}

/// A terminal or a pipe.
enum Display {
    Screen(Screen),
    Log(Log),
}

impl Display {
    fn choose() -> Self {
        if io::stdout().is_terminal() {
            Self::Screen(Screen::open())
        } else {
            Self::Log(Log::default())
        }
    }

    fn show(
        &mut self,
        objects: &Objects,
        subject: &Subject,
        trouble: Option<&str>,
    ) -> anyhow::Result<()> {
        let now = Timestamp::now();
        match self {
            Self::Screen(screen) => {
                let mut lines = picture(objects, subject, now);
                if let Some(trouble) = trouble {
                    lines.push(Line::empty());
                    lines.push(
                        Line::new(Tone::Bad, "the hub does not answer: ")
                            .with(Tone::Plain, trouble),
                    );
                }
                Ok(screen.draw(&lines)?)
            }
            Self::Log(log) => Ok(log.write(&log::facts(objects, subject, trouble), now)?),
        }
    }
}

/// The whole picture of what is looked at.
pub fn picture(objects: &Objects, subject: &Subject, now: Timestamp) -> Vec<Line> {
    match subject {
        Subject::Fleet => {
            let mut lines = status::fleet_lines(&View::of(objects, None), false, now);
            let open = objects
                .applications
                .keys()
                .filter_map(|key| moves::open(objects, key));
            for migration in open {
                lines.push(Line::empty());
                lines.extend(status::migration_lines(migration, now));
            }
            lines
        }
        Subject::Application(key) => status::application_lines(objects, key, now),
        Subject::Migration(key) => objects
            .migrations
            .get(key)
            .map(|migration| status::migration_lines(migration, now))
            .unwrap_or_default(),
        Subject::Evacuation(name) => evacuation(objects, name, now),
    }
}

fn evacuation(objects: &Objects, name: &str, now: Timestamp) -> Vec<Line> {
    let Some(object) = objects.evacuations.get(name) else {
        return Vec::new();
    };
    let mut lines = status::evacuation_lines(&status::EvacuationView::of(name, object));
    let part = objects.migrations.values().filter(|migration| {
        migration.spec.evacuation.as_deref() == Some(name) && !moves::over(migration)
    });
    for migration in part {
        lines.push(Line::empty());
        lines.extend(status::migration_lines(migration, now));
    }
    lines
}

//! The election as the process sees it: it leads, or has to end.

use super::{Election, End, Leadership, LeaseSettings};
use crate::{requests::HubRequests, transport};
use kube::Config;
use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
};

/// Whether this process leads, and the task that sees to it.
pub struct Candidacy {
    leadership: Leadership,
    leading: watch::Receiver<bool>,
    /// None without leader election.
    election: Option<JoinHandle<End>>,
    release: watch::Sender<bool>,
}

/// Why this process has to end at once: whatever is under way must not go on,
/// and another process may have begun.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The election ended.
    #[error("this process leads no more: {0}")]
    Ended(End),
    /// The task that holds the Lease panicked.
    #[error("the task that holds the Lease died: {0}")]
    Died(JoinError),
}

impl Candidacy {
    /// Becomes a candidate; leads at once and for ever without settings. What
    /// it asks of the hub is counted. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the certificates or credentials of the hub cannot be used.
    pub fn begin(
        hub: &Config,
        settings: Option<LeaseSettings>,
        requests: &HubRequests,
    ) -> Result<Self, kube::Error> {
        let (release, released) = watch::channel(false);
        let Some(settings) = settings else {
            return Ok(Self {
                leadership: Leadership::always(),
                leading: watch::channel(true).1,
                election: None,
                release,
            });
        };
        // The Lease has connections of its own: it does not wait for others,
        // and is asked for before this process leads.
        let client = transport::counted_client(hub, &Leadership::always(), requests)?;
        let election = Election::new(client, settings);
        Ok(Self {
            leadership: election.leadership(),
            leading: election.leading(),
            election: Some(tokio::spawn(election.run(released))),
            release,
        })
    }

    /// What is to be asked before every write.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Turns true when this process begins to lead. It never turns back: the
    /// process ends.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.clone()
    }

    /// Returns when the process has to end, and never without leader
    /// election.
    pub async fn lost(&mut self) -> Lost {
        match &mut self.election {
            Some(election) => lost(election.await),
            None => std::future::pending().await,
        }
    }

    /// Gives the Lease back; nothing can be written from here on.
    ///
    /// # Errors
    /// When it was lost before.
    pub async fn release(mut self) -> Result<(), Lost> {
        self.release.send_replace(true);
        match self.election.take() {
            None => Ok(()),
            Some(election) => match election.await {
                Ok(End::Released) => Ok(()),
                ended => Err(lost(ended)),
            },
        }
    }
}

fn lost(ended: Result<End, JoinError>) -> Lost {
    match ended {
        Ok(end) => Lost::Ended(end),
        Err(error) => Lost::Died(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(election: JoinHandle<End>) -> Candidacy {
        Candidacy {
            leadership: Leadership::standby(),
            leading: watch::channel(false).1,
            election: Some(election),
            release: watch::Sender::new(false),
        }
    }

    #[tokio::test]
    async fn the_death_of_the_task_is_noticed() {
        let task = tokio::spawn(async { panic!("as if by a defect") });
        assert!(matches!(of(task).lost().await, Lost::Died(_)));
        let task = tokio::spawn(std::future::pending());
        task.abort();
        assert!(matches!(of(task).lost().await, Lost::Died(_)));
    }

    #[tokio::test]
    async fn what_was_lost_cannot_be_given_back() {
        let end = End::Taken {
            lease: "system/lease".to_owned(),
            now: "held by other now".to_owned(),
        };
        let stored = end.clone();
        let refused = of(tokio::spawn(async { stored })).release().await;
        assert!(matches!(refused, Err(Lost::Ended(told)) if told == end));
    }
}

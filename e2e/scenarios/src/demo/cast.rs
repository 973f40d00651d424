//! Who plays in the story, and what is expected of each: data, so that the story treats all alike.

use flambeau_crds::{Criticality, Sensitivity, application::MigrationStrategy};
use flambeau_games::Application;

use crate::application::Asked;

/// The namespace of all six.
pub const NAMESPACE: &str = "games";

/// The domain below which each has its host.
pub const DOMAIN: &str = "games.example";

/// One application and where it has to be at each time of the story.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// Which of the example applications.
    pub application: Application,
    sensitivity: Sensitivity,
    criticality: Criticality,
    preferred: &'static [&'static str],
    /// Where it runs before any policy.
    pub before: &'static str,
    /// Where it runs once each paper is obeyed, in the order of [`PAPERS`].
    pub after: [&'static str; PAPERS.len()],
}

/// A policy that is applied in the course of the story.
#[derive(Clone, Copy, Debug)]
pub struct Paper {
    /// What it says, for people.
    pub says: &'static str,
    /// Name of the file that a user finds it in.
    pub file: &'static str,
    /// The policy.
    pub policy: &'static str,
}

/// The policies in the order in which they are signed.
pub const PAPERS: [Paper; 2] = [
    Paper {
        says: "Personal data and above: European jurisdiction only",
        file: "5-policy-personal.yaml",
        policy: include_str!("../../policies/personal.yaml"),
    },
    Paper {
        says: "Internal data too",
        file: "6-policy-internal.yaml",
        policy: include_str!("../../policies/internal.yaml"),
    },
];

/// The six applications. All that may start where the sponsor's contract demands does so.
pub const CAST: [Role; 6] = [
    Role {
        application: Application::Accreditation,
        sensitivity: Sensitivity::Sensitive,
        criticality: Criticality::Critical,
        preferred: &["alibaba", "atos", "ovh"],
        before: "alibaba",
        after: ["atos", "atos"],
    },
    Role {
        application: Application::AccessControl,
        sensitivity: Sensitivity::Sensitive,
        criticality: Criticality::Critical,
        preferred: &["alibaba", "atos", "ovh"],
        before: "alibaba",
        after: ["atos", "atos"],
    },
    Role {
        application: Application::Volunteers,
        sensitivity: Sensitivity::Personal,
        criticality: Criticality::Important,
        preferred: &["alibaba", "ovh", "atos"],
        before: "alibaba",
        after: ["ovh", "ovh"],
    },
    Role {
        application: Application::Ticketing,
        sensitivity: Sensitivity::Personal,
        criticality: Criticality::Critical,
        preferred: &["ovh"],
        before: "ovh",
        after: ["ovh", "ovh"],
    },
    Role {
        application: Application::Results,
        sensitivity: Sensitivity::Internal,
        criticality: Criticality::Critical,
        preferred: &["alibaba", "ovh", "atos"],
        before: "alibaba",
        after: ["alibaba", "ovh"],
    },
    Role {
        application: Application::Website,
        sensitivity: Sensitivity::Public,
        criticality: Criticality::Standard,
        preferred: &["alibaba"],
        before: "alibaba",
        after: ["alibaba", "alibaba"],
    },
];

impl Role {
    /// The application's name.
    pub const fn name(&self) -> &'static str {
        self.application.name()
    }

    /// The application's host.
    pub fn host(&self) -> String {
        format!("{}.{DOMAIN}", self.name())
    }

    /// Where it has to be once that many papers are obeyed.
    pub fn place(&self, papers: usize) -> &'static str {
        match papers.checked_sub(1) {
            Some(last) => self.after[last],
            None => self.before,
        }
    }

    /// Its moves over the whole story: where from and where to.
    pub fn moves(&self) -> Vec<(&'static str, &'static str)> {
        let places = (0..=PAPERS.len()).map(|papers| self.place(papers));
        let places: Vec<_> = places.collect();
        places
            .windows(2)
            .filter(|pair| pair[0] != pair[1])
            .map(|pair| (pair[0], pair[1]))
            .collect()
    }

    /// What the application team asks for. The pace is quicker than the default, so that the story fits into some
    /// minutes.
    pub fn asked(&self) -> Asked {
        Asked {
            application: self.application,
            namespace: NAMESPACE.to_owned(),
            host: self.host(),
            sensitivity: self.sensitivity,
            criticality: self.criticality,
            preferred: self.preferred.iter().map(ToString::to_string).collect(),
            pace: MigrationStrategy {
                stages: vec![25, 50, 75, 100],
                stage_seconds: 3,
                soak_seconds: 4,
                drain_seconds: 8,
                ready_timeout_seconds: 120,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_moves_four_and_leaves_two_where_they_are() {
        let moves: Vec<_> = CAST
            .iter()
            .map(|role| (role.name(), role.moves().len()))
            .collect();
        assert_eq!(
            moves,
            [
                ("accreditation", 1),
                ("access-control", 1),
                ("volunteers", 1),
                ("ticketing", 0),
                ("results", 1),
                ("website", 0)
            ]
        );
    }
}

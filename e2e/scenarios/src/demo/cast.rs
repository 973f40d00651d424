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
    /// Where it runs in the beginning, and where after each act.
    places: [&'static str; ACTS.len() + 1],
}

/// Something that happens, and that Flambeau has to answer.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// A policy is signed.
    Paper {
        /// What it says, for people.
        says: &'static str,
        /// Name of the file that a user finds it in.
        file: &'static str,
        /// The policy.
        policy: &'static str,
    },
    /// A cluster dies.
    Loss {
        /// Which.
        cluster: &'static str,
    },
    /// A dead cluster comes back, with what it had.
    Return {
        /// Which.
        cluster: &'static str,
    },
    /// An SRE sends home what had to leave a cluster.
    Failback {
        /// Which.
        cluster: &'static str,
        /// Name of the file that a user finds the Migrations in.
        file: &'static str,
    },
}

/// The acts, in their order.
pub const ACTS: [Act; 5] = [
    Act::Paper {
        says: "Personal data and above: European jurisdiction only",
        file: "5-policy-personal.yaml",
        policy: include_str!("../../policies/personal.yaml"),
    },
    Act::Paper {
        says: "Internal data too",
        file: "6-policy-internal.yaml",
        policy: include_str!("../../policies/internal.yaml"),
    },
    Act::Loss { cluster: "atos" },
    Act::Return { cluster: "atos" },
    Act::Failback {
        cluster: "atos",
        file: "7-failback.yaml",
    },
];

/// The six applications. All that may start where the sponsor's contract demands does so.
pub const CAST: [Role; 6] = [
    Role {
        application: Application::Accreditation,
        sensitivity: Sensitivity::Sensitive,
        criticality: Criticality::Critical,
        preferred: &["alibaba", "atos", "ovh"],
        places: ["alibaba", "atos", "atos", "ovh", "ovh", "atos"],
    },
    Role {
        application: Application::AccessControl,
        sensitivity: Sensitivity::Sensitive,
        criticality: Criticality::Critical,
        preferred: &["alibaba", "atos", "ovh"],
        places: ["alibaba", "atos", "atos", "ovh", "ovh", "atos"],
    },
    Role {
        application: Application::Volunteers,
        sensitivity: Sensitivity::Personal,
        criticality: Criticality::Important,
        preferred: &["alibaba", "ovh", "atos"],
        places: ["alibaba", "ovh", "ovh", "ovh", "ovh", "ovh"],
    },
    Role {
        application: Application::Ticketing,
        sensitivity: Sensitivity::Personal,
        criticality: Criticality::Critical,
        preferred: &["ovh"],
        places: ["ovh", "ovh", "ovh", "ovh", "ovh", "ovh"],
    },
    Role {
        application: Application::Results,
        sensitivity: Sensitivity::Internal,
        criticality: Criticality::Critical,
        preferred: &["alibaba", "ovh", "atos"],
        places: ["alibaba", "alibaba", "ovh", "ovh", "ovh", "ovh"],
    },
    Role {
        application: Application::Website,
        sensitivity: Sensitivity::Public,
        criticality: Criticality::Standard,
        preferred: &["alibaba"],
        places: [
            "alibaba", "alibaba", "alibaba", "alibaba", "alibaba", "alibaba",
        ],
    },
];

/// A move that has to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Where from.
    pub from: &'static str,
    /// Where to.
    pub to: &'static str,
    /// Its type.
    pub kind: &'static str,
}

impl Act {
    /// What it is, for people.
    pub fn title(&self) -> String {
        match self {
            Act::Paper { says, .. } => format!("A paper is signed. {says}"),
            Act::Loss { cluster } => format!("{cluster} dies: every process of it, at once"),
            Act::Return { cluster } => {
                format!("{cluster} comes back, with old copies of what had to leave it")
            }
            Act::Failback { cluster, .. } => {
                format!("An SRE sends home to {cluster} what had to leave it")
            }
        }
    }

    /// The type of the moves that it sets off.
    const fn kind(&self) -> &'static str {
        match self {
            Act::Loss { .. } => "Failover",
            Act::Failback { .. } => "Failback",
            Act::Paper { .. } | Act::Return { .. } => "Relocate",
        }
    }
}

impl Role {
    /// The application's name.
    pub const fn name(&self) -> &'static str {
        self.application.name()
    }

    /// The application's host.
    pub fn host(&self) -> String {
        format!("{}.{DOMAIN}", self.name())
    }

    /// Where it has to be after that many acts.
    pub fn place(&self, acts: usize) -> &'static str {
        self.places[acts.min(ACTS.len())]
    }

    /// Every place that it has to be at some time.
    pub fn places(&self) -> &[&'static str] {
        &self.places
    }

    /// Its moves over the whole story.
    pub fn moves(&self) -> Vec<Expected> {
        self.places
            .windows(2)
            .zip(&ACTS)
            .filter(|(pair, _)| pair[0] != pair[1])
            .map(|(pair, act)| Expected {
                from: pair[0],
                to: pair[1],
                kind: act.kind(),
            })
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
    fn two_go_and_come_back_two_only_go_and_two_stay() {
        let moves: Vec<_> = CAST
            .iter()
            .map(|role| {
                let kinds: Vec<_> = role.moves().iter().map(|expected| expected.kind).collect();
                (role.name(), kinds.join(" "))
            })
            .collect();
        let expected = [
            ("accreditation", "Relocate Failover Failback"),
            ("access-control", "Relocate Failover Failback"),
            ("volunteers", "Relocate"),
            ("ticketing", ""),
            ("results", "Relocate"),
            ("website", ""),
        ];
        assert_eq!(
            moves,
            expected.map(|(name, kinds)| (name, kinds.to_owned()))
        );
    }
}

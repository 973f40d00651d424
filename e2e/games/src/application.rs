//! The six applications and the documents that each one serves.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// One of the applications that the Games run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Application {
    /// Who may come: athletes, officials, press. Sensitive, Critical. Holds a signing key in a Secret.
    Accreditation,
    /// Who goes through which gate, now. Sensitive, Critical.
    AccessControl,
    /// People who apply to help. Personal, Important.
    Volunteers,
    /// Seats and their buyers. Personal, Critical.
    Ticketing,
    /// Results for television, with a long-lived event stream at `/stream`. Internal, Critical.
    Results,
    /// The public website. Public, Standard.
    Website,
}

/// A document that an application serves.
#[derive(Clone, Copy, Debug)]
pub struct Document {
    /// Absolute path of the document.
    pub path: &'static str,
    /// What the answer carries as its `content`, a JSON text.
    pub content: &'static str,
}

const fn document(path: &'static str, content: &'static str) -> Document {
    Document { path, content }
}

impl Application {
    /// All applications, in the order of this crate's documentation.
    pub const ALL: [Self; 6] = [
        Self::Accreditation,
        Self::AccessControl,
        Self::Volunteers,
        Self::Ticketing,
        Self::Results,
        Self::Website,
    ];

    /// The name that objects, hosts and answers carry.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accreditation => "accreditation",
            Self::AccessControl => "access-control",
            Self::Volunteers => "volunteers",
            Self::Ticketing => "ticketing",
            Self::Results => "results",
            Self::Website => "website",
        }
    }

    /// Whether the application serves a long-lived event stream at [`STREAM_PATH`].
    pub const fn streams(self) -> bool {
        matches!(self, Self::Results)
    }

    /// The documents that the application serves; the first is `/`.
    pub const fn documents(self) -> &'static [Document] {
        match self {
            Self::Accreditation => {
                const {
                    &[
                        document("/", r#"{"badges":41250,"pending":312}"#),
                        document(
                            "/badges/A-10427",
                            r#"{"badge":"A-10427","category":"athlete","valid":true}"#,
                        ),
                        document(
                            "/badges/M-20981",
                            r#"{"badge":"M-20981","category":"media","valid":true}"#,
                        ),
                    ]
                }
            }
            Self::AccessControl => {
                const {
                    &[
                        document("/", r#"{"venues":25,"gates":418}"#),
                        document(
                            "/gates/north-3/passages",
                            r#"{"gate":"north-3","passages":1874,"refused":6}"#,
                        ),
                        document(
                            "/badges/A-10427/zones",
                            r#"{"badge":"A-10427","zones":["field-of-play","village"]}"#,
                        ),
                    ]
                }
            }
            Self::Volunteers => {
                const {
                    &[
                        document("/", r#"{"applications":128400,"places":45000}"#),
                        document(
                            "/applications/V-55871",
                            r#"{"application":"V-55871","state":"interview"}"#,
                        ),
                    ]
                }
            }
            Self::Ticketing => {
                const {
                    &[
                        document("/", r#"{"sessions":751,"on-sale":true}"#),
                        document(
                            "/sessions/SWM-14",
                            r#"{"session":"SWM-14","seats":14982,"left":37}"#,
                        ),
                        document(
                            "/sessions/ATH-02",
                            r#"{"session":"ATH-02","seats":77083,"left":1204}"#,
                        ),
                    ]
                }
            }
            Self::Results => {
                const {
                    &[
                        document("/", r#"{"events":329,"finished":112}"#),
                        document(
                            "/events/SWM-M100-FR",
                            r#"{"event":"SWM-M100-FR","state":"official"}"#,
                        ),
                        document("/medals", r#"{"countries":62,"medals":336}"#),
                    ]
                }
            }
            Self::Website => {
                const {
                    &[
                        document("/", r#"{"languages":["fr","en"],"edition":"summer"}"#),
                        document("/schedule", r#"{"days":19,"sessions":751}"#),
                        document("/venues", r#"{"venues":25}"#),
                    ]
                }
            }
        }
    }
}

/// Where an application with an event stream serves it.
pub const STREAM_PATH: &str = "/stream";

impl fmt::Display for Application {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The text names none of the applications.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "no application is called {0:?}; there are accreditation, access-control, volunteers, ticketing, results, website"
)]
pub struct UnknownApplication(String);

impl FromStr for Application {
    type Err = UnknownApplication;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL
            .into_iter()
            .find(|application| application.name() == text);
        found.ok_or_else(|| UnknownApplication(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_for_people_and_for_serde() {
        for application in Application::ALL {
            assert_eq!(application.name().parse(), Ok(application));
            assert_eq!(
                serde_json::to_value(application).unwrap(),
                application.name()
            );
        }
        assert!(
            "Accreditation"
                .parse::<Application>()
                .unwrap_err()
                .to_string()
                .contains("access-control")
        );
    }

    #[test]
    fn every_document_is_reachable_and_holds_json() {
        for application in Application::ALL {
            assert_eq!(application.documents()[0].path, "/");
            for document in application.documents() {
                assert!(document.path.starts_with('/'));
                serde_json::from_str::<serde_json::Value>(document.content).unwrap();
            }
        }
    }
}

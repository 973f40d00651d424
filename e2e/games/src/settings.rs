//! What the environment says: which application to play, where, and which faults to show.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::application::{Application, UnknownApplication};

/// Everything that a process of the example applications is told, fixed at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `APPLICATION`: which application to play. Required.
    pub application: Application,
    /// `LISTEN`: address to serve on; `0.0.0.0:8080` when not set.
    pub listen: SocketAddr,
    /// `NODE_NAME`: name of the node, `<cloud>-<number>`; `local-0` when not set.
    pub node: String,
    /// `POD_NAME`: name of the pod; empty when not set.
    pub pod: String,
    /// `TITLE`: what the application calls itself in its answers, from its ConfigMap; its name when not set.
    pub title: String,
    /// `SECRET_FILE`: a file that must be there and not be empty before the process calls itself ready.
    pub secret_file: Option<PathBuf>,
    /// `DRAIN_SECONDS`: how long to serve on after SIGTERM; 5 when not set. Long enough for every proxy to learn that
    /// this pod is leaving.
    pub drain: Duration,
    /// Faults to show.
    pub faults: Faults,
}

/// Faults for tests; none when nothing is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// `FAULT_NEVER_READY`: `true` to fail `/readyz` for ever.
    pub never_ready: bool,
    /// `FAULT_ERROR_FRACTION`: which part of the requests to answer with status 500, from 0 to 1.
    pub error_fraction: f64,
}

/// A variable of the environment that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A variable without which there is nothing to do.
    #[error("{0} is not set; set it to the name of an application, such as results")]
    Missing(&'static str),
    /// `APPLICATION` names no application.
    #[error("APPLICATION: {0}")]
    Application(#[from] UnknownApplication),
    /// A value that cannot be read.
    #[error("{name}={value:?} cannot be used; set it to {remedy}")]
    Invalid {
        /// Name of the variable.
        name: &'static str,
        /// What it is set to.
        value: String,
        /// What it should be.
        remedy: &'static str,
    },
}

impl Settings {
    /// Reads the settings from variables that `get` looks up. An empty variable counts as not set.
    ///
    /// # Errors
    /// Names the variable that is missing or cannot be used.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let application: Application = get("APPLICATION")
            .ok_or(SettingsError::Missing("APPLICATION"))?
            .parse()?;
        let listen = match get("LISTEN") {
            Some(value) => parse(
                "LISTEN",
                value,
                "an address and a port, such as 127.0.0.1:8080",
            )?,
            None => SocketAddr::from(([0, 0, 0, 0], 8080)),
        };
        let drain = match get("DRAIN_SECONDS") {
            Some(value) => seconds("DRAIN_SECONDS", value)?,
            None => Duration::from_secs(5),
        };
        let node = get("NODE_NAME").unwrap_or_else(|| "local-0".to_owned());
        let faults = faults(&get, cloud_of(&node))?;
        Ok(Self {
            application,
            listen,
            pod: get("POD_NAME").unwrap_or_default(),
            title: get("TITLE").unwrap_or_else(|| application.name().to_owned()),
            secret_file: get("SECRET_FILE").map(PathBuf::from),
            drain,
            node,
            faults,
        })
    }

    /// The cloud that the node belongs to.
    pub fn cloud(&self) -> &str {
        cloud_of(&self.node)
    }
}

/// `FAULT_CLOUDS` limits the faults to the clouds it lists: the same manifest then fails in one cloud and not in
/// another.
fn faults(get: &impl Fn(&str) -> Option<String>, cloud: &str) -> Result<Faults, SettingsError> {
    let elsewhere =
        get("FAULT_CLOUDS").is_some_and(|list| !list.split(',').any(|entry| entry.trim() == cloud));
    let never_ready = match get("FAULT_NEVER_READY") {
        Some(value) => parse("FAULT_NEVER_READY", value, "true or false")?,
        None => false,
    };
    const FRACTION: &str = "FAULT_ERROR_FRACTION";
    let error_fraction = match get(FRACTION) {
        Some(value) => {
            let remedy = "a fraction from 0 to 1";
            let fraction = parse(FRACTION, value.clone(), remedy)?;
            if !(0.0..=1.0).contains(&fraction) {
                return Err(SettingsError::Invalid {
                    name: FRACTION,
                    value,
                    remedy,
                });
            }
            fraction
        }
        None => 0.0,
    };
    Ok(if elsewhere {
        Faults::default()
    } else {
        Faults {
            never_ready,
            error_fraction,
        }
    })
}

/// The cloud in a node's name `<cloud>-<number>`; the whole name when it does not end that way.
fn cloud_of(node: &str) -> &str {
    match node.rsplit_once('-') {
        Some((cloud, number)) if !cloud.is_empty() && number.parse::<u32>().is_ok() => cloud,
        _ => node,
    }
}

fn parse<T: std::str::FromStr>(
    name: &'static str,
    value: String,
    remedy: &'static str,
) -> Result<T, SettingsError> {
    value.parse().map_err(|_| SettingsError::Invalid {
        name,
        value,
        remedy,
    })
}

fn seconds(name: &'static str, value: String) -> Result<Duration, SettingsError> {
    let remedy = "a number of seconds, such as 5 or 0.5";
    let number: f64 = parse(name, value.clone(), remedy)?;
    Duration::try_from_secs_f64(number).map_err(|_| SettingsError::Invalid {
        name,
        value,
        remedy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::read(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_cloud_comes_from_the_node() {
        for (node, cloud) in [
            ("alibaba-0", "alibaba"),
            ("ovh-eu-12", "ovh-eu"),
            ("atos", "atos"),
            ("-1", "-1"),
        ] {
            assert_eq!(
                read(&[("APPLICATION", "website"), ("NODE_NAME", node)])
                    .unwrap()
                    .cloud(),
                cloud
            );
        }
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_name_and_the_remedy() {
        for (name, value, says) in [
            ("APPLICATION", "webside", "website"),
            ("LISTEN", "8080", "127.0.0.1:8080"),
            ("DRAIN_SECONDS", "-1", "number of seconds"),
            ("FAULT_ERROR_FRACTION", "1.5", "from 0 to 1"),
            ("FAULT_ERROR_FRACTION", "NaN", "from 0 to 1"),
            ("FAULT_NEVER_READY", "yes", "true or false"),
        ] {
            let message = read(&[(name, value), ("APPLICATION", "website")])
                .unwrap_err()
                .to_string();
            assert!(
                message.contains(name) && message.contains(says),
                "{message}"
            );
        }
        assert!(
            read(&[])
                .unwrap_err()
                .to_string()
                .starts_with("APPLICATION is not set")
        );
    }

    #[test]
    fn faults_stay_in_the_clouds_they_are_meant_for() {
        let variables = |node| {
            [
                ("APPLICATION", "results"),
                ("NODE_NAME", node),
                ("FAULT_CLOUDS", "atos, ovh"),
                ("FAULT_NEVER_READY", "true"),
                ("FAULT_ERROR_FRACTION", "0.5"),
            ]
        };
        let faulty = Faults {
            never_ready: true,
            error_fraction: 0.5,
        };
        assert_eq!(read(&variables("ovh-0")).unwrap().faults, faulty);
        assert_eq!(
            read(&variables("alibaba-0")).unwrap().faults,
            Faults::default()
        );
    }
}

//! The networks: one namespace per cluster, joined by a bridge that plays the wide-area network.
//!
//! The bridge has an address in the root namespace, so that kubectl, the operator and the load generator reach every
//! API server and the edge. Every namespace, the root one too, routes to the pods of the clusters, as a peered network
//! would.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::command::{run, run_with_input};
use crate::state::{Entry, Journal};

/// The clusters, in the order of their numbers. The hub is the first.
pub const CLUSTERS: [&str; 4] = ["hub", "alibaba", "atos", "ovh"];

/// The bridge that plays the wide-area network.
pub(crate) const BRIDGE: &str = "fl-wan";

/// The link's name inside each namespace.
pub(crate) const INSIDE: &str = "wan";

/// A private /16 network that holds all addresses of the testbed: `a.b.0.0/24` is the wide-area network, and the
/// cluster with number n has pods in `a.b.(10 n).0/24` and services in `a.b.(100 + 10 n).0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Addresses {
    prefix: [u8; 2],
}

impl Default for Addresses {
    fn default() -> Self {
        Self { prefix: [10, 231] }
    }
}

impl FromStr for Addresses {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let explain = || format!("`{text}`: expected a private /16 network such as 10.231.0.0/16");
        let address = text.strip_suffix("/16").with_context(explain)?;
        let octets = address.parse::<Ipv4Addr>().with_context(explain)?.octets();
        if octets[2..] != [0, 0] || !Ipv4Addr::from(octets).is_private() {
            bail!(explain());
        }
        Ok(Self {
            prefix: [octets[0], octets[1]],
        })
    }
}

impl TryFrom<String> for Addresses {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Addresses> for String {
    fn from(addresses: Addresses) -> Self {
        addresses.to_string()
    }
}

impl std::fmt::Display for Addresses {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/16", self.at(0, 0))
    }
}

impl Addresses {
    fn at(&self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(self.prefix[0], self.prefix[1], third, fourth)
    }

    /// The root namespace's address on the wide-area network.
    #[must_use]
    pub fn root(&self) -> Ipv4Addr {
        self.at(0, 1)
    }

    /// A cluster's address on the wide-area network; `number` counts from 1.
    #[must_use]
    pub fn cluster(&self, number: u8) -> Ipv4Addr {
        self.at(0, 10 * number)
    }

    /// A cluster's pod network.
    #[must_use]
    pub fn pods(&self, number: u8) -> String {
        format!("{}/24", self.at(10 * number, 0))
    }

    /// A cluster's network of Service addresses.
    #[must_use]
    pub fn services(&self, number: u8) -> String {
        format!("{}/24", self.at(100 + 10 * number, 0))
    }

    /// The address of a cluster's `kubernetes` Service: the first of its network.
    #[must_use]
    pub fn kubernetes_service(&self, number: u8) -> Ipv4Addr {
        self.at(100 + 10 * number, 1)
    }

    /// Refuses when this machine already routes to any of these addresses.
    ///
    /// # Errors
    /// Names the route that clashes, and how to choose another network.
    pub fn refuse_clash(&self) -> Result<()> {
        let routes = run("ip", &["-json", "-4", "route", "show", "table", "all"])?;
        self.refuse_clash_with(&routes)
    }

    fn refuse_clash_with(&self, routes: &str) -> Result<()> {
        let routes: Vec<Value> =
            serde_json::from_str(routes).context("parse the routes that `ip` shows")?;
        for route in routes {
            let destination = route["dst"].as_str().unwrap_or_default();
            if self.overlaps(destination) {
                let device = route["dev"].as_str().unwrap_or("?");
                bail!(
                    "network {self} clashes with the route to {destination} by {device}; choose another with \
                     FLAMBEAU_NETWORK=10.x.0.0/16"
                );
            }
        }
        Ok(())
    }

    fn overlaps(&self, destination: &str) -> bool {
        let (address, length) = destination.split_once('/').unwrap_or((destination, "32"));
        let (Ok(address), Ok(length)) = (address.parse::<Ipv4Addr>(), length.parse::<u32>()) else {
            return false;
        };
        let common = length.min(16);
        // The default route leads everywhere and gives way to any other.
        common > 0 && (u32::from(address) ^ u32::from(self.at(0, 0))) >> (32 - common) == 0
    }
}

/// The number of a cluster, from 1.
///
/// # Errors
/// When there is no such cluster.
pub fn number(cluster: &str) -> Result<u8> {
    let index = CLUSTERS.iter().position(|name| *name == cluster);
    let index = index
        .with_context(|| format!("no cluster `{cluster}`; there are {}", CLUSTERS.join(", ")))?;
    Ok(u8::try_from(index)? + 1)
}

/// The file that a cluster's network namespace is bound to.
#[must_use]
pub fn namespace(cluster: &str) -> PathBuf {
    Journal::namespaces().join(cluster)
}

/// The end of a cluster's link in the root namespace.
fn link(cluster: &str) -> String {
    format!("fl-{cluster}")
}

/// Makes the bridge, the namespaces and the routes between them.
///
/// # Errors
/// When something of the same name exists that the journal does not know, or the kernel refuses.
pub fn create(addresses: &Addresses, journal: &Journal) -> Result<()> {
    refuse_foreign(BRIDGE)?;
    let folder = Journal::namespaces();
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    journal.add(&Entry::Link {
        name: BRIDGE.to_owned(),
    })?;
    let root = addresses.root();
    batch(
        None,
        &format!(
            "link add {BRIDGE} type bridge\naddr add {root}/24 dev {BRIDGE}\nlink set {BRIDGE} up\n"
        ),
    )?;
    for cluster in CLUSTERS {
        create_namespace(cluster, addresses, journal)
            .with_context(|| format!("network of {cluster}"))?;
    }
    // The operator asks pods whether they take connections; these routes go with the bridge.
    let routes = (1..=u8::try_from(CLUSTERS.len())?).map(|number| {
        let (pods, cluster) = (addresses.pods(number), addresses.cluster(number));
        format!("route add {pods} via {cluster}\n")
    });
    batch(None, &routes.collect::<String>())
}

fn create_namespace(cluster: &str, addresses: &Addresses, journal: &Journal) -> Result<()> {
    let (file, outside, own) = (namespace(cluster), link(cluster), number(cluster)?);
    refuse_foreign(&outside)?;
    journal.add(&Entry::Namespace { file: file.clone() })?;
    fs::write(&file, "").with_context(|| format!("create {}", file.display()))?;
    let shown = file.display();
    run("unshare", &[format!("--net={shown}"), "true".to_owned()])?;
    journal.add(&Entry::Link {
        name: outside.clone(),
    })?;
    batch(
        None,
        &format!(
            "link add {outside} type veth peer name {INSIDE} netns {shown}\n\
             link set {outside} master {BRIDGE}\n\
             link set {outside} up\n"
        ),
    )?;
    let mut inside = format!(
        "link set lo up\naddr add {}/24 dev {INSIDE}\nlink set {INSIDE} up\n",
        addresses.cluster(own)
    );
    for other in (1..=u8::try_from(CLUSTERS.len())?).filter(|other| *other != own) {
        inside += &format!(
            "route add {} via {}\n",
            addresses.pods(other),
            addresses.cluster(other)
        );
    }
    // A way out that leads nowhere: without a default route, connections to unknown addresses fail at once, but
    // the kubelet wants one to find its own address.
    inside += &format!("route add default via {}\n", addresses.root());
    batch(Some(&file), &inside)?;
    run(
        "nsenter",
        &[
            &format!("--net={shown}"),
            "sh",
            "-c",
            "echo 1 >/proc/sys/net/ipv4/ip_forward",
        ],
    )?;
    Ok(())
}

/// Sets a cluster's link to the wide-area network down or up again.
///
/// # Errors
/// When the link is not there.
pub fn set_link(cluster: &str, up: bool) -> Result<()> {
    run(
        "ip",
        &[
            "link",
            "set",
            &link(cluster),
            if up { "up" } else { "down" },
        ],
    )?;
    Ok(())
}

/// Removes a link; none is no error.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_link(name: &str) -> Result<()> {
    if exists(name) {
        run("ip", &["link", "delete", name])?;
    }
    Ok(())
}

/// Removes a network namespace and the file it is bound to; none is no error.
///
/// # Errors
/// When it cannot be unmounted.
pub fn remove_namespace(file: &Path) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let shown = file.display().to_string();
    for _ in table
        .lines()
        .filter(|line| line.split(' ').nth(4) == Some(&shown))
    {
        run("umount", &[&shown])?;
    }
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {shown}"))
        }
        _ => Ok(()),
    }
}

fn exists(link: &str) -> bool {
    Path::new("/sys/class/net").join(link).exists()
}

fn refuse_foreign(link: &str) -> Result<()> {
    if exists(link) {
        bail!(
            "a network link `{link}` exists that no record of a testbed knows; if nobody needs it: `ip link delete {link}`"
        );
    }
    Ok(())
}

/// Runs many `ip` commands in one process, in a namespace or in the root one.
fn batch(namespace: Option<&Path>, commands: &str) -> Result<()> {
    match namespace {
        None => run_with_input("ip", &["-batch", "-"], commands)?,
        Some(file) => {
            let net = format!("--net={}", file.display());
            run_with_input("nsenter", &[net.as_str(), "ip", "-batch", "-"], commands)?
        }
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_do_not_overlap() {
        let addresses = Addresses::default();
        let mut all = vec!["10.231.0.0/24".to_owned()];
        for cluster in CLUSTERS {
            let number = number(cluster).unwrap();
            all.extend([addresses.pods(number), addresses.services(number)]);
        }
        let before = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), before);
    }

    #[test]
    fn a_route_into_the_network_is_refused_and_named() {
        let addresses = Addresses::default();
        let with = |destination: &str| {
            addresses.refuse_clash_with(&format!(r#"[{{"dst":"{destination}","dev":"tun0"}}]"#))
        };
        for clash in ["10.231.5.0/24", "10.0.0.0/8", "10.231.0.0/16", "10.231.7.7"] {
            assert!(
                with(clash).unwrap_err().to_string().contains("tun0"),
                "{clash}"
            );
        }
        for free in [
            "default",
            "0.0.0.0/0",
            "10.230.0.0/16",
            "192.0.2.0/24",
            "127.0.0.0/8",
        ] {
            assert!(with(free).is_ok(), "{free}");
        }
    }

    #[test]
    fn only_private_networks_of_the_right_size_are_taken() {
        assert_eq!(
            "10.9.0.0/16".parse::<Addresses>().unwrap().to_string(),
            "10.9.0.0/16"
        );
        for wrong in [
            "10.9.0.0/24",
            "10.9.1.0/16",
            "8.8.0.0/16",
            "10.9.0.0",
            "x/16",
        ] {
            assert!(wrong.parse::<Addresses>().is_err(), "{wrong}");
        }
    }
}

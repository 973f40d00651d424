//! Broken links: a cluster cut off in one direction or both, and processes cut off from clusters.

use anyhow::{Context, Result};

use crate::cgroup::ROOT;
use crate::cluster::Cluster;
use crate::command::{run, run_with_input};
use crate::network::{self, BRIDGE, INSIDE};
use crate::state::{Entry, Journal};
use crate::testbed::Testbed;

/// Table of packet filters in a cluster's own namespace; it vanishes with the namespace.
const TABLE: &str = "flambeau_cut";

/// Which packets of a cluster's link are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those to the cluster: it hears nobody, and others hear it.
    Inbound,
    /// Those from the cluster: it hears others, and nobody hears it.
    Outbound,
    /// All.
    Both,
}

/// Cuts a cluster's link to the wide-area network.
///
/// # Errors
/// When the link is not there, or the kernel refuses.
pub fn cut(cluster: &str, direction: Direction) -> Result<()> {
    let (hook, side) = match direction {
        Direction::Both => return network::set_link(cluster, false),
        Direction::Inbound => ("prerouting", "iifname"),
        Direction::Outbound => ("postrouting", "oifname"),
    };
    // Before connection tracking and whatever kube-proxy and the nodes' network filter.
    let table = format!(
        "table inet {TABLE} {{\n chain cut {{\n  type filter hook {hook} priority -400; policy accept;\n  \
         {side} \"{INSIDE}\" drop\n }}\n}}\n"
    );
    inside(cluster, &["nft", "-f", "-"], &table)
        .with_context(|| format!("cut the link of {cluster} {direction:?}"))
}

/// Restores a cluster's link, however it was cut; one that is whole is no error.
///
/// # Errors
/// When the link is not there, or the kernel refuses.
pub fn restore(cluster: &str) -> Result<()> {
    // Added first, so that there is something to delete.
    let gone = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
    inside(cluster, &["nft", "-f", "-"], &gone)?;
    network::set_link(cluster, true)
}

/// Loses every packet from a cluster to some networks behind its link; everything else goes on.
///
/// # Errors
/// When the kernel refuses.
fn cut_from(cluster: &str, networks: &[String]) -> Result<()> {
    let table = format!(
        "table inet {TABLE} {{\n chain cut {{\n  type filter hook postrouting priority -400; policy accept;\n  \
         oifname \"{INSIDE}\" ip daddr {{ {} }} drop\n }}\n}}\n",
        networks.join(", ")
    );
    inside(cluster, &["nft", "-f", "-"], &table)
        .with_context(|| format!("cut {cluster} off {}", networks.join(", ")))
}

fn inside(cluster: &str, words: &[&str], input: &str) -> Result<()> {
    let net = format!("--net={}", network::namespace(cluster).display());
    let mut all = vec![net.as_str()];
    all.extend(words);
    run_with_input("nsenter", &all, input).map(drop)
}

/// Loses every packet from the processes of a control group of this machine to some addresses or networks behind the
/// wide-area network; other processes reach them as before. Connections stay open and silent.
///
/// # Errors
/// When the kernel refuses.
pub fn cut_group(group: &str, destinations: &[String]) -> Result<()> {
    destinations.iter().try_for_each(|destination| {
        let rule = rule(group, destination);
        // Written down first: a crash in between leaves nothing behind.
        Journal::of_this_machine().add(&Entry::Filter { rule: rule.clone() })?;
        filter("-I", &rule)
            .with_context(|| format!("cut the processes of {group} off {destination}"))
    })
}

/// Takes back what [`cut_group`] did; what is not cut is no error.
///
/// # Errors
/// When the kernel refuses.
pub fn restore_group(group: &str, destinations: &[String]) -> Result<()> {
    destinations
        .iter()
        .try_for_each(|destination| remove_filter(&rule(group, destination)))
}

/// Removes a packet filter of the root namespace, as often as it is there.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_filter(rule: &[String]) -> Result<()> {
    while filter("-C", rule).is_ok() {
        filter("-D", rule)?;
    }
    Ok(())
}

impl Testbed {
    /// Cuts the operator off some clusters: it hears nothing of them any more, while everybody else does, the edge and
    /// this process included.
    ///
    /// # Errors
    /// As [`cut_group`].
    pub fn cut_operator_off(&self, clusters: &[&Cluster]) -> Result<()> {
        cut_group(&operator_group(), &addresses(clusters))
    }

    /// Cuts the edge off the pods of every member: requests of users reach none of them, while everybody else does. The
    /// hub's link is restored as any other.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cut_edge_off(&self) -> Result<()> {
        let pods: Vec<String> = self.members().iter().map(|member| member.pods()).collect();
        cut_from(self.hub().name(), &pods)
    }

    /// Joins the operator with every cluster again.
    ///
    /// # Errors
    /// As [`restore_group`].
    pub fn rejoin_operator(&self) -> Result<()> {
        let all: Vec<&Cluster> = self.clusters().iter().collect();
        restore_group(&operator_group(), &addresses(&all))
    }
}

/// The clusters themselves, and their pods.
fn addresses(clusters: &[&Cluster]) -> Vec<String> {
    clusters
        .iter()
        .flat_map(|cluster| [cluster.address().to_string(), cluster.pods()])
        .collect()
}

fn operator_group() -> String {
    format!("{ROOT}/operator")
}

/// By control group: nftables looks for the group below the mount point of version 2 alone, which is not where machines
/// have it that mount both versions; iptables asks the kernel.
fn rule(group: &str, destination: &str) -> Vec<String> {
    let words = [
        "OUTPUT",
        "-o",
        BRIDGE,
        "-d",
        destination,
        "-m",
        "cgroup",
        "--path",
        group,
        "-j",
        "DROP",
    ];
    words.map(str::to_owned).to_vec()
}

fn filter(action: &str, rule: &[String]) -> Result<()> {
    let mut words = vec!["-w".to_owned(), action.to_owned()];
    words.extend_from_slice(rule);
    run("iptables", &words).map(drop)
}

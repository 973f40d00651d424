//! Nodes of a member: how many there are, which are alive by their leases, and
//! what they offer. They are listed from time to time, not watched: a node
//! writes its status far more often than anything here changes.

use super::{
    connection::{Connection, RequestError},
    member::Member,
    pages::Pages,
};
use crate::quantity;
use flambeau_planner::model::{Nodes, Reach, Resources};
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// How often nodes are listed.
const INTERVAL: Duration = Duration::from_secs(5);
/// How much longer is waited after a long answer: what costs much is asked
/// for seldom.
const INTERVAL_PER_BYTE: Duration = Duration::from_micros(2);
/// How seldom nodes are listed that may not be listed.
const INTERVAL_WHILE_REFUSED: Duration = Duration::from_secs(60);
/// How long a lease may stay as it is: what Kubernetes itself grants a node,
/// which renews it every 10 seconds
/// (<https://kubernetes.io/docs/concepts/architecture/nodes/#node-heartbeats>).
const LEASE: Duration = Duration::from_secs(40);

/// A list from the API server's cache (`resourceVersion=0`) would come in one
/// piece, whatever its limit
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list>).
const NODES: &str = "/api/v1/nodes?resourceVersion=";
const LEASES: &str =
    "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases?resourceVersion=";

/// What is known of a member's nodes.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Option<Answer>>);

/// What the last lists said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    nodes: Nodes,
    allocatable: Option<Resources>,
}

impl Known {
    /// How many nodes there are; none while unknown.
    pub fn nodes(&self) -> Option<Nodes> {
        self.get().map(|answer| answer.nodes)
    }

    /// What ready nodes offer; none while unknown, and where there are no
    /// nodes.
    pub fn allocatable(&self) -> Option<Resources> {
        self.get().and_then(|answer| answer.allocatable)
    }

    fn get(&self) -> Option<Answer> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether that is news.
    fn set(&self, answer: Option<Answer>) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *known != answer;
        *known = answer;
        news
    }
}

/// Lists nodes again and again, until it is stopped.
pub(super) async fn run(member: Arc<Member>, connection: Arc<Connection>) {
    let mut generation = member.health.generation();
    let mut leases = Leases::default();
    let mut told = None;
    loop {
        let pause = if member.health.reach() == Reach::Reachable {
            look(&member, &connection, &mut leases, &mut told).await
        } else {
            INTERVAL
        };
        tokio::select! {
            () = sleep(pause) => {}
            changed = generation.changed() => if changed.is_err() { return },
        }
    }
}

/// `told` is what was complained of last.
async fn look(
    member: &Member,
    connection: &Connection,
    leases: &mut Leases,
    told: &mut Option<RequestError>,
) -> Duration {
    let listed = tokio::try_join!(
        list::<Node>(connection, NODES),
        list::<Lease>(connection, LEASES)
    );
    match listed {
        Ok(((nodes, size), (renewals, more))) => {
            *told = None;
            leases.take(Instant::now(), &renewals);
            if member.nodes.set(count(&nodes, leases)) {
                member.shared.dirty.mark();
            }
            let size = u32::try_from(size + more).unwrap_or(u32::MAX);
            INTERVAL + INTERVAL_PER_BYTE * size
        }
        Err(error) if error.code().is_some_and(|code| matches!(code, 403 | 404)) => {
            if member.nodes.set(None) {
                member.shared.dirty.mark();
            }
            tracing::debug!(cluster = %member.name, %error, "nodes cannot be listed: nothing is known of them");
            INTERVAL_WHILE_REFUSED
        }
        // It answers, and nothing comes of it: that does not pass by itself.
        Err(error @ (RequestError::TooLarge(_) | RequestError::Unreadable(_))) => {
            if told.as_ref() != Some(&error) {
                tracing::warn!(cluster = %member.name, %error, "nodes cannot be listed: what was known of them stays as it was");
                *told = Some(error);
            }
            INTERVAL_WHILE_REFUSED
        }
        // What was known stays: unknown is not absent.
        Err(error) => {
            tracing::debug!(cluster = %member.name, %error, "nodes were not listed");
            INTERVAL
        }
    }
}

/// Everything there is, and how many bytes that took.
async fn list<T: DeserializeOwned>(
    connection: &Connection,
    path: &str,
) -> Result<(Vec<T>, usize), RequestError> {
    let mut pages = Pages::<T>::of(connection, path.to_owned());
    let mut all = Vec::new();
    while let Some(page) = pages.next().await? {
        all.extend(page.items);
    }
    Ok((all, pages.bytes))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Node {
    metadata: Metadata,
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    unschedulable: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    allocatable: Offer,
    conditions: Vec<Condition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Offer {
    cpu: String,
    memory: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
}

impl Node {
    fn ready(&self) -> bool {
        let mut conditions = self.status.conditions.iter();
        conditions.any(|condition| condition.r#type == "Ready" && condition.status == "True")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lease {
    metadata: Metadata,
    spec: LeaseSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LeaseSpec {
    renew_time: String,
}

/// When leases were seen to change. The times that stand in them are of
/// another machine's clock and are compared with each other only.
#[derive(Debug, Default)]
struct Leases {
    taken: Option<Instant>,
    renewed: HashMap<String, (String, Instant)>,
}

impl Leases {
    fn take(&mut self, now: Instant, leases: &[Lease]) {
        // Nobody looked meanwhile, and perhaps nobody could renew.
        let missed = self
            .taken
            .map_or(Duration::ZERO, |taken| now - taken)
            .saturating_sub(LEASE / 2);
        self.taken = Some(now);
        let mut before = std::mem::take(&mut self.renewed);
        for lease in leases {
            let renewed = match before.remove(&lease.metadata.name) {
                Some((time, since)) if time == lease.spec.renew_time => since + missed,
                _ => now,
            };
            let entry = (lease.spec.renew_time.clone(), renewed);
            self.renewed.insert(lease.metadata.name.clone(), entry);
        }
    }

    fn alive(&self, node: &str) -> bool {
        let since = self.renewed.get(node).map(|(_, since)| *since);
        self.taken
            .zip(since)
            .is_some_and(|(taken, since)| taken.saturating_duration_since(since) < LEASE)
    }
}

/// None where nodes have no leases at all: nothing can be said of them.
fn count(nodes: &[Node], leases: &Leases) -> Option<Answer> {
    if !nodes.is_empty() && leases.renewed.is_empty() {
        return None;
    }
    let ready: Vec<&Node> = nodes
        .iter()
        .filter(|node| node.ready() && leases.alive(&node.metadata.name))
        .collect();
    // What no pod can be placed on offers nothing.
    let open = ready.iter().filter(|node| !node.spec.unschedulable);
    let offered = open.fold(Resources::default(), |sum, node| {
        let offer = &node.status.allocatable;
        let cpu = quantity::thousandths(&offer.cpu).unwrap_or_default();
        let memory = quantity::units(&offer.memory).unwrap_or_default();
        Resources {
            milli_cpu: sum.milli_cpu.saturating_add(cpu),
            memory: sum.memory.saturating_add(memory),
        }
    });
    Some(Answer {
        nodes: Nodes {
            total: nodes.len(),
            ready: ready.len(),
        },
        allocatable: (!nodes.is_empty()).then_some(offered),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, ready: &str, unschedulable: bool) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name}, "spec": {"unschedulable": unschedulable, "podCIDR": "10.0.0.0/24"},
            "status": {"allocatable": {"cpu": "1500m", "memory": "1Gi", "pods": "110"},
                "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}]}
        }))
        .unwrap()
    }

    fn lease(name: &str, time: &str) -> Lease {
        serde_json::from_value(
            json!({"metadata": {"name": name}, "spec": {"holderIdentity": name, "renewTime": time}}),
        )
        .unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_node_is_ready_while_it_says_so_and_renews_its_lease() {
        let begin = Instant::now();
        let mut leases = Leases::default();
        let nodes = [
            node("a", "True", false),
            node("b", "Unknown", false),
            node("c", "True", true),
        ];
        // The clock of the nodes is years off, which tells nothing.
        for beat in 0..9 {
            let time = format!("1999-12-31T23:59:{:02}.000000Z", beat);
            let all = [
                lease("a", &time),
                lease("b", "2031-01-01T00:00:00.000000Z"),
                lease("c", "2031-01-01T00:00:00.000000Z"),
            ];
            leases.take(begin + seconds(beat * 5), &all);
            let answer = count(&nodes, &leases).unwrap();
            let ready = if beat < 8 { 2 } else { 1 };
            assert_eq!(answer.nodes, Nodes { total: 3, ready }, "{} s", beat * 5);
            let offered = Resources {
                milli_cpu: 1500,
                memory: 1 << 30,
            };
            assert_eq!(answer.allocatable, Some(offered));
        }
    }

    #[test]
    fn time_in_which_nobody_looked_is_not_held_against_a_node() {
        let begin = Instant::now();
        let mut leases = Leases::default();
        let nodes = [node("a", "True", false)];
        leases.take(begin, &[lease("a", "x")]);
        leases.take(begin + seconds(300), &[lease("a", "x")]);
        assert_eq!(count(&nodes, &leases).unwrap().nodes.ready, 1);
        for beat in 1..8 {
            leases.take(begin + seconds(300 + beat * 5), &[lease("a", "x")]);
        }
        assert_eq!(count(&nodes, &leases).unwrap().nodes.ready, 0);
    }

    #[test]
    fn nothing_is_said_of_nodes_without_leases_and_of_no_nodes_that_there_are_none() {
        let none = Leases::default();
        assert_eq!(count(&[node("a", "True", false)], &none), None);
        let answer = count(&[], &none).unwrap();
        assert_eq!(answer.nodes, Nodes { total: 0, ready: 0 });
        assert_eq!(answer.allocatable, None);
    }
}

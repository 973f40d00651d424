//! Which Service stands for a copy of an application at the edge.
//!
//! A gateway learns of routes, Services and EndpointSlices over watches of
//! their own. After the hub's API server was away, they come back one by one,
//! up to a minute apart: the gateway then has today's weights, and for a
//! cluster still the addresses of a copy that is long erased. Requests would go
//! nowhere, and nobody who counts endpoints would see it. So no two copies share
//! a Service: what a gateway knows of a Service's endpoints is either about the
//! copy that is meant, or nothing.

use super::EndpointAddress;
use flambeau_planner::model::{ApplicationKey, Name};
use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
};

/// The longest name of a Service (a DNS label, RFC 1035).
const LONGEST_NAME: usize = 63;

/// What random parts of names consist of: no vowels, so that they make no
/// words, and nothing that looks like something else. Kubernetes does the same
/// with the names that it makes up (`k8s.io/apimachinery/pkg/util/rand`).
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// How long they are: 2.8 * 10^11 of them.
const RANDOM_LENGTH: usize = 8;

/// The Service that stands for a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Cluster of the copy.
    pub cluster: Name,
    /// Name of the Service.
    pub name: Name,
}

impl Backend {
    /// One that never was: `<application>--<cluster>-<random>`, cut in front of
    /// what is random where it would be too long.
    pub fn new(application: &str, cluster: &Name) -> Self {
        let plain = format!("{application}--{cluster}");
        let end = plain.floor_char_boundary(LONGEST_NAME - RANDOM_LENGTH - 1);
        let name = format!("{}-{}", &plain[..end], random());
        Self {
            cluster: cluster.clone(),
            name: name.into(),
        }
    }
}

fn random() -> String {
    // The keys of the standard library's hasher are random, and differ from one
    // call to the next: enough for names, nothing is kept secret by them.
    let mut number = RandomState::new().hash_one(());
    let base = ALPHABET.len() as u64;
    let letters = (0..RANDOM_LENGTH).map(|_| {
        let letter = usize::try_from(number % base).unwrap_or_default();
        number /= base;
        char::from(ALPHABET[letter])
    });
    letters.collect()
}

/// The cluster that a Service stands for, from its name alone; none where the
/// name may be cut, or was made by somebody else.
pub fn cluster_of(key: &ApplicationKey, name: &str) -> Option<Name> {
    let rest = name.strip_prefix(&*key.name)?.strip_prefix("--")?;
    let (cluster, random) = rest.rsplit_once('-')?;
    let ours = random.len() == RANDOM_LENGTH && random.bytes().all(|byte| ALPHABET.contains(&byte));
    (ours && name.len() < LONGEST_NAME).then(|| cluster.into())
}

/// A Service that stands for a copy, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBackend {
    /// Which one.
    pub backend: Backend,
    /// Percentage of requests that go there; none when the route does not name
    /// it.
    pub weight: Option<i32>,
    /// Whether the gateway may still send requests there, by what it last
    /// confirmed.
    pub requested: bool,
    /// What its EndpointSlices hold.
    pub endpoints: Vec<EndpointAddress>,
}

impl StoredBackend {
    /// Whether it can stand for a copy with these endpoints, to which requests
    /// are to go or not; none are told while the copy is not observed. Where no
    /// address is as it was, and no request goes there, it is another copy.
    pub fn fits(&self, wanted: bool, told: Option<&[EndpointAddress]>) -> bool {
        let in_use = |weight| weight > 0 || wanted || self.requested;
        match told {
            None => true,
            Some(_) if self.weight.is_some_and(in_use) || self.endpoints.is_empty() => true,
            // What is routed may still have requests that end.
            Some([]) => self.weight.is_some(),
            Some(told) => self.among(told).next().is_some(),
        }
    }

    /// Its endpoints that are among others.
    fn among(&self, others: &[EndpointAddress]) -> impl Iterator<Item = &EndpointAddress> {
        let others: BTreeSet<IpAddr> = others.iter().map(|other| other.ip).collect();
        let endpoints = self.endpoints.iter();
        endpoints.filter(move |endpoint| others.contains(&endpoint.ip))
    }

    /// Ready endpoints.
    pub fn ready(&self) -> usize {
        let ready = self.endpoints.iter().filter(|endpoint| endpoint.ready);
        ready.count()
    }

    /// Ready endpoints that are among those that the copy has now.
    pub fn ready_now(&self, current: &[EndpointAddress]) -> usize {
        let ready = self.among(current).filter(|endpoint| endpoint.ready);
        ready.count()
    }

    /// Its endpoints when the copy has none any more: remembered, so that the
    /// next copy is told from this one, but for no request.
    pub fn emptied(&self) -> Vec<EndpointAddress> {
        let endpoints = self.endpoints.iter().map(|endpoint| EndpointAddress {
            ready: false,
            serving: false,
            terminating: false,
            ..*endpoint
        });
        endpoints.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(last: u8) -> EndpointAddress {
        EndpointAddress {
            ip: IpAddr::from([10, 0, 0, last]),
            port: 8080,
            ready: true,
            serving: true,
            terminating: false,
        }
    }

    fn stored(weight: Option<i32>, endpoints: &[u8]) -> StoredBackend {
        StoredBackend {
            backend: Backend::new("shop", &"ovh".into()),
            weight,
            requested: false,
            endpoints: endpoints.iter().copied().map(endpoint).collect(),
        }
    }

    #[test]
    fn services_have_names_that_they_can_have_and_that_never_come_again() {
        let long = "a".repeat(52);
        let pairs = [
            ("shop", "ovh"),
            ("a--b", "c"),
            ("a", "b--c"),
            (long.as_str(), "cluster-of-the-first-provider"),
            (long.as_str(), "cluster-of-the-second-provider"),
            (long.as_str(), "-----------"),
        ];
        let mut names = BTreeSet::new();
        for (application, cluster) in pairs.into_iter().cycle().take(1000) {
            let name = Backend::new(application, &cluster.into()).name;
            assert!(name.len() <= LONGEST_NAME, "{name}");
            assert!(names.insert(name));
        }
    }

    #[test]
    fn a_name_tells_the_cluster() {
        let key = |name: &str| ApplicationKey {
            namespace: "games".into(),
            name: name.into(),
        };
        for (application, cluster) in [("shop", "ovh"), ("a--b", "c-1"), ("a", "b--c")] {
            let backend = Backend::new(application, &cluster.into());
            let told = cluster_of(&key(application), &backend.name);
            assert_eq!(told, Some(backend.cluster), "{}", backend.name);
        }
        assert_eq!(cluster_of(&key("shop"), "other--ovh-bcdfghjk"), None);
        for foreign in ["shop", "shop--eu-west", "shop--ovh-mine"] {
            assert_eq!(cluster_of(&key("shop"), foreign), None, "{foreign}");
        }
        let long: Name = "a".repeat(60).into();
        let cut = Backend::new("shop", &long);
        assert_eq!(cluster_of(&key("shop"), &cut.name), None, "it is cut");
    }

    #[test]
    fn a_copy_that_gets_no_requests_and_has_only_new_addresses_is_another() {
        let (former, next) = ([endpoint(1), endpoint(2)], [endpoint(3)]);
        let idle = stored(Some(0), &[1, 2]);
        assert!(idle.fits(false, Some(&former)));
        assert!(
            idle.fits(false, Some(&[endpoint(2), endpoint(3)])),
            "pods are replaced"
        );
        assert!(idle.fits(false, None), "nobody looked");
        assert!(idle.fits(false, Some(&[])), "requests may still end there");
        assert!(!idle.fits(false, Some(&next)));
        assert!(
            stored(Some(0), &[]).fits(false, Some(&next)),
            "its first endpoints"
        );

        // The gateway is never sent elsewhere while it sends requests there.
        let requested = StoredBackend {
            requested: true,
            ..idle.clone()
        };
        assert!(requested.fits(false, Some(&next)));
        assert!(idle.fits(true, Some(&next)));
        assert!(stored(Some(25), &[1]).fits(false, Some(&next)));
        // One that no route names has nothing to lose.
        for told in [&next[..], &[]] {
            assert!(!stored(None, &[1]).fits(true, Some(told)));
            assert!(stored(None, &[]).fits(true, Some(told)));
        }
    }

    #[test]
    fn what_had_endpoints_is_known_by_them_when_it_has_none() {
        let mut emptied = stored(Some(0), &[1]);
        emptied.endpoints = emptied.emptied();
        assert_eq!(emptied.ready(), 0);
        assert!(!emptied.fits(false, Some(&[endpoint(3)])));
        assert!(emptied.fits(false, Some(&[endpoint(1)])), "the pod is back");
    }

    #[test]
    fn an_earlier_copys_endpoints_count_for_nothing() {
        let stored = stored(Some(0), &[1, 2]);
        assert_eq!(stored.ready(), 2);
        assert_eq!(stored.ready_now(&[endpoint(2), endpoint(3)]), 1);
        assert_eq!(stored.ready_now(&[endpoint(3)]), 0);
    }
}

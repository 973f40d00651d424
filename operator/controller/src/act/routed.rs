//! What was last written to the edge for an application.

use super::Endpoints;
use crate::declared::{Declared, DeclaredTraffic};
use flambeau_planner::model::Name;
use std::{collections::BTreeMap, sync::Arc};

/// What was last written to the edge for an application.
#[derive(Clone, Debug)]
pub struct Routed {
    declared: Arc<Declared>,
    weights: BTreeMap<Name, u8>,
    endpoints: Endpoints,
    /// The Service whose endpoints the edge has, by cluster.
    mirrored: BTreeMap<Name, Service>,
}

type Service = (Name, u16);

fn service(traffic: &DeclaredTraffic) -> Service {
    (traffic.service.clone(), traffic.port)
}

impl Routed {
    /// What was written now, after what was written before.
    pub fn new(
        declared: Arc<Declared>,
        weights: BTreeMap<Name, u8>,
        endpoints: Endpoints,
        before: Option<&Routed>,
    ) -> Self {
        let mut mirrored = before.map_or_else(BTreeMap::new, |before| before.mirrored.clone());
        mirrored.retain(|cluster, _| weights.contains_key(cluster));
        if let Some(traffic) = &declared.traffic {
            mirrored.extend(
                endpoints
                    .keys()
                    .map(|cluster| (cluster.clone(), service(traffic))),
            );
        }
        Self {
            declared,
            weights,
            endpoints,
            mirrored,
        }
    }

    /// Whether this is what was written.
    pub fn is(
        &self,
        declared: &Arc<Declared>,
        weights: &BTreeMap<Name, u8>,
        endpoints: &Endpoints,
    ) -> bool {
        Arc::ptr_eq(&self.declared, declared)
            && self.weights == *weights
            && self.endpoints == *endpoints
    }

    /// Whether the edge still has the endpoints of another Service than the
    /// one that is declared now. Requests go on to them until the new Service
    /// has some: the pods behind both are the same.
    pub fn mirrors_another_service(&self, declared: &Declared, cluster: &str) -> bool {
        match (self.mirrored.get(cluster), &declared.traffic) {
            (Some(mirrored), Some(traffic)) => *mirrored != service(traffic),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flambeau_planner::model::ApplicationKey;

    fn declared(service: &str) -> Arc<Declared> {
        Arc::new(Declared {
            key: ApplicationKey {
                namespace: "games".into(),
                name: "shop".into(),
            },
            uid: "uid".to_owned(),
            created: None,
            objects: Vec::new(),
            traffic: Some(DeclaredTraffic {
                hostnames: Vec::new(),
                service: service.into(),
                port: 80,
            }),
        })
    }

    #[test]
    fn endpoints_of_a_renamed_service_are_known_until_the_new_ones_are_told() {
        let (weights, cluster) = (BTreeMap::from([("ovh".into(), 100)]), Name::from("ovh"));
        let told = Endpoints::from([(cluster.clone(), Vec::new())]);
        let (old, new) = (declared("shop"), declared("store"));
        let first = Routed::new(old.clone(), weights.clone(), told.clone(), None);
        assert!(!first.mirrors_another_service(&old, &cluster));
        assert!(first.mirrors_another_service(&new, &cluster));

        let kept = Routed::new(new.clone(), weights.clone(), Endpoints::new(), Some(&first));
        assert!(
            kept.mirrors_another_service(&new, &cluster),
            "not told: still those of the old one"
        );
        let told_anew = Routed::new(new.clone(), weights, told, Some(&kept));
        assert!(!told_anew.mirrors_another_service(&new, &cluster));
    }
}

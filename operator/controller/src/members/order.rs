//! In which order objects are written, and how they are called in messages.

use flambeau_planner::model::Kind;

/// Lower is written earlier; objects of one rank are written together.
///
/// The order is that of Helm
/// (<https://github.com/helm/helm/blob/main/pkg/release/v1/util/kind_sorter.go>), in
/// fewer steps: what limits and identifies pods, what pods read and what
/// leads to them, the workloads, everything else.
pub(super) fn rank(kind: &Kind) -> u8 {
    let group = kind
        .api_version
        .split_once('/')
        .map_or("", |(group, _)| group);
    match (group, &*kind.kind) {
        ("", "ResourceQuota" | "LimitRange" | "ServiceAccount")
        | ("networking.k8s.io", "NetworkPolicy")
        | ("policy", "PodDisruptionBudget") => 0,
        ("", "Secret" | "ConfigMap" | "PersistentVolumeClaim" | "Service")
        | ("rbac.authorization.k8s.io", "Role" | "RoleBinding") => 1,
        ("", "Pod" | "ReplicationController") | ("apps" | "batch", _) => 2,
        _ => 3,
    }
}

/// The rank among objects of which none is there yet: what pods read and what
/// leads to them comes together with the workloads, because new pods wait for
/// it. Pods that are there already would go on with what they read before.
pub(super) fn with_workloads(rank: u8) -> u8 {
    match rank {
        1 => 2,
        other => other,
    }
}

/// Whether nothing is ever made from objects of a kind, so that nothing has
/// to go before them.
pub(super) fn leaf(kind: &Kind) -> bool {
    rank(kind) < 2
}

/// How an object is called in messages.
pub(super) fn title(kind: &Kind, name: &str) -> String {
    format!("{}/{name}", kind.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank_of(api_version: &str, kind: &str) -> u8 {
        rank(&Kind {
            api_version: api_version.into(),
            kind: kind.into(),
        })
    }

    #[test]
    fn what_pods_need_comes_before_pods() {
        let ranks = [
            rank_of("v1", "ServiceAccount"),
            rank_of("v1", "ConfigMap"),
            rank_of("apps/v1", "Deployment"),
            rank_of("autoscaling/v2", "HorizontalPodAutoscaler"),
        ];
        assert!(ranks.is_sorted_by(|one, other| one < other), "{ranks:?}");
        let at_once = ranks.map(with_workloads);
        assert!(at_once.is_sorted(), "{at_once:?}");
        assert_eq!(at_once[1], at_once[2]);
        assert_eq!(
            rank_of("example.org/v1", "Secret"),
            3,
            "a kind of another group is another kind"
        );
    }
}

use super::*;
use crate::{
    model::CertificationRule,
    testing::{NOW, apply, change_cluster, country, fact, fleet, forbid, later, policy},
};
use jiff::SignedDuration;

fn reason(snapshot: &Snapshot, cluster: &str, now: Timestamp) -> Reason {
    LawBook::new(snapshot, now)
        .judge(cluster, Sensitivity::Personal)
        .reason()
}

fn lawful(snapshot: &Snapshot, cluster: &str, now: Timestamp) -> bool {
    LawBook::new(snapshot, now)
        .judge(cluster, Sensitivity::Personal)
        .lawful()
}

fn change_provider(snapshot: &mut Snapshot, name: &str, change: impl FnOnce(&mut Provider)) {
    change(Arc::make_mut(snapshot.providers.get_mut(name).unwrap()));
}

#[test]
fn two_levels_of_owners_from_outside_refuse_a_cluster_in_europe() {
    let mut snapshot = fleet(&[("frankfurt", "DE")]);
    change_provider(&mut snapshot, "frankfurt", |provider| {
        provider.jurisdictions = vec![
            fact("DE", "registered office"),
            fact("NL", "owner Holding B.V."),
            fact("US", "owner of owner Group Inc."),
        ];
    });
    apply(
        &mut snapshot,
        Policy {
            residency_allowed: Some(BTreeSet::from([country("DE")])),
            jurisdiction_allowed: Some(BTreeSet::from([country("DE"), country("NL")])),
            ..policy("eu")
        },
    );
    let law = LawBook::new(&snapshot, NOW);
    let judgement = law.judge("frankfurt", Sensitivity::Personal);
    assert_eq!(judgement.reason(), Reason::JurisdictionNotAllowed);
    assert!(judgement.message().contains("owner of owner Group Inc."));
}

#[test]
fn an_unknown_owner_is_a_refusal() {
    let mut snapshot = fleet(&[("here", "FR")]);
    apply(&mut snapshot, forbid("eu", "CN"));
    assert!(lawful(&snapshot, "here", NOW));
    change_provider(&mut snapshot, "here", |provider| {
        provider
            .unknown
            .push("the owner of Holding is unknown".to_owned());
    });
    assert_eq!(reason(&snapshot, "here", NOW), Reason::JurisdictionUnknown);
}

#[test]
fn other_unknown_facts_are_refusals() {
    let mut snapshot = fleet(&[("here", "FR")]);
    let allowed = Some(BTreeSet::from([country("DE")]));
    apply(
        &mut snapshot,
        Policy {
            residency_allowed: allowed,
            ..policy("eu")
        },
    );
    change_cluster(&mut snapshot, "here", |cluster| cluster.residency = None);
    assert_eq!(reason(&snapshot, "here", NOW), Reason::ResidencyUnknown);
    assert_eq!(reason(&snapshot, "elsewhere", NOW), Reason::ClusterUnknown);
    apply(&mut snapshot, forbid("eu", "CN"));
    snapshot.providers.clear();
    assert_eq!(reason(&snapshot, "here", NOW), Reason::ProviderUnknown);
}

#[test]
fn a_certificate_refuses_from_the_second_in_which_it_expires() {
    let mut snapshot = fleet(&[("here", "FR")]);
    apply(
        &mut snapshot,
        Policy {
            certifications: vec![CertificationRule {
                scheme: "SecNumCloud".to_owned(),
                levels: BTreeSet::from(["3.2".to_owned()]),
            }],
            ..policy("state")
        },
    );
    assert_eq!(reason(&snapshot, "here", NOW), Reason::CertificationMissing);
    let expiry = later(100);
    change_provider(&mut snapshot, "here", |provider| {
        provider.certifications.push(Certification {
            scheme: "SecNumCloud".to_owned(),
            level: Some("3.2".to_owned()),
            clusters: BTreeSet::from(["here".into()]),
            valid_until: expiry,
        });
    });
    let before = expiry.checked_sub(SignedDuration::from_nanos(1)).unwrap();
    assert!(lawful(&snapshot, "here", before));
    assert_eq!(
        reason(&snapshot, "here", expiry),
        Reason::CertificationExpired
    );
    assert_eq!(LawBook::new(&snapshot, NOW).next_change, Some(expiry));
    for (level, cluster) in [
        (None, "here"),
        (Some("3.1"), "here"),
        (Some("3.2"), "there"),
    ] {
        change_provider(&mut snapshot, "here", |provider| {
            provider.certifications[0].level = level.map(str::to_owned);
            provider.certifications[0].clusters = BTreeSet::from([cluster.into()]);
        });
        assert_eq!(
            reason(&snapshot, "here", before),
            Reason::CertificationMissing
        );
    }
}

#[test]
fn a_provider_is_refused_by_name() {
    let mut snapshot = fleet(&[("here", "FR"), ("there", "FR")]);
    let refused_providers = BTreeSet::from(["here".into()]);
    apply(
        &mut snapshot,
        Policy {
            refused_providers,
            ..policy("ban")
        },
    );
    assert_eq!(reason(&snapshot, "here", NOW), Reason::ProviderRefused);
    assert!(lawful(&snapshot, "there", NOW));
}

#[test]
fn a_policy_binds_from_its_first_moment_on() {
    let mut snapshot = fleet(&[("here", "CN")]);
    let effective_from = Some(later(10));
    apply(
        &mut snapshot,
        Policy {
            effective_from,
            ..forbid("ban", "CN")
        },
    );
    assert_eq!(reason(&snapshot, "here", later(9)), Reason::NotGoverned);
    assert_eq!(
        reason(&snapshot, "here", later(10)),
        Reason::JurisdictionForbidden
    );
    assert_eq!(LawBook::new(&snapshot, NOW).next_change, effective_from);
}

#[test]
fn an_audit_reports_and_refuses_nothing() {
    let mut snapshot = fleet(&[("here", "CN")]);
    apply(
        &mut snapshot,
        Policy {
            enforce: false,
            ..forbid("audit", "CN")
        },
    );
    let law = LawBook::new(&snapshot, NOW);
    let judgement = law.judge("here", Sensitivity::Personal);
    assert!(judgement.lawful());
    assert_eq!(judgement.reason(), Reason::AuditFinding);
    assert!(judgement.message().contains("audit only"));
}

#[test]
fn a_policy_that_is_not_understood_or_not_about_the_data_does_nothing() {
    let mut snapshot = fleet(&[("here", "CN")]);
    let sensitivities = BTreeSet::from([Sensitivity::Restricted]);
    apply(
        &mut snapshot,
        Policy {
            sensitivities,
            ..forbid("other", "CN")
        },
    );
    let invalid = Some("XX is no country".to_owned());
    apply(
        &mut snapshot,
        Policy {
            invalid,
            ..forbid("garbage", "CN")
        },
    );
    assert_eq!(reason(&snapshot, "here", NOW), Reason::NotGoverned);
}

#[test]
fn the_strictest_wins_whatever_the_order() {
    for names in [["a", "b"], ["b", "a"]] {
        let mut snapshot = fleet(&[("here", "CN")]);
        apply(&mut snapshot, forbid(names[0], "CN"));
        apply(&mut snapshot, forbid(names[1], "US"));
        assert_eq!(
            reason(&snapshot, "here", NOW),
            Reason::JurisdictionForbidden
        );
    }
}

#[test]
fn policies_that_leave_no_country_contradict_each_other() {
    let mut snapshot = fleet(&[]);
    let only = |code| Some(BTreeSet::from([country(code)]));
    let french = Policy {
        jurisdiction_allowed: only("FR"),
        ..policy("french")
    };
    apply(&mut snapshot, french.clone());
    apply(
        &mut snapshot,
        Policy {
            jurisdiction_allowed: only("DE"),
            ..policy("german")
        },
    );
    apply(&mut snapshot, forbid("not-french", "FR"));
    apply(
        &mut snapshot,
        Policy {
            residency_allowed: only("US"),
            ..policy("data")
        },
    );
    let now = |with: &str| Contradiction {
        with: with.into(),
        field: "jurisdiction",
        from: None,
    };
    let expected = vec![now("german"), now("not-french")];
    assert_eq!(contradictions(&snapshot, &french, NOW), expected);
    let audit = Policy {
        enforce: false,
        ..french
    };
    assert_eq!(contradictions(&snapshot, &audit, NOW), Vec::new());
}

#[test]
fn a_contradiction_with_a_policy_to_come_is_told_as_one_to_come() {
    let mut snapshot = fleet(&[]);
    let only = |name: &str, code, effective_from| Policy {
        residency_allowed: Some(BTreeSet::from([country(code)])),
        effective_from,
        ..policy(name)
    };
    let french = only("french", "FR", None);
    apply(&mut snapshot, french.clone());
    apply(&mut snapshot, only("a-later", "IT", Some(later(20))));
    apply(&mut snapshot, only("b-soon", "DE", Some(later(10))));
    let told = |policy: &Policy, now| -> Vec<(String, Option<Timestamp>)> {
        let found = contradictions(&snapshot, policy, now).into_iter();
        found.map(|one| (one.with.to_string(), one.from)).collect()
    };
    let soon = |from| ("b-soon".to_owned(), from);
    let latest = |from| ("a-later".to_owned(), from);
    assert_eq!(
        told(&french, NOW),
        [soon(Some(later(10))), latest(Some(later(20)))]
    );
    assert_eq!(
        told(&french, later(10)),
        [soon(None), latest(Some(later(20)))]
    );
    assert_eq!(told(&french, later(20)), [latest(None), soon(None)]);
    // Whichever of the two is asked about, and although it is in force itself.
    let german = &snapshot.policies["b-soon"];
    assert_eq!(
        told(german, later(10)),
        [("french".to_owned(), None), latest(Some(later(20)))]
    );
}

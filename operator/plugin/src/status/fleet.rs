//! One screen for the whole fleet.

use super::{ApplicationView, ClusterView, EvacuationView, FreezeView, MoveView, Verdict, View};
use crate::text::{Line, Table, Tone, clock, date, since};
use jiff::Timestamp;

/// A line that adds up, then applications, clusters, and what holds or drives
/// moves.
pub fn lines(view: &View, wide: bool, now: Timestamp) -> Vec<Line> {
    let mut lines = vec![summary(view), Line::empty()];
    if !view.applications.is_empty() {
        lines.extend(applications(view, wide, now).lines());
        lines.push(Line::empty());
    }
    lines.extend(clusters(&view.clusters, wide, now).lines());
    if !view.evacuations.is_empty() || !view.freezes.is_empty() {
        lines.push(Line::empty());
    }
    lines.extend(view.freezes.iter().map(freeze));
    lines.extend(view.evacuations.iter().flat_map(evacuation));
    lines
}

fn summary(view: &View) -> Line {
    let all = &view.applications;
    let count = |wanted: fn(&ApplicationView) -> bool| all.iter().filter(|one| wanted(one)).count();
    let serving = count(|one| one.serving.status == "True");
    let moving = count(|one| one.moving.is_some());
    let unlawful = count(|one| one.lawful.status == "False");
    let stuck = count(|one| one.stuck.is_some());
    let tell = |line: Line, number: usize, what: &str, tone: Tone| {
        let tone = if number > 0 { tone } else { Tone::Faint };
        line.with(Tone::Plain, ", ")
            .with(tone, format!("{number} {what}"))
    };
    let line = Line::new(Tone::Strong, plural(all.len(), "application")).with(Tone::Plain, ": ");
    let tone = if serving == all.len() {
        Tone::Good
    } else {
        Tone::Bad
    };
    let line = line.with(tone, format!("{serving} serving"));
    let line = tell(line, moving, "moving", Tone::Busy);
    let line = tell(line, unlawful, "unlawful", Tone::Bad);
    tell(line, stuck, "stuck", Tone::Bad)
}

fn plural(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

fn applications(view: &View, wide: bool, now: Timestamp) -> Table {
    let mut heading = vec!["  APPLICATION", "CLUSTER", "LAWFUL", "SERVING"];
    if wide {
        heading.extend(["SENSITIVITY", "CRITICALITY", "EPOCH", "STANDBY", "LEFT"]);
    }
    heading.push("WHAT HAPPENS");
    let several = view
        .applications
        .windows(2)
        .any(|pair| pair[0].namespace != pair[1].namespace);
    let mut table = Table::new(&heading);
    for application in &view.applications {
        let name = if several {
            format!("{}/{}", application.namespace, application.name)
        } else {
            application.name.clone()
        };
        let mut row = vec![
            mark(application).with(Tone::Plain, format!(" {name}")),
            or_dash(application.cluster.as_deref()),
            answer(&application.lawful),
            answer(&application.serving),
        ];
        if wide {
            row.extend([
                application.sensitivity.as_str().into(),
                application.criticality.as_str().into(),
                application.epoch.to_string().into(),
                or_dash(Some(application.standby.join(",")).as_deref()),
                or_dash(application.failed_over_from.as_deref()),
            ]);
        }
        row.push(happening(application, Some(now)));
        table.row(row);
    }
    table
}

/// What a person sees first.
fn mark(application: &ApplicationView) -> Line {
    if application.stuck.is_some() || application.serving.status == "False" {
        Line::new(Tone::Bad, "✖")
    } else if application.moving.is_some() {
        Line::new(Tone::Busy, "⟳")
    } else if application.lawful.status == "False" {
        Line::new(Tone::Bad, "✖")
    } else if application.serving.status == "True" {
        Line::new(Tone::Good, "✔")
    } else {
        Line::new(Tone::Busy, "?")
    }
}

fn answer(verdict: &Verdict) -> Line {
    match &*verdict.status {
        "True" => Line::new(Tone::Good, "yes"),
        "False" => Line::new(Tone::Bad, "NO"),
        _ => Line::new(Tone::Busy, "?"),
    }
}

fn or_dash(text: Option<&str>) -> Line {
    match text {
        Some(text) if !text.is_empty() => text.into(),
        _ => Line::new(Tone::Faint, "-"),
    }
}

/// What goes on with an application, and why; with the time that a move takes
/// already if it is asked for.
pub fn happening(application: &ApplicationView, now: Option<Timestamp>) -> Line {
    if let Some(moving) = &application.moving {
        return moving_line(moving, now);
    }
    if let Some(stuck) = &application.stuck {
        return Line::new(Tone::Bad, format!("stuck: {}", stuck.reason))
            .with(Tone::Plain, after_colon(&stuck.message));
    }
    if application.lawful.status == "False" {
        let lawful = &application.lawful;
        return Line::new(Tone::Bad, lawful.reason.as_str())
            .with(Tone::Plain, after_colon(&lawful.message));
    }
    if application.serving.status != "True" {
        let serving = &application.serving;
        return Line::new(Tone::Plain, serving.reason.as_str())
            .with(Tone::Plain, after_colon(&serving.message));
    }
    Line::new(Tone::Plain, application.next.clone().unwrap_or_default())
}

fn after_colon(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}

/// Type, target, step, weight, time and what it waits for.
fn moving_line(moving: &MoveView, now: Option<Timestamp>) -> Line {
    let step = moving
        .step
        .map_or("not begun".to_owned(), |step| format!("{step:?}"));
    let mut line = Line::new(Tone::Busy, format!("{:?} → {}", moving.type_, moving.to))
        .with(Tone::Plain, format!(", {step}"));
    if moving.target_percent > 0 {
        line = line.with(Tone::Plain, format!(" {} %", moving.target_percent));
    }
    if let (Some(start), Some(now)) = (moving.start_time, now) {
        line = line.with(Tone::Faint, format!(", for {}", since(start, now)));
    }
    match &moving.waiting_for {
        Some(waiting) => line.with(Tone::Plain, format!(": {waiting}")),
        None => line,
    }
}

fn clusters(clusters: &[ClusterView], wide: bool, now: Timestamp) -> Table {
    let mut heading = vec!["  CLUSTER", "PROVIDER", "APPLICATIONS"];
    if wide {
        heading.push("NODES");
    }
    heading.push("HEALTH");
    let mut table = Table::new(&heading);
    for cluster in clusters {
        let (tone, mark) = match &*cluster.health {
            "Healthy" => (Tone::Good, "✔"),
            "Recovering" | "NotObserved" => (Tone::Busy, "?"),
            _ => (Tone::Bad, "✖"),
        };
        let mut row = vec![
            Line::new(tone, mark).with(Tone::Plain, format!(" {}", cluster.name)),
            cluster.provider.as_str().into(),
            cluster.applications.to_string().into(),
        ];
        if wide {
            row.push(or_dash(
                cluster
                    .nodes
                    .map(|(ready, all)| format!("{ready}/{all}"))
                    .as_deref(),
            ));
        }
        let mut health = Line::new(tone, cluster.health.as_str());
        if let Some(moment) = cluster.unreachable_since {
            let text = format!(" since {} ({})", clock(moment), since(moment, now));
            health = health.with(Tone::Plain, text);
        }
        if cluster.cordoned {
            health = health.with(Tone::Busy, ", cordoned");
        }
        row.push(health);
        table.row(row);
    }
    table
}

fn freeze(freeze: &FreezeView) -> Line {
    Line::new(Tone::Busy, format!("Freeze {}", freeze.name)).with(
        Tone::Plain,
        format!(
            " until {}: {} ({} waiting)",
            date(freeze.until),
            freeze.reason,
            plural(usize::try_from(freeze.waiting).unwrap_or(0), "move")
        ),
    )
}

/// Progress of an Evacuation, and what is in its way.
pub fn evacuation(evacuation: &EvacuationView) -> Vec<Line> {
    let paused = if evacuation.paused { ", paused" } else { "" };
    let head = Line::new(Tone::Busy, format!("Evacuation {}", evacuation.name)).with(
        Tone::Plain,
        format!(
            " of {}: {} of {} moved, {} moving, ",
            evacuation.place, evacuation.moved, evacuation.total, evacuation.moving
        ),
    );
    let tone = if evacuation.stuck > 0 {
        Tone::Bad
    } else {
        Tone::Plain
    };
    let head = head
        .with(tone, format!("{} stuck", evacuation.stuck))
        .with(Tone::Plain, paused);
    let details = [&evacuation.shortfall, &evacuation.why_stuck];
    let details = details
        .into_iter()
        .flatten()
        .map(|detail| Line::new(Tone::Plain, format!("  {detail}")));
    std::iter::once(head).chain(details).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::plain;
    use flambeau_crds::migration::{MigrationStep, MigrationType};

    fn verdict(status: &str, reason: &str, message: &str) -> Verdict {
        Verdict {
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }

    fn application(namespace: &str, name: &str) -> ApplicationView {
        ApplicationView {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            sensitivity: "Personal".to_owned(),
            criticality: "Critical".to_owned(),
            cluster: Some("atos".to_owned()),
            epoch: 3,
            standby: vec!["ovh".to_owned()],
            failed_over_from: None,
            lawful: verdict("True", "NotGoverned", ""),
            serving: verdict("True", "Serving", ""),
            moving: None,
            stuck: None,
            next: None,
        }
    }

    fn cluster(name: &str, health: &str) -> ClusterView {
        ClusterView {
            name: name.to_owned(),
            provider: "zürich-rz".to_owned(),
            health: health.to_owned(),
            unreachable_since: None,
            cordoned: false,
            applications: 2,
            nodes: Some((1, 3)),
        }
    }

    #[test]
    fn the_worst_night_fits_on_one_screen() {
        let now: Timestamp = "2026-11-22T10:02:11Z".parse().unwrap();
        let moving = ApplicationView {
            lawful: verdict("False", "ProviderRefused", "policy law: atos"),
            moving: Some(MoveView {
                name: "badges-1".to_owned(),
                type_: MigrationType::Failover,
                from: "atos".to_owned(),
                to: "ovh".to_owned(),
                step: Some(MigrationStep::Shift),
                target_percent: 50,
                start_time: Some("2026-11-22T10:02:00Z".parse().unwrap()),
                waiting_for: Some("RouteNotAcknowledged: not confirmed yet".to_owned()),
            }),
            ..application("games", "badges")
        };
        let stuck = ApplicationView {
            cluster: None,
            epoch: 0,
            standby: Vec::new(),
            lawful: Verdict::default(),
            serving: verdict("False", "NoLawfulCluster", "none"),
            stuck: Some(verdict("True", "NoLawfulCluster", "none")),
            ..application("staff", "東京")
        };
        let view = View {
            applications: vec![moving, stuck],
            clusters: vec![
                ClusterView {
                    unreachable_since: Some("2026-11-22T10:01:00Z".parse().unwrap()),
                    cordoned: true,
                    ..cluster("atos", "Lost")
                },
                cluster("ovh", "Healthy"),
            ],
            evacuations: vec![EvacuationView {
                name: "atos-x7k2p".to_owned(),
                place: "cluster/atos".to_owned(),
                moved: 3,
                moving: 1,
                stuck: 1,
                total: 5,
                shortfall: Some("1 applications fit on no lawful cluster".to_owned()),
                paused: true,
                why_stuck: Some("東京: NoLawfulCluster: none".to_owned()),
            }],
            freezes: vec![FreezeView {
                name: "ceremony".to_owned(),
                until: "2026-11-22T12:00:00Z".parse().unwrap(),
                reason: "opening".to_owned(),
                waiting: 2,
            }],
        };
        let expected = [
            "2 applications: 1 serving, 1 moving, 1 unlawful, 1 stuck",
            "",
            "  APPLICATION    CLUSTER   LAWFUL   SERVING   SENSITIVITY   CRITICALITY   EPOCH   STANDBY   LEFT   WHAT HAPPENS",
            "⟳ games/badges   atos      NO       yes       Personal      Critical      3       ovh       -      Failover → ovh, Shift 50 %, for 11 s: RouteNotAcknowledged: not confirmed yet",
            "✖ staff/東京     -         ?        NO        Personal      Critical      0       -         -      stuck: NoLawfulCluster: none",
            "",
            "  CLUSTER   PROVIDER    APPLICATIONS   NODES   HEALTH",
            "✖ atos      zürich-rz   2              1/3     Lost since 10:01:00Z (1 min 11 s), cordoned",
            "✔ ovh       zürich-rz   2              1/3     Healthy",
            "",
            "Freeze ceremony until 2026-11-22 12:00:00Z: opening (2 moves waiting)",
            "Evacuation atos-x7k2p of cluster/atos: 3 of 5 moved, 1 moving, 1 stuck, paused",
            "  1 applications fit on no lawful cluster",
            "  東京: NoLawfulCluster: none",
            "",
        ];
        assert_eq!(plain(&lines(&view, true, now)), expected.join("\n"));
    }
}

//! Whether event streams follow their application: those that were open where it was end cleanly, and come back where it
//! went.

use jiff::Timestamp;

use super::{
    MigrationReport,
    failover::{COMPLETED, FAILOVER},
};
use crate::load::{Reconnect, StreamsResult};

/// How many streams a sentence names.
const NAMED: usize = 5;

/// Everything that is wrong with the streams of one application, a sentence each. How streams follow a failover is not
/// asked: nobody says goodbye on a lost cluster.
pub(super) fn judge(streams: &StreamsResult, migrations: &[MigrationReport]) -> Vec<String> {
    let mut problems = Vec::new();
    if streams.broken_ends + streams.refused > 0 {
        problems.push(format!(
            "Of the event streams of {}, {} broke and {} were refused.",
            streams.name, streams.broken_ends, streams.refused
        ));
    }
    if usize::try_from(streams.open_at_end) != Ok(streams.count) {
        problems.push(format!(
            "Of the {} event streams of {}, {} were open in the end.",
            streams.count, streams.name, streams.open_at_end
        ));
    }
    let completed = |migration: &&MigrationReport| {
        migration.application == streams.name && migration.outcome.as_deref() == Some(COMPLETED)
    };
    let own: Vec<&MigrationReport> = migrations.iter().filter(completed).collect();
    for (number, migration) in own.iter().enumerate() {
        let next = own.get(number + 1).map(|next| next.start);
        if migration.kind != FAILOVER {
            problems.extend(left_behind(streams, migration, next));
        }
    }
    problems
}

/// The streams that did not follow a move, as a sentence; none when all did before the next move began.
fn left_behind(
    streams: &StreamsResult,
    migration: &MigrationReport,
    next: Option<Timestamp>,
) -> Option<String> {
    let astray: Vec<String> = (0..streams.count)
        .filter_map(|stream| {
            let own = streams.reconnects.iter();
            let own: Vec<&Reconnect> = own.filter(|one| one.stream == stream).collect();
            let fault = fault(&own, migration, next)?;
            Some(format!("stream {stream} {fault}"))
        })
        .collect();
    if astray.is_empty() {
        return None;
    }
    let MigrationReport { from, to, .. } = migration;
    let more = if astray.len() > NAMED { ", …" } else { "" };
    Some(format!(
        "When {} moved from {from} to {to}, {} of its {} event streams did not end cleanly and come back at {to}: {}{more}.",
        streams.name,
        astray.len(),
        streams.count,
        astray[..astray.len().min(NAMED)].join(", ")
    ))
}

/// Why one stream did not follow a move, by how its client came back; none when it did.
fn fault(
    own: &[&Reconnect],
    migration: &MigrationReport,
    next: Option<Timestamp>,
) -> Option<String> {
    let until_next = own
        .iter()
        .take_while(|one| next.is_none_or(|next| one.time < next));
    let cut = until_next
        .clone()
        .any(|one| one.from == migration.from && one.time >= migration.start && !one.clean);
    if cut {
        return Some(format!("was cut at {}", migration.from));
    }
    let last = until_next.last().map(|one| &one.to);
    // One that comes back later was until then where it came from.
    match last.or_else(|| own.first().map(|one| &one.from)) {
        None => Some("never came back from anywhere".to_owned()),
        Some(place) if *place == migration.to => None,
        Some(place) => Some(format!("stayed at {place}")),
    }
}

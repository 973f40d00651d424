//! One line for each change, for pipes and files.

use super::Subject;
use crate::{
    moves,
    status::{EvacuationView, View, evacuation_lines, happening},
    text::{Line, Tone, clock, print},
};
use flambeau_operator::offline::objects::Objects;
use jiff::Timestamp;
use std::{collections::BTreeMap, io};

/// What was written last about each thing.
#[derive(Default)]
pub struct Log(BTreeMap<String, Line>);

impl Log {
    /// Writes what is new.
    ///
    /// # Errors
    /// When the pipe is closed.
    pub fn write(&mut self, facts: &[(String, Line)], now: Timestamp) -> io::Result<()> {
        print(&self.news(facts, now))
    }

    fn news(&mut self, facts: &[(String, Line)], now: Timestamp) -> Vec<Line> {
        let mut news = Vec::new();
        for (name, fact) in facts {
            if self.0.get(name) != Some(fact) {
                self.0.insert(name.clone(), fact.clone());
                news.push(
                    Line::new(Tone::Faint, clock(now))
                        .with(Tone::Strong, format!("  {name}  "))
                        .then(fact.clone()),
                );
            }
        }
        news
    }
}

/// What is to be said of each thing that is looked at; it holds no time that
/// passes, so that it changes only when something does.
pub fn facts(objects: &Objects, subject: &Subject, trouble: Option<&str>) -> Vec<(String, Line)> {
    let mut facts = match subject {
        Subject::Fleet => {
            let view = View::of(objects, None);
            let clusters = view.clusters.iter().map(|cluster| {
                let cordoned = if cluster.cordoned { ", cordoned" } else { "" };
                let text = format!("{}{cordoned}", cluster.health);
                (format!("cluster/{}", cluster.name), Line::from(text))
            });
            let freezes = view.freezes.iter().map(|freeze| {
                let text = format!("in force: {}", freeze.reason);
                (format!("freeze/{}", freeze.name), Line::from(text))
            });
            let mut facts: Vec<_> = clusters.chain(freezes).collect();
            facts.extend(view.evacuations.iter().flat_map(evacuation));
            facts.extend(applications(&view));
            facts
        }
        Subject::Application(key) => applications(&View::of(objects, Some(key))),
        Subject::Migration(key) => {
            let object = objects.migrations.get(key);
            object.map(migration).into_iter().collect()
        }
        Subject::Evacuation(name) => {
            let object = objects.evacuations.get(name.as_str());
            let mut facts: Vec<_> = object
                .map(|object| evacuation(&EvacuationView::of(name, object)))
                .into_iter()
                .flatten()
                .collect();
            let part = objects.migrations.values();
            let part = part.filter(|one| one.spec.evacuation.as_deref() == Some(name));
            facts.extend(part.map(migration));
            facts
        }
    };
    if let Some(trouble) = trouble {
        let line = Line::new(Tone::Bad, format!("does not answer: {trouble}"));
        facts.push(("hub".to_owned(), line));
    }
    facts
}

fn applications(view: &View) -> Vec<(String, Line)> {
    view.applications
        .iter()
        .map(|application| {
            let name = format!("{}/{}", application.namespace, application.name);
            let place = application.cluster.as_deref().unwrap_or("nowhere yet");
            let line = Line::from(format!("on {place}")).then(match happening(application, None) {
                nothing if nothing.width() == 0 => Line::from(", serving"),
                something => Line::from(", ").then(something),
            });
            (name, line)
        })
        .collect()
}

fn evacuation(view: &EvacuationView) -> Vec<(String, Line)> {
    let name = format!("evacuation/{}", view.name);
    let line = evacuation_lines(view)
        .into_iter()
        .reduce(|all, line| all.with(Tone::Plain, ";").then(line));
    line.map(|line| (name, line)).into_iter().collect()
}

fn migration(object: &flambeau_crds::Migration) -> (String, Line) {
    let status = object.status.clone().unwrap_or_default();
    let step = status
        .step
        .map_or("not begun".to_owned(), |step| format!("{step:?}"));
    let mut line = Line::from(format!(
        "{:?} {} → {}, {step}",
        object.spec.type_, object.spec.from, object.spec.to
    ));
    if status.target_percent > 0 && status.outcome.is_none() {
        line = line.with(Tone::Plain, format!(" {} %", status.target_percent));
    }
    line = match (status.outcome, status.abort_reason, status.waiting_for) {
        (Some(outcome), reason, _) => line.with(
            Tone::Strong,
            reason.map_or(format!(": {outcome:?}"), |why| {
                format!(": {outcome:?}: {why}")
            }),
        ),
        (None, _, Some(waiting)) => line.with(Tone::Plain, format!(": {waiting}")),
        (None, ..) => line,
    };
    (format!("migration/{}", moves::name(object)), line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_written() {
        let now: Timestamp = "2026-11-22T10:02:11Z".parse().unwrap();
        let mut log = Log::default();
        let mut facts = vec![
            ("games/badges".to_owned(), Line::from("on atos, serving")),
            ("cluster/atos".to_owned(), Line::from("Healthy")),
        ];
        assert_eq!(log.news(&facts, now).len(), 2);
        assert!(log.news(&facts, now).is_empty());
        facts[1].1 = Line::from("Lost");
        let news: Vec<String> = log.news(&facts, now).iter().map(Line::plain).collect();
        assert_eq!(news, ["10:02:11Z  cluster/atos  Lost"]);
    }
}

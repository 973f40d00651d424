//! What docs/reference/metrics.md says, as data.

use flambeau_planner::Reason;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// A row of the page.
pub struct Row {
    pub type_: String,
    pub labels: BTreeMap<String, Values>,
    pub meaning: String,
}

impl Row {
    /// Whether a fleet at rest exports it.
    pub fn always(&self) -> bool {
        let meaning = self.meaning.to_lowercase();
        !meaning.contains("*on an event*") && !meaning.contains("*while there is one*")
    }
}

/// What a label may say.
pub enum Values {
    /// These words.
    Words(BTreeSet<String>),
    /// Names of MemberClusters.
    Cluster,
    /// An HTTP status, or 0.
    Code,
    /// A stable reason.
    Reason,
    /// The version of the operator.
    Version,
}

impl Values {
    fn parse(text: &str) -> Self {
        match text.trim() {
            "CLUSTER" => Values::Cluster,
            "CODE" => Values::Code,
            "REASON" => Values::Reason,
            "VERSION" => Values::Version,
            words => Values::Words(in_code(words)),
        }
    }

    pub fn allow(&self, value: &str) -> bool {
        match self {
            Values::Words(words) => words.contains(value),
            Values::Cluster => ["one", "two"].contains(&value),
            Values::Code => value
                .parse()
                .is_ok_and(|code: u16| code == 0 || (100..600).contains(&code)),
            Values::Reason => Reason::parse(value).is_some(),
            Values::Version => value == env!("CARGO_PKG_VERSION"),
        }
    }
}

fn in_code(text: &str) -> BTreeSet<String> {
    let words = text.split('`').skip(1).step_by(2);
    words.map(str::to_owned).collect()
}

/// The page's rows by the name of the metric.
pub fn page() -> BTreeMap<String, Row> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md");
    let text = std::fs::read_to_string(file).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, type_, labels, meaning, _] = cells[..] else {
            return None;
        };
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        let labels = labels.split("<br>").filter_map(|label| {
            let (name, values) = label.split_once(':')?;
            Some((name.trim_matches('`').to_owned(), Values::parse(values)))
        });
        let row = Row {
            type_: type_.to_owned(),
            labels: labels.collect(),
            meaning: meaning.to_owned(),
        };
        Some((name.to_owned(), row))
    });
    rows.collect()
}

/// A name without what the format appends by type.
pub fn base(name: &str) -> &str {
    let base = name.strip_suffix("_total");
    base.or_else(|| name.strip_suffix("_info")).unwrap_or(name)
}

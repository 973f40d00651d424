//! Figures, their floors and goals: as a table for people and as JSON.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub figure: String,
    /// Its value.
    pub value: f64,
    /// The floor measured in the same run, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
    /// Value by floor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Unit of value and floor.
    pub unit: &'static str,
    /// The goal in words.
    pub goal: String,
    /// Whether it was met; none where there is no goal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub met: Option<bool>,
}

/// What a goal asks for.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// Nothing: the figure explains another.
    None,
    /// The value is at most this.
    AtMost(f64),
    /// The value is at least this.
    AtLeast(f64),
    /// The ratio to the floor is at most the first; the second is the aim beyond.
    Ratio(f64, f64),
}

/// All figures of a run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// About the run.
    pub run: Map<String, Value>,
    /// The figures.
    pub figures: Vec<Figure>,
    /// What the figures were made from.
    pub details: Map<String, Value>,
}

impl Report {
    /// Adds a figure.
    pub fn add(
        &mut self,
        figure: &str,
        value: f64,
        floor: Option<f64>,
        unit: &'static str,
        goal: Goal,
    ) {
        let ratio = floor
            .filter(|floor| *floor > 0.0)
            .map(|floor| value / floor);
        let (goal, met) = match goal {
            Goal::None => (String::new(), None),
            Goal::AtMost(limit) => (format!("≤ {}", short(limit)), Some(value <= limit)),
            Goal::AtLeast(limit) => (format!("≥ {}", short(limit)), Some(value >= limit)),
            Goal::Ratio(limit, aim) => (
                format!("≤ {} F (aim {})", short(limit), short(aim)),
                ratio.map(|ratio| ratio <= limit),
            ),
        };
        self.figures.push(Figure {
            figure: figure.to_owned(),
            value,
            floor,
            ratio,
            unit,
            goal,
            met,
        });
    }

    /// Adds what a figure was made from.
    pub fn detail(&mut self, name: &str, value: impl Serialize) {
        let value = serde_json::to_value(value).unwrap_or_else(|error| error.to_string().into());
        self.details.insert(name.to_owned(), value);
    }

    /// How many goals were missed.
    pub fn missed(&self) -> usize {
        let missed = self
            .figures
            .iter()
            .filter(|figure| figure.met == Some(false));
        missed.count()
    }

    /// Writes the report as JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(file, text + "\n").with_context(|| format!("write {}", file.display()))
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let header = ["figure", "value", "floor", "ratio", "goal", ""].map(str::to_owned);
        let rows = self.figures.iter().map(|figure| {
            let unit = |value: f64| {
                format!("{} {}", short(value), figure.unit)
                    .trim()
                    .to_owned()
            };
            [
                figure.figure.clone(),
                unit(figure.value),
                figure.floor.map(unit).unwrap_or_default(),
                figure
                    .ratio
                    .map(|ratio| format!("{ratio:.2}"))
                    .unwrap_or_default(),
                figure.goal.clone(),
                match figure.met {
                    Some(true) => "met",
                    Some(false) => "MISSED",
                    None => "",
                }
                .to_owned(),
            ]
        });
        let rows: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
        let width = |column: usize| {
            let widths = rows.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..6).map(width).collect();
        let mut table = String::new();
        for row in &rows {
            let cells = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, width))| {
                    // Numbers stand right, words left.
                    if (1..=3).contains(&column) {
                        format!("{cell:>width$}")
                    } else {
                        format!("{cell:<width$}")
                    }
                });
            let line = cells.collect::<Vec<_>>().join("  ");
            table.push_str(line.trim_end());
            table.push('\n');
        }
        table
    }
}

/// A number with three significant digits, whole if large.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The value below which a share of all lies (nearest rank).
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank among few values"
    )]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0)
}

/// How values are spread.
pub fn percentiles(values: &[f64]) -> Value {
    let mut found = Map::new();
    for (name, share) in [
        ("min", 0.0),
        ("p10", 0.1),
        ("p50", 0.5),
        ("p90", 0.9),
        ("p99", 0.99),
        ("max", 1.0),
    ] {
        found.insert(name.to_owned(), percentile(values, share).into());
    }
    Value::Object(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_nearest_rank() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), 50.0);
        assert_eq!(percentile(&values, 0.99), 99.0);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
    }

    #[test]
    fn goals_are_met_or_missed() {
        let mut report = Report::default();
        report.add("fast", 3.0, Some(2.0), "ms", Goal::Ratio(2.0, 1.5));
        report.add("slow", 9.0, Some(2.0), "ms", Goal::Ratio(2.0, 1.5));
        report.add("many", 9.0, None, "", Goal::AtLeast(10.0));
        report.add("context", 9.0, None, "", Goal::None);
        assert_eq!(report.missed(), 2);
        let table = report.table();
        assert!(
            table.contains("fast      3 ms   2 ms   1.50  ≤ 2 F (aim 1.50)  met"),
            "{table}"
        );
    }
}

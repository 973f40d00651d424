//! Tables that line up.

use super::{Line, Tone};

/// Rows of cells under a heading.
#[derive(Clone, Debug)]
pub struct Table {
    heading: Vec<Line>,
    rows: Vec<Vec<Line>>,
}

impl Table {
    /// A table with these headings and no row.
    pub fn new(heading: &[&str]) -> Self {
        Self {
            heading: heading
                .iter()
                .map(|text| Line::new(Tone::Strong, *text))
                .collect(),
            rows: Vec::new(),
        }
    }

    /// One more row.
    pub fn row(&mut self, cells: Vec<Line>) {
        self.rows.push(cells);
    }

    /// Heading and rows, each column as wide as its widest cell, but for the
    /// last, which takes what it needs.
    pub fn lines(&self) -> Vec<Line> {
        let mut widths = vec![0; self.heading.len()];
        let all = || std::iter::once(&self.heading).chain(&self.rows);
        for row in all() {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        all()
            .map(|row| {
                let cells = row.iter().zip(&widths);
                cells
                    .fold(Line::empty(), |line, (cell, width)| {
                        line.then(cell.clone().pad(*width + 3))
                    })
                    .without_trailing_blanks()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::plain;

    #[test]
    fn columns_line_up_whatever_stands_in_them() {
        let mut table = Table::new(&["APPLICATION", "CLUSTER", "LAWFUL"]);
        table.row(vec![
            Line::new(Tone::Good, "✔ ").with(Tone::Plain, "zürich"),
            "atos".into(),
            Line::new(Tone::Bad, "NO"),
        ]);
        table.row(vec!["東京".into(), Line::empty(), Line::empty()]);
        assert_eq!(
            plain(&table.lines()),
            "APPLICATION   CLUSTER   LAWFUL\n\
             ✔ zürich      atos      NO\n\
             東京\n"
        );
    }
}

//! Puts the page together: markup, style and scripts from their own files, and the report's JSON.

use anyhow::{Context, Result};

use super::Report;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPTS: [&str; 5] = [
    include_str!("page/data.js"),
    include_str!("page/draw.js"),
    include_str!("page/charts.js"),
    include_str!("page/tables.js"),
    include_str!("page/main.js"),
];

pub(super) fn render(report: &Report) -> Result<String> {
    let json = serde_json::to_string(report).context("cannot write the report as JSON")?;
    // Within a script element only the text `</` and `<!--` mean anything; in JSON a < can be written so everywhere.
    let json = json.replace('<', "\\u003c");
    let title = report.title.replace('&', "&amp;").replace('<', "&lt;");
    let mut page = String::with_capacity(PAGE.len() + STYLE.len() + json.len() + 64 * 1024);
    // Each part is put in once, so that nothing that a part says can be taken for a place to fill.
    let mut rest = PAGE;
    for (place, part) in [
        ("{{title}}", title.as_str()),
        ("{{style}}", STYLE),
        ("{{report}}", &json),
        ("{{script}}", &SCRIPTS.join("\n")),
    ] {
        let (before, after) = rest
            .split_once(place)
            .with_context(|| format!("the page has no place {place}"))?;
        page.push_str(before);
        page.push_str(part);
        rest = after;
    }
    page.push_str(rest);
    Ok(page)
}

//! The report of a story as long and as busy as the demo, without clusters. The files stay in the target folder, to be
//! looked at.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "report/sample.rs"]
mod sample;

use std::path::Path;

use flambeau_scenarios::report::Report;

/// The JSON that a page holds.
fn embedded(page: &str) -> &str {
    let (_, rest) = page
        .split_once(r#"<script type="application/json" id="report">"#)
        .unwrap();
    rest.split_once("</script>").unwrap().0
}

#[test]
fn the_page_and_the_json_say_the_same() {
    for (name, report) in [
        ("clean", sample::clean()),
        ("lost", sample::lost()),
        ("left-behind", sample::left_behind()),
        ("troubled", sample::troubled()),
    ] {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("report")
            .join(name);
        let files = report.write(&folder).unwrap();
        let json = std::fs::read_to_string(files.json).unwrap();
        let page = std::fs::read_to_string(files.html).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        assert!(serde_json::from_str::<Report>(embedded(&page)).unwrap() == report);
    }
}

#[test]
fn the_page_loads_nothing_from_anywhere() {
    let page = sample::clean().html().unwrap();
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    for reference in [
        "http:", "https:", "src=", "href=", "url(", "@import", "fetch(",
    ] {
        assert!(!outside.contains(reference), "{reference} in the page");
    }
}

#[test]
fn what_others_named_cannot_become_markup() {
    let mut report = sample::clean();
    let hostile = "</script><script>alert(1)</script><!-- {{script}} &";
    hostile.clone_into(&mut report.title);
    hostile.clone_into(&mut report.migrations[0].reason);
    let page = report.html().unwrap();
    assert!(!page.contains("<script>alert") && !page.contains("<!--"));
    assert!(serde_json::from_str::<Report>(embedded(&page)).unwrap() == report);
}

#[test]
fn failures_are_problems() {
    let clean = sample::clean();
    assert!(clean.passed(), "{:?}", clean.problems);
    let troubled = sample::troubled();
    assert!(!troubled.passed());
    assert!(
        troubled.problems[0].starts_with(&format!("{} of ", troubled.failed)),
        "{:?}",
        troubled.problems
    );
    assert!(
        troubled.problems[1].contains("results"),
        "{:?}",
        troubled.problems
    );
}

#[test]
fn a_loss_explains_what_fails_until_its_limit() {
    let lost = sample::lost();
    assert!(lost.passed(), "{:?}", lost.problems);
    assert_eq!(lost.unexplained, 0);
    let failover = &lost.failovers[0];
    assert_eq!(failover.failed, lost.failed);
    assert!((failover.window_ms - 8500.0).abs() < 1.0, "{failover:?}");
    assert!((failover.detected_ms - 7500.0).abs() < 1.0, "{failover:?}");
    let words = "accreditation atos ovh 7.5 s 8.5 s 15.0 s 9.2 s";
    let summary = lost.summary();
    let told = summary.lines().any(|line| {
        line.split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .starts_with(words)
    });
    assert!(told, "{words:?} is not in\n{summary}");

    // The same failures, had the loss come later or the limit been shorter.
    for (shift, limit) in [(9.0, 15.0), (0.0, 8.0)] {
        let problems = sample::lost_at(110.0 + shift, limit).problems;
        assert!(
            problems
                .first()
                .is_some_and(|first| first.contains("outside of the windows")),
            "{problems:?}"
        );
    }
}

#[test]
fn streams_that_do_not_follow_their_application_are_problems() {
    let report = sample::left_behind();
    assert_eq!(
        report.problems,
        [
            "Of the 20 event streams of results, 19 were open in the end.",
            "When results moved from alibaba to ovh, 3 of its 20 event streams did not end cleanly and come back at ovh: \
             stream 3 never came back from anywhere, stream 5 stayed at alibaba, stream 7 was cut at alibaba.",
        ]
    );
    assert!(report.summary().contains("19 open in the end"));
}

#[test]
fn the_summary_answers_what_a_person_asks_first() {
    let report = sample::troubled();
    let summary = report.summary();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = summary.lines().map(words).collect();
    for expected in [
        "games/accreditation alibaba atos 30.7 s Completed",
        "games/results alibaba ovh 15.1 s Aborted",
        "games/website Public Standard alibaba alibaba yes",
        "PROBLEM 217 of ",
    ] {
        assert!(
            lines.iter().any(|line| line.starts_with(expected)),
            "{expected:?} is not in\n{summary}"
        );
    }
    assert!(summary.lines().all(|line| line == line.trim_end()));
}

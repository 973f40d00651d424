//! Every relative link of the documentation leads to a file that is there, and
//! to a heading in it if it names one.

use flambeau_testbed::documentation;
use std::{fs, path::Path};

#[test]
fn every_link_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut followed, mut broken) = (0, Vec::new());
    for (page, text) in documentation::pages().unwrap() {
        let page = root.join(page);
        for link in links(&text) {
            followed += 1;
            if !leads_somewhere(&page, link) {
                let page = page.strip_prefix(&root).unwrap_or(&page);
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(followed > 100, "only {followed} links were found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Relative links of a page, those in blocks of code aside.
fn links(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose
        .flat_map(|prose| prose.split("](").skip(1))
        .filter_map(|rest| rest.split(')').next())
        .filter(|link| !link.contains("://") && !link.contains(char::is_whitespace))
        .collect()
}

fn leads_somewhere(page: &Path, link: &str) -> bool {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => page.to_owned(),
        file => page.with_file_name(file),
    };
    if anchor.is_empty() {
        return target.exists();
    }
    fs::read_to_string(target).is_ok_and(|text| {
        let mut headings = text.lines().filter(|line| line.starts_with('#'));
        headings.any(|heading| anchor_of(heading) == anchor)
    })
}

/// The anchor that a heading gets: letters, digits, `-` and `_` in lower case,
/// with `-` for each space.
fn anchor_of(heading: &str) -> String {
    let title = heading.trim_start_matches('#').trim();
    title
        .chars()
        .filter(|one| one.is_alphanumeric() || matches!(one, ' ' | '-' | '_'))
        .map(|one| {
            if one == ' ' {
                '-'
            } else {
                one.to_ascii_lowercase()
            }
        })
        .collect()
}

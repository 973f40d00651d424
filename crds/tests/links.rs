//! Every relative link of the documentation leads to a file that is there, and
//! to a heading in it if it names one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

#[test]
fn every_link_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut followed, mut broken) = (0, Vec::new());
    for page in pages(&root).unwrap() {
        let text = fs::read_to_string(&page).unwrap();
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

fn pages(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for folder in [
        "",
        "docs",
        "docs/runbooks",
        "docs/reference",
        "charts/flambeau",
    ] {
        for entry in fs::read_dir(root.join(folder))? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "md") {
                pages.push(file);
            }
        }
    }
    Ok(pages)
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

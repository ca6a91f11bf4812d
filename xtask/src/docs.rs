//! Checks of what is written: links resolve, and nothing names a place that a reader cannot reach.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::workspace;

/// Words that no file may contain: folders of somebody's machine, hosts of package registries (a mirror may stand in
/// for each of them). Written in two pieces, or this file would contain them.
const FORBIDDEN: [(&str, &str); 13] = [
    ("/wo", "rk/"),
    ("/fa", "rm/"),
    ("/ro", "ot/"),
    ("/tmp", "/h/"),
    ("index.crates", ".io"),
    ("static.crates", ".io"),
    ("files.pythonhosted", ".org"),
    ("py", "pi.org"),
    ("registry.npm", "js.org"),
    ("proxy.go", "lang.org"),
    ("deb.deb", "ian.org"),
    ("repo.maven.apa", "che.org"),
    ("repo1.mav", "en.org"),
];

/// Checks every file of the work tree.
pub(crate) fn check() -> anyhow::Result<()> {
    let root = workspace::root();
    let files = workspace::files()?;
    let mut problems = Vec::new();
    let mut pages = 0;
    for file in &files {
        // Binary files are nothing that a person reads.
        let Ok(text) = fs::read_to_string(root.join(file)) else { continue };
        problems.extend(forbidden_words(&text).map(|(line, word)| format!("{}:{line}: `{word}`", file.display())));
        if file.extension().is_some_and(|ending| ending == "md") {
            pages += 1;
            problems.extend(broken_links(root, file, &text)?);
        }
    }
    println!("{} files, {pages} pages", files.len());
    for problem in &problems {
        println!("{problem}");
    }
    anyhow::ensure!(problems.is_empty(), "{} problems in what is written", problems.len());
    Ok(())
}

fn forbidden_words(text: &str) -> impl Iterator<Item = (usize, String)> {
    let words = FORBIDDEN.map(|(start, end)| format!("{start}{end}"));
    text.lines().enumerate().flat_map(move |(index, line)| {
        let found: Vec<_> = words.iter().filter(|word| line.contains(word.as_str())).cloned().collect();
        found.into_iter().map(move |word| (index + 1, word))
    })
}

/// Returns each relative link of a page that leads nowhere, its heading included.
fn broken_links(root: &Path, page: &Path, text: &str) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    for (line, link) in links(text) {
        if link.contains("://") || link.starts_with("mailto:") {
            continue;
        }
        let (path, heading) = link.split_once('#').unwrap_or((&link, ""));
        let file = match path {
            "" => root.join(page),
            _ => root.join(page).parent().unwrap_or(root).join(path),
        };
        if !file.exists() {
            problems.push(format!("{}:{line}: the link to {link} leads nowhere", page.display()));
        } else if !heading.is_empty() && file.is_file() {
            let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            if !headings(&text).contains(heading) {
                problems.push(format!("{}:{line}: {link} names no heading of that page", page.display()));
            }
        }
    }
    Ok(problems)
}

/// Returns the targets of `[text](target)`, outside code.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        // What stands in backticks is code: every other piece.
        let visible: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
        for rest in visible.split("](").skip(1) {
            if let Some((target, _)) = rest.split_once(')') {
                found.push((number, target.split(' ').next().unwrap_or_default().to_owned()));
            }
        }
    }
    found
}

/// Returns the anchors that a page's headings get: lower case, spaces as hyphens, other signs left out.
fn headings(text: &str) -> BTreeSet<String> {
    let titles =
        prose(text).filter(|(_, line)| line.starts_with('#')).map(|(_, line)| line.trim_start_matches('#').trim());
    let anchor = |title: &str| {
        let kept = title.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    titles.map(anchor).collect()
}

/// Returns the numbered lines outside fenced code.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        (!is_code && !is_fence).then_some((index + 1, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_found_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("there.md"), "# A title, or two\n").unwrap();
        let text =
            "[a](there.md) [b](there.md#a-title-or-two)\n[c](gone.md)\n[d](there.md#gone)\n[e](https://example.org)\n";
        let problems = broken_links(folder.path(), Path::new("page.md"), text).unwrap();
        assert_eq!(
            problems,
            ["page.md:2: the link to gone.md leads nowhere", "page.md:3: there.md#gone names no heading of that page"]
        );
    }

    #[test]
    fn links_in_code_are_not_links() {
        assert!(links("`[a](b)`\n```\n[c](d)\n```\n").is_empty());
    }

    #[test]
    fn a_private_path_is_found() {
        let text = format!("fine\nsee /wo{}notes\n", "rk/");
        assert_eq!(forbidden_words(&text).map(|(line, _)| line).collect::<Vec<_>>(), [2]);
    }
}

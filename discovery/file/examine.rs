//! Looks at the files once, for `meshless doctor`. Blocks.

use std::path::Path;

use tokio::sync::watch;

use super::watch::Watch;
use super::{document, read};
use crate::{Error, Finding, Target};

/// Says what stands at a path, and whether it names what `targets` ask for.
pub(super) fn look(path: &Path, targets: &[Target]) -> Vec<Finding> {
    let texts = match read::read(path) {
        Ok(texts) => texts,
        Err(error) => return vec![Finding::bad("readable", error.to_string(), remedy(&error, path))],
    };
    let bytes: usize = texts.iter().map(|text| text.content.len()).sum();
    let read = format!("{} with {bytes} bytes in {}", count(texts.len(), "file"), path.display());
    let services = match document::parse(&texts) {
        Ok(services) => services,
        Err(error) => {
            let remedy = "correct the file: until then every target of this backend keeps what it knew";
            return vec![Finding::good("readable", read), Finding::bad("understood", error.to_string(), remedy)];
        }
    };
    let endpoints: usize = services.values().map(|snapshot| snapshot.endpoints().len()).sum();
    let understood = format!("{}, {}", count(services.len(), "service"), count(endpoints, "endpoint"));
    let mut findings = vec![Finding::good("readable", read), Finding::good("understood", understood)];
    for target in targets.iter().filter(|target| !services.contains_key(&target.path)) {
        let known: Vec<&str> = services.keys().map(String::as_str).take(10).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        findings.push(Finding::warning(
            "named",
            format!("no file names the service of `{target}`, so it has no endpoints; named are {known}"),
            format!("add [[services.{}]] to a file, or correct the target", target.path),
        ));
    }
    findings.push(match Watch::start(path, &watch::Sender::new(0)) {
        Ok(_) => Finding::good("watch", "a change is seen at once"),
        Err(error) => Finding::warning(
            "watch",
            format!("{error}: a change is seen within 5 s"),
            "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches if that is too slow",
        ),
    });
    findings
}

fn remedy(error: &Error, path: &Path) -> String {
    match error {
        Error::Denied(_) => "let the gateway's user read the files, and the directories above them".to_owned(),
        Error::Malformed(_) => "correct what the error names".to_owned(),
        _ => format!("create {}, or correct `path`; a directory without files is fine", path.display()),
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::Verdict;

    fn target(path: &str) -> Target {
        Target { backend: "file".to_owned(), path: path.to_owned(), options: BTreeMap::new() }
    }

    fn verdicts(findings: &[Finding]) -> Vec<(&str, Verdict)> {
        findings.iter().map(|finding| (finding.what.as_str(), finding.verdict)).collect()
    }

    #[tokio::test]
    async fn files_that_are_read_are_counted_and_a_target_that_none_names_is_told() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.toml"), "[[services.web]]\naddress = \"10.0.0.1:80\"\n").unwrap();
        let findings = look(directory.path(), &[target("web"), target("shop")]);
        assert_eq!(
            verdicts(&findings),
            [
                ("readable", Verdict::Good),
                ("understood", Verdict::Good),
                ("named", Verdict::Warning),
                ("watch", Verdict::Good)
            ]
        );
        assert_eq!(findings[1].seen, "1 service, 1 endpoint");
        assert!(findings[2].seen.contains("`file/shop`") && findings[2].seen.ends_with("named are web"));
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_is_unreachable_and_a_torn_file_malformed() {
        let directory = tempfile::tempdir().unwrap();
        let missing = look(&directory.path().join("nowhere"), &[]);
        assert_eq!((missing[0].verdict, missing[0].kind()), (Verdict::Bad, Some("unreachable")));
        fs::write(directory.path().join("a.toml"), "[[services.web]]\naddr").unwrap();
        let torn = look(directory.path(), &[]);
        assert_eq!((torn[1].verdict, torn[1].kind()), (Verdict::Bad, Some("malformed")));
    }
}

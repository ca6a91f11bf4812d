//! The runbook is whole: whatever the gateway says when something is wrong can be looked up.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Returns every text between quotes that follows `sign` and satisfies `is_meant`.
fn quoted_after(code: &str, sign: &str, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
    let texts = code.split(sign).skip(1).filter_map(|rest| rest.split('"').next());
    texts.filter(|text| is_meant(text)).map(str::to_owned).collect()
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[test]
fn every_label_of_a_failure_is_in_the_runbook() {
    let runbook = read("docs/runbook.md");
    let mut labels = Vec::new();
    for file in ["src/handshake.rs", "src/proxy/failure.rs", "src/http1/reject.rs", "src/proxy/account.rs"] {
        labels.extend(quoted_after(&read(file), "=> \"", is_label));
    }
    for file in ["src/listener.rs", "src/listener/shared.rs", "src/listener/detect.rs"] {
        labels.extend(quoted_after(&read(file), "Err(\"", is_label));
        labels.extend(quoted_after(&read(file), "refused(\"", is_label));
    }
    labels.retain(|label| !["h2", "http"].contains(&label.as_str()));
    assert!(labels.len() > 60, "the search finds only {labels:?}");
    let missing: Vec<_> = labels.iter().filter(|label| !runbook.contains(&format!("`{label}`"))).collect();
    assert!(missing.is_empty(), "docs/runbook.md says nothing of {missing:?}");
}

#[test]
fn every_line_of_the_log_that_is_not_for_debugging_is_in_the_runbook() {
    let runbook = read("docs/runbook.md");
    let mut messages = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut messages);
    assert!(messages.len() > 20, "the search finds only {messages:?}");
    let missing: Vec<_> = messages.iter().filter(|message| !runbook.contains(&format!("`{message}`"))).collect();
    assert!(missing.is_empty(), "docs/runbook.md says nothing of {missing:#?}");
}

fn collect(folder: &Path, messages: &mut Vec<String>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, messages);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let code = fs::read_to_string(&path).unwrap();
            for level in ["tracing::error!(", "tracing::warn!(", "tracing::info!("] {
                for call in code.split(level).skip(1) {
                    // The message is the last text before the call ends.
                    let call = call.split(");").next().unwrap_or_default();
                    let message = call.rsplit('"').nth(1).unwrap_or_default();
                    if message.starts_with(char::is_uppercase) {
                        messages.push(message.to_owned());
                    }
                }
            }
        }
    }
}

//! What the README promises is done, as it is written there.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;

use crate::process::Service;
use crate::{ci, http, process, workspace};

/// What CI does with a command of the README.
enum Trial {
    /// It is another step's work.
    Elsewhere(&'static str),
    /// It runs to its end, exit code 0.
    ToTheEnd,
    /// It serves until Ctrl-C; the address must answer 200 on this path.
    Serves(&'static str, &'static str),
}

/// Every command that the README may name; a new one must say here how it is tried.
fn trial(command: &str) -> Option<Trial> {
    match command {
        "cargo xtask demo" => Some(Trial::Elsewhere("demo")),
        "cargo xtask test" => Some(Trial::Elsewhere("test")),
        // Figures from a shared CI machine would be worth nothing, and it takes three minutes.
        "cargo xtask bench --quick" => Some(Trial::Elsewhere("nowhere: its parts have unit tests")),
        "cargo build --release" => Some(Trial::ToTheEnd),
        _ if command.starts_with("target/release/meshless check ") => Some(Trial::ToTheEnd),
        _ if command.starts_with("target/release/meshless explain ") => Some(Trial::ToTheEnd),
        _ if command.starts_with("target/release/meshless targets ") => Some(Trial::ToTheEnd),
        // It may find something on the machine that runs CI, and then it is right.
        _ if command.starts_with("target/release/meshless doctor ") => Some(Trial::Elsewhere("test (it::doctor)")),
        _ if command.starts_with("target/release/meshless run ") => Some(Trial::Serves("127.0.0.1:9990", "/ready")),
        _ => None,
    }
}

/// Runs the commands and checks the configurations of the README, and the configurations of docs/.
pub(crate) fn check() -> anyhow::Result<()> {
    let readme = fs::read_to_string(workspace::root().join("README.md")).context("read README.md")?;
    for command in blocks(&readme, "sh").iter().flat_map(|block| block.lines()) {
        let command = command.split(" #").next().unwrap_or_default().trim();
        match trial(command) {
            _ if command.is_empty() => {}
            Some(Trial::Elsewhere(step)) => println!("$ {command}: tried by step {step}"),
            Some(Trial::Serves(address, path)) => serve(command, address, path)?,
            Some(Trial::ToTheEnd) => {
                let mut shell = Command::new("sh");
                shell.args(["-ec", command]).current_dir(workspace::root());
                process::run(&mut shell)?;
            }
            None => bail!("the README has a new command, `{command}`: say in xtask/src/readme.rs how CI tries it"),
        }
    }
    configurations()
}

/// Checks every `toml` block of the README and of docs/ that is a whole configuration: one with a listener.
fn configurations() -> anyhow::Result<()> {
    let gateway = ci::gateway()?;
    let folder = workspace::target()?.join("readme");
    fs::create_dir_all(&folder).context("create a folder for configurations")?;
    let mut seen = BTreeSet::new();
    for page in workspace::files()? {
        let is_page = page.extension().is_some_and(|ending| ending == "md");
        if !is_page || !(page.starts_with("docs") || page.as_os_str() == "README.md") {
            continue;
        }
        let text = fs::read_to_string(workspace::root().join(&page)).context("read a page")?;
        for (index, block) in blocks(&text, "toml").into_iter().enumerate() {
            if block.contains("[[listeners]]") && seen.insert(block.clone()) {
                let file = folder.join(format!("{}-{index}.toml", page.display().to_string().replace('/', "-")));
                fs::write(&file, block).context("write a configuration")?;
                process::run(gateway.command().args(["check", "-c"]).arg(&file))
                    .with_context(|| format!("configuration {} of {}", index + 1, page.display()))?;
            }
        }
    }
    Ok(())
}

/// Starts the demo as a person does, asks its first URL, and ends it as Ctrl-C does.
pub(crate) fn demo() -> anyhow::Result<()> {
    let log = workspace::target()?.join("demo.log");
    let mut demo = Service::start("the demo", workspace::cargo().args(["xtask", "demo"]), &log)?;
    // The first build may be part of it.
    let address = demo.until(Duration::from_mins(10), http::first_address)?;
    demo.until(Duration::from_secs(20), |_| http::status(address, "/").ok().filter(|status| *status == 200))
        .with_context(|| format!("http://{address}/ must answer 200"))?;
    let status = demo.stop(Signal::INT, Duration::from_secs(30))?;
    println!("http://{address}/ answered 200; Ctrl-C ended it with {status}");
    anyhow::ensure!(status.success(), "the demo must end with 0 on Ctrl-C, not with {status}:\n{}", demo.printed());
    Ok(())
}

fn serve(command: &str, address: &str, path: &str) -> anyhow::Result<()> {
    println!("$ {command}");
    let log = workspace::target()?.join("readme.log");
    let socket = address.parse().context("an address of this file")?;
    // Somebody else's answer would be taken for ours.
    anyhow::ensure!(http::status(socket, path).is_err(), "something else answers at http://{address}{path} already");
    let mut shell = Command::new("sh");
    shell.args(["-ec", &format!("exec {command}")]).current_dir(workspace::root()).stdin(Stdio::null());
    let mut service = Service::start(command, &mut shell, &log)?;
    service.until(Duration::from_secs(20), |_| http::status(socket, path).ok().filter(|status| *status == 200))?;
    let status = service.stop(Signal::INT, Duration::from_secs(40))?;
    println!("http://{address}{path} answered 200; Ctrl-C ended it with {status}");
    anyhow::ensure!(status.success(), "`{command}` must end with 0 on Ctrl-C, not with {status}");
    Ok(())
}

/// Returns the fenced blocks of a page whose info string is exactly `language`.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some((info.trim() == language, String::new())),
            (Some(_), Some(_)) => {
                if let Some((true, block)) = open.take() {
                    found.push(block);
                }
            }
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_blocks_of_the_language_are_taken() {
        let text = "```toml\na = 1\n```\n```toml fragment\nb = 2\n```\n```sh\nls\n```\n```toml\nc = 3\n```\n";
        assert_eq!(blocks(text, "toml"), ["a = 1\n", "c = 3\n"]);
    }

    #[test]
    fn every_command_of_the_readme_has_a_trial() {
        let readme = fs::read_to_string(workspace::root().join("README.md")).unwrap();
        let commands: Vec<String> = blocks(&readme, "sh")
            .iter()
            .flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        assert!(!commands.is_empty());
        for command in commands {
            let command = command.split(" #").next().unwrap().trim().to_owned();
            assert!(command.is_empty() || trial(&command).is_some(), "{command}");
        }
    }
}

//! The rules of ARCHITECTURE.md that a machine can check.
//!
//! Each rule reads the code as text: comments and test modules are left out, so a rule is about what ships. A rule that
//! stands in the way of a better design is changed here, in the same commit, with its reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Something that only some files may do.
struct Rule {
    /// What the rule keeps, as a sentence.
    keeps: &'static str,
    /// Each of these in the code is the thing.
    signs: &'static [&'static str],
    /// Files and folders (ending in `/`) that are looked at; empty: all that ship.
    within: &'static [&'static str],
    /// Files and folders (ending in `/`) that may.
    allowed: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule {
        keeps: "only platforms/surroundings.rs reads the environment",
        signs: &["env::var", "env::vars"],
        within: &[],
        allowed: &["platforms/surroundings.rs"],
    },
    Rule {
        keeps: "only the command line prints",
        signs: &["println!", "eprintln!", "print!(", "eprint!(", "dbg!("],
        within: &[],
        allowed: &["src/cli.rs", "src/cli/", "src/main.rs"],
    },
    Rule {
        keeps: "only the command line and the access log own standard output",
        signs: &["io::stdout()"],
        within: &[],
        allowed: &["src/cli.rs", "src/cli/", "src/main.rs", "src/telemetry/access_log.rs", "src/telemetry/access_log/"],
    },
    Rule {
        keeps: "only main.rs ends the process",
        signs: &["process::exit", "process::abort"],
        within: &[],
        allowed: &["src/main.rs"],
    },
    // A task that nobody owns outlives what it belongs to: what spawns is what waits at shutdown. The admin interface
    // is a listener of its own that owns its connections; the conformance suite is test code that backends share.
    // `spawn_blocking` is no such task: its caller awaits it.
    Rule {
        keeps: "only compose, worker, listener and the HTTP/2 driver spawn",
        signs: &["tokio::spawn", "spawn_local(", "thread::spawn", "thread::Builder", ".spawn("],
        within: &[],
        allowed: &[
            "discovery/conformance.rs",
            "discovery/conformance/",
            "src/admin.rs",
            "src/admin/",
            "src/cli.rs",
            "src/cli/",
            "src/compose.rs",
            "src/compose/",
            "src/http2.rs",
            "src/http2/",
            "src/listener.rs",
            "src/listener/",
            "src/worker.rs",
            "src/worker/",
        ],
    },
    // Health checks speak to endpoints from control, off the hot path, the exporter of traces to its collector, and
    // platforms are asked before anything runs: a plain client is enough there. `kube` takes a client of hyper's to be
    // built on. The authority serves few and small requests off the hot path, where a library's server is enough, too.
    Rule {
        keeps: "only the codecs, the admin interface, the authority's server, health checks, traces and the command line \
                name a wire library",
        signs: &["httparse::", "h2::", "hyper::", "hyper_util::"],
        within: &[],
        allowed: &[
            "certs/authority/server.rs",
            "certs/authority/server/",
            "discovery/kubernetes/connect.rs",
            "platforms/metadata.rs",
            "src/admin.rs",
            "src/admin/",
            "src/cli/",
            "src/compose/health/",
            "src/http1.rs",
            "src/http1/",
            "src/http2.rs",
            "src/http2/",
            "src/telemetry/traces/client.rs",
        ],
    },
    Rule {
        keeps: "the decision core reads no clock, draws no luck and does no IO: `now` and randomness are handed in",
        signs: &[
            "Instant::now",
            "SystemTime::now",
            "tokio::",
            "std::fs",
            "std::net::Tcp",
            "thread_rng",
            "fastrand::Rng::new",
        ],
        within: &[
            "src/authorize.rs",
            "src/authorize/",
            "src/balance.rs",
            "src/balance/",
            "src/explain.rs",
            "src/explain/",
            "src/gateway_api.rs",
            "src/gateway_api/",
            "src/names.rs",
            "src/overrides.rs",
            "src/overrides/",
            "src/protobuf.rs",
            "src/register.rs",
            "src/register/",
            "src/resilience.rs",
            "src/resilience/",
            "src/route.rs",
            "src/route/",
            "src/target.rs",
            "src/target/",
            "src/telemetry/traces/context.rs",
            "src/telemetry/traces/context/",
            "src/telemetry/traces/otlp.rs",
            "src/upstream/pick.rs",
            "src/upstream/reconcile.rs",
            "src/upstream/tree.rs",
            "src/upstream/turn.rs",
            "src/upstream/vitals.rs",
            "src/word.rs",
        ],
        allowed: &[],
    },
    Rule {
        keeps: "the crypto provider is chosen in certs/provider.rs alone",
        signs: &["crypto::ring", "aws_lc", "install_default("],
        within: &[],
        allowed: &["certs/provider.rs"],
    },
];

/// The words of discovery that the whole engine shares. Everything else there, the backends above all, is for
/// `compose`, which opens them.
const SEAM: &[&str] = &[
    "Address",
    "AddressError",
    "AppProtocol",
    "Backend",
    "Condition",
    "Config",
    "Endpoint",
    "Entry",
    "Error",
    "Finding",
    "Health",
    "ObjectSource",
    "OpenError",
    "Snapshot",
    "SnapshotError",
    "Source",
    "Target",
    "TargetError",
    "Verdict",
    "async_trait",
    "check",
    "written",
];

/// Past this many lines of code a file hides a second idea.
const MOST_LINES: usize = 500;

/// Files that are longer, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

#[test]
fn the_code_keeps_its_rules() {
    let problems: Vec<String> = shipped().iter().flat_map(|(file, code)| broken_rules(file, code)).collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn the_engine_knows_no_backend() {
    let engine = shipped()
        .into_iter()
        .filter(|(file, _)| file.starts_with("src/") && !is_in(file, COMPOSE) && !is_in(file, KINDS_OF_BACKENDS));
    let problems: Vec<String> = engine
        .flat_map(|(file, code)| {
            let names = names_of(&code, "meshless_discovery").into_iter().filter(|name| !SEAM.contains(&name.as_str()));
            names.map(|name| format!("{file} names meshless_discovery::{name}")).collect::<Vec<_>>()
        })
        .collect();
    assert!(problems.is_empty(), "only compose may know more than the seam:\n{}", problems.join("\n"));
}

const COMPOSE: &[&str] = &["src/compose.rs", "src/compose/", "src/cli/"];

/// `[discovery.NAME]` and targets are checked by what each kind of backend takes.
const KINDS_OF_BACKENDS: &[&str] = &[
    "src/config/check/discovery.rs",
    "src/config/check/discovery/",
    "src/config/check/targets.rs",
    "src/config/discovery.rs",
    "src/config/discovery/",
];

#[test]
fn no_test_file_is_forgotten() {
    let folder = root().join("tests/it");
    let main = fs::read_to_string(folder.join("main.rs")).unwrap();
    let declared: BTreeSet<&str> =
        main.lines().filter_map(|line| line.trim().strip_prefix("mod ")?.strip_suffix(';')).collect();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let is_module = path.extension().is_some_and(|ending| ending == "rs") || path.join("mod.rs").exists();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(!is_module || name == "main" || declared.contains(name), "tests/it/main.rs lacks `mod {name};`");
    }
}

#[test]
fn files_stay_small() {
    let mut problems = Vec::new();
    for (file, code) in shipped() {
        let lines = lines_of_code(&code);
        let exception = LONG_FILES.iter().any(|(name, _)| *name == file);
        match (lines > MOST_LINES, exception) {
            (true, false) => problems.push(format!("{file} has {lines} lines of code, at most {MOST_LINES}: split it")),
            (false, true) => problems.push(format!("{file} has {lines} lines now: take it off the list of long files")),
            _ => {}
        }
    }
    let files: BTreeSet<String> = shipped().into_iter().map(|(file, _)| file).collect();
    problems.extend(
        LONG_FILES.iter().filter(|(name, _)| !files.contains(*name)).map(|(name, _)| format!("{name} is gone")),
    );
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn platforms_and_certs_are_leaves() {
    for (member, may_need) in [
        ("platforms", &[][..]),
        ("certs", &[][..]),
        ("discovery", &["meshless-certs", "meshless-platforms"][..]),
        ("xtask", &["meshless-fakes"][..]),
    ] {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        // Tests may need what does not ship.
        let shipped = manifest.split("[dev-dependencies]").next().unwrap();
        let needs = shipped.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
        for need in needs.filter(|need| need.starts_with("meshless-")) {
            assert!(may_need.contains(&need), "{member} must not depend on {need}");
        }
        assert!(manifest.contains("[lints]\nworkspace = true"), "{member} does not take the workspace's lints");
    }
}

#[test]
fn a_broken_rule_is_found() {
    let code = "fn f() {\n    tokio::spawn(async {});\n    println!(\"x\");\n}\n";
    let problems = broken_rules("src/proxy.rs", code);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().any(|problem| problem.starts_with("src/proxy.rs:2:")), "{problems:?}");
    assert!(broken_rules("src/compose/control.rs", "tokio::spawn(f());").is_empty());
    assert_eq!(broken_rules("src/balance/p2c.rs", "let now = Instant::now();").len(), 1);
    assert!(broken_rules("src/proxy.rs", "let now = Instant::now();").is_empty());
}

#[test]
fn comments_and_tests_do_not_count() {
    let code = "// tokio::spawn is not for us\nfn f() {}\n#[cfg(test)]\nmod tests {\n    fn g() { println!(); }\n}\n";
    assert!(broken_rules("src/proxy.rs", &without_tests(code)).is_empty());
}

#[test]
fn explaining_does_not_make_a_file_long() {
    assert_eq!(lines_of_code("//! Why.\n\nfn f() {\n    // how\n}\n"), 2);
}

#[test]
fn names_of_a_crate_are_found_alone_and_in_braces() {
    let code =
        "use meshless_discovery::{Endpoint, file::{open, Watch as W}};\nlet x = meshless_discovery::Snapshot::new();";
    assert_eq!(names_of(code, "meshless_discovery"), ["Endpoint", "Snapshot", "file"]);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the path and the code, without test modules, of each file that is part of the product.
fn shipped() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for folder in ["src", "discovery", "platforms", "certs"] {
        collect(&root().join(folder), &mut files);
    }
    assert!(!files.is_empty());
    files
        .into_iter()
        // `tests.rs`, and what is below it.
        .filter(|path| !path.iter().any(|part| part == "tests.rs" || part == "tests"))
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            (name, without_tests(&fs::read_to_string(path).unwrap()))
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

/// Returns how many lines are neither blank nor comment: explaining must cost nothing.
fn lines_of_code(code: &str) -> usize {
    code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

/// Tests stand at the bottom of a file: what follows is left out.
fn without_tests(code: &str) -> String {
    let lines: Vec<&str> = code.lines().collect();
    let starts = |line: usize| lines.get(line).is_some_and(|line| line.starts_with("mod tests") && line.ends_with('{'));
    let end = (0..lines.len()).find(|line| lines[*line].starts_with("#[cfg(test)]") && starts(line + 1));
    lines[..end.unwrap_or(lines.len())].join("\n")
}

fn broken_rules(file: &str, code: &str) -> Vec<String> {
    let applies = |rule: &&Rule| (rule.within.is_empty() || is_in(file, rule.within)) && !is_in(file, rule.allowed);
    let mut problems = Vec::new();
    for rule in RULES.iter().filter(applies) {
        for (index, line) in code.lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            if !is_comment && rule.signs.iter().any(|sign| has_word(line, sign)) {
                problems.push(format!("{file}:{}: {}, but this does: {}", index + 1, rule.keeps, line.trim()));
            }
        }
    }
    problems
}

/// Returns whether a sign stands in a line, and not as the end of a longer word: `h2::` is not in `with_h2::x`.
fn has_word(line: &str, sign: &str) -> bool {
    line.match_indices(sign).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        sign.starts_with('.') || !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    })
}

fn is_in(file: &str, places: &[&str]) -> bool {
    places.iter().any(|place| file == *place || (place.ends_with('/') && file.starts_with(place)))
}

/// Returns the first names after `krate::`, those in braces too, sorted.
fn names_of(code: &str, krate: &str) -> Vec<String> {
    let mut names = BTreeSet::new();
    for rest in code.split(&format!("{krate}::")).skip(1) {
        let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(rest.split(|letter| !is_word(letter)).next().unwrap().to_owned());
            continue;
        };
        // Names of the outermost braces stand at their start or behind a comma.
        let (mut depth, mut word, mut is_first) = (1, String::new(), true);
        for letter in group.chars() {
            match letter {
                _ if is_word(letter) => word.push(letter),
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if !is_word(letter) {
                let at_top = depth == 1 || (depth == 0 && letter == '}') || (depth == 2 && letter == '{');
                if at_top && is_first && !word.is_empty() {
                    names.insert(word.clone());
                    is_first = false;
                }
                word.clear();
                if letter == ',' && depth == 1 {
                    is_first = true;
                }
            }
            if depth == 0 {
                break;
            }
        }
    }
    names.into_iter().collect()
}

//! Whatever stands in a file: problems come out, no panic.

use proptest::prelude::*;

use super::Given;

/// Reads a mutated file; what comes out does not matter, that it comes out does.
fn survives(name: &'static str, text: &str) {
    let given = Given::default().file(name, text).variable("MESHLESS__ADMIN__LISTEN", "127.0.0.1:1");
    match given.load() {
        Ok(loaded) => drop(serde_json::to_string(&loaded.config).unwrap()),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
}

const SEEDS: [&str; 5] = [
    include_str!("../../../../examples/failover-and-split.toml"),
    include_str!("../../../../examples/tls-termination.toml"),
    include_str!("../../../../examples/tcp-and-passthrough.toml"),
    include_str!("../../../../examples/file-discovery.toml"),
    include_str!("../../../../examples/tracing.toml"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_mutated_file_never_panics(
        seed in 0..SEEDS.len(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..4usize, "[\\PC\n]{1,3}"), 1..6),
    ) {
        let mut text: Vec<char> = SEEDS[seed].chars().collect();
        for (index, kind, new) in edits {
            let at = index.index(text.len());
            let until = (at + 1 + kind * 4).min(text.len());
            match kind {
                0 => drop(text.splice(at..at, new.chars())),
                1 => drop(text.splice(at..until, new.chars())),
                2 => drop(text.drain(at..until)),
                _ => {
                    let copied = text[at..until].to_vec();
                    text.splice(at..at, copied);
                }
            }
        }
        survives("c.toml", &text.into_iter().collect::<String>());
    }

    #[test]
    fn garbage_never_panics(text in "[\\PC\n\t]{0,60}", kind in prop::sample::select(vec!["c.toml", "c.yaml", "c.json"])) {
        survives(kind, &text);
    }

    #[test]
    fn tokens_of_yaml_and_json_never_panic(
        tokens in proptest::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ":", ",", "-", "\n", "  ", "\"", "'", "|", ">", "&a", "*a", "!!int", "? ", "#", "---\n", "...",
            "listeners", "routes", "services", "to", "from", "match", "1", "1.5", "true", "null", "~", "x", "é",
        ]), 0..40),
        kind in prop::sample::select(vec!["c.yaml", "c.json"]),
    ) {
        survives(kind, &tokens.concat());
    }

    #[test]
    fn values_of_a_wrong_kind_never_panic(
        path in prop::sample::select(vec![
            "node", "admin", "discovery", "discovery.x", "defaults", "defaults.retry", "services", "services.a",
            "services.a.from", "services.a.tls", "services.a.balance", "services.a.limits", "listeners", "routes", "names",
            "telemetry", "shutdown", "shutdown.grace",
        ]),
        value in prop::sample::select(vec!["1", "-1", "1.5", "nan", "inf", "true", "\"\"", "\"x\"", "[]", "{}", "[{}]", "[[]]", "[1]",
            "{ x = 1 }", "9223372036854775807", "\"${X\"", "\"$\"", "[{ to = 1, listen = [] }]"]),
    ) {
        survives("c.toml", &format!("{path} = {value}\n"));
    }
}

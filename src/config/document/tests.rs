use super::*;
use crate::config::problem::Path as KeyPath;

fn read(format: Format, text: &str) -> Tree {
    parse(&Arc::from("f"), format, text).unwrap()
}

fn refused(format: Format, text: &str) -> String {
    parse(&Arc::from("f"), format, text).unwrap_err().to_string()
}

fn places(tree: &Tree, path: &KeyPath) -> (String, String) {
    let mut node = tree;
    for step in path.steps() {
        node = node.child(step).unwrap();
    }
    (node.place(At::Key).to_string(), node.place(At::Value).to_string())
}

#[test]
fn toml_knows_the_place_of_each_key_and_value() {
    let tree = read(Format::Toml, "[a.b]\n\"é\" = { d = 1 }\n[[l]]\nx = \"abc\"\n");
    let root = KeyPath::default();
    assert_eq!(places(&tree, &root.key("a").key("b").key("é").key("d")), ("f:2:9".into(), "f:2:13".into()));
    let x = root.key("l").position(0).key("x");
    assert_eq!(places(&tree, &x), ("f:4:1".into(), "f:4:5".into()));
    assert_eq!(places(&tree, &root.key("l").position(0)).0, "f:3:1");
    let Node::Table(table) = &tree.node else { panic!() };
    let Node::List(list) = &table["l"].node else { panic!() };
    assert_eq!(list[0].child(&Step::Key("x".into())).unwrap().place(At::Offset(2)).to_string(), "f:4:8");
}

#[test]
fn yaml_and_json_know_them_too() {
    let tree = read(Format::Yaml, "a:\n  b:\n    c: 15s\nl:\n  - x: \"abc\"\n");
    let root = KeyPath::default();
    assert_eq!(places(&tree, &root.key("a").key("b").key("c")), ("f:3:5".into(), "f:3:8".into()));
    assert_eq!(places(&tree, &root.key("l").position(0).key("x")), ("f:5:5".into(), "f:5:8".into()));
    let tree = read(Format::Json, "{\n\t\"a\": [true, null, 1.5, \"x\"]\n}");
    assert_eq!(places(&tree, &root.key("a").position(3)).1, "f:2:25");
}

#[test]
fn what_is_not_of_its_format_is_refused_with_its_place() {
    assert_eq!(refused(Format::Toml, "a = 1\na = 2\n"), "f:2:1: error: not TOML: duplicate key");
    assert_eq!(
        refused(Format::Toml, "a = 2026-01-01"),
        "f:1:5: error: a date has no meaning here; write a string in quotes"
    );
    assert_eq!(refused(Format::Yaml, "a: 1\na: 2\n"), "f:2:1: error: the key is set twice");
    assert_eq!(refused(Format::Yaml, "a: &x 1\nb: *x\n"), "f:2:4: error: aliases are not taken; write the value out");
    assert_eq!(refused(Format::Yaml, "- a\n"), "f:1:1: error: expected a table of keys, found a list");
    assert_eq!(
        refused(Format::Yaml, "a: 1\n---\nb: 1\n"),
        "f:2:1: error: a file holds one document; remove what follows"
    );
    assert_eq!(refused(Format::Json, "{\"a\": 1,}"), "f:1:9: error: not JSON: key must be a string");
    assert_eq!(refused(Format::Json, "{a: 1}"), "f:1:2: error: not JSON: key must be a string");
}

#[test]
fn an_empty_file_is_an_empty_table() {
    for format in [Format::Toml, Format::Yaml] {
        assert_eq!(read(format, "# nothing\n").node, Node::default());
    }
}

#[test]
fn depth_is_bounded() {
    let deep = 100_000;
    assert!(refused(Format::Yaml, &format!("a: {}", "[".repeat(40))).contains("at most 32"));
    refused(Format::Yaml, &"[".repeat(deep));
    refused(Format::Yaml, &"- ".repeat(deep));
    refused(Format::Yaml, &"{a: ".repeat(deep));
    refused(Format::Json, &"[".repeat(deep));
    refused(Format::Toml, &format!("a = {}", "[".repeat(deep)));
    assert!(refused(Format::Toml, &format!("a = {}{}", "[".repeat(40), "]".repeat(40))).contains("at most 32"));
    refused(Format::Toml, &format!("{} = 1", vec!["a"; 1000].join(".")));
}

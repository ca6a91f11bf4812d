//! What must hold for any text that a person may write. The fuzz targets call these, and a normal test replays the seeds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use meshless::config::{self, Place};
use meshless::overrides::dtab::Dtab;
use meshless::target::Expression;
use meshless_platforms::Scripted;

/// A target expression is refused at a place that is in it, or printed so that it is read back as the same.
pub(crate) fn target(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Expression::parse(text) {
        Err(error) => assert!(text.is_char_boundary(error.offset), "byte {} of {text:?}", error.offset),
        Ok(expression) => {
            let printed = expression.to_string();
            // Printing writes weights out, so what is just small enough may not be so again.
            if printed.len() <= Expression::MAX_BYTES {
                assert_eq!(Expression::parse(&printed).as_ref(), Ok(&expression), "{text:?} printed as {printed:?}");
            }
        }
    }
}

/// A dtab is refused at a place that is in it, or printed so that it is read back as the same.
pub(crate) fn dtab(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Dtab::parse(text) {
        Err(error) => assert!(text.is_char_boundary(error.offset), "byte {} of {text:?}", error.offset),
        Ok(dtab) => {
            let printed = dtab.to_string();
            // Printing writes spaces and weights out, so what is just small enough may not be so again.
            if printed.len() <= Dtab::MAX_BYTES {
                assert_eq!(Dtab::parse(&printed).as_ref(), Ok(&dtab), "{text:?} printed as {printed:?}");
            }
        }
    }
}

/// A configuration is taken, and twice alike, or refused with problems that each have a place in it. The first byte
/// says what kind of file it is.
pub(crate) fn config(bytes: &[u8]) {
    let Some((kind, text)) = bytes.split_first() else { return };
    let ending = ["toml", "yaml", "json"][usize::from(kind % 3)];
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join(format!("c.{ending}"));
    std::fs::write(&file, text).expect("a file");
    let load = |paths: &[PathBuf]| {
        // What the file may ask the environment for.
        let variables = BTreeMap::from([("HOST".to_owned(), "10.0.0.1".to_owned())]);
        config::load(paths, &Scripted(variables), &BTreeMap::new())
    };
    let paths = [file.clone()];
    match (load(&paths), load(&paths)) {
        (Ok(first), Ok(second)) => assert_eq!(first.config, second.config),
        (Err(first), Err(second)) => {
            assert_eq!(first.to_string(), second.to_string());
            assert!(!first.0.is_empty(), "refused without a reason");
            // A line of YAML may end with CR alone.
            let lines = text.split(|byte| matches!(byte, b'\n' | b'\r')).count();
            for problem in &first.0 {
                assert!(!problem.message.is_empty());
                assert!(!problem.message.contains(['\r', '\0', '\u{1b}']), "{:?}", problem.message);
                if let Place::File { file: told, line, column } = &problem.place {
                    assert_eq!(**told, *file.to_str().expect("a plain path"));
                    assert!((1..=lines + 1).contains(line) && *column >= 1, "{line}:{column} of {lines} lines");
                }
            }
        }
        (first, second) => panic!("once {first:?}, once {second:?}"),
    }
}

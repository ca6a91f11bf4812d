use std::fs;

use super::*;

fn log(lines: u64) -> (tempfile::TempDir, PathBuf, Log) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let mut log = Log::open(&path, Head::new()).unwrap();
    for number in 0..lines {
        write(&mut log, number);
    }
    (directory, path, log)
}

fn write(log: &mut Log, number: u64) {
    let head = log.append(Line::new("issued").because(format!("number {number}")), number).unwrap();
    log.settle(head);
}

#[test]
fn each_line_has_the_hash_of_the_one_before() {
    let (_directory, path, log) = log(3);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<Line> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0].previous, NOTHING);
    assert_eq!(lines[2].previous, hash(text.lines().nth(1).unwrap().as_bytes()));
    assert_eq!((lines[2].line, lines[2].time.as_str()), (3, "1970-01-01T00:00:02Z"));
    assert_eq!(verify(&path, log.head()), Ok(3));
    assert_eq!(log.head().offset, text.len() as u64);
}

#[test]
fn a_changed_a_missing_and_a_moved_line_are_found() {
    let (_directory, path, log) = log(4);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let with = |lines: &[&str]| {
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        verify(&path, log.head()).unwrap_err()
    };
    let changed = lines[1].replace("number 1", "number 7");
    assert_eq!(with(&[lines[0], &changed, lines[2], lines[3]]).line, 3, "the line behind shows it");
    assert_eq!(with(&[lines[0], lines[2], lines[3]]).line, 2);
    assert_eq!(with(&[lines[0], lines[2], lines[1], lines[3]]).line, 2);
    assert_eq!(with(&lines[..3]).line, 4, "cut off at the end");
    assert_eq!(with(&[]).line, 1);
    let last = lines[3].replace("number 3", "number 7");
    assert!(with(&[lines[0], lines[1], lines[2], &last]).why.contains("not the one that the database knows"));
    assert_eq!(with(&[lines[0], lines[1], lines[2], lines[3], lines[3]]).line, 5);
    fs::write(&path, &text).unwrap();
    assert_eq!(verify(&path, log.head()), Ok(4));
}

#[test]
fn after_a_crash_one_line_ahead_is_taken_over_and_a_torn_one_taken_back() {
    let (_directory, path, mut log) = log(2);
    let known = log.head().clone();
    let ahead = log.append(Line::new("issued"), 5).unwrap();
    drop(log);
    let mut log = Log::open(&path, known.clone()).unwrap();
    assert_eq!(log.head(), &ahead);
    write(&mut log, 6);
    assert_eq!(verify(&path, log.head()), Ok(4));

    let known = log.head().clone();
    let mut text = fs::read(&path).unwrap();
    let whole = text.len();
    text.extend_from_slice(br#"{"line":5,"time":"#);
    fs::write(&path, &text).unwrap();
    let log = Log::open(&path, known.clone()).unwrap();
    assert_eq!((log.head(), fs::read(&path).unwrap().len()), (&known, whole));
}

#[test]
fn what_no_crash_can_leave_is_refused() {
    let (_directory, path, mut log) = log(2);
    let known = log.head().clone();
    write(&mut log, 3);
    write(&mut log, 4);
    let all = fs::read_to_string(&path).unwrap();
    let refused = |text: &str| {
        fs::write(&path, text).unwrap();
        Log::open(&path, known.clone()).unwrap_err().to_string()
    };
    assert!(refused(&all).contains("does not follow"), "two lines ahead");
    let lines: Vec<&str> = all.lines().collect();
    let first_two = format!("{}\n{}\n", lines[0], lines[1]);
    assert!(refused(&format!("{first_two}{}\n", lines[3])).contains("does not follow"));
    assert!(refused(&format!("{}\n", lines[0])).contains("the database knows of"));
    assert!(refused(&first_two.replace("number 1", "number 9")).contains("line 2 is not the one"));
    fs::remove_file(&path).unwrap();
    assert!(Log::open(&path, known).unwrap_err().to_string().contains("it is not there"));
    assert!(!path.exists(), "no new log is begun in silence");
}

#[test]
fn a_line_can_be_taken_back() {
    let (_directory, path, mut log) = log(1);
    let before = fs::read(&path).unwrap();
    log.append(Line::new("issued"), 2).unwrap();
    log.undo().unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
    write(&mut log, 3);
    assert_eq!(verify(&path, log.head()), Ok(2));
    log.give_up();
    assert!(matches!(log.append(Line::new("issued"), 2), Err(AuditError::Broken(_))));
}

#[test]
fn a_log_goes_on_behind_another_one() {
    let (_directory, path, _) = log(0);
    let mut log = Log::open(&path, Head::after(7, "ab".to_owned())).unwrap();
    write(&mut log, 1);
    let line: Line = serde_json::from_str(fs::read_to_string(&path).unwrap().trim_end()).unwrap();
    assert_eq!((line.line, line.previous.as_str()), (8, "ab"));
    assert_eq!(verify(&path, log.head()), Ok(1));
}

#[test]
fn a_reason_is_cut_not_a_letter() {
    let line = Line::new("refused").because("ä".repeat(5_000));
    assert_eq!(line.reason.unwrap().len(), 2048);
}

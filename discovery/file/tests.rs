//! The backend as a whole, on real files: every way in which files are replaced in the field.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::conformance::{self, Played, Stage, Trouble, run};
use crate::{Endpoint, Snapshot};

/// So seldom that a test that passes has seen the watch at work.
const NEVER: Duration = Duration::from_hours(1);

fn backend(path: &Path, poll: Duration) -> File {
    File { shared: Arc::new(Shared::new(path.to_owned()).with_poll(poll)) }
}

fn target(name: &str) -> Target {
    Target { backend: "file".to_owned(), path: name.to_owned(), options: BTreeMap::new() }
}

fn source(backend: &File) -> Box<dyn Source> {
    backend.source(&target("web")).unwrap()
}

fn content(addresses: &[&str]) -> String {
    let entry = |address: &&str| format!("[[services.web]]\naddress = \"{address}\"\n");
    addresses.iter().map(entry).collect::<Vec<_>>().concat()
}

async fn next(source: &mut Box<dyn Source>) -> Result<Vec<String>, Error> {
    let answer = tokio::time::timeout(Duration::from_secs(20), source.next()).await.expect("an answer in time");
    answer.map(|snapshot| snapshot.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect())
}

/// Calls until there is a success with these addresses; errors and other answers may come before.
async fn until(source: &mut Box<dyn Source>, addresses: &[&str]) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        assert!(tokio::time::Instant::now() < deadline, "{addresses:?} never came");
        if next(source).await.is_ok_and(|found| found == addresses) {
            return;
        }
    }
}

async fn is_quiet(source: &mut Box<dyn Source>) -> bool {
    tokio::time::timeout(Duration::from_millis(400), source.next()).await.is_err()
}

#[tokio::test]
async fn an_atomic_rename_is_seen_by_the_watch() {
    let directory = tempfile::tempdir().unwrap();
    let (path, scratch) = (directory.path().join("a.toml"), directory.path().join(".scratch"));
    fs::write(&path, content(&["10.0.0.1:80"])).unwrap();
    for watched in [directory.path(), &path] {
        fs::write(&path, content(&["10.0.0.1:80"])).unwrap();
        let backend = backend(watched, NEVER);
        let mut source = source(&backend);
        assert_eq!(next(&mut source).await.unwrap(), ["10.0.0.1:80"]);
        for port in ["81", "82", "83"] {
            let address = format!("10.0.0.1:{port}");
            fs::write(&scratch, content(&[&address])).unwrap();
            fs::rename(&scratch, &path).unwrap();
            until(&mut source, &[&address]).await;
        }
    }
}

#[tokio::test]
async fn a_config_map_that_swaps_its_data_is_seen_by_the_watch() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let version = |name: &str, address: &str| {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("a.toml"), content(&[address])).unwrap();
    };
    version("..v1", "10.0.0.1:80");
    symlink("..v1", at("..data")).unwrap();
    symlink("..data/a.toml", at("a.toml")).unwrap();
    let (whole, single) = (backend(directory.path(), NEVER), backend(&at("a.toml"), NEVER));
    let (mut whole, mut single) = (source(&whole), source(&single));
    assert_eq!(next(&mut whole).await.unwrap(), ["10.0.0.1:80"]);
    assert_eq!(next(&mut single).await.unwrap(), ["10.0.0.1:80"]);

    version("..v2", "10.0.0.2:80");
    symlink("..v2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    fs::remove_dir_all(at("..v1")).unwrap();
    until(&mut whole, &["10.0.0.2:80"]).await;
    until(&mut single, &["10.0.0.2:80"]).await;
}

#[tokio::test]
async fn an_editor_that_truncates_and_writes_never_shows_an_empty_answer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.toml");
    fs::write(&path, content(&["10.0.0.1:80"])).unwrap();
    let backend = backend(directory.path(), NEVER);
    let mut source = source(&backend);
    next(&mut source).await.unwrap();
    // A truncated file that stays so is an error ...
    fs::write(&path, "").unwrap();
    let error = next(&mut source).await.unwrap_err();
    assert!(matches!(&error, Error::Malformed(message) if message.contains("empty")), "{error}");
    // ... half of one too ...
    fs::write(&path, &content(&["10.0.0.2:80"])[..30]).unwrap();
    assert!(matches!(next(&mut source).await, Err(Error::Malformed(_))));
    // ... and the whole one is told.
    fs::write(&path, content(&["10.0.0.2:80"])).unwrap();
    until(&mut source, &["10.0.0.2:80"]).await;
}

#[tokio::test(start_paused = true)]
async fn files_are_read_when_it_has_been_quiet() {
    // Behind a link the watch sees nothing, so what is reported here is all that is reported.
    let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (link, real) = (directory.path().join("a.toml"), elsewhere.path().join("real.toml"));
    fs::write(&real, content(&["10.0.0.1:80"])).unwrap();
    symlink(&real, &link).unwrap();
    let backend = backend(&link, NEVER);
    let mut source = source(&backend);
    next(&mut source).await.unwrap();
    let (begun, shared) = (tokio::time::Instant::now(), Arc::clone(&backend.shared));
    let editor = tokio::spawn(async move {
        for text in ["", "[[services", &content(&["10.0.0.2:80"])] {
            fs::write(&real, text).unwrap();
            shared.look_again();
            tokio::time::sleep(Duration::from_millis(90)).await;
        }
    });
    assert_eq!(next(&mut source).await.unwrap(), ["10.0.0.2:80"]);
    assert!(begun.elapsed() < Duration::from_secs(1));
    editor.await.unwrap();
}

#[tokio::test]
async fn a_reading_whose_call_was_dropped_is_done_again() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.toml"), content(&["10.0.0.1:80"])).unwrap();
    let backend = backend(directory.path(), NEVER);
    let mut source = source(&backend);
    // Polled once, a call has begun to read; on a very fast disk it may be done already, and all is told.
    let once = std::future::poll_fn(|context| {
        let mut call = source.next();
        std::task::Poll::Ready(call.as_mut().poll(context).is_ready())
    });
    if once.await {
        return;
    }
    assert_eq!(next(&mut source).await.unwrap(), ["10.0.0.1:80"]);
}

#[tokio::test]
async fn a_file_that_is_put_right_without_other_change_is_told_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.toml");
    fs::write(&path, content(&["10.0.0.1:80"])).unwrap();
    let backend = backend(directory.path(), NEVER);
    let mut source = source(&backend);
    next(&mut source).await.unwrap();
    fs::write(&path, "[[").unwrap();
    next(&mut source).await.unwrap_err();
    fs::write(&path, content(&["10.0.0.1:80"])).unwrap();
    until(&mut source, &["10.0.0.1:80"]).await;
}

#[tokio::test]
async fn a_service_in_no_file_is_empty_and_a_directory_that_is_gone_is_unreachable() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("d");
    fs::create_dir(&directory).unwrap();
    let backend = backend(&directory, Duration::from_millis(50));
    let mut source = source(&backend);
    assert!(next(&mut source).await.unwrap().is_empty());
    fs::remove_dir(&directory).unwrap();
    assert!(matches!(next(&mut source).await, Err(Error::Unreachable(_))));
    assert!(matches!(next(&mut source).await, Err(Error::Unreachable(_))));
}

#[tokio::test]
async fn a_directory_that_is_made_anew_is_watched_again() {
    let parent = tempfile::tempdir().unwrap();
    let (directory, old) = (parent.path().join("d"), parent.path().join("old"));
    fs::create_dir(&directory).unwrap();
    let backend = backend(&directory, NEVER);
    let mut source = source(&backend);
    assert!(next(&mut source).await.unwrap().is_empty());
    fs::rename(&directory, old).unwrap();
    backend.shared.look_again();
    assert!(next(&mut source).await.is_err());
    fs::create_dir(&directory).unwrap();
    until(&mut source, &[]).await;
    fs::write(directory.join("a.toml"), content(&["10.0.0.1:80"])).unwrap();
    until(&mut source, &["10.0.0.1:80"]).await;
}

#[tokio::test]
async fn the_poll_finds_what_the_watch_cannot_see() {
    let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (link, real) = (directory.path().join("a.toml"), elsewhere.path().join("real.toml"));
    fs::write(&real, content(&["10.0.0.1:80"])).unwrap();
    symlink(&real, &link).unwrap();
    let backend = backend(&link, Duration::from_millis(50));
    let mut source = source(&backend);
    assert_eq!(next(&mut source).await.unwrap(), ["10.0.0.1:80"]);
    fs::write(&real, content(&["10.0.0.2:80"])).unwrap();
    until(&mut source, &["10.0.0.2:80"]).await;
}

#[tokio::test]
async fn a_change_of_another_service_is_not_told() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("web.toml"), content(&["10.0.0.1:80"])).unwrap();
    let backend = backend(directory.path(), Duration::from_millis(50));
    let (mut web, mut other) = (source(&backend), backend.source(&target("other")).unwrap());
    next(&mut web).await.unwrap();
    assert!(next(&mut other).await.unwrap().is_empty());
    let text = content(&["10.0.0.9:80"]).replace("web", "other");
    fs::write(directory.path().join("other.toml"), text).unwrap();
    until(&mut other, &["10.0.0.9:80"]).await;
    assert!(is_quiet(&mut web).await);
}

#[tokio::test]
async fn a_hundred_sources_are_all_told_though_one_alone_reads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.toml");
    fs::write(&path, content(&["10.0.0.1:80"])).unwrap();
    let backend = backend(directory.path(), NEVER);
    let mut tasks = tokio::task::JoinSet::new();
    let (ready, mut readers) = tokio::sync::mpsc::channel(100);
    for _ in 0..100 {
        let (mut source, ready) = (source(&backend), ready.clone());
        tasks.spawn(async move {
            next(&mut source).await.unwrap();
            ready.send(()).await.unwrap();
            until(&mut source, &["10.0.0.2:80"]).await;
        });
    }
    for _ in 0..100 {
        readers.recv().await.unwrap();
    }
    fs::write(&path, content(&["10.0.0.2:80"])).unwrap();
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert!(backend.shared.generation() <= 4, "{} readings were news", backend.shared.generation());
}

#[tokio::test]
async fn when_the_call_that_looks_is_dropped_another_takes_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.toml");
    fs::write(&path, content(&["10.0.0.1:80"])).unwrap();
    let backend = backend(directory.path(), NEVER);
    let (mut first, mut second) = (source(&backend), source(&backend));
    next(&mut first).await.unwrap();
    next(&mut second).await.unwrap();
    let looking = tokio::spawn(async move { next(&mut first).await });
    tokio::task::yield_now().await;
    let waiting = tokio::spawn(async move { next(&mut second).await });
    tokio::task::yield_now().await;
    looking.abort();
    fs::write(&path, content(&["10.0.0.2:80"])).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), ["10.0.0.2:80"]);
}

#[test]
fn names_that_could_mean_a_path_are_refused() {
    let backend = File::new("/etc/endpoints.d".into());
    for name in ["", "Web", "../web", "a/b", ".web", "wéb", "a b"] {
        assert!(backend.source(&target(name)).is_err(), "{name:?}");
    }
    assert!(backend.source(&target(&"a".repeat(253))).is_ok());
    assert!(backend.source(&target(&"a".repeat(254))).is_err());
    let options = BTreeMap::from([("tag".to_owned(), "blue".to_owned())]);
    assert!(backend.source(&Target { options, ..target("web") }).is_err());
}

/// A directory as a stage: `web.json` is the answer, other files are its troubles.
struct Directory {
    parent: tempfile::TempDir,
    poll: Duration,
    slow: bool,
}

impl Directory {
    fn new(poll: Duration) -> Self {
        let stage = Self { parent: tempfile::tempdir().unwrap(), poll, slow: false };
        fs::create_dir(stage.path()).unwrap();
        stage
    }

    fn path(&self) -> PathBuf {
        self.parent.path().join("endpoints.d")
    }

    fn away(&self) -> PathBuf {
        self.parent.path().join("away")
    }
}

fn json(addresses: impl Iterator<Item = String>) -> String {
    let entries: Vec<String> = addresses.map(|address| format!(r#"{{"address": "{address}"}}"#)).collect();
    format!(r#"{{"services": {{"web": [{}]}}}}"#, entries.join(","))
}

#[async_trait]
impl Stage for Directory {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(backend(&self.path(), self.poll))
    }

    fn target(&self) -> Target {
        target("web")
    }

    async fn set(&mut self, endpoints: &[Endpoint]) {
        use std::io::Write;
        let text = json(endpoints.iter().map(|endpoint| endpoint.address.to_string()));
        let mut file = fs::File::create(self.path().join("web.json")).unwrap();
        for piece in text.as_bytes().chunks(if self.slow { 20 } else { usize::MAX }) {
            file.write_all(piece).unwrap();
            if self.slow {
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
        }
    }

    async fn play(&mut self, trouble: Trouble) -> Played {
        match trouble {
            Trouble::Garbage => fs::write(self.path().join("trouble.toml"), [0xff, 0x00, 0x17]).unwrap(),
            Trouble::Huge => {
                let many = (1..=Snapshot::MAX_ENDPOINTS + 1).map(|port| format!("10.0.0.1:{port}"));
                fs::write(self.path().join("trouble.json"), json(many)).unwrap();
            }
            Trouble::Partial => fs::write(self.path().join("trouble.toml"), "[[services.web]]\naddr").unwrap(),
            Trouble::Slow => self.slow = true,
            Trouble::Restart | Trouble::Unreachable => fs::rename(self.path(), self.away()).unwrap(),
        }
        Played::Done
    }

    async fn recover(&mut self) {
        if self.away().exists() {
            fs::create_dir(self.path()).unwrap();
            fs::copy(self.away().join("web.json"), self.path().join("web.json")).unwrap();
            fs::remove_dir_all(self.away()).unwrap();
        }
        for name in ["trouble.toml", "trouble.json"] {
            let _ = fs::remove_file(self.path().join(name));
        }
    }
}

#[tokio::test]
async fn it_holds_what_every_backend_must() {
    assert_eq!(run(|| Directory::new(Duration::from_millis(200))).await, []);
}

#[tokio::test]
async fn a_call_that_is_dropped_loses_nothing_that_the_watch_reported() {
    conformance::a_call_that_is_dropped_loses_no_change(&mut Directory::new(NEVER)).await;
}

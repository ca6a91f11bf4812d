//! The runner on scripted sources, with paused time: nothing here touches a socket.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use meshless_discovery::{Endpoint, async_trait};

use super::*;

/// What a scripted source does at one call.
#[derive(Debug, Clone)]
enum Step {
    After(Duration, Result<u8, Error>),
    Now(Result<u8, Error>),
    Panic,
}

/// A backend whose sources play one script between them and then wait, or say the last number again and again.
#[derive(Debug)]
struct Script {
    steps: Mutex<VecDeque<Step>>,
    forever: Option<u8>,
    calls: AtomicU64,
    opened: AtomicU64,
}

impl Script {
    fn new(steps: impl IntoIterator<Item = Step>) -> Arc<Self> {
        Self::with(steps, None)
    }

    fn with(steps: impl IntoIterator<Item = Step>, forever: Option<u8>) -> Arc<Self> {
        let steps = Mutex::new(steps.into_iter().collect());
        Arc::new(Self { steps, forever, calls: AtomicU64::new(0), opened: AtomicU64::new(0) })
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Opened(Arc<Script>);

#[derive(Debug)]
struct ScriptSource(Arc<Script>);

impl Backend for Opened {
    fn source(&self, target: &Target) -> Result<Box<dyn Source>, TargetError> {
        if target.path == "wrong" {
            return Err(TargetError("wrong".to_owned()));
        }
        self.0.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(ScriptSource(Arc::clone(&self.0))))
    }
}

#[async_trait]
impl Source for ScriptSource {
    async fn next(&mut self) -> Result<Snapshot, Error> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        let step = self.0.steps.lock().unwrap().pop_front();
        match step {
            Some(Step::Now(answer)) => answer.map(snapshot),
            Some(Step::After(wait, answer)) => {
                sleep(wait).await;
                answer.map(snapshot)
            }
            Some(Step::Panic) => panic!("a bug in this backend"),
            None => match self.0.forever {
                Some(number) => Ok(snapshot(number)),
                None => std::future::pending().await,
            },
        }
    }
}

fn snapshot(number: u8) -> Snapshot {
    let endpoint = Endpoint::new(meshless_discovery::Address::Tcp(([10, 0, 0, number], 80).into()));
    Snapshot::new(if number == 0 { Vec::new() } else { vec![endpoint] }).unwrap()
}

fn target() -> Target {
    Target { backend: "script".to_owned(), path: "web".to_owned(), options: BTreeMap::new() }
}

fn start(script: &Arc<Script>, disk: Option<LastKnownGood>) -> (Followed, tokio::task::JoinHandle<()>) {
    let backend = Arc::new(Opened(Arc::clone(script)));
    let (followed, run) =
        follow(target(), backend, Backoff::default(), fastrand::Rng::with_seed(7), disk, Outage::default()).unwrap();
    (followed, tokio::spawn(run))
}

/// Returns the number of the snapshot that is known; 0 is an empty one.
fn number(followed: &Followed) -> Option<u8> {
    let known = followed.known.borrow();
    known.snapshot().map(|known| (0..=255).find(|number| snapshot(*number) == **known).unwrap())
}

fn unreachable() -> Error {
    Error::Unreachable("nobody there".to_owned())
}

const LONG: Duration = Duration::from_mins(2);

#[tokio::test(start_paused = true)]
async fn each_change_is_published() {
    let script = Script::new([Step::Now(Ok(1)), Step::After(LONG, Ok(2)), Step::After(LONG, Ok(0))]);
    let (mut followed, _run) = start(&script, None);
    for expected in [1, 2, 0] {
        followed.known.changed().await.unwrap();
        assert_eq!(number(&followed), Some(expected));
    }
    assert_eq!(followed.known.borrow().answer.as_ref().unwrap().origin, Origin::Live);
}

#[tokio::test(start_paused = true)]
async fn an_error_keeps_the_last_known_good() {
    let script = Script::new([Step::Now(Ok(1)), Step::Now(Err(unreachable())), Step::Now(Err(unreachable()))]);
    let (mut followed, _run) = start(&script, None);
    followed.known.changed().await.unwrap();
    sleep(LONG).await;
    assert_eq!(number(&followed), Some(1));
    assert!(!followed.known.has_changed().unwrap(), "an error woke the reconciler");
    let known = followed.known.borrow().clone();
    let failure = known.failure.as_ref().unwrap();
    assert_eq!((failure.count, failure.kind, failure.error.as_str()), (2, "unreachable", "unreachable: nobody there"));
    assert!(known.age(Instant::now()).unwrap() > LONG / 2);
}

#[tokio::test(start_paused = true)]
async fn an_outage_ends_with_the_first_answer_even_an_unchanged_one() {
    let script = Script::new([Step::Now(Ok(1)), Step::Now(Err(unreachable())), Step::Now(Ok(1))]);
    let (mut followed, _run) = start(&script, None);
    followed.known.changed().await.unwrap();
    sleep(LONG).await;
    let known = followed.known.borrow().clone();
    assert!(known.failure.is_none());
    assert_eq!((known.answers, known.failures, known.age(Instant::now())), (2, 1, Some(Duration::ZERO)));
    assert!(!followed.known.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_same_snapshot_twice_is_published_once() {
    let script = Script::new([Step::Now(Ok(1)), Step::Now(Ok(1)), Step::After(LONG, Ok(1))]);
    let (mut followed, _run) = start(&script, None);
    followed.known.changed().await.unwrap();
    let first = Arc::clone(followed.known.borrow().snapshot().unwrap());
    sleep(LONG * 2).await;
    assert_eq!(script.calls(), 4);
    assert!(!followed.known.has_changed().unwrap());
    assert!(Arc::ptr_eq(&first, followed.known.borrow().snapshot().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_returns_in_a_tight_loop_is_slowed_down() {
    let script = Script::with([], Some(1));
    let (_followed, _run) = start(&script, None);
    sleep(Duration::from_secs(10)).await;
    let calls = script.calls();
    assert!((40..=60).contains(&calls), "{calls} calls in 10 s");
}

#[tokio::test(start_paused = true)]
async fn changes_that_come_now_and_then_wait_for_nothing() {
    let script = Script::new((1..=20).map(|number| Step::After(Duration::from_secs(1), Ok(number))));
    let begin = Instant::now();
    let (mut followed, _run) = start(&script, None);
    for expected in 1..=20_u8 {
        followed.known.changed().await.unwrap();
        assert_eq!(number(&followed), Some(expected));
        let late = begin.elapsed().saturating_sub(Duration::from_secs(expected.into()));
        assert!(late < Duration::from_millis(50), "{late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_for_hours_is_asked_every_half_minute_at_most() {
    let script = Script::new((0..5000).map(|_| Step::Now(Err(unreachable()))));
    let (_followed, _run) = start(&script, None);
    sleep(Duration::from_hours(1)).await;
    // Full jitter on 30 s: 15 s in the mean.
    assert!((150..=400).contains(&script.calls()), "{} calls", script.calls());
}

#[tokio::test(start_paused = true)]
async fn after_a_success_the_waits_begin_anew() {
    let outage = (0..30).map(|_| Step::Now(Err(unreachable())));
    let then = [Step::Now(Ok(1)), Step::Now(Err(unreachable())), Step::Now(Ok(2))];
    let (mut followed, _run) = start(&Script::new(outage.chain(then)), None);
    followed.known.changed().await.unwrap();
    let begin = Instant::now();
    followed.known.changed().await.unwrap();
    assert!(begin.elapsed() <= Duration::from_millis(110), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_asks_for_time_gets_it() {
    let throttled = Error::Throttled { retry_after: Some(Duration::from_secs(90)) };
    let script = Script::new([Step::Now(Err(throttled)), Step::Now(Ok(1))]);
    let (mut followed, _run) = start(&script, None);
    let begin = Instant::now();
    followed.known.changed().await.unwrap();
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_secs(90) && waited <= Duration::from_secs(115), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_of_that_call_and_the_source_is_opened_anew() {
    let script = Script::new([Step::Now(Ok(1)), Step::Panic, Step::Panic, Step::Now(Ok(2))]);
    let (mut followed, _run) = start(&script, None);
    followed.known.changed().await.unwrap();
    assert_eq!(number(&followed), Some(1));
    followed.known.changed().await.unwrap();
    assert_eq!(number(&followed), Some(2));
    let known = followed.known.borrow().clone();
    assert_eq!((known.failures, known.panics, script.opened.load(Ordering::Relaxed)), (2, 2, 3));
}

#[tokio::test(start_paused = true)]
async fn one_target_that_hangs_or_fails_delays_no_other() {
    let hangs = Script::new([Step::After(Duration::from_secs(100_000), Ok(1))]);
    let fails = Script::new((0..100).map(|_| Step::Now(Err(unreachable()))));
    let works = Script::new([Step::Now(Ok(3))]);
    let (hanging, _one) = start(&hangs, None);
    let (failing, _two) = start(&fails, None);
    let (mut working, _three) = start(&works, None);
    let begin = Instant::now();
    working.known.changed().await.unwrap();
    assert!(begin.elapsed() < Duration::from_millis(1));
    assert_eq!((number(&hanging), number(&failing), number(&working)), (None, None, Some(3)));
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_nobody_listens() {
    let (followed, run) = start(&Script::new([]), None);
    let other = followed.clone();
    drop(followed);
    sleep(LONG).await;
    assert!(!run.is_finished());
    drop(other);
    run.await.unwrap();
}

#[test]
fn a_target_that_is_wrong_is_refused_at_once() {
    let backend = Arc::new(Opened(Script::new([])));
    let wrong = Target { path: "wrong".to_owned(), ..target() };
    assert!(follow(wrong, backend, Backoff::default(), fastrand::Rng::with_seed(7), None, Outage::default()).is_err());
}

/// Waits for something that happens on the disk, in real time.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_start_while_the_backend_is_away_has_the_last_known_good() {
    let state = tempfile::tempdir().unwrap();
    let (disk, writer) = LastKnownGood::new(state.path());
    let writer = tokio::spawn(writer.run());
    let (mut followed, run) = start(&Script::new([Step::Now(Ok(1)), Step::Now(Ok(2))]), Some(disk.clone()));
    followed.known.changed().await.unwrap();
    eventually("both answers came", async || number(&followed) == Some(2)).await;
    drop((followed, disk));
    run.await.unwrap();
    writer.await.unwrap();

    let (disk, _writer) = LastKnownGood::new(state.path());
    let script = Script::new([Step::Now(Err(unreachable())), Step::After(Duration::from_millis(300), Ok(2))]);
    let (mut followed, _run) = start(&script, Some(disk));
    followed.known.changed().await.unwrap();
    assert_eq!(number(&followed), Some(2));
    assert_eq!(followed.known.borrow_and_update().answer.as_ref().unwrap().origin, Origin::Disk);
    eventually("the source answered", async || followed.known.borrow().answer.as_ref().unwrap().origin == Origin::Live)
        .await;
    assert!(!followed.known.has_changed().unwrap(), "the same snapshot was published twice");
}

#[tokio::test]
async fn what_came_from_disk_is_not_written_back_as_if_it_were_confirmed() {
    let state = tempfile::tempdir().unwrap();
    let (disk, writer) = LastKnownGood::new(state.path());
    let hours_ago = SystemTime::now() - Duration::from_hours(20);
    disk.keep(&target(), &Arc::new(snapshot(1)), hours_ago);
    drop(disk);
    writer.run().await;

    let (disk, writer) = LastKnownGood::new(state.path());
    let (mut followed, run) = start(&Script::new([Step::Now(Err(unreachable()))]), Some(disk.clone()));
    followed.known.changed().await.unwrap();
    eventually("the source failed", async || followed.known.borrow().failures > 0).await;
    assert!(followed.known.borrow().age(Instant::now()).unwrap() >= Duration::from_secs(20 * 3600 - 1));
    drop(followed);
    run.await.unwrap();
    assert!(disk.load(&target()).await.unwrap().age >= Duration::from_secs(20 * 3600 - 1));
    drop((disk, writer));
}

#[tokio::test]
async fn the_first_answer_is_written_even_if_the_disk_had_the_same() {
    let state = tempfile::tempdir().unwrap();
    let (disk, writer) = LastKnownGood::new(state.path());
    disk.keep(&target(), &Arc::new(snapshot(1)), SystemTime::now() - Duration::from_hours(20));
    drop(disk);
    writer.run().await;

    let (disk, writer) = LastKnownGood::new(state.path());
    let writer = tokio::spawn(writer.run());
    let (followed, run) = start(&Script::new([Step::Now(Ok(1))]), Some(disk.clone()));
    eventually("it was written anew", async || disk.load(&target()).await.unwrap().age < LONG).await;
    drop((followed, disk));
    run.await.unwrap();
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_waits_is_confirmed_on_disk_and_one_that_fails_is_not() {
    let state = tempfile::tempdir().unwrap();
    // The writer does not run, so what is to be written can be seen.
    let (disk, _writer) = LastKnownGood::new(state.path());
    let script = Script::new([Step::Now(Ok(1)), Step::After(CONFIRM * 3, Err(unreachable()))]);
    let (mut followed, _run) = start(&script, Some(disk.clone()));
    followed.known.changed().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(disk.forget(&target()), "the answer is to be written");
    assert!(!disk.forget(&target()));
    sleep(CONFIRM).await;
    assert!(disk.forget(&target()), "the source still waits, so what it said holds");
    sleep(CONFIRM * 3).await;
    disk.forget(&target());
    sleep(CONFIRM * 3).await;
    assert!(!disk.forget(&target()), "the source failed");
}

#[tokio::test(start_paused = true)]
async fn what_came_from_disk_is_not_confirmed_by_a_source_that_never_answered() {
    let state = tempfile::tempdir().unwrap();
    let (disk, writer) = LastKnownGood::new(state.path());
    disk.keep(&target(), &Arc::new(snapshot(1)), SystemTime::now());
    drop(disk);
    writer.run().await;

    let (disk, _writer) = LastKnownGood::new(state.path());
    let (mut followed, _run) = start(&Script::new([]), Some(disk.clone()));
    followed.known.changed().await.unwrap();
    sleep(CONFIRM * 3).await;
    assert_eq!(number(&followed), Some(1));
    assert!(!disk.forget(&target()));
}

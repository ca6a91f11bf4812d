//! What every backend must hold, as a suite that any backend is run through.
//!
//! A backend's test builds a [`Stage`]: the place that the backend asks (a directory, a fake server), and ways to break
//! it. [`run`] plays every case on a fresh stage and panics with the case's name where the backend is wrong. So a new
//! backend is one file, and its proof is one stage.
//!
//! The cases use real time, because they run against real places; each waits for a condition with a deadline.

use std::fmt;
use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::{Address, Backend, Endpoint, Error, Snapshot, Source, Target, async_trait};

#[cfg(test)]
mod scripted;

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Wait for something that must not come.
const QUIET: Duration = Duration::from_millis(300);

/// The place that a backend asks, under a test's control.
#[async_trait]
pub trait Stage: Send {
    /// Opens the backend on this place, anew for each call.
    fn backend(&self) -> Arc<dyn Backend>;

    /// The one target that the place knows.
    fn target(&self) -> Target;

    /// Makes the place list exactly these endpoints for the target. They differ in their addresses alone.
    async fn set(&mut self, endpoints: &[Endpoint]);

    /// Breaks the place, or says that it cannot be broken so.
    async fn play(&mut self, trouble: Trouble) -> Played;

    /// Ends the trouble; what the place lists then is what was set last.
    async fn recover(&mut self);
}

/// Ways in which a place fails its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Bytes that mean nothing.
    Garbage,
    /// More endpoints than [`Snapshot::MAX_ENDPOINTS`].
    Huge,
    /// One part of the answer is good and another one cannot be read.
    Partial,
    /// The place goes away and comes back as another instance: connections, descriptors and indexes are void.
    Restart,
    /// Answers come late, and in pieces, but within every limit.
    Slow,
    /// No answer.
    Unreachable,
}

/// Whether a stage could play a trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Played {
    /// It is in trouble now.
    Done,
    /// This kind of place has no such trouble.
    Impossible,
}

/// Runs every case, each on a fresh stage, and returns the troubles that the stage could not play.
pub async fn run<S: Stage>(mut stage: impl FnMut() -> S) -> Vec<Trouble> {
    the_first_call_answers_at_once(&mut stage()).await;
    a_call_waits_while_nothing_changes(&mut stage()).await;
    each_change_is_told(&mut stage()).await;
    an_empty_answer_is_an_answer(&mut stage()).await;
    two_sources_are_both_told(&mut stage()).await;
    a_call_that_is_dropped_loses_no_change(&mut stage()).await;
    let mut impossible = Vec::new();
    let mut note = |trouble, played| {
        if played == Played::Impossible {
            impossible.push(trouble);
        }
    };
    for trouble in [Trouble::Garbage, Trouble::Huge, Trouble::Partial, Trouble::Unreachable] {
        note(trouble, trouble_is_an_error(&mut stage(), trouble).await);
        trouble_at_the_start_is_an_error(&mut stage(), trouble).await;
    }
    note(Trouble::Restart, a_restart_is_survived(&mut stage()).await);
    note(Trouble::Slow, slow_answers_lose_no_change(&mut stage()).await);
    impossible
}

/// The first call says what is there, and a new source of the same backend does so too.
pub async fn the_first_call_answers_at_once(stage: &mut impl Stage) {
    let case = "the first call answers at once";
    stage.set(&endpoints(&[1, 2])).await;
    let backend = stage.backend();
    for _ in 0..2 {
        let mut source = open(case, backend.as_ref(), stage);
        assert_eq!(numbers(&ok(case, source.next()).await), [1, 2], "{case}");
    }
}

/// A call that returns without change returns the same again.
pub async fn a_call_waits_while_nothing_changes(stage: &mut impl Stage) {
    let case = "a call waits while nothing changes";
    stage.set(&endpoints(&[1])).await;
    let mut source = open(case, stage.backend().as_ref(), stage);
    let first = ok(case, source.next()).await;
    let until = Instant::now() + QUIET;
    let mut calls = 0;
    while let Ok(answer) = tokio::time::timeout_at(until, source.next()).await {
        assert_eq!(answer.as_ref(), Ok(&first), "{case}");
        calls += 1;
        assert!(calls < 20, "{case}: {calls} calls returned within {QUIET:?}");
    }
}

/// Endpoints that come, go and are replaced are told.
pub async fn each_change_is_told(stage: &mut impl Stage) {
    let case = "each change is told";
    stage.set(&endpoints(&[1])).await;
    let mut source = open(case, stage.backend().as_ref(), stage);
    ok(case, source.next()).await;
    for list in [&[1, 2, 3][..], &[3], &[4], &[1, 4]] {
        stage.set(&endpoints(list)).await;
        until(case, &mut source, list).await;
    }
}

/// That nobody is there is a success.
pub async fn an_empty_answer_is_an_answer(stage: &mut impl Stage) {
    let case = "an empty answer is an answer";
    stage.set(&[]).await;
    let mut source = open(case, stage.backend().as_ref(), stage);
    assert!(ok(case, source.next()).await.is_empty(), "{case}");
    stage.set(&endpoints(&[1])).await;
    until(case, &mut source, &[1]).await;
    stage.set(&[]).await;
    until(case, &mut source, &[]).await;
}

/// What one source took is not lost for another.
pub async fn two_sources_are_both_told(stage: &mut impl Stage) {
    let case = "two sources are both told";
    stage.set(&endpoints(&[1])).await;
    let backend = stage.backend();
    let (mut one, mut two) = (open(case, backend.as_ref(), stage), open(case, backend.as_ref(), stage));
    ok(case, one.next()).await;
    ok(case, two.next()).await;
    stage.set(&endpoints(&[2])).await;
    until(case, &mut one, &[2]).await;
    until(case, &mut two, &[2]).await;
}

/// A call may be dropped at any await.
pub async fn a_call_that_is_dropped_loses_no_change(stage: &mut impl Stage) {
    let case = "a call that is dropped loses no change";
    stage.set(&endpoints(&[1])).await;
    let mut source = open(case, stage.backend().as_ref(), stage);
    ok(case, source.next()).await;
    for last in 2..8_u8 {
        stage.set(&endpoints(&[last])).await;
        let mut told = Vec::new();
        for milliseconds in [0, 0, 1, 2, 5, 10, 20, 50, 90, 110, 130] {
            if let Ok(answer) = timeout(Duration::from_millis(milliseconds), source.next()).await {
                told = answer.map(|snapshot| numbers(&snapshot)).unwrap_or_default();
            }
        }
        if told != [last] {
            until(case, &mut source, &[last]).await;
        }
    }
}

/// Trouble is an error of its kind, never an empty or a changed answer, and it ends.
pub async fn trouble_is_an_error(stage: &mut impl Stage, trouble: Trouble) -> Played {
    let case = &format!("{trouble:?} is an error");
    stage.set(&endpoints(&[1, 2])).await;
    let mut source = open(case, stage.backend().as_ref(), stage);
    ok(case, source.next()).await;
    if stage.play(trouble).await == Played::Impossible {
        return Played::Impossible;
    }
    for _ in 0..2 {
        is_kind(case, trouble, &error(case, &mut source).await);
    }
    stage.recover().await;
    // Nothing changed, but the caller must learn that the trouble is over.
    until(case, &mut source, &[1, 2]).await;
    stage.set(&endpoints(&[3])).await;
    until(case, &mut source, &[3]).await;
    Played::Done
}

/// The first call of all is no exception.
pub async fn trouble_at_the_start_is_an_error(stage: &mut impl Stage, trouble: Trouble) {
    let case = &format!("{trouble:?} at the start is an error");
    stage.set(&endpoints(&[1, 2])).await;
    if stage.play(trouble).await == Played::Impossible {
        return;
    }
    let mut source = open(case, stage.backend().as_ref(), stage);
    let first = within(case, source.next()).await;
    assert!(first.is_err(), "{case}: {first:?}");
    stage.recover().await;
    until(case, &mut source, &[1, 2]).await;
}

/// A place that went away and came back is asked anew.
pub async fn a_restart_is_survived(stage: &mut impl Stage) -> Played {
    let case = "a restart is survived";
    stage.set(&endpoints(&[1])).await;
    let mut source = open(case, stage.backend().as_ref(), stage);
    ok(case, source.next()).await;
    for last in 2..4_u8 {
        if stage.play(Trouble::Restart).await == Played::Impossible {
            return Played::Impossible;
        }
        stage.recover().await;
        stage.set(&endpoints(&[last])).await;
        until(case, &mut source, &[last]).await;
    }
    Played::Done
}

/// A change that happens while an answer is on its way is told by the next one.
pub async fn slow_answers_lose_no_change(stage: &mut impl Stage) -> Played {
    let case = "slow answers lose no change";
    stage.set(&endpoints(&[1])).await;
    if stage.play(Trouble::Slow).await == Played::Impossible {
        return Played::Impossible;
    }
    let mut source = open(case, stage.backend().as_ref(), stage);
    let target = stage.target();
    let reader = tokio::spawn(async move {
        until("slow answers lose no change", &mut source, &[5]).await;
    });
    for last in 2..=5_u8 {
        stage.set(&endpoints(&[last])).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let done = reader.await;
    assert!(done.is_ok(), "{case}: {target}: the last change was lost");
    Played::Done
}

/// Returns endpoints that are told apart by a number, on addresses that nobody has (RFC 5737).
fn endpoints(numbers: &[u8]) -> Vec<Endpoint> {
    numbers.iter().map(|number| Endpoint::new(Address::Tcp((Ipv4Addr::new(192, 0, 2, *number), 80).into()))).collect()
}

fn numbers(snapshot: &Snapshot) -> Vec<u8> {
    snapshot
        .endpoints()
        .iter()
        .filter_map(|endpoint| match endpoint.address {
            Address::Tcp(std::net::SocketAddr::V4(address)) => Some(address.ip().octets()[3]),
            _ => None,
        })
        .collect()
}

fn open(case: &str, backend: &dyn Backend, stage: &impl Stage) -> Box<dyn Source> {
    match backend.source(&stage.target()) {
        Ok(source) => source,
        Err(error) => panic!("{case}: {error}"),
    }
}

async fn within<T>(case: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = timeout(PATIENCE, future).await else { panic!("{case}: nothing came within {PATIENCE:?}") };
    value
}

async fn ok<E: fmt::Display>(case: &str, call: impl Future<Output = Result<Snapshot, E>>) -> Snapshot {
    match within(case, call).await {
        Ok(snapshot) => snapshot,
        Err(error) => panic!("{case}: {error}"),
    }
}

/// Calls until the answer is this list. Errors and older answers may come before it.
async fn until(case: &str, source: &mut Box<dyn Source>, list: &[u8]) {
    let mut before = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Ok(answer) = tokio::time::timeout_at(deadline, source.next()).await else {
            panic!("{case}: {list:?} never came, but {before:?}");
        };
        match answer {
            Ok(snapshot) if numbers(&snapshot) == list => return,
            Ok(snapshot) => before.push(format!("{:?}", numbers(&snapshot))),
            Err(error) => before.push(error.to_string()),
        }
        // A caller backs off after an error; the suite does so a little.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Calls until there is an error. Until then nothing but what was known (1 and 2) may be told.
async fn error(case: &str, source: &mut Box<dyn Source>) -> Error {
    loop {
        match within(case, source.next()).await {
            Ok(snapshot) => assert_eq!(numbers(&snapshot), [1, 2], "{case}: told as an answer"),
            Err(error) => return error,
        }
    }
}

fn is_kind(case: &str, trouble: Trouble, error: &Error) {
    let fits = match trouble {
        Trouble::Garbage | Trouble::Huge => matches!(error, Error::Malformed(_)),
        Trouble::Unreachable => matches!(error, Error::Unreachable(_)),
        Trouble::Partial | Trouble::Restart | Trouble::Slow => true,
    };
    assert!(fits, "{case}: of the wrong kind: {error}");
}

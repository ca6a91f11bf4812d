//! Follows the objects that a backend keeps beside endpoints, under the same rules: an error keeps what is known.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::SystemTime;

use meshless_discovery::{Backend, ObjectSource};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Backoff, Failure, Pace, Trouble, contained};

/// Everything known about the objects of a backend at this moment.
#[derive(Debug, Clone, Default)]
pub struct KnownObjects {
    /// The last good answer; `None` until there was one. The same `Arc` as long as nothing changed.
    pub objects: Option<Arc<Vec<Value>>>,
    /// The outage that goes on; `None` while the source answers or waits.
    pub failure: Option<Failure>,
    /// Answers so far, unchanged ones included.
    pub answers: u64,
    /// Failures so far, panics included.
    pub failures: u64,
}

/// Follows the objects of the backend called `name`: returns what is known from now on, which wakes for other objects
/// only, and the future that keeps it so. `None`: the backend reads none.
///
/// The future never fails and ends once every clone of what is known is dropped. `random` is for jitter.
pub fn follow_objects(
    name: &str,
    backend: Arc<dyn Backend>,
    backoff: Backoff,
    random: fastrand::Rng,
) -> Option<(watch::Receiver<KnownObjects>, impl Future<Output = ()> + Send + 'static)> {
    let source = backend.objects()?;
    let (publish, known) = watch::channel(KnownObjects::default());
    let follower = Follower { name: name.to_owned(), backend, source, backoff, random, publish };
    let follow = async move {
        let listeners = follower.publish.clone();
        tokio::select! {
            () = listeners.closed() => {}
            () = follower.run() => {}
        }
    };
    Some((known, follow))
}

struct Follower {
    name: String,
    backend: Arc<dyn Backend>,
    source: Box<dyn ObjectSource>,
    backoff: Backoff,
    random: fastrand::Rng,
    publish: watch::Sender<KnownObjects>,
}

impl Follower {
    async fn run(mut self) {
        let mut pace = Pace::new();
        loop {
            match contained(self.source.next()).await {
                Ok(objects) => {
                    self.backoff.reset();
                    self.answered(objects);
                    pace.answered().await;
                }
                Err(trouble) => {
                    let wait = trouble.wait(&mut self.backoff, &mut self.random);
                    self.failed(&trouble);
                    if matches!(trouble, Trouble::Panic(_)) {
                        self.reopen();
                    }
                    sleep(wait).await;
                }
            }
        }
    }

    fn answered(&self, objects: Vec<Value>) {
        self.publish.send_if_modified(|known| {
            if let Some(failure) = known.failure.take() {
                tracing::info!(
                    backend = %self.name,
                    failures = failure.count,
                    failed_seconds = failure.since.elapsed().as_secs(),
                    "The objects of a backend are read again."
                );
            }
            known.answers = known.answers.saturating_add(1);
            if known.objects.as_ref().is_some_and(|before| **before == objects) {
                return false;
            }
            tracing::debug!(backend = %self.name, objects = objects.len(), "The objects changed.");
            known.objects = Some(Arc::new(objects));
            true
        });
    }

    fn failed(&self, trouble: &Trouble) {
        self.publish.send_if_modified(|known| {
            known.failures = known.failures.saturating_add(1);
            let first = known.failure.is_none();
            let failure = known.failure.get_or_insert_with(|| Failure::first(Instant::now()));
            failure.count = failure.count.saturating_add(1);
            failure.at = SystemTime::now();
            failure.kind = trouble.label();
            failure.error = trouble.to_string();
            if first {
                tracing::warn!(
                    backend = %self.name,
                    error = %trouble,
                    keeps_objects = known.objects.as_ref().map_or(0, |objects| objects.len()),
                    "The objects of a backend cannot be read, keeping what is known."
                );
            } else {
                tracing::debug!(backend = %self.name, error = %trouble, "The objects still cannot be read.");
            }
            false
        });
    }

    /// A source that panicked may be in any state; another one takes its place.
    fn reopen(&mut self) {
        if let Ok(Some(source)) = catch_unwind(AssertUnwindSafe(|| self.backend.objects())) {
            self.source = source;
        } else {
            tracing::error!(backend = %self.name, "The source of objects could not be opened anew.");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::time::Duration;

    use meshless_discovery::{Error, Source, Target, TargetError, async_trait};
    use serde_json::json;

    use super::*;

    type Line = Option<Result<Vec<Value>, Error>>;

    /// Answers what it was told to; `None` is a panic. Then it waits for ever.
    #[derive(Debug, Default)]
    struct Script(Mutex<VecDeque<Line>>);

    #[derive(Debug)]
    struct Scripted(Arc<Script>);

    #[async_trait]
    impl Backend for Scripted {
        fn source(&self, _: &Target) -> Result<Box<dyn Source>, TargetError> {
            Err(TargetError("none".to_owned()))
        }

        fn objects(&self) -> Option<Box<dyn ObjectSource>> {
            Some(Box::new(Self(self.0.clone())))
        }
    }

    #[async_trait]
    impl ObjectSource for Scripted {
        async fn next(&mut self) -> Result<Vec<Value>, Error> {
            let next = self.0.0.lock().unwrap().pop_front();
            match next {
                None => std::future::pending().await,
                Some(answer) => answer.expect("told to panic"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_and_a_panic_keep_the_objects_that_were_known() {
        let gone = || Some(Err(Error::Unreachable("away".to_owned())));
        let script = Script(Mutex::new(VecDeque::from([
            Some(Ok(vec![json!(1)])),
            gone(),
            None,
            gone(),
            Some(Ok(vec![json!(1)])),
            Some(Ok(vec![json!(2)])),
        ])));
        let backend = Arc::new(Scripted(Arc::new(script)));
        let (mut known, follow) =
            follow_objects("cluster", backend, Backoff::default(), fastrand::Rng::with_seed(1)).unwrap();
        let seen = async {
            let mut seen = Vec::new();
            while seen.len() < 2 {
                known.changed().await.unwrap();
                seen.push(known.borrow_and_update().objects.clone().unwrap());
            }
            seen
        };
        let seen = tokio::select! {
            seen = seen => seen,
            () = follow => panic!("it ended"),
            () = sleep(Duration::from_hours(1)) => panic!("too late"),
        };
        assert_eq!(*seen[0], [json!(1)]);
        assert_eq!(*seen[1], [json!(2)], "what did not change wakes nobody");
        let known = known.borrow();
        assert_eq!((known.answers, known.failures, known.failure.is_none()), (3, 3, true));
    }
}

use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;

use super::super::client::BoxError;
use super::super::otlp::tests::trace;
use super::super::{Switch, Tracer};
use super::*;
use crate::telemetry::metrics::Value;
use crate::telemetry::traces::Resource;

/// A collector that answers as it is told, and 200 after that.
#[derive(Debug, Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    answers: Vec<Reply>,
    posted: Vec<(Instant, Bytes)>,
}

#[derive(Debug, Clone)]
enum Reply {
    Answer(Answer),
    Broken,
    Never,
}

fn status(status: u16) -> Reply {
    Reply::Answer(Answer { status: StatusCode::from_u16(status).unwrap(), retry_after: None, body: Bytes::new() })
}

impl Post for Scripted {
    async fn post(&mut self, _: &Arc<Collector>, body: Bytes) -> Result<Answer, BoxError> {
        let reply = {
            let mut script = self.0.lock().unwrap();
            script.posted.push((Instant::now(), body));
            if script.answers.is_empty() { status(200) } else { script.answers.remove(0) }
        };
        match reply {
            Reply::Answer(answer) => Ok(answer),
            Reply::Broken => Err("it broke".into()),
            Reply::Never => std::future::pending().await,
        }
    }
}

struct Bench {
    tracer: Tracer,
    switch: Switch,
    collector: Scripted,
    registry: Arc<Registry>,
    work: JoinHandle<()>,
}

fn bench(answers: Vec<Reply>, queue: usize) -> Bench {
    let registry = Registry::new(std::time::Instant::now());
    let (tracer, switch, exporter) = super::super::bounded(&registry, queue);
    let collector = Scripted::default();
    collector.0.lock().unwrap().answers = answers;
    let Work { waiting, settings, .. } = exporter.0;
    let work = tokio::spawn(Work::new(waiting, settings, collector.clone(), &registry).run());
    switch.configure(Some(Arc::new(Collector {
        tls: None,
        host: "collector".to_owned(),
        port: 4318,
        path: "/v1/traces".to_owned(),
        headers: http::HeaderMap::new(),
        resource: Resource::new("edge", None),
        threshold: u64::MAX,
    })));
    Bench { tracer, switch, collector, registry, work }
}

impl Bench {
    fn posted(&self) -> Vec<(Instant, Bytes)> {
        self.collector.0.lock().unwrap().posted.clone()
    }

    fn count(&self, name: &str, labels: &[&str]) -> u64 {
        match self.registry.gather(std::time::Instant::now()).value(name, labels) {
            Some(Value::Count(count)) => *count,
            None => 0,
            other => panic!("{other:?}"),
        }
    }

    fn exported(&self) -> u64 {
        self.count("meshless_traces_exported_total", &[])
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.count("meshless_traces_dropped_total", &[reason])
    }

    async fn until(&self, what: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_mins(10);
        while !what(self) {
            assert!(Instant::now() < deadline, "waited in vain: {:?}", self.posted().len());
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_leaves_when_its_first_trace_has_waited_long_enough() {
    let bench = bench(vec![], 100);
    let began = Instant::now();
    for _ in 0..3 {
        bench.tracer.record(trace());
        sleep(Duration::from_secs(1)).await;
    }
    bench.until(|bench| bench.exported() > 0).await;
    let posted = bench.posted();
    assert_eq!((posted.len(), bench.exported()), (1, 3 * trace().spans()));
    let waited = posted[0].0 - began;
    assert!((DELAY..DELAY + Duration::from_millis(200)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_leaves_at_once() {
    let bench = bench(vec![], 2000);
    let began = Instant::now();
    (0..600).for_each(|_| bench.tracer.record(trace()));
    bench.until(|bench| bench.exported() >= BATCH).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(bench.posted().len() > 1);
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_hangs_fills_the_queue_and_the_newest_are_dropped_and_counted() {
    let bench = bench(vec![Reply::Never], 10);
    bench.tracer.record(trace());
    bench.until(|bench| !bench.posted().is_empty()).await;
    (0..15).for_each(|_| bench.tracer.record(trace()));
    assert_eq!(bench.dropped("full"), 5 * trace().spans());
    // It gives up after a while, and what waited is sent.
    bench.until(|bench| bench.exported() == 11 * trace().spans()).await;
    assert_eq!(bench.dropped("unreachable"), 0);
}

#[tokio::test(start_paused = true)]
async fn the_pause_that_a_collector_asks_for_is_kept() {
    let busy = Answer {
        status: StatusCode::TOO_MANY_REQUESTS,
        retry_after: Some(Duration::from_secs(42)),
        body: Bytes::new(),
    };
    let bench = bench(vec![Reply::Answer(busy)], 10);
    bench.tracer.record(trace());
    bench.until(|bench| bench.exported() > 0).await;
    let posted = bench.posted();
    assert!(posted[1].0 - posted[0].0 >= Duration::from_secs(42));
    assert_eq!(posted[0].1, posted[1].1);
}

#[tokio::test(start_paused = true)]
async fn only_what_may_be_sent_again_is() {
    let refusing = bench(vec![status(400)], 10);
    refusing.tracer.record(trace());
    refusing.until(|bench| bench.dropped("refused") == trace().spans()).await;
    sleep(Duration::from_mins(2)).await;
    assert_eq!(refusing.posted().len(), 1);

    let silent = bench(vec![Reply::Broken; 5], 10);
    silent.tracer.record(trace());
    silent.until(|bench| bench.dropped("unreachable") == trace().spans()).await;
    assert_eq!(silent.posted().len(), 5);
    // And the next batch goes out as ever.
    silent.tracer.record(trace());
    silent.until(|bench| bench.exported() == trace().spans()).await;
}

#[tokio::test(start_paused = true)]
async fn spans_that_a_collector_refuses_of_a_batch_are_counted() {
    // ExportTraceServiceResponse { partial_success { rejected_spans: 1, error_message: "no" } }
    let body = Bytes::from_static(b"\x0a\x06\x08\x01\x12\x02no");
    let partial = Answer { status: StatusCode::OK, retry_after: None, body };
    let bench = bench(vec![Reply::Answer(partial)], 10);
    bench.tracer.record(trace());
    bench.until(|bench| bench.dropped("refused") == 1).await;
    assert_eq!(bench.exported(), trace().spans() - 1);
}

#[tokio::test(start_paused = true)]
async fn the_end_sends_what_waits_at_once() {
    let bench = bench(vec![], 10);
    (0..5).for_each(|_| bench.tracer.record(trace()));
    let began = Instant::now();
    bench.switch.close();
    bench.work.await.unwrap();
    assert!(began.elapsed() < LAST_WORDS);
    assert_eq!(bench.collector.0.lock().unwrap().posted.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_no_longer_than_a_second_for_a_collector_that_hangs() {
    let mut bench = bench(vec![Reply::Never], 10);
    bench.tracer.record(trace());
    bench.until(|bench| !bench.posted().is_empty()).await;
    (0..3).for_each(|_| bench.tracer.record(trace()));
    let began = Instant::now();
    bench.switch.close();
    (&mut bench.work).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), LAST_WORDS.as_secs());
    assert_eq!(bench.dropped("shutdown"), 4 * trace().spans());
}

#[tokio::test(start_paused = true)]
async fn the_end_cuts_a_pause_short_and_tries_once_more() {
    let bench = bench(vec![status(503)], 10);
    bench.tracer.record(trace());
    bench.until(|bench| !bench.posted().is_empty()).await;
    bench.switch.close();
    bench.work.await.unwrap();
    assert_eq!(bench.collector.0.lock().unwrap().posted.len(), 2);
}

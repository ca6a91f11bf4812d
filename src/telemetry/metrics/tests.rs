use std::rc::Rc;
use std::sync::Barrier;
use std::thread;

use http::StatusCode;

use super::*;

static COUNTED: Family<Counts, 1> =
    Family { name: "counted_total", help: "Counts.", labels: ["service"], kind: Counts };
static LEVELLED: Family<Gauges, 1> = Family { name: "levelled", help: "Levels.", labels: ["service"], kind: Gauges };

const TIMES: Times =
    Times { first_byte: Duration::from_millis(3), added: Duration::from_micros(70), total: Duration::from_millis(4) };

fn count(samples: &Samples, name: &str, labels: &[&str]) -> u64 {
    match samples.value(name, labels) {
        Some(Value::Count(count)) => *count,
        other => panic!("{name} {labels:?}: {other:?}"),
    }
}

fn number(samples: &Samples, name: &str, labels: &[&str]) -> f64 {
    match samples.value(name, labels) {
        Some(Value::Number(number)) => *number,
        other => panic!("{name} {labels:?}: {other:?}"),
    }
}

#[test]
fn what_workers_count_at_once_is_added_up_and_nothing_is_lost() {
    const WORKERS: u64 = 4;
    const EACH: u64 = 50_000;
    let now = Instant::now();
    let registry = Registry::new(now);
    let begin = Barrier::new(usize::try_from(WORKERS).unwrap() + 1);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                scope.spawn(|| {
                    let counter = registry.counter(&COUNTED, ["web"]);
                    begin.wait();
                    for _ in 0..EACH {
                        counter.increment();
                    }
                })
            })
            .collect();
        begin.wait();
        // Scrapes in between see it rise, never fall, while workers end and their counts are folded in.
        let mut last = 0;
        while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
            let seen = count(&registry.gather(now), "counted_total", &["web"]);
            assert!(seen >= last, "{seen} after {last}");
            last = seen;
        }
    });
    assert_eq!(count(&registry.gather(now), "counted_total", &["web"]), WORKERS * EACH);
}

#[test]
fn a_series_without_an_owner_is_listed_ten_minutes_and_then_forgotten() {
    let now = Instant::now();
    let registry = Registry::new(now);
    let counter = registry.counter(&COUNTED, ["web"]);
    counter.add(3);
    drop(counter);
    assert_eq!(count(&registry.gather(now), "counted_total", &["web"]), 3);
    let later = now + Duration::from_secs(599);
    assert_eq!(count(&registry.gather(later), "counted_total", &["web"]), 3);
    assert!(registry.gather(now + Registry::RETENTION).value("counted_total", &["web"]).is_none());
}

#[test]
fn a_series_that_finds_a_new_owner_goes_on_from_where_it_was() {
    let now = Instant::now();
    let registry = Registry::new(now);
    registry.counter(&COUNTED, ["web"]).add(3);
    registry.gather(now);
    let counter = registry.counter(&COUNTED, ["web"]);
    counter.increment();
    let much_later = now + Registry::RETENTION * 3;
    assert_eq!(count(&registry.gather(much_later), "counted_total", &["web"]), 4);
}

#[test]
fn handles_that_come_and_go_leave_no_shards_behind_without_a_scrape() {
    let registry = Registry::new(Instant::now());
    for _ in 0..1000 {
        registry.counter(&COUNTED, ["web"]).increment();
    }
    let state = Arc::clone(&lock(&registry.families)["counted_total"]);
    let shards = lock(&state.series).values().map(|series| series.shards.len()).sum::<usize>();
    assert_eq!(shards, 1);
    assert_eq!(count(&registry.gather(Instant::now()), "counted_total", &["web"]), 1000);
}

#[test]
fn a_family_that_is_full_counts_the_rest_as_other_and_tells() {
    let now = Instant::now();
    let registry = Registry::bounded(now, 2);
    let handles: Vec<_> = ["a", "b", "c", "d"].map(|service| registry.counter(&COUNTED, [service])).into();
    handles.iter().for_each(Counter::increment);
    let samples = registry.gather(now);
    assert!(samples.value("counted_total", &["c"]).is_none());
    assert_eq!(count(&samples, "counted_total", &["other"]), 2);
    assert_eq!(count(&samples, "meshless_metric_overflow_total", &["counted_total"]), 2);
}

#[test]
fn a_full_family_makes_room_by_forgetting_what_nobody_owns() {
    let now = Instant::now();
    let registry = Registry::bounded(now, 2);
    registry.counter(&COUNTED, ["gone"]).increment();
    let _kept = registry.counter(&COUNTED, ["kept"]);
    let new = registry.counter(&COUNTED, ["new"]);
    new.increment();
    let samples = registry.gather(now);
    assert_eq!(count(&samples, "counted_total", &["new"]), 1);
    assert!(samples.value("counted_total", &["other"]).is_none());
}

#[test]
fn levels_are_added_up_and_forgotten_with_their_owner() {
    let now = Instant::now();
    let registry = Registry::new(now);
    let (first, second) = (registry.level(&LEVELLED, ["web"]), registry.level(&LEVELLED, ["web"]));
    first.up();
    first.up();
    second.up();
    second.down();
    second.down();
    assert!((number(&registry.gather(now), "levelled", &["web"]) - 1.0).abs() < f64::EPSILON);
    drop((first, second));
    assert!(registry.gather(now).value("levelled", &["web"]).is_none());
}

#[test]
fn an_age_rises_from_the_first_question_is_0_while_a_backend_answers_and_rises_again_from_its_first_error() {
    let now = Instant::now();
    let registry = Registry::new(now);
    let series = ControlMetrics::new(&registry).discovery("consul", "consul/web", now);
    let age = |at| number(&registry.gather(at), "meshless_discovery_snapshot_age_seconds", &["consul", "consul/web"]);
    let later = now + Duration::from_secs(30);
    assert!((age(later) - 30.0).abs() < 0.01);
    series.answered();
    let quiet = later + Duration::from_hours(5);
    assert!(age(quiet) < 0.01, "a target that does not change is not old");
    series.failed("unreachable", quiet);
    series.failed("unreachable", quiet + Duration::from_secs(10));
    assert!((age(quiet + Duration::from_secs(20)) - 20.0).abs() < 0.01);
    series.answered();
    assert!(age(quiet + Duration::from_secs(30)) < 0.01);
    series.restored(later, Duration::from_hours(2));
    assert!((age(later) - 7200.0).abs() < 0.01);
}

#[test]
fn a_refused_reload_is_seen_until_the_next_good_one() {
    let now = Instant::now();
    let registry = Registry::new(now);
    let control = ControlMetrics::new(&registry);
    control.started(1);
    control.reload_refused();
    let samples = registry.gather(now);
    assert_eq!(count(&samples, "meshless_config_reload_total", &["refused"]), 1);
    assert!(number(&samples, "meshless_config_last_reload_success", &[]).abs() < f64::EPSILON);
    control.reload_applied(2);
    let samples = registry.gather(now);
    assert!((number(&samples, "meshless_config_last_reload_success", &[]) - 1.0).abs() < f64::EPSILON);
    assert!((number(&samples, "meshless_config_version", &[]) - 2.0).abs() < f64::EPSILON);
}

fn outcome(status: StatusCode, error: &'static str) -> Outcome {
    Outcome { status, grpc_status: None, classification: Classification::of(status, None), error }
}

#[test]
fn a_request_is_counted_by_how_it_ended() {
    let now = Instant::now();
    let registry = Registry::new(now);
    let series = WorkerMetrics::new(&registry).request(Direction::Outbound, "in", "web");
    for (status, error) in [
        (StatusCode::OK, ""),
        (StatusCode::SERVICE_UNAVAILABLE, "no-endpoint"),
        (StatusCode::OK, ""),
        (StatusCode::OK, "reset"),
    ] {
        series.begin();
        series.end(outcome(status, error), &TIMES);
    }
    let samples = registry.gather(now);
    assert_eq!(count(&samples, "request_total", &["outbound", "in", "web"]), 4);
    let ended = |status, classification, error| {
        count(&samples, "response_total", &["outbound", "in", "web", status, classification, "", error])
    };
    assert_eq!(ended("200", "success", ""), 2);
    assert_eq!(ended("200", "success", "reset"), 1);
    assert_eq!(ended("503", "failure", "no-endpoint"), 1);
    match samples.value("response_latency_ms", &["outbound", "in", "web"]) {
        Some(Value::Distribution(distribution)) => assert_eq!((distribution.counts[2], distribution.sum), (4, 12_000)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn statuses_that_an_endpoint_makes_up_are_bounded() {
    let now = Instant::now();
    let registry = Registry::new(now);
    let series = WorkerMetrics::new(&registry).request(Direction::Outbound, "in", "web");
    for status in 200..500 {
        series.end(outcome(StatusCode::from_u16(status).unwrap(), ""), &TIMES);
    }
    let ok = outcome(StatusCode::OK, "");
    series.end(Outcome { grpc_status: Some(999), ..ok }, &TIMES);
    let samples = registry.gather(now);
    let listed = samples.families().find(|family| family.description.name == "response_total").unwrap();
    assert_eq!(listed.samples.len(), RequestSeries::MOST_OUTCOMES + 2);
    let other = ["outbound", "in", "web", "other", "success", "", ""];
    assert_eq!(count(&samples, "response_total", &other), 300 - RequestSeries::MOST_OUTCOMES as u64);
    let made_up = ["outbound", "in", "web", "other", "success", "other", ""];
    assert_eq!(count(&samples, "response_total", &made_up), 1);
}

#[test]
fn exchanges_are_classified_as_linkerd_does() {
    for (status, grpc_status, expected) in [
        (200, None, Classification::Success),
        (404, None, Classification::Success),
        (503, None, Classification::Failure),
        (200, Some(0), Classification::Success),
        (200, Some(7), Classification::Success),
        (200, Some(14), Classification::Failure),
    ] {
        assert_eq!(Classification::of(StatusCode::from_u16(status).unwrap(), grpc_status), expected);
    }
}

#[test]
fn a_connection_is_open_until_its_guard_goes() {
    let now = Instant::now();
    let registry = Registry::new(now);
    let series: Rc<TcpSeries> = WorkerMetrics::new(&registry).source(Direction::Inbound, "in");
    let labels = ["inbound", "src", "in", ""];
    let connection = series.open();
    let _other = series.open();
    connection.read(10);
    connection.written(5);
    drop(connection);
    let samples = registry.gather(now);
    assert!((number(&samples, "tcp_open_connections", &labels) - 1.0).abs() < f64::EPSILON);
    assert_eq!(count(&samples, "tcp_open_total", &labels), 2);
    assert_eq!(count(&samples, "tcp_close_total", &labels), 1);
    assert_eq!(count(&samples, "tcp_read_bytes_total", &labels), 10);
    assert_eq!(count(&samples, "tcp_write_bytes_total", &labels), 5);
}

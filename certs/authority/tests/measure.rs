//! How fast an authority issues: a measurement, not a test. `cargo test -p meshless-certs --release measure -- --ignored
//! --nocapture` prints it.

use std::time::{Duration, Instant};

use super::bench::{Bench, key, request};
use crate::authority::issue::{Asked, Claim};

/// How many are issued.
const MANY: u32 = 1_000;

#[test]
#[ignore = "a measurement: it says nothing of right and wrong"]
fn measure_how_fast_certificates_are_issued() {
    let bench = Bench::with(
        |options| {
            options.limits.per_second = 1_000_000;
            options.limits.per_identity = 1_000_000;
        },
        None,
    );
    let requests: Vec<Vec<u8>> = (0..MANY).map(|_| request(&key())).collect();
    let mut took = Vec::new();
    let begin = Instant::now();
    for csr in &requests {
        let one = Instant::now();
        let asked = Asked { service: Some("web".to_owned()), source: None, method: "embedded" };
        let csr = crate::authority::csr::Csr::parse(csr).unwrap();
        bench.desk().answer(&asked, Ok((csr, Claim::Embedded)), bench.desk().now()).unwrap();
        took.push(one.elapsed());
    }
    let all = begin.elapsed();
    took.sort();
    let share = |percent: usize| took.get((took.len() - 1) * percent / 100).copied().unwrap_or_default();
    println!(
        "{MANY} certificates in {:.2} s: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
        all.as_secs_f64(),
        f64::from(MANY) / all.as_secs_f64(),
        milliseconds(share(50)),
        milliseconds(share(99)),
        milliseconds(share(100)),
    );
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

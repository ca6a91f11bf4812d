//! Begins to drain when AWS says that it takes this instance back (docs/decisions/0143-a-notice-drains-once.md).

use std::sync::Arc;
use std::time::Duration;

use meshless_platforms::{MetadataError, Notice, NoticeKind, Notices, Platform, Surroundings};
use tokio::time::{MissedTickBehavior, interval};

use super::status::Status;

/// How often AWS is asked: as often as it recommends.
const EVERY: Duration = Duration::from_secs(5);

/// Waits for a notice and begins to drain. Returns then, and at once where no notice can come.
pub(super) async fn drain_on_notice(surroundings: Arc<dyn Surroundings>, status: Arc<Status>) {
    // Tasks and pods on such a machine are drained by who started them.
    if surroundings.whereabouts().is_none_or(|place| place.platform != Platform::Ec2) {
        return;
    }
    // Where it may not be asked, the start has said so.
    let Ok(mut notices) = Notices::open(&*surroundings) else { return };
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch::default();
    loop {
        tick.tick().await;
        let looked = match watch.is_spot {
            true => notices.look().await,
            false => match notices.are_given().await {
                Ok(false) => return,
                Ok(true) => notices.look().await,
                Err(error) => Err(error),
            },
        };
        if let Some(notice) = watch.news(looked, |kind| status.drains_on(kind)) {
            let Notice { kind, action, time } = notice;
            tracing::warn!(notice = %kind, action, time, "AWS takes this instance back: draining.");
            status.begin_drain(true);
            return;
        }
    }
}

/// What was seen until now.
#[derive(Debug, Default)]
struct Watch {
    is_spot: bool,
    is_failing: bool,
    /// Seen and decided on.
    seen: Vec<Notice>,
}

impl Watch {
    /// Takes in one look; returns the notice to drain for.
    fn news(
        &mut self,
        looked: Result<Vec<Notice>, MetadataError>,
        drains_on: impl Fn(NoticeKind) -> bool,
    ) -> Option<Notice> {
        let found = match looked {
            Ok(found) => found,
            Err(error) => {
                if !self.is_failing {
                    tracing::warn!(%error, "The instance metadata does not answer; notices of AWS are not seen.");
                }
                self.is_failing = true;
                return None;
            }
        };
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("The instance metadata answers again.");
        }
        // A notice that stood before we began is not for us: who starts us again would start us for ever.
        let is_first = !std::mem::replace(&mut self.is_spot, true);
        for notice in found {
            if self.seen.contains(&notice) {
                continue;
            }
            self.seen.push(notice.clone());
            let Notice { kind, action, time } = &notice;
            if is_first {
                tracing::warn!(notice = %kind, action, time, "AWS gave a notice before this process began; it does not drain.");
            } else if drains_on(*kind) {
                return Some(notice);
            } else {
                tracing::info!(notice = %kind, action, time, "AWS gave a notice that shutdown.notices leaves out.");
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(kind: NoticeKind) -> Notice {
        Notice { kind, action: "terminate".into(), time: "2026-11-23T08:02:00Z".into() }
    }

    fn failure() -> Result<Vec<Notice>, MetadataError> {
        Err(MetadataError::Unreachable { url: "u".into(), reason: "r".into() })
    }

    #[test]
    fn a_notice_that_comes_while_we_run_drains() {
        let mut watch = Watch::default();
        assert_eq!(watch.news(Ok(Vec::new()), |_| true), None);
        let end = notice(NoticeKind::Interruption);
        assert_eq!(watch.news(Ok(vec![end.clone()]), |_| true), Some(end));
    }

    #[test]
    fn a_notice_that_stood_before_does_not_and_the_next_one_does() {
        let (old, new) = (notice(NoticeKind::Rebalance), notice(NoticeKind::Interruption));
        let mut watch = Watch::default();
        // A look that failed is no look.
        assert_eq!(watch.news(failure(), |_| true), None);
        assert_eq!(watch.news(Ok(vec![old.clone()]), |_| true), None);
        assert_eq!(watch.news(Ok(vec![old.clone()]), |_| true), None);
        assert_eq!(watch.news(failure(), |_| true), None);
        assert_eq!(watch.news(Ok(vec![new.clone(), old]), |_| true), Some(new));
    }

    #[test]
    fn a_notice_that_is_left_out_does_not_drain() {
        let mut watch = Watch::default();
        watch.news(Ok(Vec::new()), |_| true);
        let only = |kind| kind == NoticeKind::Interruption;
        assert_eq!(watch.news(Ok(vec![notice(NoticeKind::Rebalance)]), only), None);
        let both = vec![notice(NoticeKind::Interruption), notice(NoticeKind::Rebalance)];
        assert_eq!(watch.news(Ok(both), only), Some(notice(NoticeKind::Interruption)));
    }
}

use proptest::prelude::*;

use super::*;

const TTL: Duration = Duration::from_secs(15);

/// A registry that answers as it is told, and the time.
struct World {
    course: Course,
    start: Instant,
    now: Instant,
    random: fastrand::Rng,
    /// What the registry says to each write.
    answer: fn(Write) -> Result<(), Error>,
    written: Vec<(Duration, Write)>,
}

fn unreachable() -> Error {
    Error::Unreachable("connection refused".to_owned())
}

fn gone() -> Error {
    Error::Gone("unknown check".to_owned())
}

impl World {
    fn new(is_checked: bool) -> Self {
        let now = Instant::now();
        let course = Course::new(TTL, is_checked);
        Self { course, start: now, now, random: fastrand::Rng::with_seed(7), answer: |_| Ok(()), written: Vec::new() }
    }

    /// One that is registered and has cleaned up.
    fn settled(is_checked: bool) -> Self {
        let mut world = Self::new(is_checked);
        world.course.ready();
        world.course.checked(Checked::Good);
        world.settle();
        assert_eq!(world.labels(), ["announce", "clean"]);
        world.written.clear();
        world
    }

    /// Does everything that is due now; returns how long nothing is.
    fn settle(&mut self) -> Option<Instant> {
        for _ in 0..20 {
            match self.course.next(self.now) {
                Next::Write(write) => {
                    self.written.push((self.now - self.start, write));
                    let answer = (self.answer)(write);
                    self.course.done(answer.as_ref().copied(), self.now, &mut self.random);
                }
                Next::Wait(until) => return until,
                Next::Left => return None,
            }
        }
        panic!("it never rests: {:?}", self.written);
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(until) = self.settle().filter(|until| *until <= end) {
            assert!(until > self.now, "it waits for what is past");
            self.now = until;
        }
        self.now = end;
        self.settle();
    }

    fn labels(&self) -> Vec<&'static str> {
        self.written.iter().map(|(_, write)| write.label()).collect()
    }

    fn count(&self, is_meant: impl Fn(Write) -> bool) -> usize {
        self.written.iter().filter(|(_, write)| is_meant(*write)).count()
    }

    /// Writes that reach the leader.
    fn changes(&self) -> usize {
        self.count(|write| !matches!(write, Write::Heartbeat(_) | Write::Clean))
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn nothing_is_written_before_the_gateway_is_ready_and_the_application_well() {
    let mut world = World::new(true);
    world.pass(SECOND * 60);
    world.course.ready();
    world.pass(SECOND * 60);
    world.course.checked(Checked::Bad);
    world.pass(SECOND * 60);
    assert_eq!((world.labels().len(), world.course.state()), (0, State::Absent));
    world.course.checked(Checked::Good);
    world.settle();
    assert_eq!(world.written[0].1, Write::Announce(Condition::Passing));
    assert_eq!((world.labels(), world.course.state()), (vec!["announce", "clean"], State::Passing));
}

#[test]
fn without_a_check_being_ready_is_enough() {
    let mut world = World::new(false);
    world.course.ready();
    world.settle();
    assert_eq!(world.course.state(), State::Passing);
}

#[test]
fn a_healthy_hour_writes_nothing_but_heartbeats() {
    let mut world = World::settled(true);
    for _ in 0..1800 {
        world.pass(SECOND * 2);
        world.course.checked(Checked::Good);
    }
    assert_eq!(world.changes(), 0, "{:?}", world.labels());
    let beats = world.count(|write| write == Write::Heartbeat(Condition::Passing));
    assert!((720..=800).contains(&beats), "one each 4.5 s to 5 s: {beats}");
}

/// consul-ecs#309: the state of each task was written once a second, changed or not.
#[test]
fn an_ill_hour_is_one_write() {
    let mut world = World::settled(true);
    for _ in 0..3600 {
        world.course.checked(Checked::Bad);
        world.pass(SECOND);
    }
    assert_eq!(world.changes(), 1);
    assert_eq!(world.written[0], (Duration::ZERO, Write::Report(Condition::Critical)));
    world.course.checked(Checked::Good);
    world.settle();
    assert_eq!(world.changes(), 2);
    assert_eq!(world.course.state(), State::Passing);
}

#[test]
fn a_flapping_application_is_written_at_most_once_in_ten_seconds() {
    let mut world = World::settled(true);
    for step in 0..36_000 {
        world.course.checked(if step % 2 == 0 { Checked::Bad } else { Checked::Good });
        world.pass(Duration::from_millis(100));
    }
    // 3 returns at once and one each 20 s, and as many falls.
    assert!((300..=368).contains(&world.changes()), "{}", world.changes());
}

#[test]
fn bad_news_does_not_wait_and_good_news_of_a_flapping_one_does() {
    let mut world = World::settled(true);
    for _ in 0..3 {
        world.course.checked(Checked::Bad);
        world.settle();
        world.course.checked(Checked::Good);
        world.settle();
    }
    // The announcement was one of three, two returns are the others.
    assert_eq!(world.labels(), ["report", "report", "report", "report", "report"]);
    assert_eq!(world.course.state(), State::Critical);
    world.pass(SECOND * 21);
    assert_eq!(world.course.state(), State::Passing);
    world.course.checked(Checked::Bad);
    let before = world.now;
    world.settle();
    assert_eq!((world.course.state(), world.now), (State::Critical, before));
}

#[test]
fn an_agent_that_forgot_us_is_told_anew() {
    let mut world = World::settled(true);
    world.answer = |write| if matches!(write, Write::Heartbeat(_)) { Err(gone()) } else { Ok(()) };
    world.pass(SECOND * 5);
    assert_eq!(world.labels(), ["heartbeat", "announce", "clean"][..2]);
    assert_eq!(world.course.state(), State::Passing);
    // One that forgets each time, or somebody who removes us each time, is not written to each time.
    world.pass(SECOND * 3600);
    assert!(world.changes() <= 185, "{}", world.changes());
}

#[test]
fn who_is_ill_and_was_forgotten_comes_back_only_when_well() {
    let mut world = World::settled(true);
    world.course.checked(Checked::Bad);
    world.settle();
    world.answer = |write| if matches!(write, Write::Heartbeat(_)) { Err(gone()) } else { Ok(()) };
    world.pass(SECOND * 600);
    assert_eq!((world.changes(), world.course.state()), (1, State::Absent), "{:?}", world.labels());
    world.course.checked(Checked::Good);
    world.settle();
    assert_eq!(world.course.state(), State::Passing);
}

#[test]
fn an_agent_that_is_away_is_asked_at_growing_intervals_and_hears_of_us_when_it_is_back() {
    let mut world = World::new(true);
    world.answer = |_| Err(unreachable());
    world.course.ready();
    world.course.checked(Checked::Good);
    world.pass(SECOND * 600);
    let tries = world.labels().len();
    // 2.5 s on average once the back-off has grown.
    assert!((150..=400).contains(&tries), "{tries}");
    assert_eq!(world.course.state(), State::Absent);
    world.answer = |_| Ok(());
    world.pass(LONGEST_WAIT);
    assert_eq!(world.course.state(), State::Passing);
}

#[test]
fn an_outage_while_we_are_registered_changes_nothing_but_the_beats() {
    let mut world = World::settled(true);
    world.answer = |_| Err(unreachable());
    world.pass(SECOND * 60);
    assert_eq!((world.changes(), world.course.state()), (0, State::Passing));
    world.answer = |_| Ok(());
    world.pass(LONGEST_WAIT);
    let beats = world.written.last().unwrap();
    assert_eq!(beats.1, Write::Heartbeat(Condition::Passing));
    assert_eq!(world.changes(), 0);
}

#[test]
fn what_changed_during_an_outage_is_said_after_it_and_what_changed_back_is_not() {
    let mut world = World::settled(true);
    world.answer = |_| Err(unreachable());
    world.pass(SECOND * 20);
    world.course.checked(Checked::Bad);
    world.pass(SECOND * 20);
    world.written.clear();
    world.answer = |_| Ok(());
    world.pass(LONGEST_WAIT);
    assert_eq!((world.changes(), world.course.state()), (1, State::Critical));
    // Bad and good again before anybody could be told.
    world.course.checked(Checked::Good);
    world.settle();
    world.answer = |_| Err(unreachable());
    world.course.checked(Checked::Bad);
    world.settle();
    world.course.checked(Checked::Good);
    world.written.clear();
    world.answer = |_| Ok(());
    world.pass(LONGEST_WAIT);
    assert_eq!((world.changes(), world.course.state()), (0, State::Passing), "{:?}", world.labels());
}

#[test]
fn who_is_asked_to_wait_waits() {
    let mut world = World::settled(true);
    world.answer = |_| Err(Error::Throttled { retry_after: Some(SECOND * 30) });
    world.pass(SECOND * 34);
    assert_eq!(world.labels(), ["heartbeat"]);
}

#[test]
fn leaving_is_one_write_and_then_nothing() {
    let mut world = World::settled(true);
    world.course.leave();
    world.settle();
    assert_eq!((world.labels(), world.course.state()), (vec!["withdraw"], State::Left));
    world.course.checked(Checked::Bad);
    world.course.checked(Checked::Good);
    world.pass(SECOND * 3600);
    assert_eq!(world.labels(), ["withdraw"]);
}

#[test]
fn who_was_never_registered_leaves_without_a_word() {
    let mut world = World::new(true);
    world.course.ready();
    world.course.leave();
    world.pass(SECOND);
    assert_eq!((world.labels().len(), world.course.state()), (0, State::Left));
}

#[test]
fn an_announcement_that_may_have_arrived_is_taken_back() {
    let mut world = World::new(true);
    world.course.ready();
    world.course.checked(Checked::Good);
    world.answer = |_| Err(unreachable());
    world.settle();
    world.answer = |_| Ok(());
    world.course.leave();
    world.settle();
    assert_eq!(world.labels(), ["announce", "withdraw"]);
    // The same where the application falls ill instead.
    let mut world = World::new(true);
    world.course.ready();
    world.course.checked(Checked::Good);
    world.answer = |_| Err(unreachable());
    world.settle();
    world.answer = |_| Ok(());
    world.course.checked(Checked::Bad);
    world.pass(SECOND * 60);
    assert_eq!((world.labels(), world.course.state()), (vec!["announce", "withdraw"], State::Absent));
    // One that was refused did not.
    let mut world = World::new(true);
    world.course.ready();
    world.course.checked(Checked::Good);
    world.answer = |_| Err(Error::Denied("service:write".to_owned()));
    world.settle();
    world.course.leave();
    world.settle();
    assert_eq!(world.labels(), ["announce"]);
}

#[test]
fn leaving_is_tried_again_at_once_and_then_with_pauses() {
    let mut world = World::settled(true);
    world.answer = |_| Err(unreachable());
    world.pass(SECOND * 30);
    world.written.clear();
    // Whatever pause there was is over.
    world.course.leave();
    world.settle();
    assert_eq!(world.labels(), ["withdraw"]);
    world.answer = |_| Ok(());
    world.pass(LONGEST_WAIT);
    assert_eq!((world.labels(), world.course.state()), (vec!["withdraw", "withdraw"], State::Left));
}

#[test]
fn a_changed_definition_is_announced_with_the_state_that_we_are_in() {
    let mut world = World::settled(true);
    world.course.checked(Checked::Bad);
    world.settle();
    world.course.redefine(TTL, true, true);
    world.settle();
    assert_eq!(world.written.last().unwrap().1, Write::Announce(Condition::Critical));
    assert_eq!(world.changes(), 2);
    // A template that changes it time and again is no storm.
    for _ in 0..600 {
        world.course.redefine(TTL, true, true);
        world.pass(SECOND);
    }
    assert!(world.changes() <= 2 + 3 + 30, "{}", world.changes());
}

#[test]
fn a_definition_that_is_refused_does_not_let_the_old_entry_expire() {
    let mut world = World::settled(true);
    world.answer = |write| match write {
        Write::Announce(_) => Err(Error::Denied("service:write".to_owned())),
        _ => Ok(()),
    };
    world.course.redefine(TTL, true, true);
    world.pass(SECOND * 120);
    let beats: Vec<Duration> =
        world.written.iter().filter(|(_, write)| matches!(write, Write::Heartbeat(_))).map(|(at, _)| *at).collect();
    assert!(beats.windows(2).all(|two| two[1] <= two[0] + TTL * 2 / 3), "{beats:?}");
    assert!(beats.len() >= 12, "{beats:?}");
}

#[test]
fn cleaning_that_fails_is_given_up_and_holds_nothing_up() {
    let mut world = World::new(false);
    world.answer = |write| if write == Write::Clean { Err(unreachable()) } else { Ok(()) };
    world.course.ready();
    world.pass(SECOND * 120);
    assert_eq!(world.count(|write| write == Write::Clean), 3);
    assert!(world.count(|write| matches!(write, Write::Heartbeat(_))) >= 23);
}

/// What may happen.
#[derive(Debug, Clone)]
enum Event {
    Answers(u8),
    Checked(bool),
    Passes(u16),
    Redefined,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0_u8..5).prop_map(Event::Answers),
        any::<bool>().prop_map(Event::Checked),
        (0_u16..5000).prop_map(Event::Passes),
        Just(Event::Redefined),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_writes_are_few_and_the_end_is_clean(events in prop::collection::vec(event(), 0..200)) {
        let mut world = World::new(true);
        world.course.ready();
        for event in events {
            match event {
                Event::Answers(0) => world.answer = |_| Err(unreachable()),
                Event::Answers(1) => world.answer = |_| Err(gone()),
                Event::Answers(2) => world.answer = |_| Err(Error::Denied(String::new())),
                Event::Answers(_) => world.answer = |_| Ok(()),
                Event::Checked(is_good) => world.course.checked(if is_good { Checked::Good } else { Checked::Bad }),
                Event::Passes(milliseconds) => world.pass(Duration::from_millis(milliseconds.into())),
                Event::Redefined => world.course.redefine(TTL, true, true),
            }
        }
        let good = world.count(|write| matches!(write, Write::Announce(_) | Write::Report(Condition::Passing)));
        let seconds = (world.now - world.start).as_secs_f64();
        // Good news that was taken, and tries that failed, of which there are at most some in a second.
        prop_assert!(good as f64 <= 5.0 + seconds * 12.0, "{} in {} s", good, seconds);
        world.answer = |_| Ok(());
        world.course.leave();
        world.settle();
        prop_assert_eq!(world.course.state(), State::Left);
    }
}

//! Which endpoints of a target may be used, when a registry says that many of them are gone (pure; `now` is handed in).
//!
//! Endpoints that an answer adds are used at once, and an ordinary removal takes effect at once. A removal that looks
//! like a fault of the registry waits: an answer that is empty, or that removes three or more endpoints and more than
//! half. Endpoints so removed are *held*: used only while no listed one can be, and dropped when they have been missing
//! for [`HOLD`], or at their first failed connect.
//!
//! What a deploy announced is no fault: endpoints listed as draining are never held and do not count. An endpoint whose
//! address is still listed under another id was not removed. A listed endpoint is never dropped here, whatever fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meshless_discovery::{Address, Endpoint, Health, Snapshot};

/// How long an answer that removes many endpoints must stand before it is believed.
pub const HOLD: Duration = Duration::from_secs(30);

/// Fewest endpoints whose removal by one answer can be suspicious, save the last ones.
const FEWEST: usize = 3;

/// Whether the backend lists an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Standing {
    /// In the newest answer.
    Listed,
    /// Missing from it, not believed yet: for use only while no listed endpoint can be used.
    Held,
}

/// The endpoints of one target over time.
#[derive(Debug, Clone, Default)]
pub struct Removals {
    listed: Arc<Snapshot>,
    /// In the order of the snapshots that they are from; no address of theirs is listed.
    held: Vec<Held>,
}

#[derive(Debug, Clone)]
struct Held {
    endpoint: Endpoint,
    until: Instant,
}

impl Removals {
    /// Takes a new answer and returns how many endpoints are held because of it. To take the same one again changes
    /// nothing but what `now` drops.
    pub fn answered(&mut self, snapshot: &Arc<Snapshot>, now: Instant) -> usize {
        let mut newly_held = 0;
        let old = std::mem::replace(&mut self.listed, Arc::clone(snapshot));
        if !Arc::ptr_eq(&old, &self.listed) {
            let listed = &self.listed;
            self.held.retain(|held| !lists(listed, &held.endpoint.address));
            let usable = || old.endpoints().iter().filter(|endpoint| endpoint.health != Health::Draining);
            let removed: Vec<&Endpoint> = usable().filter(|endpoint| !lists(listed, &endpoint.address)).collect();
            let is_mass = removed.len() >= FEWEST && removed.len() * 2 > usable().count();
            if listed.is_empty() || is_mass {
                let until = now + HOLD;
                newly_held = removed.len();
                self.held.extend(removed.into_iter().map(|endpoint| Held { endpoint: endpoint.clone(), until }));
            }
        }
        self.expire(now);
        newly_held
    }

    /// Notes that no connection to an address could be made. Returns whether that dropped a held endpoint.
    pub fn failed(&mut self, address: &Address) -> bool {
        let before = self.held.len();
        self.held.retain(|held| held.endpoint.address != *address);
        self.held.len() != before
    }

    /// Drops held endpoints whose time is over. Returns whether there were any.
    pub fn expire(&mut self, now: Instant) -> bool {
        let before = self.held.len();
        self.held.retain(|held| now < held.until);
        self.held.len() != before
    }

    /// Returns when [`Removals::expire`] has something to do next.
    pub fn deadline(&self) -> Option<Instant> {
        self.held.iter().map(|held| held.until).min()
    }

    /// Returns all endpoints that may be used, and how each one stands; listed ones first.
    pub fn endpoints(&self) -> impl Iterator<Item = (&Endpoint, Standing)> {
        let listed = self.listed.endpoints().iter().map(|endpoint| (endpoint, Standing::Listed));
        listed.chain(self.held.iter().map(|held| (&held.endpoint, Standing::Held)))
    }
}

/// Tells whether an address is listed, under whatever id; endpoints are in the order of their addresses.
fn lists(snapshot: &Snapshot, address: &Address) -> bool {
    snapshot.endpoints().binary_search_by(|endpoint| endpoint.address.cmp(address)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const NONE: [u16; 0] = [];

    fn address(number: u16) -> Address {
        Address::Tcp(([10, 0, 0, 1], number).into())
    }

    fn snapshot(numbers: impl IntoIterator<Item = u16>) -> Arc<Snapshot> {
        with_health(numbers.into_iter().map(|number| (number, Health::Healthy)))
    }

    fn with_health(endpoints: impl IntoIterator<Item = (u16, Health)>) -> Arc<Snapshot> {
        let endpoint = |(number, health)| Endpoint { health, ..Endpoint::new(address(number)) };
        Arc::new(Snapshot::new(endpoints.into_iter().map(endpoint).collect()).unwrap())
    }

    fn numbers(removals: &Removals, standing: Standing) -> Vec<u16> {
        let number = |endpoint: &Endpoint| match &endpoint.address {
            Address::Tcp(address) => address.port(),
            Address::Unix(_) => 0,
        };
        removals.endpoints().filter(|(_, is)| *is == standing).map(|(endpoint, _)| number(endpoint)).collect()
    }

    /// Takes the answers at one time and returns what is held then.
    fn held(answers: &[Arc<Snapshot>]) -> Vec<u16> {
        let (mut removals, now) = (Removals::default(), Instant::now());
        for answer in answers {
            removals.answered(answer, now);
        }
        numbers(&removals, Standing::Held)
    }

    #[test]
    fn an_ordinary_removal_takes_effect_at_once() {
        // Two are too few, and three of six are not more than half.
        assert_eq!(held(&[snapshot(1..=10), snapshot(3..=10)]), NONE);
        assert_eq!(held(&[snapshot(1..=3), snapshot([3])]), NONE);
        assert_eq!(held(&[snapshot(1..=6), snapshot(4..=6)]), NONE);
    }

    #[test]
    fn a_removal_of_three_or_more_and_of_more_than_half_waits() {
        assert_eq!(held(&[snapshot(1..=6), snapshot(5..=6)]), [1, 2, 3, 4]);
        assert_eq!(held(&[snapshot(1..=5), snapshot(4..=5)]), [1, 2, 3]);
        // To be replaced as a whole is a removal too; the new ones are listed at once.
        assert_eq!(held(&[snapshot(1..=3), snapshot(11..=13)]), [1, 2, 3]);
    }

    #[test]
    fn an_empty_answer_waits_even_for_the_only_endpoint() {
        assert_eq!(held(&[snapshot([1]), snapshot([])]), [1]);
        assert_eq!(held(&[snapshot([])]), NONE);
    }

    #[test]
    fn an_answer_that_stood_is_believed() {
        let (mut removals, start) = (Removals::default(), Instant::now());
        removals.answered(&snapshot(1..=3), start);
        assert_eq!(removals.deadline(), None);
        removals.answered(&snapshot([]), start);
        assert_eq!(removals.deadline(), Some(start + HOLD));
        assert!(!removals.expire(start + HOLD.saturating_sub(Duration::from_millis(1))));
        assert!(removals.expire(start + HOLD));
        assert_eq!((removals.endpoints().count(), removals.deadline()), (0, None));
    }

    #[test]
    fn to_hear_the_same_again_does_not_prolong_it() {
        let (mut removals, start) = (Removals::default(), Instant::now());
        removals.answered(&snapshot(1..=3), start);
        for (seconds, held) in [(0, 3), (10, 0), (20, 0)] {
            assert_eq!(removals.answered(&snapshot([]), start + Duration::from_secs(seconds)), held);
        }
        assert_eq!(removals.deadline(), Some(start + HOLD));
    }

    #[test]
    fn later_answers_that_do_not_list_it_either_do_not_prolong_it() {
        let (mut removals, start) = (Removals::default(), Instant::now());
        removals.answered(&snapshot(1..=6), start);
        removals.answered(&snapshot(5..=6), start);
        removals.answered(&snapshot([6]), start + Duration::from_secs(10));
        assert_eq!(numbers(&removals, Standing::Held), [1, 2, 3, 4]);
        removals.answered(&snapshot([]), start + Duration::from_secs(20));
        assert_eq!(numbers(&removals, Standing::Held), [1, 2, 3, 4, 6]);
        removals.expire(start + HOLD);
        assert_eq!(numbers(&removals, Standing::Held), [6]);
    }

    #[test]
    fn an_endpoint_that_comes_back_is_listed_and_can_be_held_anew() {
        let (mut removals, start) = (Removals::default(), Instant::now());
        let later = start + Duration::from_secs(10);
        removals.answered(&snapshot(1..=3), start);
        removals.answered(&snapshot([]), start);
        removals.answered(&snapshot(1..=3), later);
        assert_eq!(numbers(&removals, Standing::Held), NONE);
        assert_eq!(numbers(&removals, Standing::Listed), [1, 2, 3]);
        removals.answered(&snapshot([]), later);
        assert_eq!(removals.deadline(), Some(later + HOLD));
    }

    #[test]
    fn a_failed_connect_drops_a_held_endpoint_and_never_a_listed_one() {
        let (mut removals, now) = (Removals::default(), Instant::now());
        removals.answered(&snapshot(1..=6), now);
        removals.answered(&snapshot(5..=6), now);
        assert!(removals.failed(&address(1)));
        assert!(!removals.failed(&address(1)));
        assert!(!removals.failed(&address(5)));
        assert_eq!(numbers(&removals, Standing::Held), [2, 3, 4]);
        assert_eq!(numbers(&removals, Standing::Listed), [5, 6]);
    }

    #[test]
    fn what_was_announced_as_draining_is_not_held_and_does_not_count() {
        let draining = |numbers: std::ops::RangeInclusive<u16>| numbers.map(|number| (number, Health::Draining));
        let healthy = |numbers: std::ops::RangeInclusive<u16>| numbers.map(|number| (number, Health::Healthy));
        // A deploy: six drained and went, two of four others too.
        let deploy = with_health(draining(1..=6).chain(healthy(7..=10)));
        assert_eq!(held(&[deploy, snapshot(9..=10)]), NONE);
        assert_eq!(held(&[with_health(draining(1..=3)), snapshot([])]), NONE);
        assert_eq!(held(&[with_health(draining(1..=3).chain(healthy(4..=4))), snapshot([])]), [4]);
    }

    #[test]
    fn an_instance_with_a_new_id_on_the_same_address_was_not_removed() {
        let with_id = |id: &str| {
            let endpoint = |number| Endpoint { id: Some(id.to_owned()), ..Endpoint::new(address(number)) };
            Arc::new(Snapshot::new((1..=4).map(endpoint).collect()).unwrap())
        };
        assert_eq!(held(&[with_id("before"), with_id("after")]), NONE);
    }

    #[derive(Debug, Clone)]
    enum Event {
        Answer(Vec<(u16, Health)>),
        Fail(u16),
        Wait(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let health = prop_oneof![3 => Just(Health::Healthy), 1 => Just(Health::Draining), 1 => Just(Health::Unhealthy)];
        prop_oneof![
            4 => prop::collection::vec((1_u16..12, health), 0..12).prop_map(Event::Answer),
            1 => (1_u16..12).prop_map(Event::Fail),
            2 => (0_u64..40).prop_map(Event::Wait),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_the_promises_hold(events in prop::collection::vec(event(), 0..40)) {
            let (mut removals, mut now) = (Removals::default(), Instant::now());
            let mut listed = Arc::new(Snapshot::default());
            let mut missing_since = BTreeMap::<u16, Instant>::new();
            for event in events {
                let held_before: BTreeSet<u16> = numbers(&removals, Standing::Held).into_iter().collect();
                match event {
                    Event::Answer(endpoints) => {
                        let before: BTreeSet<u16> = numbers(&removals, Standing::Listed).into_iter().collect();
                        let draining: BTreeSet<Address> = listed.endpoints().iter()
                            .filter(|endpoint| endpoint.health == Health::Draining)
                            .map(|endpoint| endpoint.address.clone()).collect();
                        listed = with_health(endpoints);
                        removals.answered(&listed, now);
                        let after: BTreeSet<u16> = numbers(&removals, Standing::Listed).into_iter().collect();
                        for gone in before.difference(&after) {
                            missing_since.insert(*gone, now);
                        }
                        // An empty answer takes no usable endpoint away at once.
                        if listed.is_empty() {
                            for number in &before {
                                let is_held = numbers(&removals, Standing::Held).contains(number);
                                prop_assert_eq!(is_held, !draining.contains(&address(*number)));
                            }
                        }
                    }
                    Event::Fail(number) => {
                        prop_assert_eq!(removals.failed(&address(number)), held_before.contains(&number));
                        prop_assert!(!numbers(&removals, Standing::Held).contains(&number));
                    }
                    Event::Wait(seconds) => {
                        now += Duration::from_secs(seconds);
                        removals.expire(now);
                        // Time alone holds nothing more.
                        let held: BTreeSet<u16> = numbers(&removals, Standing::Held).into_iter().collect();
                        prop_assert!(held.is_subset(&held_before));
                    }
                }
                // The newest answer is listed whole and in order, whatever is held.
                let is_listed: Vec<&Endpoint> = removals.endpoints()
                    .filter(|(_, standing)| *standing == Standing::Listed).map(|(endpoint, _)| endpoint).collect();
                prop_assert_eq!(is_listed, listed.endpoints().iter().collect::<Vec<_>>());
                let held = numbers(&removals, Standing::Held);
                prop_assert_eq!(held.iter().collect::<BTreeSet<_>>().len(), held.len());
                for (endpoint, standing) in removals.endpoints() {
                    if standing == Standing::Held {
                        prop_assert!(!lists(&listed, &endpoint.address));
                        prop_assert_ne!(endpoint.health, Health::Draining);
                    }
                }
                for number in held {
                    prop_assert!(now < missing_since[&number] + HOLD);
                }
                prop_assert!(removals.deadline().is_none_or(|deadline| deadline > now && deadline <= now + HOLD));
            }
        }
    }
}

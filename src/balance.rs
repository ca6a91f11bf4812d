//! Choosing an endpoint: pickers are built anew for every change and then only read (pure; `now` and randomness are
//! handed in, what moves are atomics on the member).

mod load;
mod peak_ewma;
mod round_robin;

use std::fmt;
use std::sync::Arc;

pub(crate) use load::Load;

use crate::config::Balance;
use crate::upstream::Member;

/// What one choice needs to know.
#[derive(Debug)]
pub(crate) struct Pick<'a> {
    /// Milliseconds since the process began.
    pub(crate) now: u32,
    pub(crate) random: &'a mut fastrand::Rng,
    /// Ids of members that this request has tried; they are passed over.
    pub(crate) tried: &'a [u64],
}

/// Chooses among the members that it was built with.
pub(crate) trait Picker: fmt::Debug + Send + Sync {
    /// Returns a member that was not tried; `None` where none is left. Takes no lock and allocates nothing.
    fn pick(&self, pick: &mut Pick<'_>) -> Option<&Arc<Member>>;
}

/// Builds the picker of a policy. Members of weight 0 get nothing.
pub(crate) fn picker(balance: Balance, members: Vec<Arc<Member>>) -> Box<dyn Picker> {
    let members: Vec<_> = members.into_iter().filter(|member| member.endpoint.weight > 0).collect();
    match balance {
        Balance::LeastRequest => Box::new(TwoChoices { draw: Draw::new(members), score: least_request }),
        Balance::PeakEwma => Box::new(TwoChoices { draw: Draw::new(members), score: peak_ewma::score }),
        Balance::Random => Box::new(Random { draw: Draw::new(members) }),
        Balance::RoundRobin => Box::new(round_robin::RoundRobin::new(members)),
    }
}

/// Members with their weights, to draw from at random.
#[derive(Debug)]
struct Draw {
    members: Vec<Arc<Member>>,
    /// Running sums of the weights; empty where all weights are equal.
    sums: Vec<u64>,
}

impl Draw {
    fn new(members: Vec<Arc<Member>>) -> Self {
        let first = members.first().map(|member| member.endpoint.weight);
        let equal = members.iter().all(|member| Some(member.endpoint.weight) == first);
        let mut sum = 0;
        let sums = if equal {
            Vec::new()
        } else {
            members
                .iter()
                .map(|member| {
                    sum += u64::from(member.endpoint.weight);
                    sum
                })
                .collect()
        };
        Self { members, sums }
    }

    fn draw(&self, random: &mut fastrand::Rng) -> usize {
        match self.sums.last() {
            Some(&total) => {
                let at = random.u64(..total);
                self.sums.partition_point(|&sum| sum <= at)
            }
            None => random.usize(..self.members.len().max(1)),
        }
    }

    fn untried(&self, index: usize, tried: &[u64]) -> Option<&Arc<Member>> {
        self.members.get(index).filter(|member| !tried.contains(&member.state.id))
    }

    /// Draws a member that was not tried: a few times at random, then the next one in line.
    fn draw_untried(&self, pick: &mut Pick<'_>) -> Option<(usize, &Arc<Member>)> {
        let mut start = 0;
        for _ in 0..4 {
            start = self.draw(pick.random);
            if let Some(member) = self.untried(start, pick.tried) {
                return Some((start, member));
            }
        }
        let count = self.members.len();
        (0..count)
            .map(|offset| (start + offset) % count)
            .find_map(|index| Some((index, self.untried(index, pick.tried)?)))
    }

    /// Draws two members. With equal weights they differ if there are two; with unequal ones the heavier may be drawn
    /// twice, or its share would be lost against a light one that is always compared with it.
    fn draw_two(&self, pick: &mut Pick<'_>) -> Option<(&Arc<Member>, &Arc<Member>)> {
        let (first_at, first) = self.draw_untried(pick)?;
        if !self.sums.is_empty() {
            let (_, second) = self.draw_untried(pick)?;
            return Some((first, second));
        }
        let count = self.members.len();
        if count < 2 {
            return Some((first, first));
        }
        let second_at = (first_at + 1 + pick.random.usize(..count - 1)) % count;
        let second = self.untried(second_at, pick.tried).or_else(|| Some(self.draw_untried(pick)?.1));
        Some((first, second.unwrap_or(first)))
    }
}

/// The better of two drawn at random: almost as good as the best of all, without a herd (Mitzenmacher, "The Power of
/// Two Choices in Randomized Load Balancing").
#[derive(Debug)]
struct TwoChoices {
    draw: Draw,
    /// Lower is better.
    score: fn(&Member, u32) -> f32,
}

impl Picker for TwoChoices {
    fn pick(&self, pick: &mut Pick<'_>) -> Option<&Arc<Member>> {
        let (first, second) = self.draw.draw_two(pick)?;
        if Arc::ptr_eq(first, second) || (self.score)(first, pick.now) <= (self.score)(second, pick.now) {
            Some(first)
        } else {
            Some(second)
        }
    }
}

/// Requests in flight for the weight. No "+ 1": idle members tie, the first draw wins, and the shares are the weights.
fn least_request(member: &Member, _now: u32) -> f32 {
    member.state.load.in_flight() as f32 / member.endpoint.weight as f32
}

#[derive(Debug)]
struct Random {
    draw: Draw,
}

impl Picker for Random {
    fn pick(&self, pick: &mut Pick<'_>) -> Option<&Arc<Member>> {
        self.draw.draw_untried(pick).map(|(_, member)| member)
    }
}

#[cfg(test)]
mod tests {
    use meshless_discovery::{Address, Endpoint};

    use super::*;

    fn member(port: u16, weight: u32) -> Arc<Member> {
        let mut endpoint = Endpoint::new(Address::Tcp(([127, 0, 0, 1], port).into()));
        endpoint.weight = weight;
        Arc::new(Member::new(endpoint, u64::from(port)))
    }

    fn shares(balance: Balance, weights: &[u32], picks: usize) -> Vec<f64> {
        let members: Vec<_> = (1u16..).zip(weights).map(|(port, &weight)| member(port, weight)).collect();
        let picker = picker(balance, members);
        let mut random = fastrand::Rng::with_seed(7);
        let mut counts = vec![0usize; weights.len()];
        for _ in 0..picks {
            let id = picker.pick(&mut Pick { now: 0, random: &mut random, tried: &[] }).unwrap().state.id;
            counts[usize::try_from(id).unwrap() - 1] += 1;
        }
        counts.into_iter().map(|count| count as f64 / picks as f64).collect()
    }

    const ALL: [Balance; 4] = [Balance::LeastRequest, Balance::PeakEwma, Balance::Random, Balance::RoundRobin];

    #[test]
    fn idle_members_get_their_weights_share() {
        for balance in [Balance::LeastRequest, Balance::Random, Balance::RoundRobin] {
            let shares = shares(balance, &[90, 10, 0], 20_000);
            assert!((shares[0] - 0.9).abs() < 0.01 && shares[2] == 0.0, "{balance:?}: {shares:?}");
        }
    }

    #[test]
    fn equal_members_get_equal_shares() {
        for balance in ALL {
            let shares = shares(balance, &[1, 1, 1, 1], 20_000);
            assert!(shares.iter().all(|share| (share - 0.25).abs() < 0.02), "{balance:?}: {shares:?}");
        }
    }

    #[test]
    fn a_tried_member_is_passed_over_until_none_is_left() {
        for balance in ALL {
            for weights in [[1, 1, 1], [5, 1, 1]] {
                let members: Vec<_> = (1u16..).zip(weights).map(|(port, weight)| member(port, weight)).collect();
                let picker = picker(balance, members);
                let mut random = fastrand::Rng::with_seed(3);
                let mut tried = Vec::new();
                for _ in 0..3 {
                    let id = picker.pick(&mut Pick { now: 0, random: &mut random, tried: &tried }).unwrap().state.id;
                    assert!(!tried.contains(&id), "{balance:?}");
                    tried.push(id);
                }
                assert!(picker.pick(&mut Pick { now: 0, random: &mut random, tried: &tried }).is_none());
            }
        }
    }

    #[test]
    fn nobody_is_no_panic() {
        for balance in ALL {
            let picker = picker(balance, Vec::new());
            let mut random = fastrand::Rng::with_seed(3);
            assert!(picker.pick(&mut Pick { now: 0, random: &mut random, tried: &[] }).is_none());
        }
    }

    #[test]
    fn a_busy_member_is_avoided() {
        let (idle, busy) = (member(1, 1), member(2, 1));
        let guards: Vec<_> = (0..5).map(|_| busy.state.load.begin()).collect();
        let picker = picker(Balance::LeastRequest, vec![idle, busy.clone()]);
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..100 {
            assert_eq!(picker.pick(&mut Pick { now: 0, random: &mut random, tried: &[] }).unwrap().state.id, 1);
        }
        for () in guards {
            busy.state.load.end();
        }
        assert_eq!(busy.state.load.in_flight(), 0);
    }

    #[test]
    fn a_member_that_nobody_measured_is_tried_at_once_but_not_by_everybody() {
        let (fast, new) = (member(1, 1), member(2, 1));
        fast.state.load.observe(1.0, 0);
        let picker = picker(Balance::PeakEwma, vec![fast, new.clone()]);
        let mut random = fastrand::Rng::with_seed(3);
        let mut pick = || picker.pick(&mut Pick { now: 1, random: &mut random, tried: &[] }).unwrap().state.id;
        assert_eq!(pick(), 2);
        new.state.load.begin();
        assert!((0..20).all(|_| pick() == 1));
        new.state.load.end();
        assert_eq!(pick(), 2);
    }

    #[test]
    fn a_slow_member_gets_little_from_peak_ewma() {
        let (fast, slow) = (member(1, 1), member(2, 1));
        fast.state.load.observe(2.0, 0);
        slow.state.load.observe(40.0, 0);
        let picker = picker(Balance::PeakEwma, vec![fast, slow]);
        let mut random = fastrand::Rng::with_seed(3);
        let ids: Vec<_> = (0..50)
            .map(|_| picker.pick(&mut Pick { now: 1, random: &mut random, tried: &[] }).unwrap().state.id)
            .collect();
        assert!(ids.iter().all(|&id| id == 1));
    }
}

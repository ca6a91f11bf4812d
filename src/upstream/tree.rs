//! Tiers and splits over leaves of any kind, and the walk that chooses a leaf (pure).

use crate::balance::{Pick, tiers};
use crate::target::{Expression, Node, Split, Term};

/// A target expression whose leaves were looked up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree<L> {
    Leaf(L),
    /// Each entry gets its weight's share; entries of weight 0 get nothing.
    Split(Vec<(u32, Self)>),
    /// The first one that has something.
    Tiers(Vec<Self>),
}

impl<L> Tree<L> {
    /// Looks up the leaves of an expression.
    pub(crate) fn build(expression: &Expression, leaf: &mut impl FnMut(&Node) -> L) -> Self {
        let mut tiers: Vec<Self> = expression
            .tiers
            .iter()
            .map(|split| {
                let mut entries: Vec<(u32, Self)> = split
                    .terms
                    .iter()
                    .map(|term| {
                        let tree = match &term.node {
                            Node::Group(inner) => Self::build(inner, leaf),
                            node => Self::Leaf(leaf(node)),
                        };
                        (term.weight, tree)
                    })
                    .collect();
                match entries.pop() {
                    // One entry that gets all is no split.
                    Some((weight, only)) if entries.is_empty() && weight > 0 => only,
                    Some(last) => {
                        entries.push(last);
                        Self::Split(entries)
                    }
                    None => Self::Split(Vec::new()),
                }
            })
            .collect();
        if tiers.len() == 1
            && let Some(only) = tiers.pop()
        {
            return only;
        }
        Self::Tiers(tiers)
    }

    /// Chooses a leaf and asks it. A split goes by weight; what has nothing leaves its share to the others. Tiers go by
    /// capacity; one that has nothing leaves the request to those behind it, then to those before it.
    pub(crate) fn choose<'a, R>(
        &'a self,
        pick: &mut Pick<'_>,
        capacity: &impl Fn(&L) -> f32,
        ask: &mut impl FnMut(&'a L, &mut Pick<'_>) -> Option<R>,
    ) -> Option<R> {
        match self {
            Self::Leaf(leaf) => ask(leaf, pick),
            Self::Tiers(tiers) => {
                let capacities = tiers.iter().map(|tier| tier.capacity(capacity));
                let first = tiers::choose(capacities, pick.random.f32()).unwrap_or_default();
                let (before, from) = tiers.split_at_checked(first)?;
                from.iter().chain(before).find_map(|tier| tier.choose(pick, capacity, ask))
            }
            Self::Split(entries) => {
                let mut passed = Passed::default();
                loop {
                    let (position, entry) = draw(entries, &passed, pick)?;
                    if let Some(found) = entry.choose(pick, capacity, ask) {
                        return Some(found);
                    }
                    passed.add(position)?;
                }
            }
        }
    }

    /// Returns how much of all traffic it could carry: of a split by its weights, of tiers all of them together.
    pub(crate) fn capacity(&self, leaf: &impl Fn(&L) -> f32) -> f32 {
        match self {
            Self::Leaf(one) => leaf(one),
            Self::Tiers(tiers) => tiers.iter().map(|tier| tier.capacity(leaf).min(1.0)).sum(),
            Self::Split(entries) => {
                let total: f32 = entries.iter().map(|(weight, _)| *weight as f32).sum();
                let carried: f32 = entries.iter().map(|(weight, entry)| *weight as f32 * entry.capacity(leaf)).sum();
                if total > 0.0 { carried / total } else { 0.0 }
            }
        }
    }

    /// Tells whether something holds for every leaf that gets traffic.
    pub(crate) fn all(&self, holds: &mut impl FnMut(&L) -> bool) -> bool {
        match self {
            Self::Leaf(leaf) => holds(leaf),
            Self::Split(entries) => entries.iter().all(|(weight, entry)| *weight == 0 || entry.all(holds)),
            Self::Tiers(tiers) => tiers.iter().all(|tier| tier.all(holds)),
        }
    }

    /// Visits every leaf.
    pub(crate) fn for_each(&self, visit: &mut dyn FnMut(&L)) {
        match self {
            Self::Leaf(leaf) => visit(leaf),
            Self::Split(entries) => entries.iter().for_each(|(_, entry)| entry.for_each(visit)),
            Self::Tiers(tiers) => tiers.iter().for_each(|tier| tier.for_each(visit)),
        }
    }
}

/// Entries of a split that had nothing.
#[derive(Debug, Default)]
struct Passed(u128);

impl Passed {
    fn has(&self, position: usize) -> bool {
        u32::try_from(position)
            .ok()
            .and_then(|position| 1u128.checked_shl(position))
            .is_some_and(|bit| self.0 & bit != 0)
    }

    /// `None` beyond what can be told apart: the request is given up rather than drawn for ever.
    fn add(&mut self, position: usize) -> Option<()> {
        self.0 |= u32::try_from(position).ok().and_then(|position| 1u128.checked_shl(position))?;
        Some(())
    }
}

/// Draws one of the entries that are left, by weight.
fn draw<'a, L>(entries: &'a [(u32, Tree<L>)], passed: &Passed, pick: &mut Pick<'_>) -> Option<(usize, &'a Tree<L>)> {
    let left = || entries.iter().enumerate().filter(|(position, (weight, _))| *weight > 0 && !passed.has(*position));
    let total: u64 = left().map(|(_, (weight, _))| u64::from(*weight)).sum();
    let mut at = if total == 0 { return None } else { pick.random.u64(..total) };
    left().find_map(|(position, (weight, entry))| {
        let here = at < u64::from(*weight);
        at = at.saturating_sub(u64::from(*weight));
        here.then_some((position, entry))
    })
}

/// Writes a tree as an expression; each leaf as `leaf` writes it.
pub(crate) fn written<L>(tree: &Tree<L>, leaf: &dyn Fn(&L) -> Node) -> Expression {
    fn term<L>(weight: u32, tree: &Tree<L>, leaf: &dyn Fn(&L) -> Node) -> Term {
        let node = if let Tree::Leaf(found) = tree { leaf(found) } else { Node::Group(written(tree, leaf)) };
        Term { weight, node }
    }
    let tier = |tree: &Tree<L>| match tree {
        Tree::Split(entries) => {
            Split { terms: entries.iter().map(|(weight, entry)| term(*weight, entry, leaf)).collect() }
        }
        one => Split { terms: vec![term(1, one, leaf)] },
    };
    let tiers = if let Tree::Tiers(tiers) = tree { tiers.iter().map(tier).collect() } else { vec![tier(tree)] };
    Expression { tiers }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(tree: &Tree<usize>, dead: &[usize]) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(5);
        let mut counts = [0usize; 4];
        for _ in 0..20_000 {
            let mut pick = Pick::new(0, &mut random, &[]);
            let capacity = |leaf: &usize| if dead.contains(leaf) { 0.0 } else { 1.4 };
            let chosen = tree.choose(&mut pick, &capacity, &mut |&leaf, _| (!dead.contains(&leaf)).then_some(leaf));
            if let Some(leaf) = chosen {
                counts[leaf] += 1;
            }
        }
        counts.into_iter().map(|count| count as f64 / 20_000.0).collect()
    }

    fn tree() -> Tree<usize> {
        Tree::Tiers(vec![
            Tree::Split(vec![(90, Tree::Leaf(0)), (10, Tree::Leaf(1)), (0, Tree::Leaf(2))]),
            Tree::Leaf(3),
        ])
    }

    #[test]
    fn a_split_gives_shares_and_a_drained_entry_nothing() {
        let shares = shares(&tree(), &[]);
        assert!((shares[0] - 0.9).abs() < 0.01 && (shares[1] - 0.1).abs() < 0.01, "{shares:?}");
        assert_eq!((shares[2], shares[3]), (0.0, 0.0));
    }

    #[test]
    fn what_a_dead_entry_had_goes_to_the_next_tier_but_for_what_the_others_can_carry() {
        let shares = shares(&tree(), &[0]);
        assert!((shares[1] - 0.14).abs() < 0.01 && (shares[3] - 0.86).abs() < 0.01, "10 % times 1.4: {shares:?}");
    }

    #[test]
    fn what_dead_entries_had_is_shared_by_weight_where_no_other_tier_is() {
        let entries = vec![(50, Tree::Leaf(0)), (30, Tree::Leaf(1)), (10, Tree::Leaf(2)), (10, Tree::Leaf(3))];
        let shares = shares(&Tree::Split(entries), &[0]);
        assert!((shares[1] - 0.6).abs() < 0.02 && (shares[2] - 0.2).abs() < 0.02, "{shares:?}");
    }

    #[test]
    fn the_next_tier_serves_when_a_tier_has_nothing_and_a_drained_entry_never_does() {
        assert_eq!(shares(&tree(), &[0, 1]), [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(shares(&tree(), &[0, 1, 3]), [0.0; 4]);
    }
}

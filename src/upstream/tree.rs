//! Tiers and splits over leaves of any kind, and the walk that chooses a leaf (pure).

use crate::balance::Pick;
use crate::target::{Expression, Node};

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

    /// Chooses a leaf and asks it; where it has nothing, the others of a split by turn, then the next tier.
    pub(crate) fn choose<'a, R>(
        &'a self,
        pick: &mut Pick<'_>,
        ask: &mut impl FnMut(&'a L, &mut Pick<'_>) -> Option<R>,
    ) -> Option<R> {
        match self {
            Self::Leaf(leaf) => ask(leaf, pick),
            Self::Tiers(tiers) => tiers.iter().find_map(|tier| tier.choose(pick, ask)),
            Self::Split(entries) => {
                let total: u64 = entries.iter().map(|(weight, _)| u64::from(*weight)).sum();
                if total == 0 {
                    return None;
                }
                let mut at = pick.random.u64(..total);
                let first = entries.iter().position(|(weight, _)| {
                    let here = at < u64::from(*weight);
                    at = at.saturating_sub(u64::from(*weight));
                    here
                })?;
                (0..entries.len())
                    .filter_map(|offset| entries.get((first + offset) % entries.len()))
                    .filter(|(weight, _)| *weight > 0)
                    .find_map(|(_, entry)| entry.choose(pick, ask))
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(tree: &Tree<usize>, dead: &[usize]) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(5);
        let mut counts = [0usize; 4];
        for _ in 0..20_000 {
            let mut pick = Pick { now: 0, random: &mut random, tried: &[] };
            let chosen = tree.choose(&mut pick, &mut |&leaf, _| (!dead.contains(&leaf)).then_some(leaf));
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
    fn what_a_dead_entry_had_goes_to_the_others_of_its_tier() {
        assert_eq!(shares(&tree(), &[0]), [0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn the_next_tier_serves_when_a_tier_has_nothing_and_a_drained_entry_never_does() {
        assert_eq!(shares(&tree(), &[0, 1]), [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(shares(&tree(), &[0, 1, 3]), [0.0; 4]);
    }
}

//! Peers are checked again, a few at a time.

use std::collections::HashMap;
use std::rc::Weak;
use std::time::SystemTime;

use meshless_certs::Mesh;

use super::Bond;

/// Chains that one step verifies. Each costs some 100 µs (two P-256 signatures), which nobody else of this worker has
/// meanwhile; a step every 250 ms makes 128 a second.
const CHAINS: usize = 32;

/// A round over all connections. Peers with many of them are verified once.
#[derive(Debug)]
pub(super) struct Review {
    left: Vec<Weak<Bond>>,
    /// What was found, by the leaf.
    verdicts: HashMap<Box<[u8]>, bool>,
}

/// What one step found.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) refused: Vec<Weak<Bond>>,
    pub(super) is_done: bool,
}

impl Review {
    pub(super) fn new(bonds: Vec<Weak<Bond>>) -> Self {
        Self { left: bonds, verdicts: HashMap::new() }
    }

    /// Checks some.
    pub(super) fn step(&mut self, mesh: &Mesh, now: SystemTime) -> Step {
        let (mut refused, mut verified) = (Vec::new(), 0);
        while verified < CHAINS
            && let Some(weak) = self.left.pop()
        {
            let Some(bond) = weak.upgrade() else { continue };
            let leaf: &[u8] = bond.chain().first().map(|leaf| &**leaf).unwrap_or_default();
            let is_good = match self.verdicts.get(leaf) {
                Some(is_good) => *is_good,
                None => {
                    verified += 1;
                    let is_good = mesh.peer(bond.chain(), now).is_ok();
                    self.verdicts.insert(leaf.into(), is_good);
                    is_good
                }
            };
            if !is_good {
                refused.push(weak);
            }
        }
        Step { refused, is_done: self.left.is_empty() }
    }
}

//! Events in the order of their times; of two at one time the one that was entered first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Micros;

/// A queue of events.
#[derive(Debug)]
pub(super) struct Queue<E> {
    heap: BinaryHeap<Entry<E>>,
    entered: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Reverse<(Micros, u64)>,
    event: E,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), entered: 0 }
    }
}

impl<E> Queue<E> {
    pub(super) fn push(&mut self, at: Micros, event: E) {
        self.heap.push(Entry { at: Reverse((at, self.entered)), event });
        self.entered += 1;
    }

    /// Returns when the next event is due.
    pub(super) fn next_at(&self) -> Option<Micros> {
        self.heap.peek().map(|entry| entry.at.0.0)
    }

    /// Takes the next event and its time.
    pub(super) fn pop(&mut self) -> Option<(Micros, E)> {
        self.heap.pop().map(|entry| (entry.at.0.0, entry.event))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_one_comes_first_and_of_two_at_one_time_the_one_entered_first() {
        let mut queue = Queue::default();
        for (at, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            queue.push(at, event);
        }
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, "abcd");
    }
}

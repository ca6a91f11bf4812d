//! Work that no request waits for: copies of requests.

use std::cell::Cell;
use std::rc::Rc;

/// Most that is under way beside the requests of one worker. What is more is not begun.
const MOST: usize = 64;

/// Runs work beside requests, on the worker's thread, and never more of it than [`MOST`]. It ends with the worker.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    running: Rc<Cell<usize>>,
}

/// A place among what is under way; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Rc<Cell<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Aside {
    /// Takes a place; `None`: enough is under way.
    pub(crate) fn place(&self) -> Option<Place> {
        if self.running.get() >= MOST {
            return None;
        }
        self.running.set(self.running.get() + 1);
        Some(Place(self.running.clone()))
    }

    /// Runs `work` in a place that was taken.
    pub(crate) fn run(place: Place, work: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(async move {
            work.await;
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_much_is_under_way() {
        let aside = Aside::default();
        let mut places: Vec<Place> = std::iter::from_fn(|| aside.place()).collect();
        assert_eq!(places.len(), MOST);
        places.pop();
        assert!(aside.place().is_some(), "the one that ended made place");
    }
}

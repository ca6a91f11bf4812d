//! What requests of one worker ask control for, and how they wait for it: no lock, one message for each thing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::Session;
use super::failure::Failure;
use crate::timer::{Timer, after};
use crate::upstream::Table;
use crate::upstream::live::Wanted;

/// Longest that a request waits for a name that is not in the table (product paper, Precedence).
const WAIT: Duration = Duration::from_secs(1);
/// Most things that the requests of one worker wait for at a time.
const MOST: usize = 1000;

/// One worker's end of the demand. Lives on the worker's thread.
#[derive(Debug)]
pub(super) struct Demand {
    wanted: mpsc::Sender<Wanted>,
    /// What was asked for and is waited for, and by how many requests.
    asked: RefCell<HashMap<Wanted, usize>>,
    table_changed: Notify,
}

/// A request's part in something that is asked for. Dropping it is to wait no more.
#[derive(Debug)]
struct Asked {
    demand: Rc<Demand>,
    wanted: Wanted,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut asked = self.demand.asked.borrow_mut();
        if let Some(count) = asked.get_mut(&self.wanted) {
            *count -= 1;
            if *count == 0 {
                asked.remove(&self.wanted);
            }
        }
    }
}

impl Demand {
    pub(super) fn new(wanted: mpsc::Sender<Wanted>) -> Self {
        Self { wanted, asked: RefCell::default(), table_changed: Notify::new() }
    }

    /// Another table is in force.
    pub(super) fn table_changed(&self) {
        self.table_changed.notify_waiters();
    }

    /// Asks control, unless another request of this worker has; `None` where too much is asked for already.
    fn ask(self: &Rc<Self>, wanted: Wanted) -> Option<Asked> {
        let mut asked = self.asked.borrow_mut();
        if let Some(count) = asked.get_mut(&wanted) {
            *count += 1;
        } else {
            if asked.len() >= MOST {
                return None;
            }
            self.wanted.try_send(wanted.clone()).ok()?;
            asked.insert(wanted.clone(), 1);
        }
        drop(asked);
        Some(Asked { demand: self.clone(), wanted })
    }
}

impl Session {
    /// Asks for what the table lacks and waits for a table that answers for it. `until` is set by the first call of a
    /// request, so that a request waits so long once.
    pub(super) async fn wait_for(
        &self,
        wanted: Vec<Wanted>,
        until: &mut Option<Instant>,
        timer: &mut Timer,
    ) -> Result<Arc<Table>, Failure> {
        let demand = self.worker().demand();
        let until = *until.get_or_insert_with(|| after(Instant::now(), WAIT));
        let asked: Option<Vec<Asked>> = wanted.into_iter().map(|one| demand.ask(one)).collect();
        let asked = asked.ok_or(Failure::NamesFull)?;
        loop {
            // Listens before it looks, so that no change is missed between the two.
            let mut changed = std::pin::pin!(demand.table_changed.notified());
            changed.as_mut().enable();
            let table = self.table();
            if asked.iter().all(|one| table.knows(&one.wanted)) {
                return Ok(table);
            }
            if timer.bound(Some(until), changed).await.is_err() {
                let what: Vec<String> = asked.iter().map(|one| one.wanted.to_string()).collect();
                return Err(Failure::NameUnanswered(
                    format!("{}: not looked up within {WAIT:?}", what.join(", ")).into(),
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(host: &str) -> Wanted {
        Wanted::Name(host.into())
    }

    #[test]
    fn many_requests_for_one_name_are_one_message_and_the_next_asks_anew_when_all_have_gone() {
        let (sender, mut inbox) = mpsc::channel(8);
        let demand = Rc::new(Demand::new(sender));
        let first = demand.ask(name("a.mesh")).unwrap();
        let second = demand.ask(name("a.mesh")).unwrap();
        assert_eq!(inbox.try_recv(), Ok(name("a.mesh")));
        drop(first);
        let third = demand.ask(name("a.mesh")).unwrap();
        assert!(inbox.try_recv().is_err());
        drop((second, third));
        let _again = demand.ask(name("a.mesh")).unwrap();
        assert_eq!(inbox.try_recv(), Ok(name("a.mesh")));
    }

    #[test]
    fn a_flood_of_names_is_refused_and_leaves_nothing_behind() {
        let (sender, _inbox) = mpsc::channel(2);
        let demand = Rc::new(Demand::new(sender));
        let asked: Vec<_> = (0..5).filter_map(|number| demand.ask(name(&format!("{number}.mesh")))).collect();
        assert_eq!(asked.len(), 2);
        drop(asked);
        assert!(demand.asked.borrow().is_empty());
    }
}

//! The suite on trial: a backend in memory that holds everything, and ones that each break one promise.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Played, Stage, Trouble, run};
use crate::{Address, Backend, Endpoint, Error, Snapshot, Source, Target, TargetError, async_trait};

/// The promise that a scripted backend breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    CutsShort,
    ForgetsWhenDropped,
    KeepsARecoveryToItself,
    None,
    TakesAnErrorForEmpty,
    TakesAPartForAll,
    WaitsBeforeTheFirstAnswer,
}

#[derive(Debug, Clone, Default)]
struct World {
    endpoints: Vec<Endpoint>,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Memory {
    world: watch::Receiver<World>,
    fault: Fault,
}

#[derive(Debug)]
struct MemorySource {
    world: watch::Receiver<World>,
    fault: Fault,
    said: Option<Snapshot>,
    failed: bool,
    first: bool,
}

impl Backend for Memory {
    fn source(&self, _target: &Target) -> Result<Box<dyn Source>, TargetError> {
        let world = self.world.clone();
        Ok(Box::new(MemorySource { world, fault: self.fault, said: None, failed: false, first: true }))
    }
}

impl MemorySource {
    fn answer(&self, world: &World) -> Result<Snapshot, Error> {
        let all = Snapshot::new(world.endpoints.clone()).map_err(|error| Error::Malformed(error.to_string()));
        match world.trouble {
            None | Some(Trouble::Slow) => all,
            Some(_) if self.fault == Fault::TakesAnErrorForEmpty => Ok(Snapshot::default()),
            Some(Trouble::Garbage) => Err(Error::Malformed("garbage".to_owned())),
            Some(Trouble::Huge) => {
                let port = |port| Endpoint::new(Address::Tcp(([10, 0, 0, 1], port).into()));
                let mut many: Vec<Endpoint> = (1..=10_001).map(port).collect();
                if self.fault == Fault::CutsShort {
                    many.truncate(Snapshot::MAX_ENDPOINTS);
                }
                Snapshot::new(many).map_err(|error| Error::Malformed(error.to_string()))
            }
            Some(Trouble::Partial) if self.fault == Fault::TakesAPartForAll => {
                Ok(Snapshot::new(world.endpoints[..1].to_vec()).unwrap())
            }
            Some(Trouble::Partial) => Err(Error::Malformed("a part is missing".to_owned())),
            Some(Trouble::Unreachable | Trouble::Restart) => Err(Error::Unreachable("gone away".to_owned())),
        }
    }
}

#[async_trait]
impl Source for MemorySource {
    async fn next(&mut self) -> Result<Snapshot, Error> {
        if self.fault == Fault::WaitsBeforeTheFirstAnswer && self.first {
            self.first = false;
            self.world.borrow_and_update();
            self.world.changed().await.map_err(|error| Error::Unreachable(error.to_string()))?;
        }
        loop {
            let world = self.world.borrow().clone();
            if world.trouble == Some(Trouble::Slow) || self.fault == Fault::ForgetsWhenDropped {
                if self.fault == Fault::ForgetsWhenDropped && self.said.is_some() && !self.failed {
                    self.said = self.answer(&world).ok();
                }
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
            match self.answer(&world) {
                Err(error) => {
                    self.failed = true;
                    return Err(error);
                }
                Ok(snapshot) => {
                    let recovered = std::mem::take(&mut self.failed) && self.fault != Fault::KeepsARecoveryToItself;
                    if recovered || self.said.as_ref() != Some(&snapshot) {
                        self.said = Some(snapshot.clone());
                        return Ok(snapshot);
                    }
                }
            }
            // What is current is compared above, so it does not matter which change wakes this.
            let current = (world.endpoints, world.trouble);
            self.world
                .wait_for(|now| (&now.endpoints, &now.trouble) != (&current.0, &current.1))
                .await
                .map_err(|error| Error::Unreachable(error.to_string()))?;
        }
    }
}

struct InMemory {
    world: watch::Sender<World>,
    fault: Fault,
}

impl InMemory {
    fn new(fault: Fault) -> Self {
        Self { world: watch::Sender::new(World::default()), fault }
    }
}

#[async_trait]
impl Stage for InMemory {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(Memory { world: self.world.subscribe(), fault: self.fault })
    }

    fn target(&self) -> Target {
        Target { backend: "memory".to_owned(), path: "web".to_owned(), options: std::collections::BTreeMap::new() }
    }

    async fn set(&mut self, endpoints: &[Endpoint]) {
        self.world.send_modify(|world| world.endpoints = endpoints.to_vec());
    }

    async fn play(&mut self, trouble: Trouble) -> Played {
        self.world.send_modify(|world| world.trouble = Some(trouble));
        Played::Done
    }

    async fn recover(&mut self) {
        self.world.send_modify(|world| world.trouble = None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_holds_everything_passes() {
    assert_eq!(run(|| InMemory::new(Fault::None)).await, []);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "Garbage is an error: told as an answer")]
async fn a_backend_that_takes_an_error_for_empty_is_found() {
    run(|| InMemory::new(Fault::TakesAnErrorForEmpty)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "Huge is an error: told as an answer")]
async fn a_backend_that_cuts_short_is_found() {
    run(|| InMemory::new(Fault::CutsShort)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "Partial is an error: told as an answer")]
async fn a_backend_that_takes_a_part_for_all_is_found() {
    run(|| InMemory::new(Fault::TakesAPartForAll)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "Garbage is an error: [1, 2] never came")]
async fn a_backend_that_keeps_a_recovery_to_itself_is_found() {
    run(|| InMemory::new(Fault::KeepsARecoveryToItself)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "a call that is dropped loses no change")]
async fn a_backend_that_forgets_when_a_call_is_dropped_is_found() {
    super::a_call_that_is_dropped_loses_no_change(&mut InMemory::new(Fault::ForgetsWhenDropped)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "the first call answers at once: nothing came")]
async fn a_backend_that_waits_before_its_first_answer_is_found() {
    run(|| InMemory::new(Fault::WaitsBeforeTheFirstAnswer)).await;
}

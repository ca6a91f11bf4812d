//! One exchange with the registry.

use std::sync::Arc;

use meshless_discovery::{Error, Registrar, Registration, Upkeep};
use meshless_platforms::Surroundings;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::register::Write;
use crate::register::leftovers::{Mark, Seen, leftovers, started};

/// Does what the course says; returns the ids of leftovers that were removed.
pub(super) async fn perform(
    registrar: Arc<dyn Registrar>,
    registration: Arc<Registration>,
    write: Write,
    note: Arc<str>,
    own: Option<(Mark, Arc<dyn Surroundings>)>,
) -> Result<Vec<String>, Error> {
    let id = &registration.id;
    match write {
        Write::Announce(condition) => registrar.announce(&registration, condition).await?,
        Write::Heartbeat(_) if matches!(registration.upkeep, Upkeep::Asked { .. }) => registrar.confirm(id).await?,
        Write::Heartbeat(condition) | Write::Report(condition) => registrar.report(id, condition, &note).await?,
        Write::Withdraw => registrar.withdraw(id).await?,
        Write::Clean => {
            let Some((mark, surroundings)) = own else { return Ok(Vec::new()) };
            let entries = registrar.entries(&registration.service).await?;
            let ids = leftovers(&entries, id, &mark, |process| look(&*surroundings, process));
            for id in &ids {
                registrar.withdraw(id).await?;
            }
            return Ok(ids.into_iter().map(ToOwned::to_owned).collect());
        }
    }
    Ok(Vec::new())
}

/// Returns the mark of this process; `None` where the system does not say enough.
pub(super) fn own_mark(surroundings: &dyn Surroundings) -> Option<Mark> {
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let boot = surroundings.file("/proc/sys/kernel/random/boot_id")?;
    Mark::of(&boot, &namespace.to_string_lossy(), &surroundings.file("/proc/self/stat")?)
}

fn look(surroundings: &dyn Surroundings, process: u32) -> Seen {
    let Some(id) = i32::try_from(process).ok().and_then(Pid::from_raw) else { return Seen::Runs { started: None } };
    match test_kill_process(id) {
        // A mount with `hidepid` hides what others run, but not that it runs: only the kernel's word is believed.
        Err(Errno::SRCH) => Seen::Gone,
        _ => {
            Seen::Runs { started: surroundings.file(&format!("/proc/{process}/stat")).and_then(|stat| started(&stat)) }
        }
    }
}

//! Asks the platform where this runs, once, before the configuration is read.

use std::path::PathBuf;
use std::sync::Arc;

use meshless_platforms::{Bound, Located, Processors, Surroundings, Whereabouts};

use super::{Options, StartError};
use crate::config::{Config, named_platform};

/// Returns the same options with surroundings that know where they are. Takes 4 s at most. A platform that was named and does not
/// answer is an error; of one that was found a warning is told, and what it would have said is not known.
pub(super) fn located(options: Options) -> Result<Options, StartError> {
    if options.surroundings.whereabouts().is_some() {
        return Ok(options);
    }
    let named = named_platform(&options.paths, &*options.surroundings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let whereabouts = runtime.block_on(Whereabouts::find(named, &*options.surroundings));
    let platform = whereabouts.platform;
    match &whereabouts.unanswered {
        Some(reason) if named.is_some() => return Err(StartError::Platform { platform, reason: reason.clone() }),
        Some(reason) => {
            tracing::warn!(%platform, %reason, "The platform does not answer; what it would say is not known.");
        }
        None => {
            let of = |name| whereabouts.value(name).unwrap_or_default().to_owned();
            let (zone, address) = (of("node.zone"), of("node.address"));
            tracing::info!(%platform, because = whereabouts.because, zone, address, "Found where this runs.");
        }
    }
    let surroundings: Arc<dyn Surroundings> =
        Arc::new(Located::new(options.surroundings.clone(), Arc::new(whereabouts)));
    Ok(Options { surroundings, ..options })
}

/// Returns surroundings that know where they are, for a command that looks at what a gateway would do here. Takes 4 s at most.
/// A platform that does not answer is told where the configuration uses what it would say.
pub async fn locate(paths: &[PathBuf], surroundings: Arc<dyn Surroundings>) -> Arc<dyn Surroundings> {
    let whereabouts = Whereabouts::find(named_platform(paths, &*surroundings), &*surroundings).await;
    Arc::new(Located::new(surroundings, Arc::new(whereabouts)))
}

/// Returns how many workers run: `node.workers`, else what this process may use.
pub(super) fn workers(config: &Config, surroundings: &dyn Surroundings) -> usize {
    config.node.workers.unwrap_or_else(|| {
        let found = processors(surroundings);
        if !matches!(found.bound, Bound::Scheduler) {
            tracing::info!(workers = found.count, because = %found.bound, "As many workers run as processors may be used.");
        }
        found.count
    })
}

/// Returns how many processors this process may use.
pub fn processors(surroundings: &dyn Surroundings) -> Processors {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let limit = surroundings.whereabouts().and_then(|place| place.limits.cpus);
    Processors::find(available, limit, &|path| surroundings.file(path))
}

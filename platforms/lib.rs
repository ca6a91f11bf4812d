//! Where this process runs and what that place says about it.
//!
//! A leaf of the workspace: it knows nothing of discovery, certificates or the data path.

mod memory;
mod surroundings;

pub use memory::{Memory, MemoryGroups, ReadFile};
pub use surroundings::{Process, Scripted, Surroundings};

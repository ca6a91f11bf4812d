//! Where this process runs and what that place says about it.
//!
//! A leaf of the workspace: it knows nothing of discovery, certificates or the data path.

mod surroundings;

pub use surroundings::{Process, Scripted, Surroundings};

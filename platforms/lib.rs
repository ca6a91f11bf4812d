//! Where this process runs and what that place says about it.
//!
//! A leaf of the workspace: it knows nothing of discovery, certificates or the data path.

mod detect;
mod ec2;
mod ecs;
mod groups;
mod kubernetes;
mod memory;
mod metadata;
mod nomad;
mod processors;
mod surroundings;
mod vm;
mod whereabouts;

pub use ec2::{Notice, NoticeKind, Notices};
pub use ecs::SERVICE as ECS_SERVICE;
pub use memory::{Memory, MemoryGroups, ReadFile};
pub use metadata::MetadataError;
pub use processors::{Bound, Processors};
pub use surroundings::{Located, Process, Scripted, Surroundings, reached_from};
pub use whereabouts::{Fact, Limits, Platform, Whereabouts};

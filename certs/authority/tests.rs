//! An authority for tests, and tests of the whole of it.

pub(crate) mod bench;
mod killed;
mod measure;

//! `meshless simulate`: what clients would see while endpoints are slow, fail, come and go.
//!
//! A [`Scenario`] is a configuration, endpoints as they behave over time, and a load. [`Scenario::run`] lets the decision
//! core serve it on virtual time; the same seed gives the same [`Report`], byte for byte.

mod endpoints;
mod figures;
mod file;
mod plot;
mod raw;
mod report;
mod run;
mod text;

pub use self::figures::{EndpointFigures, Phase, Run, Slot};
pub use self::file::Scenario;
pub use self::report::Report;

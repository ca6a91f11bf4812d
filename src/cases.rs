//! `meshless test`: does a configuration still do what it was meant to do?
//!
//! A file of [`Cases`] has a configuration, what its targets list, and cases: what has happened, a request, and what is
//! expected of it. The request meets the decision core that serves, on virtual time; nothing is sent.

mod case;
mod expect;
mod file;
mod raw;
mod text;

pub use self::case::{Mismatch, Tested};
pub use self::file::Cases;
pub use self::text::{Summary, summary};

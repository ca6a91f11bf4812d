//! `meshless schema`: the JSON Schema of the configuration.

use clap::Args;
use meshless::config::schema;

use super::{Exit, print};

/// Print the JSON Schema of the configuration, for editors
#[derive(Debug, Args)]
pub(super) struct Schema {}

impl Schema {
    // The signature is that of every subcommand.
    #[allow(clippy::unused_self, reason = "every subcommand runs by value")]
    pub(super) fn run(self) -> Exit {
        print(&format!("{:#}\n", schema::schema()))
    }
}

//! `meshless ca`: the authority.

mod serve;

use clap::{Args, Subcommand};

use super::Exit;

/// The certificate authority.
#[derive(Debug, Args)]
pub(super) struct Ca {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    Serve(serve::Serve),
}

impl Ca {
    pub(super) fn run(self) -> Exit {
        match self.command {
            Commands::Serve(serve) => serve.run(),
        }
    }
}

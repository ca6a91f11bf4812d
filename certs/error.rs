//! What can be wrong with given certificates; each says which file.

use std::path::PathBuf;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file has nothing of what is looked for.
    #[error("{}: no {what} in it (PEM is expected)", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// What a file holds cannot be used.
    #[error("{}: {why}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The system's trust store cannot be used.
    #[error("the system's trust store: {0}")]
    System(String),
    /// rustls refuses the combination.
    #[error("TLS configuration: {0}")]
    Tls(#[from] rustls::Error),
}

//! Who we are: TLS from given certificates today; identities and the authority have their place here.

mod provider;

pub use provider::provider;

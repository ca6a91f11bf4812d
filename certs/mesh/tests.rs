//! Real handshakes, both sides in memory, with certificates made for each test.

mod bytes;
mod constraints;
mod identities;
mod interop;
mod made;
mod openssl;
mod refused;
mod resumed;
mod wire;

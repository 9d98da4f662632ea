//! Connections, from the address to the bytes: where to listen, sockets of any kind as one type, and TLS on both sides
//! with certificates that are replaced while everything runs.
//!
//! Nothing here knows what is spoken over a connection. Receivers, exporters and tracegate's own pages use it.

pub mod listen;
pub mod stream;
pub mod tls;

pub use listen::{Address, Flag, ListenError, Listener, Place, Transport};
pub use stream::{Socket, Stream};

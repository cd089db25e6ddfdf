//! Floor 3: where frames live. [`Mbuf`] describes a packet buffer, [`pool`] keeps them, [`source`] is where a queue
//! gets them from and gives them back to.

pub mod layout;
pub mod mbuf;
pub mod pool;
pub mod source;
pub mod watch;

pub use mbuf::{Mbuf, MbufRef};

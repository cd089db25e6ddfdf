//! Floor 1: the operating system. The only callers of libc and nix for I/O.

pub mod asymmetric;
pub mod caller;
pub mod clock;
pub mod epoll;
pub mod eventfd;
pub mod knock;
pub mod limits;
pub mod listener;
pub mod netdev;
pub mod output;
pub mod poll;
pub mod shm;
pub mod socket;
pub mod tap;
pub mod thread;
pub mod timer;
pub mod turnstile;
pub mod vdpa;
pub mod vhost;

//! What runs in the kernel under test, as root, with nobody else there.

mod lab;
mod nics;
mod vdpa;
mod vhost_net;

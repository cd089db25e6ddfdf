//! `path=/dev/vhost-net`: the kernel's network stack at the other end of the cable.

mod broken;
mod exception;
mod life;
mod refused;
mod step;
mod traffic;

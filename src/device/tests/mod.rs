//! The device against a driver that is nothing but bytes at the standard's offsets.

mod driver;
mod net;
mod rings;
mod session;

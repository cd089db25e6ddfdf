//! Promise: to an application of DPDK's our driver is what DPDK's own virtio-user is, and right where that is wrong.
//!
//! `port/` is a DPDK program of ours that does with ports what it is told on its standard input, and compares every
//! byte of every frame. It drives our driver's port, and mostly, in the same thread, the `net_vhost` port at its other
//! end: what happens then does not depend on who gets which CPU when, and counts are exact. The other end in a process of its
//! own is `dpdk-testpmd`. docs/acceptance.md has the plans that the cases come from.
//!
//! | variable | meaning |
//! |---|---|
//! | `VUSER_DPDK_DRIVER` | the driver under test, `net_vuser` by default; `net_virtio_user` shows what is expected of DPDK's |
//! | `VUSER_TESTPMD` | the program to start, `dpdk-testpmd` by default |
//! | `VUSER_BUILD` | where `tests/port` and `librte_net_vuser.so` are, `build` by default |
//! | `VUSER_REQUIRE_ALL` | `1`: a skipped test is a failed test |
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

mod paths;
mod port;
mod proxy;
mod turn;

mod client;
mod defects;
mod instructions;
mod interrupts;
mod kernel;
mod loading;
mod loopback;
mod memory;
mod offloads;
mod programs;
mod queues;
mod restart;
mod rss;
mod server;
mod vm2vm;
mod xstats;

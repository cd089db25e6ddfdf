//! Promise: with back-ends of others that come and go, nothing is lost that was not in their hands.
//!
//! The programs are C, `soak.c`, `mix.c` and `switch.c`, linked with `libvuser.so.0`; each prints what it counted as a line of
//! JSON and judges it itself. Here is who they meet, and who is killed when.
//!
//! | variable | meaning |
//! |---|---|
//! | `VUSER_OVS_VSWITCHD` | Open vSwitch with DPDK, Debian's `ovs-vswitchd-dpdk` by default |
//! | `VUSER_SOAK_KILLS` | how often each back-end is killed, 12 by default |
//! | `VUSER_FRONT_KILLS` | how often the front-end is killed in each of five ways, twice by default |
//! | `VUSER_TESTPMD` | the program to start, `dpdk-testpmd` by default |
//! | `VUSER_BUILD` | where `tests/switch`, `tests/soak` and `libvuser.so.0` are, `build` by default |
//! | `VUSER_REQUIRE_ALL` | `1`: a skipped test is a failed test |
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

mod fallen;
mod hang;
mod mix;
mod ovs;
mod program;
mod soak;
mod switch;
mod testpmd;

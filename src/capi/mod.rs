//! Floor 6: the C face, the only `no_mangle` of the crate. One file for each object; the order of the `mod` lines is
//! the order of the header.
//!
//! Pointers from C are what the header's conventions say they are: valid, or NULL, which control calls refuse and
//! bursts do not take. The `SAFETY` lines below call that "the conventions".
#![allow(non_camel_case_types, clippy::missing_safety_doc, reason = "the header is the documentation of these")]

pub mod error;
mod handle;
pub mod misc;

pub mod config;
pub mod dev;
pub mod event;
pub mod extras;
pub mod feature;
pub mod filter;
pub mod mbuf;
pub mod pool;
pub mod queue;
pub mod rss;

pub mod capture;
pub mod copy;
pub mod lend;

pub mod loopback;

//! The memory that a ring lies in, as `src/mem` has it: doors and lanes are the library's own files, and what they are
//! made of is loom's.

pub mod atomic;
#[path = "../../../src/mem/lanes/mod.rs"]
pub mod lanes;
#[path = "../../../src/mem/shared.rs"]
pub mod shared;

//! What callers do wrong, noticed by a library that is built with the feature `checked`: any other compiles none of it.

use std::fmt::Arguments;
use std::io::Write as _;

/// Whether this build looks at what callers do.
pub const WATCHED: bool = cfg!(feature = "checked");

/// Tells of a caller's error, in a sentence, and ends the program where it happened: for a debugger, and before harm is done.
#[cold]
pub fn wrong(sentence: Arguments<'_>) -> ! {
    log::error!("caller error: {sentence}");
    let _ = writeln!(std::io::stderr().lock(), "vuser: caller error: {sentence}");
    std::process::abort()
}

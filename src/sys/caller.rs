//! What callers do wrong, noticed by a library that is built with the feature `checked`: any other compiles none of it.

use std::fmt::Arguments;
use std::io::Write as _;
use std::time::Duration;

/// Whether this build looks at what callers do.
pub const WATCHED: bool = cfg!(feature = "checked");

/// What the Makefile looks for in an archive, so as not to take one without the checks for this.
#[cfg(feature = "checked")]
#[used]
static MARK: [u8; 25] = *b"vuser_watches_its_callers";

/// How long the checks wait for a lock of theirs, which is held for moments.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Nobody will let go of a lock of the checks.
#[cold]
pub fn stuck() -> ! {
    wrong(format_args!(
        "a call was interrupted, and its lock is held; call nothing from signal handlers, and in a child of fork only exec, if \
         other threads were in calls"
    ))
}

/// Tells of a caller's error, in a sentence, and ends the program where it happened: for a debugger, and before harm is done.
#[cold]
pub fn wrong(sentence: Arguments<'_>) -> ! {
    log::error!("caller error: {sentence}");
    let _ = writeln!(std::io::stderr().lock(), "vuser: caller error: {sentence}");
    std::process::abort()
}

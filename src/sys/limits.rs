//! How many files a process may have open, and what to do when that is not enough.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};

use crate::error::{Error, Result};

/// Whether so many more files can be opened. The sentence names who needs them.
pub fn room_for(more: u64, what: impl std::fmt::Display) -> Result<()> {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    let open = open_files();
    if open.saturating_add(more) <= soft {
        return Ok(());
    }
    let sentence = format!(
        "{what} needs about {more} file descriptors; this process has {open} open and may have {soft}: {}",
        cure(open.saturating_add(more), hard)
    );
    Err(Error::new(Errno::EMFILE, sentence))
}

/// Something could not be opened. If that is because there are too many files, the sentence says what helps.
pub fn not_opened(errno: Errno, what: &str) -> Error {
    match (errno, getrlimit(Resource::RLIMIT_NOFILE)) {
        (Errno::EMFILE, Ok((soft, hard))) => {
            let sentence =
                format!("{what}: {}, and this process may have {soft}: {}", errno.desc(), cure(soft + 1, hard));
            Error::new(errno, sentence)
        }
        _ => Error::sys(errno, what),
    }
}

fn cure(need: u64, hard: u64) -> String {
    // Whoever needs that many now will need some more.
    let raise = (need + need / 4).next_multiple_of(1024);
    match raise <= hard {
        true => format!("raise the limit, by `ulimit -n {raise}` or setrlimit(RLIMIT_NOFILE)"),
        false => format!(
            "an administrator has to raise the hard limit of {hard} to {raise} (LimitNOFILE= of systemd, \
             /etc/security/limits.conf, --ulimit nofile= of a container)"
        ),
    }
}

/// As far as /proc tells.
fn open_files() -> u64 {
    // One of them is the directory that is being read.
    std::fs::read_dir("/proc/self/fd").map_or(0, |files| (files.count() as u64).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_no_error_and_what_does_not_is_told_with_a_cure() {
        room_for(1, "this").unwrap();
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let error = room_for(soft, "this").unwrap_err();
        assert_eq!(error.errno(), Errno::EMFILE);
        assert!(error.to_string().contains(&format!("may have {soft}: ")), "{error}");
        assert!(cure(2000, 4096).contains("ulimit -n 3072"), "{}", cure(2000, 4096));
        assert!(cure(2000, 1024).contains("hard limit of 1024 to 3072"), "{}", cure(2000, 1024));
        assert!(not_opened(Errno::EMFILE, "cannot").to_string().contains("limit"));
        assert_eq!(not_opened(Errno::ENOMEM, "cannot"), Error::sys(Errno::ENOMEM, "cannot"));
    }
}

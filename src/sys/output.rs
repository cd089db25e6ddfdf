//! A file, pipe or socket that is written to, without waiting for ever for whoever reads it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Whence, ftruncate, lseek, write};

use crate::error::{Error, Result};

/// Bytes that a pipe which can be written to takes without blocking.
const PIPE: usize = 4096;
/// How often a wait looks whether it is to go on.
const SLICE: u16 = 20;

/// Where bytes are written to.
#[derive(Debug)]
pub struct Output {
    fd: OwnedFd,
    /// A file on a disc, which never has its writer wait for a reader.
    regular: bool,
}

impl Output {
    /// Makes a file, or empties the one that is there. A named pipe must have a reader.
    pub fn create(path: &Path) -> Result<Self> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let fd = open(path, flags, Mode::from_bits_truncate(0o666)).map_err(|e| {
            let cure = if e == Errno::ENXIO { "; nobody reads that pipe: start its reader first" } else { "" };
            Error::new(e, format!("{} cannot be written: {}{cure}", path.display(), e.desc()))
        })?;
        Self::of(fd)
    }

    /// Writes to a descriptor of somebody else's, from where it stands. It is duplicated.
    pub fn share(fd: BorrowedFd<'_>) -> Result<Self> {
        let number = fd.as_raw_fd();
        let refuse = |e: Errno| Error::new(e, format!("descriptor {number} cannot be written: {}", e.desc()));
        let flags = fcntl(fd, FcntlArg::F_GETFL).map_err(refuse)?;
        if flags & libc::O_ACCMODE == libc::O_RDONLY {
            return Err(refuse(Errno::EBADF));
        }
        let ours =
            fd.try_clone_to_owned().map_err(|e| refuse(Errno::from_raw(e.raw_os_error().unwrap_or(libc::EBADF))))?;
        Self::of(ours)
    }

    fn of(fd: OwnedFd) -> Result<Self> {
        let found = fstat(&fd).map_err(|e| Error::sys(e, "fstat"))?;
        let regular = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFREG;
        Ok(Self { fd, regular })
    }

    /// Writes all of it, or says how much was written and why not the rest. What cannot be written for now is waited with as
    /// long as `goes_on` says.
    pub fn write(&self, mut bytes: &[u8], goes_on: impl Fn() -> bool) -> std::result::Result<(), (usize, Errno)> {
        let whole = bytes.len();
        while !bytes.is_empty() {
            let written = whole - bytes.len();
            if !self.is_ready().map_err(|e| (written, e))? {
                if !goes_on() {
                    return Err((written, Errno::ETIMEDOUT));
                }
                continue;
            }
            let part = if self.regular { bytes } else { bytes.get(..PIPE).unwrap_or(bytes) };
            match write(&self.fd, part) {
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(Errno::EINTR | Errno::EAGAIN) if goes_on() => {}
                Err(e) => return Err((written, e)),
            }
        }
        Ok(())
    }

    /// Whether a write would not block; looks for a moment.
    fn is_ready(&self) -> std::result::Result<bool, Errno> {
        let mut set = [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut set, PollTimeout::from(SLICE)) {
            Ok(n) => Ok(n > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Takes back the last bytes that were written, where that can be done.
    pub fn take_back(&self, bytes: usize) {
        if !self.regular || bytes == 0 {
            return;
        }
        let Ok(end) = lseek(&self.fd, 0, Whence::SeekCur) else { return };
        let cut = end.saturating_sub(bytes as i64).max(0);
        if ftruncate(&self.fd, cut).is_ok() {
            let _ = lseek(&self.fd, cut, Whence::SeekSet);
        }
    }
}

/// A time by which something must be done.
pub fn by(at_most: Duration) -> impl Fn() -> bool {
    let end = Instant::now() + at_most;
    move || Instant::now() < end
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_pipe_that_nobody_reads_is_given_up() {
        let (mut read, written) = std::io::pipe().unwrap();
        let output = Output::share(written.as_fd()).unwrap();
        drop(written);
        let bytes = vec![7; 1 << 20];
        let (n, e) = output.write(&bytes, by(Duration::from_millis(50))).unwrap_err();
        assert!(n > 0 && n < bytes.len() && e == Errno::ETIMEDOUT, "{n} {e}");
        let mut got = vec![0; n];
        read.read_exact(&mut got).unwrap();
        assert!(output.write(b"more", || true).is_ok());
    }

    #[test]
    fn what_cannot_be_written_is_said_at_once() {
        let read_only = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(Output::share(read_only.as_fd()).unwrap_err().errno(), Errno::EBADF);
        assert_eq!(Output::create(Path::new("/no/such/file")).unwrap_err().errno(), Errno::ENOENT);
        let full = Output::create(Path::new("/dev/full")).unwrap();
        assert_eq!(full.write(b"x", || true), Err((0, Errno::ENOSPC)));
    }

    #[test]
    fn the_last_bytes_can_be_taken_back() {
        let path = std::env::temp_dir().join(format!("vuser-output-{}", std::process::id()));
        let output = Output::create(&path).unwrap();
        output.write(b"one two", || true).unwrap();
        output.take_back(4);
        output.write(b"!", || true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one!");
        std::fs::remove_file(path).unwrap();
    }
}

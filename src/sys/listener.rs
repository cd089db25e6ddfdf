//! A socket that others connect to, and its file.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, accept4, bind, listen, socket};

use super::socket::{Deadline, Stream, address, wait};
use crate::error::{Error, Result};

/// A listening socket; its file is removed when it is dropped, unless somebody has put another there.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    path: PathBuf,
    /// Device and inode of the file.
    file: Option<(u64, u64)>,
}

impl Listener {
    /// Listens at a path. A socket's file that nobody listens at any more is replaced.
    pub fn bind(path: &Path) -> Result<Self> {
        Self::bind_as(path, None)
    }

    /// The same, with these permissions of the file in place of those that the umask leaves.
    pub fn bind_as(path: &Path, permissions: Option<u32>) -> Result<Self> {
        let address = address(path)?;
        let failed = |e: Errno| Error::sys(e, format!("cannot listen on {}", path.display()));
        let io = |e: std::io::Error| failed(Errno::try_from(e).unwrap_or(Errno::EIO));
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed)?;
        match bind(fd.as_raw_fd(), &address) {
            Err(Errno::EADDRINUSE) if is_stale(path) => {
                std::fs::remove_file(path).map_err(io)?;
                log::info!("{}: replaced, nobody listened there any more", path.display());
                bind(fd.as_raw_fd(), &address).map_err(failed)?;
            }
            Err(Errno::EADDRINUSE) => return Err(in_use(path)),
            result => result.map_err(failed)?,
        }
        let listener = Self { fd, path: path.to_owned(), file: identity(path) };
        // Nobody can connect before we listen, so that nobody sees the permissions that the umask left.
        if let Some(mode) = permissions {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(io)?;
        }
        listen(&listener.fd, Backlog::new(1).unwrap_or(Backlog::MAXCONN)).map_err(failed)?;
        Ok(listener)
    }

    /// Waits for a peer; `None` when the time is over.
    pub fn accept(&self, at_most: Duration) -> Result<Option<Stream>> {
        let failed = |e: Errno| Error::sys(e, format!("cannot accept on {}", self.path.display()));
        match wait(self.fd.as_fd(), PollFlags::POLLIN, Deadline::after(at_most)) {
            Err(Errno::ETIMEDOUT) => return Ok(None),
            result => result.map_err(failed)?,
        }
        match accept4(self.fd.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(fd) => Ok(Some(Stream { fd: unsafe { OwnedFd::from_raw_fd(fd) } })),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => Ok(None),
            Err(e) => Err(failed(e)),
        }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.file.is_some() && identity(&self.path) == self.file {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
}

/// Whether the file at `path` is a socket that refuses connections.
fn is_stale(path: &Path) -> bool {
    is_socket(path)
        && matches!(Stream::connect(path, Deadline::after(Duration::ZERO)), Err(e) if e.errno() == Errno::ECONNREFUSED)
}

fn in_use(path: &Path) -> Error {
    let what = match is_socket(path) {
        true => "another process listens there (or may: it cannot be asked); end it, or give another path",
        false => "there is a file that is no socket, which is not ours to replace; give another path",
    };
    Error::new(Errno::EADDRINUSE, format!("cannot listen on {}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("vuser-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let path = at("listen");
        let first = Listener::bind(&path).unwrap();
        let error = Listener::bind(&path).unwrap_err();
        assert!(error.errno() == Errno::EADDRINUSE && error.to_string().contains("another process listens"), "{error}");
        drop(first);
        assert!(!path.exists());
        // The standard library's listener leaves its file behind, as a crash would.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let again = Listener::bind(&path).unwrap();
        assert!(again.accept(Duration::from_millis(1)).unwrap().is_none());
        let client = Stream::connect(&path, Deadline::after(Duration::from_secs(1))).unwrap();
        assert!(again.accept(Duration::from_millis(100)).unwrap().is_some());
        drop((client, again));
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_and_one_that_replaced_ours_stay() {
        let path = at("file");
        std::fs::write(&path, "precious").unwrap();
        let error = Listener::bind(&path).unwrap_err();
        assert!(error.errno() == Errno::EADDRINUSE && error.to_string().contains("no socket"), "{error}");
        std::fs::remove_file(&path).unwrap();
        let listener = Listener::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another's").unwrap();
        drop(listener);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "another's");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn permissions_are_what_was_asked_for() {
        let path = at("mode");
        for mode in [0o660, 0o777, 0o600] {
            let listener = Listener::bind_as(&path, Some(mode)).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
            assert_eq!(listener.path(), path);
        }
    }
}

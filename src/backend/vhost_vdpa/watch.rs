//! Whether a device file is still there: a device that is removed takes its file away, and then waits for us to close it.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::stat;

use crate::error::{Error, Result};

/// A watch over a device file. Its descriptor is readable when something has happened to the file.
pub(super) struct Watch {
    inotify: Inotify,
    path: PathBuf,
    device: u64,
    gone: AtomicBool,
}

impl Watch {
    pub(super) fn new(path: &Path) -> Result<Self> {
        let failed = |e: Errno| match e {
            Errno::ENOENT | Errno::EACCES => super::cannot_open(e, &path.display().to_string()),
            Errno::EMFILE => Error::sys(
                e,
                format!("cannot watch {} (see ulimit -n and sysctl fs.inotify.max_user_instances)", path.display()),
            ),
            _ => Error::sys(e, format!("cannot watch {}", path.display())),
        };
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(failed)?;
        // A file that is unlinked while it is open lives on; what changes is the number of its links.
        inotify.add_watch(path, AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_DELETE_SELF).map_err(failed)?;
        let device = stat(path).map_err(failed)?.st_rdev;
        Ok(Self { inotify, path: path.to_owned(), device, gone: AtomicBool::new(false) })
    }

    /// Takes what has happened.
    pub(super) fn listen(&self) {
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }

    /// Whether the device is there. Once it has gone, another that comes under its name is another.
    pub(super) fn is_there(&self) -> bool {
        // A file that is mounted from elsewhere stays where it is, but has no link any more.
        if !stat(&self.path).is_ok_and(|s| s.st_rdev == self.device && s.st_nlink > 0) {
            self.gone.store(true, Ordering::Relaxed);
        }
        !self.gone.load(Ordering::Relaxed)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

//! The one error type: a number for programs, a sentence for people.

use nix::errno::Errno;

/// What went wrong.
///
/// The sentence names the cause and, where there is one, the cure; the C face hands it out by
/// `vuser_last_error()` and the number as a negative return value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    errno: Errno,
    message: String,
}

/// `Result` with our [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with this number and sentence.
    pub fn new(errno: Errno, message: impl Into<String>) -> Self {
        Self { errno, message: message.into() }
    }

    /// A system call failed: `what` says what we were doing.
    pub fn sys(errno: Errno, what: impl std::fmt::Display) -> Self {
        Self::new(errno, format!("{what}: {}", errno.desc()))
    }

    /// The caller gave something that cannot be.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Errno::EINVAL, message)
    }

    /// The back-end broke the protocol.
    pub fn protocol(message: impl Into<String>) -> Self {
        Self::new(Errno::EPROTO, message)
    }

    /// The error number.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The same error, told with what was being done.
    #[must_use]
    pub fn context(self, what: impl std::fmt::Display) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }
}

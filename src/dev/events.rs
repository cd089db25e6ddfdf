//! What happens to a device without being asked for, kept until the application takes it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use parking_lot::Mutex;

use crate::error::Result;
use crate::sys::eventfd::Bell;

/// Events that are kept; more are counted only.
const ROOM: usize = 256;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Frames can come and go.
    LinkUp,
    /// Frames cannot come and go any more; the sentence says why.
    LinkDown,
    /// The back-end has gone and come back, or another has come in its place.
    Reconnected,
    /// A back-end was sent away; the sentence says why.
    Refused,
    /// The configuration of the device is another: MAC, MTU, speed.
    Config,
    /// The device has found a ring that it cannot go on with.
    QueueError,
    /// The device can go on only after a reset.
    NeedsReset,
    /// The device asks that we announce our address to the network.
    Announce,
    /// So many events were lost, because nobody took them.
    Lost,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What has happened.
    pub kind: Kind,
    /// With [`Kind::QueueError`] the ring's index; with [`Kind::Lost`] how many.
    pub number: u64,
    /// A sentence, may be empty.
    pub text: String,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Event>,
    lost: u64,
}

/// Events that nobody has taken yet.
#[derive(Debug)]
pub struct Events {
    inner: Mutex<Inner>,
    /// Rung while there are any.
    bell: Bell,
}

impl Events {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { inner: Mutex::default(), bell: Bell::new()? })
    }

    pub(super) fn tell(&self, kind: Kind, text: impl Into<String>) {
        self.push(Event { kind, number: 0, text: text.into() });
    }

    pub(super) fn push(&self, event: Event) {
        log::info!("event: {event:?}");
        let mut inner = self.inner.lock();
        match inner.queue.len() {
            ROOM.. => inner.lost += 1,
            _ => inner.queue.push_back(event),
        }
        self.bell.ring();
    }

    /// Takes the oldest, `most` of them at most.
    pub fn take(&self, most: usize) -> Vec<Event> {
        let mut inner = self.inner.lock();
        let some = most.min(inner.queue.len());
        let mut taken: Vec<_> = inner.queue.drain(..some).collect();
        // What was lost came after all that was kept.
        if inner.lost > 0 && taken.len() < most {
            taken.push(Event { kind: Kind::Lost, number: std::mem::take(&mut inner.lost), text: String::new() });
        }
        if inner.queue.is_empty() && inner.lost == 0 {
            self.bell.take();
        }
        taken
    }
}

impl AsFd for Events {
    /// Readable while there are events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::is_readable;

    #[test]
    fn events_are_kept_in_order_and_what_is_too_much_is_counted() {
        let events = Events::new().unwrap();
        assert!(!is_readable(events.as_fd()) && events.take(5).is_empty());
        for n in 0..ROOM as u64 + 3 {
            events.push(Event { kind: Kind::QueueError, number: n, text: String::new() });
        }
        assert!(is_readable(events.as_fd()));
        assert_eq!(events.take(2).iter().map(|e| e.number).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(events.take(ROOM - 2).len(), ROOM - 2);
        assert!(is_readable(events.as_fd()) && events.take(0).is_empty());
        let last = events.take(1);
        assert!(last[0].kind == Kind::Lost && last[0].number == 3, "{last:?}");
        assert!(!is_readable(events.as_fd()) && events.take(1).is_empty());
        events.tell(Kind::Config, "again");
        assert!(is_readable(events.as_fd()) && events.take(9)[0].text == "again");
    }
}

//! A man in the middle of a vhost-user connection: passes every message on, remembers it, and can have words changed.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// A message: who said it, what, and how.
#[derive(Clone, Debug)]
pub struct Message {
    pub from_front: bool,
    pub request: u32,
    pub payload: Vec<u8>,
}

impl Message {
    pub fn u64(&self) -> u64 {
        u64::from_ne_bytes(self.payload[..8].try_into().unwrap())
    }

    /// The two words of a ring's message: its index and a number.
    pub fn ring(&self) -> (u32, u32) {
        let word = |n: usize| u32::from_ne_bytes(self.payload[4 * n..4 * n + 4].try_into().unwrap());
        (word(0), word(1))
    }
}

/// May change the payload of a message before it is passed on. False: it is not passed on at all.
pub type Change = dyn Fn(&mut Message) -> bool + Send + Sync;

/// Listens at a socket until the process ends.
pub struct Proxy {
    seen: Arc<Mutex<Vec<Message>>>,
}

impl Proxy {
    pub fn start(at: &Path, to: &Path, change: Arc<Change>) -> Self {
        let listener = UnixListener::bind(at).expect("the proxy's socket");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (noted, to) = (Arc::clone(&seen), to.to_owned());
        thread::spawn(move || {
            while let Ok((front, _)) = listener.accept() {
                let Ok(back) = UnixStream::connect(&to) else { continue };
                for (from, to, from_front) in [(&front, &back, true), (&back, &front, false)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let (noted, change) = (Arc::clone(&noted), Arc::clone(&change));
                    thread::spawn(move || pass_on(&from, &to, from_front, &noted, &*change));
                }
            }
        });
        Self { seen }
    }

    /// All that was said so far, as it was said.
    pub fn seen(&self) -> Vec<Message> {
        self.seen.lock().unwrap().clone()
    }
}

fn pass_on(from: &UnixStream, to: &UnixStream, from_front: bool, seen: &Mutex<Vec<Message>>, change: &Change) {
    while let Some((flags, mut message, fds)) = receive(from, from_front) {
        seen.lock().unwrap().push(message.clone());
        if change(&mut message) && send(to, flags, &message, &fds).is_none() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

fn receive(from: &UnixStream, from_front: bool) -> Option<(u32, Message, Vec<OwnedFd>)> {
    let mut header = [0; 12];
    let mut space = nix::cmsg_space!([RawFd; 16]);
    let mut io = [IoSliceMut::new(&mut header)];
    let flags = MsgFlags::MSG_WAITALL | MsgFlags::MSG_CMSG_CLOEXEC;
    let got = recvmsg::<()>(from.as_raw_fd(), &mut io, Some(&mut space), flags).ok()?;
    if got.bytes != 12 {
        return None;
    }
    let mut fds = Vec::new();
    for control in got.cmsgs().ok()? {
        if let ControlMessageOwned::ScmRights(rights) = control {
            // SAFETY: the kernel has just made these descriptors for us.
            fds.extend(rights.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let word = |n: usize| u32::from_ne_bytes(header[4 * n..4 * n + 4].try_into().unwrap());
    let mut payload = vec![0; word(2) as usize];
    std::io::Read::read_exact(&mut &*from, &mut payload).ok()?;
    Some((word(1), Message { from_front, request: word(0), payload }, fds))
}

fn send(to: &UnixStream, flags: u32, message: &Message, fds: &[OwnedFd]) -> Option<()> {
    let words = [message.request, flags, message.payload.len() as u32].map(u32::to_ne_bytes).concat();
    let bytes = [&words[..], &message.payload].concat();
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[][..] } else { &control };
    let sent = sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(&bytes)], control, MsgFlags::MSG_NOSIGNAL, None);
    sent.is_ok_and(|n| n == bytes.len()).then_some(())
}

//! What a back-end says that answers as an input has it: anything, halves, descriptors, the end of the connection; where
//! the input says nothing, what is right.
#![allow(dead_code, reason = "no target uses all of it")]

#[path = "../tests/vhost_user/peer.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
pub mod peer;

use super::calls::Bytes;
use super::tally;
pub use peer::{Deed, Offer, Peer, Seen};

/// What is said to a message, of which `right` is the right answer, if it has one.
fn deed(script: &mut Bytes, right: Option<&[u8]>) -> Deed {
    tally::count(1);
    let Some(how) = script.next() else { return Deed::Right };
    let Some(right) = right else {
        return if how == 1 { Deed::Close } else { Deed::Right };
    };
    let (mut answer, request) = (right.to_vec(), u32::from_ne_bytes(right[..4].try_into().expect("it has a header")));
    match how % 16 {
        1 => Deed::Close,
        2 => Deed::SayAndClose(script.some(64).to_vec()),
        3 => Deed::SayAndClose(right[..usize::from(script.byte()) % right.len()].to_vec()),
        // The kernel sends no more at once.
        4 => Deed::WithFds(usize::from(script.byte() % 254)),
        5 => Deed::SayAndClose(right.to_vec()),
        // Right in form.
        6 => Deed::Say(peer::message(
            request,
            5,
            &script.some(8).iter().copied().chain([0; 8]).take(8).collect::<Vec<_>>(),
        )),
        7 => Deed::Say(peer::message(request, 5, &answer[12..].iter().map(|b| !b).collect::<Vec<_>>())),
        8 => {
            let at = usize::from(script.byte()) % answer.len();
            answer[at] ^= script.byte();
            // Where it says that there is more to come than comes, that does not come.
            if (8..12).contains(&at) { Deed::SayAndClose(answer) } else { Deed::Say(answer) }
        }
        9 => {
            answer.extend(script.some(16));
            Deed::Say(answer)
        }
        _ => Deed::Right,
    }
}

/// What the back-end is.
pub fn offer(script: &mut Bytes) -> Offer {
    let word = |b: &mut Bytes, all: u64| if b.byte() & 1 == 0 { all } else { b.word() };
    Offer {
        // All that the driver knows; all protocol features but of postcopy.
        features: word(script, !0),
        protocol: word(script, !(1 << 8)),
        queues: u64::from(script.byte() % 4).max(1),
        config: (script.byte() & 1 == 0).then(|| script.some(60).iter().copied().chain([0; 60]).take(60).collect()),
        slots: u64::from(script.byte()),
    }
}

/// Answers message by message.
pub fn script(bytes: &[u8]) -> Box<dyn FnMut(usize, &Seen, Option<&[u8]>) -> Deed + Send> {
    let (script, mut at) = (bytes.to_vec(), 0);
    Box::new(move |_, _, right| {
        let mut rest = Bytes(&script[at..]);
        let deed = deed(&mut rest, right);
        at = script.len() - rest.0.len();
        deed
    })
}

//! What a back-end says by itself.

use super::*;
use vuser::sys::poll;

/// What is heard, once there is something to hear.
fn heard(backend: &mut VhostUser) -> Vec<Notice> {
    let fds = backend.watched();
    let found = poll::wait_any(&fds, Some(PATIENT));
    assert!(found.iter().any(|ready| *ready != poll::Ready::No), "nothing to hear");
    backend.hear()
}

fn gone(notices: &[Notice]) -> &Error {
    let [Notice::Gone(why)] = notices else { panic!("{notices:?}") };
    why
}

#[test]
fn a_back_end_that_goes_is_heard() {
    let mut peer = Peer::start(&modern(), on(40, |_, right| Deed::SayAndClose(right.to_vec())));
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    assert_eq!(backend.hear(), []);
    backend.status().unwrap();
    let notices = heard(&mut backend);
    assert_eq!(gone(&notices).errno(), Errno::ECONNRESET);
    assert_eq!(gone(&notices).to_string(), "the back-end at the test closed the connection");
    // It stays so, and is said at each call.
    assert_eq!(gone(&backend.hear()).errno(), Errno::ENOTCONN);
    assert_eq!(backend.status().unwrap_err().errno(), Errno::ENOTCONN);
}

#[test]
fn words_that_nobody_asked_for_end_the_connection() {
    let twice = on(40, |_, right| Deed::Say([right, right].concat()));
    let mut peer = Peer::start(&modern(), twice);
    let mut backend = connect(&mut peer, PATIENT).unwrap();
    backend.status().unwrap();
    let notices = heard(&mut backend);
    assert_eq!(gone(&notices).errno(), Errno::EPROTO);
    assert!(!backend.is_alive());
}

#[test]
fn a_connection_that_was_given_up_is_heard_of_too() {
    let mut peer = Peer::start(&modern(), on(40, |_, _| Deed::Silence));
    let mut backend = connect(&mut peer, QUICK).unwrap();
    assert_eq!(backend.status().unwrap_err().errno(), Errno::ETIMEDOUT);
    let notices = backend.hear();
    assert!(gone(&notices).to_string().contains("no answer to GET_STATUS within 250 ms"), "{notices:?}");
}

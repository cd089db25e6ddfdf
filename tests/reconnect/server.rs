//! We listen.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use vuser::dev::events::Kind;

use crate::rig::{PATIENT, Rig, place};

#[test]
fn the_socket_is_ours_for_as_long_as_the_device_lives() {
    let path = place();
    // What a crash leaves.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let rig = Rig::make(path.clone(), "server=1,socket_mode=0606").unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o606);
    let error = Rig::make(path.clone(), "server=1").err().unwrap();
    assert!(error.errno() == Errno::EADDRINUSE && error.to_string().contains("another process"), "{error}");
    rig.close();
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    let error = Rig::make(path.clone(), "server=1").err().unwrap();
    assert!(error.errno() == Errno::EADDRINUSE && error.to_string().contains("no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_second_back_end_is_sent_away_and_the_first_does_not_notice() {
    let mut rig = Rig::new("server=1").start();
    let back_end = rig.come("");
    rig.event(Kind::LinkUp);
    rig.echo(100);
    for n in 1..=3 {
        let second = rig.stream();
        assert!(second.wait_closed(PATIENT));
        let refused = rig.event(Kind::Refused);
        assert!(refused.text.contains("there is one already"), "{refused:?}");
        assert_eq!(rig.info().refused, n);
        rig.echo(100);
    }
    drop(back_end);
    rig.event(Kind::LinkDown);
    let _back_end = rig.come("");
    rig.event(Kind::LinkUp);
    rig.echo(100);
    rig.close();
}

#[test]
fn the_first_back_end_can_be_waited_for() {
    let start = Instant::now();
    let error = Rig::make(place(), "server=1,server_wait_ms=50").err().unwrap();
    assert!(error.errno() == Errno::ETIMEDOUT && error.to_string().contains("within 50 ms"), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(50) && start.elapsed() < PATIENT);

    let path = place();
    let at = path.clone();
    let comer = std::thread::spawn(move || {
        let end = Instant::now() + PATIENT;
        loop {
            let deadline = vuser::sys::socket::Deadline::after(PATIENT);
            match vuser::sys::socket::Stream::connect(&at, deadline) {
                Ok(stream) => return vuser::device::Loopback::on_stream(stream, crate::rig::options("")).unwrap(),
                Err(e) => assert!(Instant::now() < end, "{e}"),
            }
        }
    });
    let mut rig = Rig::make(path, "server=1,server_wait_ms=20000").unwrap().start();
    assert!(rig.info().attached && rig.link());
    let _back_end = comer.join().unwrap();
    rig.echo(100);
    rig.close();
}

#[test]
fn once_means_once() {
    let mut rig = Rig::new("server=1,reconnect=0").start();
    let back_end = rig.come("");
    rig.event(Kind::LinkUp);
    rig.echo(10);
    drop(back_end);
    rig.event(Kind::LinkDown);
    assert!(rig.stream().wait_closed(PATIENT));
    assert!(rig.event(Kind::Refused).text.contains("reconnect=0"));
    rig.close();
}

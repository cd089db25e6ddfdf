//! The whole life: before the first back-end, with it, without it, with the next.

use vuser::dev::Side;
use vuser::dev::events::Kind;

use crate::rig::{Rig, place, until};

#[test]
fn a_client_goes_on_with_the_next_back_end() {
    for layout in ["packed_vq=0", "packed_vq=1", "packed_vq=1,in_order=0", "in_order=0,mrg_rxbuf=0"] {
        let path = place();
        let mut back_end = Some(vuser::device::Loopback::listen(&path, crate::rig::options("")).unwrap());
        let mut rig = Rig::make(path, layout).unwrap().start();
        rig.echo(200);
        for round in 0..5 {
            drop(back_end.take());
            rig.event(Kind::LinkDown);
            assert!(!rig.link() && !rig.info().link_up && !rig.info().attached);
            assert_eq!(rig.send(5), 0, "nothing is taken that would go stale");
            back_end = Some(rig.listen(""));
            rig.event(Kind::LinkUp);
            assert!(rig.link() && rig.info().attached);
            rig.echo(200);
            assert_eq!(rig.info().reconnects, round + 1);
        }
        rig.close();
    }
}

#[test]
fn a_server_starts_without_a_back_end_and_survives_many() {
    for layout in ["packed_vq=0", "packed_vq=1"] {
        let mut rig = Rig::new(&format!("server=1,{layout}")).start();
        assert!(!rig.link() && rig.send(1) == 0 && rig.receive().is_empty());
        for round in 0..5 {
            let back_end = rig.come("");
            rig.event(Kind::LinkUp);
            rig.echo(200);
            assert_eq!(rig.info().reconnects, round);
            drop(back_end);
            rig.event(Kind::LinkDown);
        }
        rig.close();
    }
}

#[test]
fn a_queue_that_does_nothing_says_the_true_reason() {
    const WAITS: &str = "there is no back-end; the queue goes on when one comes";
    const STOPPED: &str = "the queue is stopped; start it";
    let mut rig = Rig::new("server=1");
    assert_eq!([rig.says(0), rig.says(1)], ["the device is not started"; 2]);
    rig = rig.start();
    assert_eq!([rig.says(0), rig.says(1)], [WAITS; 2]);
    let run = |rig: &Rig, side, on| rig.device(|d| d.run_queue(side, 0, on)).unwrap();
    for (side, ring) in [(Side::Rx, 0), (Side::Tx, 1)] {
        run(&rig, side, false);
        assert_eq!(rig.says(ring), STOPPED);
        run(&rig, side, true);
        assert_eq!(rig.says(ring), WAITS);
    }
    let back_end = rig.come("");
    rig.event(Kind::LinkUp);
    rig.echo(10);
    assert_eq!([rig.says(0), rig.says(1)], [""; 2]);
    drop(back_end);
    rig.event(Kind::LinkDown);
    // What had come is still received.
    assert_eq!([rig.says(0), rig.says(1)], ["", WAITS]);
    run(&rig, Side::Tx, false);
    assert_eq!(rig.says(1), STOPPED);
    run(&rig, Side::Tx, true);
    assert_eq!(rig.says(1), WAITS);
    let _back_end = rig.come("");
    rig.event(Kind::LinkUp);
    rig.echo(10);
    rig.close();
}

#[test]
fn without_a_thread_the_application_does_all_of_it() {
    for server in [false, true] {
        let path = place();
        let listen = |path: &std::path::Path| vuser::device::Loopback::listen(path, crate::rig::options("")).unwrap();
        let mut back_end = (!server).then(|| listen(&path));
        let mut rig = Rig::make(path, &format!("events=manual,server={}", u8::from(server))).unwrap().start();
        for _ in 0..3 {
            if server {
                back_end = Some(rig.come(""));
                rig.event(Kind::LinkUp);
            }
            rig.echo(100);
            drop(back_end.take());
            until("the descriptor is readable", || vuser::sys::poll::is_readable(rig.handle.fd()));
            rig.event(Kind::LinkDown);
            if !server {
                back_end = Some(listen(&rig.path));
                rig.event(Kind::LinkUp);
            }
        }
        rig.close();
    }
}

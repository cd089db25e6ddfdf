//! Back-ends that come back as others: with less they are made do with where that can be, and refused where it cannot.

use std::os::fd::AsFd;

use vuser::dev::events::Kind;
use vuser::device::Loopback;
use vuser::spec::virtio::Features;

use crate::peer::{Deed, Offer, Peer, message};
use crate::rig::{Rig, honest, modern, options, place};

fn rig(devargs: &str, offer: &str) -> (Option<Loopback>, Rig) {
    let path = place();
    let back_end = Some(Loopback::listen(&path, options(offer)).unwrap());
    (back_end, Rig::make(path, devargs).unwrap().start())
}

fn next(rig: &mut Rig, back_end: &mut Option<Loopback>, offer: &str) {
    drop(back_end.take());
    rig.event(Kind::LinkDown);
    *back_end = Some(rig.listen(offer));
}

#[test]
fn features_shrink_and_grow_with_the_back_end() {
    let (mut back_end, mut rig) = rig("packed_vq=1", "");
    rig.echo(100);
    let all = rig.info().features;
    assert!(all.contains(Features::RING_PACKED | Features::IN_ORDER | Features::MRG_RXBUF));
    let offers = [
        ("packed=0", Features::RING_PACKED),
        ("packed=0,in_order=0,event_idx=0", Features::RING_PACKED | Features::IN_ORDER | Features::EVENT_IDX),
        ("mrg_rxbuf=0,indirect=0", Features::MRG_RXBUF | Features::INDIRECT_DESC),
        ("version_1=0", Features::VERSION_1 | Features::RING_PACKED | Features::IN_ORDER),
        ("", Features::empty()),
    ];
    for (offer, missing) in offers {
        // Something is under way each time, in the former's form.
        let first = rig.sent + 1;
        rig.send(10);
        next(&mut rig, &mut back_end, offer);
        rig.event(Kind::LinkUp);
        let mut got = Vec::new();
        crate::rig::until("what was under way comes", || {
            got.extend(rig.receive());
            got.contains(&(first + 9))
        });
        assert_eq!(rig.info().features, all - missing, "{offer}");
        rig.echo(100);
    }
    rig.close();
}

#[test]
fn one_that_cannot_serve_is_refused_with_the_reason_and_the_next_one_taken() {
    let rows = [
        ("queues=2", "queues=2", "queues=1", "the back-end has 1 queue pair(s)"),
        ("csum=1", "", "features=0x110000000", "what packets under way may need: csum"),
        ("packed_vq=1,queue_size=100", "", "packed=0", "queue_size=100: the device offers split queues only"),
    ];
    for (devargs, good, bad, reason) in rows {
        // The last of two equal options would be refused.
        let (mut back_end, mut rig) = rig(devargs, good);
        rig.echo(10);
        next(&mut rig, &mut back_end, bad);
        let refused = rig.event(Kind::Refused);
        assert!(refused.text.contains(reason), "{refused:?}");
        assert!(!rig.link() && rig.info().refused > 0 && !rig.info().attached);
        assert!(rig.info().backend.contains(reason), "{}", rig.info().backend);
        drop(back_end.take());
        back_end = Some(rig.listen(good));
        rig.event(Kind::LinkUp);
        rig.echo(10);
        drop(back_end);
        rig.close();
    }
}

#[test]
fn one_that_has_no_room_for_the_memory_is_refused_and_the_next_one_taken() {
    const PAGE: u64 = 4096;
    /// CONFIGURE_MEM_SLOTS.
    const SLOTS: u64 = 1 << 15;
    let path = place();
    let roomy = Offer { protocol: modern().protocol | SLOTS, slots: 32, ..modern() };
    let peer = Peer::listen(&path, &roomy, honest());
    let mut rig = Rig::make(path, "").unwrap().start();
    let file = nix::sys::memfd::memfd_create(c"apart", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    nix::unistd::ftruncate(&file, PAGE as i64).unwrap();
    for n in 0..10 {
        let file = file.as_fd().try_clone_to_owned().unwrap();
        rig.device(|d| d.register_memory(file, 0, PAGE, 0x10_0000_0000 + 16 * PAGE * n)).unwrap();
    }
    peer.quit();
    rig.event(Kind::LinkDown);
    let narrow = Peer::listen(&rig.path, &modern(), honest());
    let refused = rig.event(Kind::Refused);
    assert!(refused.text.contains("regions, and the back-end takes 8 at most"), "{refused:?}");
    assert!(!rig.info().attached);
    narrow.quit();
    let _peer = Peer::listen(&rig.path, &roomy, honest());
    rig.event(Kind::LinkUp);
    assert!(rig.device(|d| d.live().covers(0x10_0000_0000, PAGE)));
    rig.close();
}

#[test]
fn one_with_a_smaller_mtu_is_used_and_told_of_before_the_link_is_up() {
    for (devargs, wish) in [("", 9000), ("mtu=4000", 4000)] {
        let (mut back_end, mut rig) = rig(devargs, "mtu=9000");
        rig.echo(10);
        assert_eq!(rig.info().mtu, wish);
        next(&mut rig, &mut back_end, "mtu=1400");
        let less = format!("the MTU is 1400, after {wish}: the device may drop what is larger, also what is under way");
        assert_eq!(rig.event(Kind::Config).text, less);
        assert!(!rig.seen.iter().rev().take_while(|e| e.kind != Kind::LinkDown).any(|e| e.kind == Kind::LinkUp));
        rig.event(Kind::LinkUp);
        rig.echo(10);
        assert_eq!((rig.info().mtu, rig.info().refused), (1400, 0));
        let error = rig.device(|d| d.set_mtu(1401)).unwrap_err();
        assert!(error.to_string().contains("an MTU of 1401: the device has 68 to 1400"), "{error}");
        // What was wished for comes back with one that has it.
        next(&mut rig, &mut back_end, "mtu=9000");
        assert_eq!(rig.event(Kind::Config).text, format!("the MTU is {wish}, after 1400"));
        rig.event(Kind::LinkUp);
        rig.echo(10);
        assert_eq!(rig.info().mtu, wish);
        rig.close();
    }
}

#[test]
fn one_that_does_not_accept_the_mtu_is_refused_and_the_next_one_taken() {
    /// NET_MTU of the protocol's, MTU of the device's.
    const HAS_MTU: (u64, u64) = (1 << 4, 1 << 3);
    const SET_MTU: u32 = 20;
    let (back_end, mut rig) = rig("mtu=4000", "mtu=9000");
    drop(back_end);
    rig.event(Kind::LinkDown);
    let mut offer = modern();
    (offer.protocol, offer.features) = (offer.protocol | HAS_MTU.0, offer.features | HAS_MTU.1);
    let refuses = |_, seen: &crate::peer::Seen, _: Option<&[u8]>| match seen.request {
        SET_MTU => Deed::Say(message(SET_MTU, 5, &1_u64.to_ne_bytes())),
        _ => Deed::Right,
    };
    let peer = Peer::listen(&rig.path, &offer, Box::new(refuses));
    let refused = rig.event(Kind::Refused);
    assert!(refused.text.contains("NET_SET_MTU"), "{refused:?}");
    peer.quit();
    let _back_end = rig.listen("mtu=9000");
    rig.event(Kind::LinkUp);
    rig.echo(10);
    rig.close();
}

#[test]
fn a_device_that_does_not_look_again_says_so() {
    let (mut back_end, mut rig) = rig("reconnect=0", "");
    next(&mut rig, &mut back_end, "");
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(!rig.info().attached);
    let lost = "the back-end has gone, and with reconnect=0 it is not looked for again; stop the device";
    assert_eq!([rig.says(0), rig.says(1)], ["", lost]);
    rig.device(|d| d.stop()).unwrap();
    let error = rig.device(|d| d.start()).unwrap_err();
    assert!(error.errno() == nix::errno::Errno::ENOTCONN && error.to_string().contains("reconnect=0"), "{error}");
    rig.close();
}

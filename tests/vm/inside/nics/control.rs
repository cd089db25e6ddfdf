//! The control queue: each command, by what QEMU says of the device afterwards, and by the frames that come.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use vuser::buf::pool::Pool;
use vuser::dev::events::Kind;
use vuser::dev::filters::Rss;
use vuser::dev::handle::Handle;
use vuser::dev::{Device, SourceSetup};
use vuser::spec::virtio::Features;

use super::lab::{Monitor, Neighbour, Nic};
use super::{PACKED, SPLIT};
use crate::inside::lab::{config, device, pool, until};
use crate::inside::vdpa::frames::take;

const OTHER: [u8; 6] = [2, 0, 0, 0, 2, 7];
const THIRD: [u8; 6] = [2, 0, 0, 0, 2, 8];
const GROUP: [u8; 6] = [1, 0, 0x5e, 1, 2, 3];
const GROUP_TOO: [u8; 6] = [1, 0, 0x5e, 1, 2, 4];

/// A frame to an address, of a VLAN or of none.
fn frame(to: [u8; 6], vlan: Option<u16>, number: u32) -> Vec<u8> {
    let mut frame = [&to[..], &[2, 0, 0, 0, 1, 2]].concat();
    if let Some(vlan) = vlan {
        frame.extend([0x81, 0]);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend([0x88, 0xb5]);
    frame.extend(number.to_be_bytes());
    frame.resize(64, 0x5a);
    frame
}

/// Which of these frames come; behind them one is sent that does in any case.
fn come(device: &mut Device, neighbour: &Neighbour, frames: &[([u8; 6], Option<u16>)]) -> Vec<bool> {
    let numbered: Vec<_> = (0..).zip(frames).map(|(number, (to, vlan))| frame(*to, *vlan, number)).collect();
    numbered.iter().for_each(|frame| neighbour.send(frame));
    let last = frame([0xff; 6], None, 0xffff);
    neighbour.send(&last);
    let mut there = vec![false; frames.len()];
    let (mut pairs, mut out) = (device.pairs(), [MaybeUninit::uninit(); 1]);
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < end, "a frame for everybody does not come");
        if pairs[0].0.burst(&mut out) == 0 {
            pairs[0].0.wait(Duration::from_millis(20));
            continue;
        }
        // SAFETY: the burst has written it.
        let bytes = take(unsafe { out[0].assume_init() });
        if bytes == last {
            return there;
        }
        let number = numbered.iter().position(|frame| *frame == bytes).unwrap_or_else(|| panic!("{bytes:x?}"));
        assert!(!std::mem::replace(&mut there[number], true), "frame {number} comes twice");
    }
}

fn names(addresses: &[[u8; 6]]) -> Vec<String> {
    addresses.iter().map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":")).collect()
}

#[test]
#[ignore = "inside"]
fn receive_modes_and_addresses_are_what_was_asked_for() {
    let (mut monitor, neighbour) = (Monitor::new(), Neighbour::new());
    for number in [SPLIT, PACKED] {
        let nic = Nic::new(number);
        let devargs = format!("{},packed_vq=1", nic.path);
        let pool = pool(&config(&devargs), 1);
        let all = pool.available();
        let mut device = device(&devargs, &pool);
        let own = device.info().mac;
        let frames = [own, OTHER, THIRD, GROUP, GROUP_TOO].map(|to| (to, None));
        let which = |device: &mut Device| come(device, &neighbour, &frames);

        device.set_promiscuous(false).unwrap();
        device.set_all_multicast(false).unwrap();
        let filter = monitor.filter(&nic);
        filter.is("promiscuous", "false");
        filter.is("multicast", "normal");
        assert_eq!(which(&mut device), [true, false, false, false, false]);

        device.set_promiscuous(true).unwrap();
        monitor.filter(&nic).is("promiscuous", "true");
        assert_eq!(which(&mut device), [true; 5]);

        device.set_promiscuous(false).unwrap();
        device.set_all_multicast(true).unwrap();
        monitor.filter(&nic).is("multicast", "all");
        assert_eq!(which(&mut device), [true, false, false, true, true]);

        device.set_all_multicast(false).unwrap();
        device.set_addresses(&[OTHER, GROUP]).unwrap();
        let filter = monitor.filter(&nic);
        assert_eq!(filter.list("unicast-table"), names(&[OTHER]));
        assert_eq!(filter.list("multicast-table"), names(&[GROUP]));
        assert_eq!(which(&mut device), [true, true, false, true, false]);

        device.set_mac(THIRD).unwrap();
        monitor.filter(&nic).is("main-mac", &names(&[THIRD])[0]);
        assert_eq!(which(&mut device), [false, true, true, true, false]);

        // The device forgets it all when it is reset, and is told again.
        device.stop().unwrap();
        device.start().unwrap();
        let filter = monitor.filter(&nic);
        filter.is("promiscuous", "false");
        filter.is("main-mac", &names(&[THIRD])[0]);
        assert_eq!(which(&mut device), [false, true, true, true, false]);

        device.set_addresses(&[]).unwrap();
        device.set_mac(own).unwrap();
        assert_eq!(which(&mut device), [true, false, false, false, false]);
        // More than QEMU keeps: it takes all then, rather than lose one.
        let many: Vec<_> = (0..100).map(|n| [2, 0, 0, 0, 3, n]).collect();
        device.set_addresses(&many).unwrap();
        monitor.filter(&nic).is("unicast-overflow", "true");
        assert_eq!(which(&mut device), [true, true, true, false, false]);
        drop(device);
        assert_eq!(pool.available(), all);
    }
}

#[test]
#[ignore = "inside"]
fn vlans_are_filtered_once_somebody_has_named_one() {
    let (mut monitor, neighbour) = (Monitor::new(), Neighbour::new());
    for number in [SPLIT, PACKED] {
        let nic = Nic::new(number);
        let devargs = format!("{},packed_vq=1", nic.path);
        let pool = pool(&config(&devargs), 1);
        let mut device = device(&devargs, &pool);
        // Otherwise QEMU's takes frames of all VLANs, too.
        device.set_promiscuous(false).unwrap();
        let everybody = [0xff; 6];
        let frames = [None, Some(5), Some(6), Some(4095)].map(|vlan| (everybody, vlan));
        assert_eq!(come(&mut device, &neighbour, &frames), [true; 4], "nobody has named one");
        assert_eq!(device.filter_vlan(5, true).unwrap_err().errno(), Errno::ENOTSUP);
        device.stop().unwrap();
        device.filter_vlan(5, true).unwrap();
        device.start().unwrap();
        // QEMU before 10.1 lets all pass after a reset, whatever was agreed on, until it is told of them one by one.
        let begins_with_all = monitor.filter(&nic).list("vlan-table").len() == 4096;
        println!("{}: begins with all VLANs: {begins_with_all}", nic.name);
        let passes =
            |monitor: &mut Monitor, vlan: &str| monitor.filter(&nic).list("vlan-table").iter().any(|id| id == vlan);
        assert!(passes(&mut monitor, "5"));
        device.filter_vlan(6, true).unwrap();
        device.filter_vlan(4095, true).unwrap();
        assert!(passes(&mut monitor, "6") && passes(&mut monitor, "4095"));
        assert_eq!(come(&mut device, &neighbour, &frames), [true; 4]);
        device.filter_vlan(5, false).unwrap();
        device.filter_vlan(4095, false).unwrap();
        assert!(!passes(&mut monitor, "5") && passes(&mut monitor, "6") && !passes(&mut monitor, "4095"));
        assert_eq!(come(&mut device, &neighbour, &frames), [true, false, true, false]);
        device.filter_vlan(5, true).unwrap();
        device.filter_vlan(6, false).unwrap();
        assert_eq!(come(&mut device, &neighbour, &frames), [true, true, false, false]);
        device.stop().unwrap();
        device.start().unwrap();
        assert!(passes(&mut monitor, "5") && (begins_with_all || !passes(&mut monitor, "6")));
    }
}

/// A device that is looked after by a thread, started.
fn looked_after(devargs: &str, pool: &Arc<Pool>) -> Handle {
    let handle = Handle::new(config(devargs)).unwrap();
    handle.with(|device| {
        device.setup_rx(0, 0, SourceSetup::Pool(pool.clone())).unwrap();
        device.setup_tx(0, 0, SourceSetup::Pool(pool.clone())).unwrap();
        device.start().unwrap();
    });
    handle
}

fn event(handle: &Handle, kind: Kind) {
    until(&format!("{kind:?}"), || handle.process(1).into_iter().any(|event| event.kind == kind));
}

#[test]
#[ignore = "inside"]
fn announcements_are_asked_for_and_acknowledged_and_the_link_goes_down_and_up() {
    let mut monitor = Monitor::new();
    for number in [SPLIT, PACKED] {
        let nic = Nic::new(number);
        let devargs = format!("{},packed_vq=1", nic.path);
        let pool = pool(&config(&devargs), 1);
        let handle = looked_after(&devargs, &pool);
        assert!(handle.with(|device| device.features()).contains(Features::GUEST_ANNOUNCE));
        let once =
            format!("{{\"initial\": 50, \"max\": 50, \"rounds\": 1, \"step\": 0, \"interfaces\": [\"{}\"]}}", nic.name);
        for _ in 0..3 {
            // The next is heard of only if the device has taken the last one back.
            monitor.execute("announce-self", &once);
            event(&handle, Kind::Announce);
            handle.with(Device::acknowledge_announcement).unwrap();
        }
        let link = |monitor: &mut Monitor, up: bool| {
            monitor.execute("set_link", &format!("{{\"name\": \"{}\", \"up\": {up}}}", nic.name));
        };
        for _ in 0..2 {
            link(&mut monitor, false);
            event(&handle, Kind::LinkDown);
            assert!(!handle.live().link());
            link(&mut monitor, true);
            event(&handle, Kind::LinkUp);
            assert!(handle.live().link());
        }
    }
}

#[test]
#[ignore = "inside"]
fn receive_side_scaling_is_taken_as_far_as_the_device_goes() {
    let neighbour = Neighbour::new();
    for number in [SPLIT, PACKED] {
        let nic = Nic::new(number);
        let devargs = format!("{},packed_vq=1,hash=1", nic.path);
        let pool = pool(&config(&devargs), 1);
        let mut device = device(&devargs, &pool);
        let limits = device.rss_limits().unwrap();
        println!("{limits:?}, {:?}", device.features());
        // It has one queue pair: all entries name it.
        for entries in [1, 2, 128] {
            device.set_rss(Rss { types: 0x3f, key: Vec::new(), table: vec![0; entries] }).unwrap();
        }
        let key = vec![0x5a; 40];
        device.set_rss(Rss { types: 1, key, table: vec![0; 128] }).unwrap();
        let wrong = |device: &mut Device, rss: Rss| device.set_rss(rss).unwrap_err().errno();
        assert_eq!(wrong(&mut device, Rss { types: 0x3f, key: vec![1; 41], table: Vec::new() }), Errno::ENOTSUP);
        assert_eq!(wrong(&mut device, Rss { types: 0x3f, key: Vec::new(), table: vec![0; 256] }), Errno::ENOTSUP);
        assert_eq!(wrong(&mut device, Rss { types: 0x3f, key: Vec::new(), table: vec![1; 4] }), Errno::EINVAL);
        assert_eq!(come(&mut device, &neighbour, &[([0xff; 6], None)]), [true]);
        device.stop().unwrap();
        device.start().unwrap();
        assert_eq!(come(&mut device, &neighbour, &[([0xff; 6], None)]), [true]);
    }
}

#[test]
#[ignore = "inside"]
fn a_device_that_is_removed_while_it_runs_comes_back_with_all_that_was_wished_for() {
    let (mut monitor, neighbour) = (Monitor::new(), Neighbour::new());
    let nic = Nic::new(PACKED);
    let devargs = format!("{},packed_vq=1,reconnect_ms=50", nic.path);
    let pool = pool(&config(&devargs), 1);
    let all = pool.available();
    let handle = looked_after(&devargs, &pool);
    handle.with(|device| device.set_promiscuous(false).and_then(|()| device.set_addresses(&[OTHER, GROUP]))).unwrap();
    drop(nic);
    event(&handle, Kind::LinkDown);
    let nic = Nic::new(PACKED);
    event(&handle, Kind::LinkUp);
    let filter = monitor.filter(&nic);
    filter.is("promiscuous", "false");
    assert_eq!(filter.list("unicast-table"), names(&[OTHER]));
    let frames = [OTHER, THIRD, GROUP, GROUP_TOO].map(|to| (to, None));
    assert_eq!(handle.with(|device| come(device, &neighbour, &frames)), [true, false, true, false]);
    drop(handle);
    assert_eq!(pool.available(), all);
}

//! The device and its interface are one: address, MTU, carrier.

use std::os::fd::AsFd;

use vuser::dev::Device;
use vuser::dev::events::Kind;

use super::life::Talker;
use crate::inside::lab::{cat, config, device, pool, receive, sh, until};

fn of(interface: &str, file: &str) -> String {
    cat(&format!("/sys/class/net/{interface}/{file}"))
}

/// Kinds of the events that there were, after a look.
fn events(device: &mut Device) -> Vec<Kind> {
    device.process();
    device.live().events.take(99).iter().map(|event| event.kind).collect()
}

#[test]
#[ignore = "inside"]
fn address_and_mtu_are_those_of_the_interface() {
    let devargs = "path=/dev/vhost-net,iface=tap7,mac=02:00:00:00:00:07";
    let mut device = device(devargs, &pool(&config(devargs), 1));
    assert_eq!(of("tap7", "address"), "02:00:00:00:00:07");
    assert_eq!((device.info().mac, device.info().mtu), ([2, 0, 0, 0, 0, 7], 1500));
    // Whoever changes it from outside changes it for both.
    events(&mut device);
    sh("ip link set tap7 address 02:00:00:00:00:08 mtu 9000");
    until("the device hears of it", || events(&mut device).contains(&Kind::Config));
    until("both are heard", || {
        device.process();
        (device.info().mac, device.info().mtu) == ([2, 0, 0, 0, 0, 8], 9000)
    });
    // And so does whoever asks us.
    device.set_mac([2, 0, 0, 0, 0, 10]).unwrap();
    assert_eq!((of("tap7", "address").as_str(), device.info().mac), ("02:00:00:00:00:0a", [2, 0, 0, 0, 0, 10]));
    device.set_mtu(3000).unwrap();
    assert_eq!((of("tap7", "mtu").as_str(), device.info().mtu), ("3000", 3000));
    sh("ip link set tap7 mtu 1400; ip link set tap7 name renamed");
    until("an interface with another name", || {
        device.process();
        device.info().mtu == 1400
    });
    assert!(device.info().backend.contains("interface renamed"), "{}", device.info().backend);
    drop(device);
    let devargs = "path=/dev/vhost-net,iface=tap7,mtu=2345";
    let mut device = self::device(devargs, &pool(&config(devargs), 1));
    assert_eq!((of("tap7", "mtu").as_str(), device.info().mtu), ("2345", 2345));
    drop(device);
    // Without mac=, the address is the interface's.
    sh("ip tuntap add dev mine mode tap; ip link set mine address 02:00:00:00:00:09 mtu 2000");
    let devargs = "path=/dev/vhost-net,iface=mine";
    let mut device = self::device(devargs, &pool(&config(devargs), 1));
    assert_eq!((device.info().mac, device.info().mtu), ([2, 0, 0, 0, 0, 9], 2000));
    drop(device);
    // It was there before us, so that it is there after us.
    sh("ip link del mine");
}

#[test]
#[ignore = "inside"]
fn each_end_sees_whether_the_other_is_there() {
    let devargs = "path=/dev/vhost-net,iface=tap6";
    let mut device = device(devargs, &pool(&config(devargs), 1));
    assert!(!device.info().link_up, "nobody has set the interface up");
    sh("ip link set tap6 up");
    until("link up", || events(&mut device).contains(&Kind::LinkUp));
    assert_eq!(of("tap6", "carrier"), "1");
    sh("ip link set tap6 down");
    until("link down", || events(&mut device).contains(&Kind::LinkDown));
    sh("ip link set tap6 up");
    until("link up again", || events(&mut device).contains(&Kind::LinkUp));

    device.set_link(false).unwrap();
    assert!(of("tap6", "carrier") == "0" && !device.info().link_up);
    device.set_link(true).unwrap();
    assert!(of("tap6", "carrier") == "1" && device.info().link_up);
    device.stop().unwrap();
    assert!(of("tap6", "carrier") == "0" && !device.info().link_up);
    device.start().unwrap();
    assert!(of("tap6", "carrier") == "1" && device.info().link_up);
}

#[test]
#[ignore = "inside"]
fn an_interface_that_is_moved_to_another_namespace_is_told_of() {
    sh("ip netns del there 2> /dev/null || true; ip netns add there");
    let mut end = Talker::new("path=/dev/vhost-net,iface=tap3,mtu=1600");
    sh("ip link set tap3 up");
    until("link up", || events(&mut end.device).contains(&Kind::LinkUp));
    let mac = end.device.info().mac;
    sh("ip link set tap3 netns there");
    let mut told = None;
    until("it is told of", || {
        end.device.process();
        let heard = end.device.live().events.take(99);
        told = heard.into_iter().find(|event| event.text.contains("moved to another network namespace"));
        told.is_some()
    });
    let told = told.unwrap();
    assert!(told.kind == Kind::Config && told.text.contains("tap3"), "{told:?}");
    println!("{}", told.text);
    // An interface that comes in its place, even with its index, is not taken for it.
    sh("ip link add name tap3 type dummy; ip link set tap3 up mtu 1400");
    sh("ip -n there link set tap3 up mtu 1500");
    let info = end.device.info();
    assert!(info.link_up && (info.mtu, info.mac) == (1600, mac), "as it was last seen: {info:?}");
    let error = end.device.set_mtu(1400).unwrap_err();
    assert!(error.to_string().contains("in another network namespace"), "{error}");
    sh("ip -n there addr add 10.8.0.1/24 dev tap3");
    until("a frame from there", || {
        sh("ip netns exec there ping -c 1 -W 1 10.8.0.2 || true");
        !receive(&mut end.device, 0).is_empty()
    });
    sh("ip link del tap3");
    // Nobody tells that it is deleted, so that it is looked for.
    sh("ip netns exec there ip link del tap3");
    until("it is time to look", || vuser::sys::poll::is_readable(end.device.watch().as_fd()));
    until("it is made again", || {
        end.device.process();
        end.device.info().reconnects == 1
    });
    assert_eq!((of("tap3", "mtu").as_str(), end.device.info().mac), ("1600", mac));
    sh("ip netns del there");
}

#[test]
#[ignore = "inside"]
fn a_deleted_interface_is_made_again() {
    let mut end = Talker::new("path=/dev/vhost-net,iface=tap5");
    sh("ip link set tap5 up");
    until("link up", || events(&mut end.device).contains(&Kind::LinkUp));
    end.device.set_mtu(1600).unwrap();
    let mac = end.device.info().mac;
    sh("ip link del tap5");
    let mut heard = Vec::new();
    until("it is back", || {
        heard.extend(events(&mut end.device));
        heard.contains(&Kind::LinkDown) && heard.contains(&Kind::Reconnected)
    });
    assert_eq!(end.device.info().reconnects, 1);
    assert_eq!(of("tap5", "address"), mac.map(|b| format!("{b:02x}")).join(":"));
    assert_eq!((of("tap5", "mtu").as_str(), end.device.info().mtu), ("1600", 1600));
    sh("ip link set tap5 up");
    until("link up again", || events(&mut end.device).contains(&Kind::LinkUp));
    end.talk("tap5");
}

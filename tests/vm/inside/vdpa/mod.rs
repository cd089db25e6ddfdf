//! `path=/dev/vhost-vdpa-N`: the kernel's simulated network device, which returns frames that are for it, and a device of our own
//! behind VDUSE.

pub mod frames;
mod vduse;

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use vuser::buf::pool::Pool;
use vuser::dev::events::Kind;
use vuser::dev::handle::Handle;
use vuser::dev::{Device, SourceSetup};
use vuser::spec::virtio::Features;
use vuser::sys::shm::SharedMemory;

use self::frames::{echo, returned, returns};
use self::vduse::Vduse;
use super::lab::{config, device, pool, sh, until};

const PATH: &str = "path=/dev/vhost-vdpa-0";
/// The simulated device compares addresses up to their first zero.
const MAC: [u8; 6] = [2, 1, 1, 1, 1, 2];
const OTHER: [u8; 6] = [2, 1, 1, 1, 1, 3];
const EVERYBODY: [u8; 6] = [0xff; 6];
const PAGE: u64 = 4096;

/// The simulated device, as long as this lives: dropped after whoever uses it.
struct Simulated;

impl Simulated {
    fn new() -> Self {
        sh("vdpa dev add mgmtdev vdpasim_net name sim0 mac 02:01:01:01:01:02 mtu 1400");
        Self
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        sh("vdpa dev del sim0");
    }
}

/// A pool, and how many buffers it has.
fn buffers(devargs: &str) -> (Arc<Pool>, usize) {
    let pool = pool(&config(devargs), 1);
    let all = pool.available();
    (pool, all)
}

#[test]
#[ignore = "inside"]
fn frames_come_back_from_the_simulated_device() {
    let _sim = Simulated::new();
    let (pool, all) = buffers(PATH);
    let mut device = device(PATH, &pool);
    let info = device.info();
    assert_eq!((info.mac, info.mtu, info.link_up, info.max_pairs), (MAC, 1400, true, 1));
    echo(&mut device, &pool, MAC, 0..2000);
    for lap in 1..4 {
        device.stop().unwrap();
        assert_eq!(pool.available(), all);
        device.start().unwrap();
        echo(&mut device, &pool, EVERYBODY, 1000 * lap..1000 * lap + 300);
    }
    drop(device);
    assert_eq!(pool.available(), all);
}

#[test]
#[ignore = "inside"]
fn the_control_queue_sets_the_address_by_which_frames_are_ours() {
    let _sim = Simulated::new();
    let (pool, all) = buffers(PATH);
    let mut device = device(PATH, &pool);
    assert!(device.features().contains(Features::CTRL_VQ | Features::CTRL_MAC_ADDR), "{:?}", device.features());
    assert!(returned(&mut device, &pool, MAC) && !returns(&mut device, &pool, OTHER));
    device.set_mac(OTHER).unwrap();
    assert!(returned(&mut device, &pool, OTHER) && !returns(&mut device, &pool, MAC));
    // A device may forget it when it is reset, and is told again.
    device.stop().unwrap();
    device.start().unwrap();
    assert!(returned(&mut device, &pool, OTHER) && !returns(&mut device, &pool, MAC));
    assert_eq!(device.info().mac, OTHER);
    // Nothing was negotiated that would allow these.
    assert_eq!(device.set_promiscuous(true).unwrap_err().errno(), Errno::ENOTSUP);
    drop(device);
    // mac= chooses it from the beginning.
    let mut device = self::device(&format!("{PATH},mac=02:01:01:01:01:03"), &pool);
    assert!(returned(&mut device, &pool, OTHER) && !returns(&mut device, &pool, MAC));
    drop(device);
    assert_eq!(pool.available(), all);
}

#[test]
#[ignore = "inside"]
fn what_the_device_cannot_have_is_said() {
    let _sim = Simulated::new();
    let (pool, _) = buffers(PATH);
    let mut large = Device::new(config(&format!("{PATH},queue_size=512"))).unwrap();
    large.setup_rx(0, 0, SourceSetup::Pool(pool.clone())).unwrap();
    let error = large.start().unwrap_err();
    assert!(error.errno() == Errno::EINVAL && error.to_string().contains("256 descriptors at most"), "{error}");
    let refused = |devargs: &str| Device::new(config(devargs)).err().expect(devargs);
    let error = refused(PATH);
    assert!(error.errno() == Errno::EBUSY && error.to_string().contains("has it open"), "{error}");
    // What was refused is no harm to the device.
    large.setup_rx(0, 256, SourceSetup::Pool(pool.clone())).unwrap();
    large.setup_tx(0, 256, SourceSetup::Pool(pool.clone())).unwrap();
    large.start().unwrap();
    echo(&mut large, &pool, EVERYBODY, 0..100);
    drop(large);
    let error = refused("path=/dev/vhost-vdpa-7");
    assert!(error.errno() == Errno::ENOENT && error.to_string().contains("vdpa dev add"), "{error}");
    let error = refused(&format!("{PATH},queues=2"));
    assert!(error.errno() == Errno::ENOTSUP && error.to_string().contains("has 1 queue pair"), "{error}");
}

#[test]
#[ignore = "inside"]
fn frames_come_back_from_a_device_of_our_own_by_every_layout() {
    let all_features = Features::RING_PACKED
        | Features::IN_ORDER
        | Features::MRG_RXBUF
        | Features::EVENT_IDX
        | Features::INDIRECT_DESC;
    for (features, options, packed) in [
        (all_features, ",packed_vq=1", true),
        (all_features - Features::IN_ORDER - Features::EVENT_IDX, ",packed_vq=1", true),
        (all_features, ",packed_vq=1,mrg_rxbuf=0,queue_size=32", true),
        (all_features - Features::RING_PACKED, ",packed_vq=1", false),
        (Features::empty(), "", false),
    ] {
        let _theirs = Vduse::new("ours", features);
        let (pool, all) = buffers(PATH);
        let mut device = device(&format!("{PATH}{options}"), &pool);
        let info = device.info();
        assert_eq!(info.features.contains(Features::RING_PACKED), packed, "{options}: {:?}", info.features);
        assert_eq!((info.mac, info.mtu, info.link_up), (vduse::MAC, vduse::MTU, true));
        echo(&mut device, &pool, EVERYBODY, 0..3000);
        for _ in 0..2 {
            device.stop().unwrap();
            assert_eq!(pool.available(), all, "{options}");
            device.start().unwrap();
            echo(&mut device, &pool, EVERYBODY, 0..500);
        }
        drop(device);
        assert_eq!(pool.available(), all, "{options}");
    }
}

#[test]
#[ignore = "inside"]
fn memory_comes_and_goes_while_frames_move() {
    let _sim = Simulated::new();
    let theirs = Vduse::new("ours", Features::empty());
    for path in [PATH, "path=/dev/vhost-vdpa-1"] {
        let (pool, all) = buffers(path);
        let mut device = device(path, &pool);
        let ours = SharedMemory::new("test", 8 * PAGE as usize, false).unwrap();
        let addr = ours.addr() as u64;
        let piece = |device: &mut Device, n: u64| {
            let fd = ours.as_fd().try_clone_to_owned().unwrap();
            device.register_memory(fd, n * PAGE, PAGE, addr + n * PAGE).unwrap();
        };
        // Single pieces, under traffic; then three that are told as one at the next start, of which the middle one goes.
        for n in [0, 2, 4] {
            piece(&mut device, n);
            echo(&mut device, &pool, EVERYBODY, 0..200);
        }
        let reached = |n: u64| path == PATH || theirs.reaches(addr + n * PAGE, PAGE);
        assert!([0, 2, 4].into_iter().all(reached));
        device.unregister_memory(addr + 2 * PAGE).unwrap();
        assert!(path == PATH || !reached(2));
        echo(&mut device, &pool, EVERYBODY, 0..200);
        piece(&mut device, 3);
        piece(&mut device, 5);
        device.stop().unwrap();
        device.start().unwrap();
        echo(&mut device, &pool, EVERYBODY, 0..200);
        device.unregister_memory(addr + 4 * PAGE).unwrap();
        echo(&mut device, &pool, EVERYBODY, 0..200);
        assert!([0, 3, 5].into_iter().all(reached) && (path == PATH || !reached(4)));
        drop(device);
        assert_eq!(pool.available(), all);
    }
}

#[test]
#[ignore = "inside"]
fn rings_are_disabled_and_enabled_while_the_device_runs() {
    let _sim = Simulated::new();
    let (pool, _) = buffers(PATH);
    let mut device = device(PATH, &pool);
    for _ in 0..3 {
        echo(&mut device, &pool, EVERYBODY, 0..100);
        device.set_link(false).unwrap();
        assert!(!device.info().link_up && !returns(&mut device, &pool, MAC));
        device.set_link(true).unwrap();
        // What was sent meanwhile is still there.
        until("the frame comes", || super::lab::receive(&mut device, 0).into_iter().map(frames::take).count() == 1);
    }
    echo(&mut device, &pool, EVERYBODY, 0..100);
    // A device of which the kernel does not say that it minds not.
    let _theirs = Vduse::new("ours", Features::empty());
    let (pool, _) = buffers(PATH);
    let mut device = self::device("path=/dev/vhost-vdpa-1", &pool);
    assert_eq!(device.set_link(false).unwrap_err().errno(), Errno::ENOTSUP);
    echo(&mut device, &pool, EVERYBODY, 0..100);
}

/// The whole life of a device, with frames.
fn live(devargs: &str, pool: &Arc<Pool>) -> vuser::error::Result<()> {
    let mut device = Device::new(config(devargs))?;
    device.setup_rx(0, 0, SourceSetup::Pool(pool.clone()))?;
    device.setup_tx(0, 0, SourceSetup::Pool(pool.clone()))?;
    device.start()?;
    device.stop()
}

#[test]
#[ignore = "inside"]
fn a_device_that_hangs_at_any_request_ends_the_call_at_its_deadline_with_its_name() {
    let devargs = format!("{PATH},packed_vq=1,timeout_ms=500");
    let (pool, all) = buffers(PATH);
    let mut sentences = Vec::new();
    for answered in 0.. {
        let theirs = Vduse::new("ours", Features::RING_PACKED);
        theirs.answer_only(answered);
        let begin = Instant::now();
        let result = live(&devargs, &pool);
        assert!(begin.elapsed() < Duration::from_secs(30), "{answered} answered: {:?}", begin.elapsed());
        theirs.answer_only(usize::MAX);
        drop(theirs);
        assert_eq!(pool.available(), all, "{answered} answered");
        let Err(error) = result else { break };
        assert!(error.errno() == Errno::ETIMEDOUT, "{answered} answered: {error}");
        sentences.push(error.to_string());
    }
    println!("{}", sentences.join("\n"));
    for call in
        ["open:", "VHOST_VDPA_SET_STATUS 0x1:", "IOTLB", "SET_STATUS 0xf:", "VRING_BASE of ring 0", "SET_STATUS 0:"]
    {
        assert!(sentences.iter().any(|s| s.contains(call)), "{call} is not among\n{}", sentences.join("\n"));
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

/// Waits for an event of a kind; its sentence.
fn event(handle: &Handle, kind: Kind) -> String {
    let mut text = None;
    until(&format!("{kind:?}"), || {
        text = handle.process(8).into_iter().find(|event| event.kind == kind).map(|event| event.text);
        text.is_some()
    });
    text.unwrap()
}

#[test]
#[ignore = "inside"]
fn a_device_that_hangs_is_waited_for_once_and_what_it_has_comes_back_when_it_goes_on() {
    let devargs = format!("{PATH},packed_vq=1,timeout_ms=5000,reconnect=0,reconnect_ms=50");
    let (pool, all) = buffers(PATH);
    for goes_on in [true, false] {
        let theirs = Vduse::new("ours", Features::RING_PACKED);
        let handle = looked_after(&devargs, &pool);
        theirs.answer_only(0);
        let begin = Instant::now();
        if goes_on {
            let error = handle.with(Device::stop).unwrap_err();
            assert!(error.errno() == Errno::ETIMEDOUT, "{error}");
            until("it is left", || !handle.with(|device| device.info().attached));
            assert!(pool.available() < all);
            theirs.answer_only(usize::MAX);
            // Nobody asks the device, and nothing is said when it lets go.
            until("all comes back", || pool.available() == all);
            drop(handle);
        } else {
            drop(handle);
            let took = begin.elapsed();
            println!("closed after {} ms", took.as_millis());
            assert!((Duration::from_millis(5000)..Duration::from_millis(9900)).contains(&took), "{took:?}");
            theirs.answer_only(usize::MAX);
        }
        drop(theirs);
        assert_eq!(pool.available(), all);
    }
}

#[test]
#[ignore = "inside"]
fn the_device_says_when_its_configuration_changes() {
    let theirs = Vduse::new("ours", Features::STATUS | Features::SPEED_DUPLEX | Features::RING_PACKED);
    theirs.set_config(12, &40_000u32.to_le_bytes());
    let (pool, _) = buffers(PATH);
    let handle = looked_after(PATH, &pool);
    assert!(handle.live().link());
    assert_eq!(handle.with(|device| device.info().speed), 40_000);
    for _ in 0..2 {
        theirs.change_config(6, &[0, 0]);
        event(&handle, Kind::LinkDown);
        assert!(!handle.live().link());
        theirs.change_config(6, &[1, 0]);
        event(&handle, Kind::LinkUp);
        assert!(handle.live().link());
    }
    theirs.change_config(10, &1300u16.to_le_bytes());
    event(&handle, Kind::Config);
    assert_eq!(handle.with(|device| device.info().mtu), 1300);
    // The bell is given anew at each start, because a reset takes it away.
    handle.with(|device| device.stop().and_then(|()| device.start())).unwrap();
    theirs.change_config(6, &[0, 0]);
    event(&handle, Kind::LinkDown);
    drop(handle);
    assert!(theirs.log().iter().any(|line| line == "SET_STATUS 0x0"), "{:?}", theirs.log());
}

#[test]
#[ignore = "inside"]
fn a_device_that_is_removed_while_it_runs_is_let_go_and_taken_again_when_it_comes_back() {
    let sim = Simulated::new();
    let (pool, all) = buffers(PATH);
    let handle = looked_after(&format!("{PATH},reconnect_ms=50"), &pool);
    for lap in 1..4 {
        handle.with(|device| echo(device, &pool, EVERYBODY, 0..500));
        // The tool waits until nobody has the device open any more.
        sh("timeout 10 vdpa dev del sim0");
        let why = event(&handle, Kind::LinkDown);
        assert!(why.contains("removed"), "{why}");
        sh("vdpa dev add mgmtdev vdpasim_net name sim0 mac 02:01:01:01:01:02");
        event(&handle, Kind::LinkUp);
        assert_eq!(handle.with(|device| device.info().reconnects), lap);
    }
    handle.with(|device| echo(device, &pool, EVERYBODY, 0..500));
    drop(handle);
    assert_eq!(pool.available(), all);
    drop(sim);
}

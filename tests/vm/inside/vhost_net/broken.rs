//! A ring that the kernel cannot go on with is told of, and a back-end that is driven by hand can be driven again.

use std::os::fd::AsFd;
use std::sync::Arc;

use vuser::backend::vhost_kernel::{Options, VhostKernel};
use vuser::backend::{Backend, Notice, RingSetup};
use vuser::mem::map::{MemoryMap, Region};
use vuser::spec::virtio::Features;
use vuser::sys::eventfd::Bell;
use vuser::sys::shm::SharedMemory;

use crate::inside::lab::until;

#[test]
#[ignore = "inside"]
fn a_descriptor_that_points_to_nothing_is_told_of() {
    let options = Options { path: "/dev/vhost-net".into(), iface: "broken".into(), pairs: 1, ..Options::default() };
    let mut backend = VhostKernel::open(&options).unwrap();
    let offered = backend.features().unwrap();
    assert!(!offered.intersects(Features::RING_PACKED | Features::ACCESS_PLATFORM | Features::ANY_LAYOUT));
    backend.set_features(Features::VERSION_1).unwrap();
    let memory = Arc::new(SharedMemory::new("broken", 3 << 12, false).unwrap());
    let mut map = MemoryMap::default();
    map.add(Region::ours(memory.clone())).unwrap();
    backend.set_memory(&map).unwrap();

    let (kick, call) = (Bell::new().unwrap(), Bell::new().unwrap());
    let desc = memory.addr() as u64;
    let (driver, device) = (desc + 4096, desc + 8192);
    backend.set_call(1, call.as_fd()).unwrap();
    backend.setup_ring(&RingSetup { index: 1, size: 8, base: 0, desc, driver, device, kick: kick.as_fd() }).unwrap();
    // SAFETY: inside of the memory, and nobody uses the ring yet.
    unsafe {
        // 100 bytes at address 16, where there is no memory; then one buffer is available.
        (desc as *mut [u64; 2]).write([16, 100]);
        (driver as *mut [u16; 4]).write([0, 1, 0, 0]);
    }
    assert!(backend.hear().is_empty());
    backend.enable_ring(1, true).unwrap();
    kick.ring();
    let mut heard = Vec::new();
    until("the ring is said to be broken", || {
        heard.extend(backend.hear());
        heard.contains(&Notice::RingError(1))
    });
    assert!(backend.watched().len() == 3 && backend.is_alive());
    // Nothing was used, and the ring can be stopped, and be set up anew.
    assert_eq!(backend.stop_ring(1).unwrap(), 0);
    // SAFETY: as above.
    assert_eq!(unsafe { ((device + 2) as *const u16).read_volatile() }, 0);
    backend.setup_ring(&RingSetup { index: 1, size: 8, base: 0, desc, driver, device, kick: kick.as_fd() }).unwrap();
    assert!(
        backend
            .setup_ring(&RingSetup { index: 2, size: 8, base: 0, desc, driver, device, kick: kick.as_fd() })
            .is_err()
    );
}

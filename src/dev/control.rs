//! The device's own control queue (VIRTIO 5.1.6.5): a ring of which the device has one command at a time, with a deadline.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::mem::lanes::Scalar;
use crate::mem::map::Region;
use crate::mem::shared::{peek, poke};
use crate::net::path::layout;
use crate::ring::packed::PackedRing;
use crate::ring::split::SplitRing;
use crate::ring::{Ask, Cookie, Lie, Ring, Segment};
use crate::spec::net::{CONTROL_ERR, CONTROL_OK, Control};
use crate::spec::ring::{DESC_F_WRITE, QueueLayout};
use crate::spec::virtio::Features;
use crate::sys::eventfd::Bell;
use crate::sys::shm::SharedMemory;

/// Descriptors, where the device has rings of so many. Hardware may not like rings that are very short.
const SIZE: u16 = 64;
/// Descriptors that a command takes.
const COMMAND: u16 = 3;
/// Where commands lie: on a page of their own, behind the ring's.
const PAGE: usize = 4096;
const HEADER: usize = 0;
const DATA: usize = 64;
const ACK: usize = PAGE - 64;
/// An answer that no device gives.
const NO_ACK: u8 = 0xff;
const _: () = assert!(QueueLayout::split(SIZE).bytes <= PAGE && QueueLayout::packed(SIZE).bytes <= PAGE);

enum Layout {
    Split(SplitRing<Scalar>),
    Packed(PackedRing<Scalar>),
}

/// A control queue.
pub(super) struct ControlQueue {
    /// Ring index.
    pub(super) index: u16,
    size: u16,
    memory: Arc<SharedMemory>,
    places: QueueLayout,
    ring: Layout,
    kick: Bell,
    call: Bell,
    timeout: Duration,
    /// Why no command can be given until the device is started again: its memory is the device's still.
    stuck: Option<String>,
}

impl ControlQueue {
    /// A queue at this ring index of a device that has rings of `most` descriptors at most, by the layout that was
    /// negotiated. A command takes `timeout` at most.
    pub(super) fn new(index: u16, most: u16, features: Features, timeout: Duration) -> Result<Self> {
        // A split ring has a power of two.
        let size = SIZE.min(most).checked_ilog2().map_or(0, |log| 1 << log);
        if size < COMMAND {
            let sentence = format!(
                "the device has rings of {most} descriptors at most, and a command to its control queue takes {COMMAND}: \
                 it cannot be driven"
            );
            return Err(Error::new(Errno::ENOTSUP, sentence));
        }
        let memory = Arc::new(SharedMemory::new("vuser-control", 2 * PAGE, false)?);
        let (in_order, event) = (features.contains(Features::IN_ORDER), features.contains(Features::EVENT_IDX));
        // SAFETY: a page of zeroed memory has room for SIZE slots of either layout, and there are no more; it lives as long as
        // the ring, which is in one structure with it, and only the ring and the device use that page.
        let ring = unsafe {
            match features.contains(Features::RING_PACKED) {
                true => Layout::Packed(PackedRing::new(Scalar, memory.addr(), size, in_order, event)),
                false => Layout::Split(SplitRing::new(Scalar, memory.addr(), size, in_order, event)),
            }
        };
        let (kick, call, places) = (Bell::new()?, Bell::new()?, layout(features, size));
        Ok(Self { index, size, memory, places, ring, kick, call, timeout, stuck: None })
    }

    /// What the device is to be told of.
    pub(super) fn region(&self) -> Region {
        Region::ours(self.memory.clone())
    }

    /// Descriptors.
    pub(super) const fn size(&self) -> u16 {
        self.size
    }

    /// Our addresses of the ring's three parts: descriptors, driver's, device's.
    pub(super) fn addresses(&self) -> (u64, u64, u64) {
        let (base, QueueLayout { desc, driver, device, .. }) = (self.memory.addr() as u64, self.places);
        (base + desc as u64, base + driver as u64, base + device as u64)
    }

    /// Position for SET_VRING_BASE.
    pub(super) fn base(&self) -> u32 {
        match &self.ring {
            Layout::Split(ring) => ring.base(),
            Layout::Packed(ring) => ring.base(),
        }
    }

    pub(super) fn kick(&self) -> BorrowedFd<'_> {
        self.kick.as_fd()
    }

    pub(super) fn call(&self) -> BorrowedFd<'_> {
        self.call.as_fd()
    }

    /// Gives a command, and waits for the answer. Errors: `EREMOTEIO` the device refused it, `ETIMEDOUT` it said nothing,
    /// `EIO` the queue cannot be used any more, `E2BIG` for data that no command has room for.
    pub(super) fn command(&mut self, command: Control, data: &[u8]) -> Result<()> {
        let Control { class, command: number, name } = command;
        if let Some(why) = &self.stuck {
            return Err(Error::new(
                Errno::EIO,
                format!("{name}: the control queue is of no use until a restart: {why}"),
            ));
        }
        if data.len() > ACK - DATA {
            return Err(Error::new(Errno::E2BIG, format!("{name}: {} bytes of data are too many", data.len())));
        }
        self.write(HEADER, &[class, number]);
        self.write(DATA, data);
        self.write(ACK, &[NO_ACK]);
        let done = self.exchange(data.len() as u32).map_err(|e| e.context(format!("control command {name}")));
        done.inspect_err(|e| self.stuck = Some(e.to_string()))?;
        // SAFETY: on the page of commands.
        match unsafe { peek::<u8>(self.page().wrapping_add(ACK)) } {
            CONTROL_OK => {
                log::debug!("control command {name}: done");
                Ok(())
            }
            CONTROL_ERR => Err(Error::new(Errno::EREMOTEIO, format!("the device refused the control command {name}"))),
            other => Err(Error::protocol(format!("the device answered {other:#x} to the control command {name}"))),
        }
    }

    fn page(&self) -> *mut u8 {
        self.memory.addr().wrapping_add(PAGE)
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            // SAFETY: on the page of commands: nothing that is written there reaches beyond it.
            unsafe { poke(self.page().wrapping_add(at + i), *byte) };
        }
    }

    fn exchange(&mut self, data: u32) -> Result<()> {
        let at = |offset: usize| self.page() as u64 + offset as u64;
        let header = Segment { addr: at(HEADER), len: 2, flags: 0 };
        let body = Segment { addr: at(DATA), len: data, flags: 0 };
        let ack = Segment { addr: at(ACK), len: 1, flags: DESC_F_WRITE };
        let (with, without) = ([header, body, ack], [header, ack]);
        let chain: &[Segment] = if data > 0 { &with } else { &without };
        let bells = Bells { kick: &self.kick, call: &self.call, end: Instant::now() + self.timeout };
        match &mut self.ring {
            Layout::Split(ring) => bells.exchange(ring, chain),
            Layout::Packed(ring) => bells.exchange(ring, chain),
        }
    }
}

/// What both layouts need for an exchange.
struct Bells<'a> {
    kick: &'a Bell,
    call: &'a Bell,
    end: Instant,
}

impl Bells<'_> {
    /// Offers one chain and waits until the device has used it.
    fn exchange(&self, ring: &mut impl Ring, chain: &[Segment]) -> Result<()> {
        let lie = |lie: Lie| Error::new(Errno::EIO, format!("the control queue is broken: {lie}"));
        if !ring.offer(chain, Cookie::default(), false) {
            return Err(Error::new(Errno::EIO, "the control queue has no room"));
        }
        if ring.publish(Ask::Surely) {
            self.kick.ring();
        }
        loop {
            self.call.take();
            ring.set_calls(true);
            ring.poll().map_err(lie)?;
            if ring.take().map_err(lie)?.is_some() {
                return Ok(());
            }
            let left = self.end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let sentence = "the device does not answer (timeout_ms says how long it is waited for)";
                return Err(Error::new(Errno::ETIMEDOUT, sentence));
            }
            self.call.wait(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::memory::{Identity, Memory};
    use crate::device::ring::{self, Areas, Chain, Setup};
    use std::os::fd::AsRawFd;

    const ALL: [Features; 4] = [
        Features::VERSION_1,
        Features::VERSION_1.union(Features::EVENT_IDX),
        Features::VERSION_1.union(Features::RING_PACKED),
        Features::VERSION_1.union(Features::RING_PACKED).union(Features::EVENT_IDX).union(Features::IN_ORDER),
    ];

    fn queue(features: Features, timeout: Duration) -> ControlQueue {
        ControlQueue::new(2, 0x8000, features, timeout).unwrap()
    }

    /// Runs a device that answers each command by `answer`, until the queue's owner ends.
    fn with_device(
        queue: &mut ControlQueue,
        features: Features,
        answer: impl Fn(&[u8]) -> Option<u8> + Send,
        then: impl FnOnce(&mut ControlQueue),
    ) {
        let bells = [queue.kick().try_clone_to_owned().unwrap(), queue.call().try_clone_to_owned().unwrap()];
        let [kick, call] = bells.map(Bell::from_fd);
        let memory = queue.memory.clone();
        let (desc, driver, device) = queue.addresses();
        let mut identity = Identity::default();
        // SAFETY: the memory lives as long as this function, and both sides use doors.
        let mut ring = unsafe {
            identity.add(memory.addr(), memory.len());
            let areas = Areas { desc: desc as *mut u8, driver: driver as *mut u8, device: device as *mut u8 };
            ring::Ring::new(&Setup::new(areas, queue.size(), features)).unwrap()
        };
        let over = std::sync::atomic::AtomicBool::new(false);
        let device = DeviceSide(&mut ring, &identity);
        std::thread::scope(|s| {
            let over = &over;
            s.spawn(move || device.run(&kick, &call, answer, || over.load(std::sync::atomic::Ordering::Acquire)));
            then(queue);
            over.store(true, std::sync::atomic::Ordering::Release);
            queue.kick.ring();
        });
    }

    struct DeviceSide<'a>(&'a mut ring::Ring, &'a Identity);

    // SAFETY: the ring is used by the one thread that it is given to.
    unsafe impl Send for DeviceSide<'_> {}

    impl DeviceSide<'_> {
        fn run(self, kick: &Bell, call: &Bell, answer: impl Fn(&[u8]) -> Option<u8>, over: impl Fn() -> bool) {
            let Self(ring, memory) = self;
            let mut chain = Chain::default();
            while !over() {
                kick.take();
                while ring.next(memory, &mut chain).unwrap() {
                    let mut bytes = Vec::new();
                    for segment in chain.segments().iter().filter(|s| !s.writable) {
                        let mut part = vec![0; segment.len as usize];
                        assert!(memory.read(segment.addr, &mut part));
                        bytes.extend(part);
                    }
                    let Some(ack) = answer(&bytes) else { continue };
                    let place = chain.segments().iter().find(|s| s.writable).unwrap();
                    assert!(place.len == 1 && memory.write(place.addr, &[ack]));
                    ring.push_used(&chain, 1);
                    ring.publish();
                    if ring.should_call() {
                        call.ring();
                    }
                }
                if !ring.kicks(true) {
                    kick.wait(Duration::from_millis(100));
                }
            }
        }
    }

    #[test]
    fn commands_arrive_whole_and_their_answers_are_told() {
        for (features, most, size) in ALL.into_iter().flat_map(|f| [(f, 0x8000, SIZE), (f, 4, 4), (f, 48, 32)]) {
            let mut queue = ControlQueue::new(2, most, features, Duration::from_secs(5)).unwrap();
            assert_eq!(queue.size(), size);
            let answer = |bytes: &[u8]| match bytes {
                [4, 0, 3, 0] | [3, 0] => Some(CONTROL_OK),
                [4, 1, rest @ ..] => Some(if rest.len() == 3000 { CONTROL_OK } else { 7 }),
                [7, n, ..] => Some(if *n == 1 { 0x55 } else { CONTROL_ERR }),
                _ => Some(CONTROL_ERR),
            };
            with_device(&mut queue, features, answer, |queue| {
                // More commands than the ring has slots.
                for _ in 0..100 {
                    queue.command(Control::MQ_VQ_PAIRS_SET, &[3, 0]).unwrap();
                    queue.command(Control::ANNOUNCE_ACK, &[]).unwrap();
                    let error = queue.command(Control::VLAN_ADD, &[5, 0]).unwrap_err();
                    assert_eq!(error.errno(), Errno::EREMOTEIO);
                    assert!(error.to_string().contains("VLAN_ADD"), "{error}");
                }
                queue.command(Control::MQ_RSS_CONFIG, &[1; 3000]).unwrap();
                assert_eq!(queue.command(Control::MQ_RSS_CONFIG, &[1; 4000]).unwrap_err().errno(), Errno::E2BIG);
                let error = queue.command(Control::MQ_RSS_CONFIG, &[1; 2]).unwrap_err();
                assert!(error.errno() == Errno::EPROTO && error.to_string().contains("0x7"), "{error}");
                queue.command(Control::ANNOUNCE_ACK, &[]).unwrap();
            });
        }
    }

    #[test]
    fn a_device_with_rings_too_short_for_a_command_is_refused() {
        for most in [0, 1, 3] {
            let error = ControlQueue::new(2, most, Features::VERSION_1, Duration::ZERO).err().unwrap();
            assert!(error.errno() == Errno::ENOTSUP && error.to_string().contains("control queue"), "{error}");
        }
    }

    #[test]
    fn a_device_that_says_nothing_is_not_waited_for_and_not_asked_again() {
        for features in ALL {
            let mut queue = queue(features, Duration::from_millis(30));
            with_device(
                &mut queue,
                features,
                |_| None,
                |queue| {
                    let error = queue.command(Control::RX_PROMISC, &[1]).unwrap_err();
                    assert!(error.errno() == Errno::ETIMEDOUT && error.to_string().contains("RX_PROMISC"), "{error}");
                    let error = queue.command(Control::RX_ALLMULTI, &[1]).unwrap_err();
                    assert!(error.errno() == Errno::EIO && error.to_string().contains("RX_PROMISC"), "{error}");
                },
            );
        }
    }

    #[test]
    fn a_device_that_lies_is_found_out() {
        let mut queue = queue(Features::VERSION_1, Duration::from_secs(5));
        let used = queue.memory.addr().wrapping_add(queue.places.device + 2);
        // SAFETY: the used index, in our own memory.
        unsafe { poke(used, 9u16) };
        let error = queue.command(Control::RX_PROMISC, &[1]).unwrap_err();
        assert!(error.errno() == Errno::EIO && error.to_string().contains("used index"), "{error}");
        assert!(queue.kick().as_raw_fd() != queue.call().as_raw_fd());
    }
}

//! Floor 4: ways to reach a device. One verb each for what a device must be told (compare DPDK's
//! `virtio_user_backend_ops`).

pub mod vhost_kernel;
pub mod vhost_user;
pub mod vhost_vdpa;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::mem::dirty::DirtyLog;
use crate::mem::doorbell::Doorbell;
use crate::mem::map::MemoryMap;
use crate::spec::virtio::{Features, Status};

/// What a device must know of a ring before it can serve it.
#[derive(Clone, Copy, Debug)]
pub struct RingSetup<'a> {
    /// Ring index: 2 × pair for receive, 2 × pair + 1 for transmit.
    pub index: u16,
    /// Descriptors.
    pub size: u16,
    /// Position at which the device begins, in the form of SET_VRING_BASE.
    pub base: u32,
    /// Our address of the descriptor table or ring.
    pub desc: u64,
    /// Our address of the available ring or driver event suppression.
    pub driver: u64,
    /// Our address of the used ring or device event suppression.
    pub device: u64,
    /// We ring this bell to wake the device.
    pub kick: BorrowedFd<'a>,
}

/// All that a device offers, what we make nothing of among it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// Virtio features.
    pub features: Features,
    /// vhost-user protocol features.
    pub protocol: u64,
}

/// What a device says by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It has gone, or it broke the rules so that it cannot be spoken with any more; the sentence says which. Said at
    /// each [`hear`](Backend::hear) from then on.
    Gone(Error),
    /// Its configuration space is another: MAC, link, MTU, speed. Read it again.
    ConfigChanged,
    /// It has found a ring, of this index, that it cannot go on with.
    RingError(u16),
    /// It can go on only after a reset.
    NeedsReset,
    /// A ring, of this index, has another [doorbell](Backend::doorbell) now, or none any more.
    Doorbell(u16),
    /// It has gone where nothing is heard of it any more, as the sentence says: whether it is there has to be asked.
    OutOfSight(String),
}

/// Memory in which a back-end notes what it is working on, so that its successor knows. It is the back-end's: we hold it
/// and give it on.
#[derive(Debug)]
pub struct Inflight {
    /// The file.
    pub fd: OwnedFd,
    /// Bytes of it.
    pub size: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// Rings that it is for.
    pub rings: u16,
    /// Descriptors of the largest ring.
    pub ring_size: u16,
}

/// A device, however it is reached. Every call ends within the back-end's deadline.
pub trait Backend: Send {
    /// Kind of back-end and where it is, for people.
    fn describe(&self) -> String;
    /// Features that the device offers, after the transport's own negotiation. Asked once.
    fn features(&mut self) -> Result<Features>;
    /// Queue pairs that the device has, if it can be asked.
    fn max_queue_pairs(&mut self) -> Result<Option<u16>>;
    /// Protocol features in use (vhost-user), for information.
    fn protocol_features(&self) -> u64;
    /// All that the device offers, where that is more than [`features`](Self::features).
    fn offers(&self) -> Offers {
        Offers::default()
    }
    /// Features in use between the device and its transport, without the driver's knowing.
    fn transport_features(&self) -> Features {
        Features::empty()
    }
    /// Tells which bell the device rings for a ring.
    fn set_call(&mut self, index: u16, call: BorrowedFd<'_>) -> Result<()>;
    /// Tells the negotiated features.
    fn set_features(&mut self, features: Features) -> Result<()>;
    /// Tells all memory that the device may access.
    fn set_memory(&mut self, map: &MemoryMap) -> Result<()>;
    /// Regions that the device takes at most.
    fn max_regions(&mut self) -> Result<usize>;
    /// Whether the device takes and gives back single regions while it runs: [`change_memory`](Self::change_memory).
    fn has_memory_slots(&self) -> bool;
    /// Tells a device that has slots what has changed since it was told of another map. On an error that leaves the
    /// connection standing, the other map holds again.
    fn change_memory(&mut self, from: &MemoryMap, to: &MemoryMap) -> Result<()>;
    /// Sets a ring up, with a way to say that the ring is broken ([`Notice::RingError`]) where the device has one; the
    /// device may begin to use it when it is enabled.
    fn setup_ring(&mut self, ring: &RingSetup<'_>) -> Result<()>;
    /// Whether a ring of the device can be disabled.
    fn can_disable_rings(&self) -> bool;
    /// Enables or disables a ring, where the device can.
    fn enable_ring(&mut self, index: u16, on: bool) -> Result<()>;
    /// Stops a ring; returns the position that the device has reached, in the form of SET_VRING_BASE.
    fn stop_ring(&mut self, index: u16) -> Result<u32>;
    /// Tells the device status, where the device wants to know. Status 0 resets it, where it can be reset at all.
    fn set_status(&mut self, status: Status) -> Result<()>;
    /// Asks the device status; `None` where the device keeps none.
    fn status(&mut self) -> Result<Option<Status>>;
    /// Reads configuration space; false where the device has none to read.
    fn read_config(&mut self, offset: u32, bytes: &mut [u8]) -> Result<bool>;
    /// Waits until a device that could not be stopped has let go of our memory by closing the connection; false when it
    /// has not within the time.
    fn wait_gone(&self, at_most: Duration) -> bool;
    /// Says that nothing more will be said, where the device can hear that: so that it lets go of our memory.
    fn hang_up(&self) {}
    /// The descriptor that is readable when the other side has gone, or has something to say.
    fn control(&self) -> BorrowedFd<'_>;
    /// Whether the other side is still there, without waiting. A call that failed may have given it up.
    fn is_alive(&self) -> bool;

    /// Descriptors that are readable (or hung up) when the device has something to say by itself; then
    /// [`hear`](Self::hear). They stay the same as long as the back-end lives. While a call waits for its answer they
    /// may be readable too: look only when no call is under way.
    fn watched(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.control()]
    }
    /// What the device has said by itself since this was last asked. Never waits.
    fn hear(&mut self) -> Vec<Notice> {
        if self.is_alive() {
            return Vec::new();
        }
        vec![Notice::Gone(Error::new(Errno::ENODEV, format!("{} has gone", self.describe())))]
    }
    /// Writes configuration space; false where the device has none that can be written.
    fn write_config(&mut self, _offset: u32, _bytes: &[u8]) -> Result<bool> {
        Ok(false)
    }
    /// Tells the largest MTU that we use; false where the device has no ear for it.
    fn set_mtu(&mut self, _mtu: u16) -> Result<bool> {
        Ok(false)
    }
    /// Tells the MAC address, by another way than a control queue; false where there is none.
    fn set_mac(&mut self, _mac: [u8; 6]) -> Result<bool> {
        Ok(false)
    }
    /// Has the device tell the network that this MAC address is here now; false where it cannot.
    fn announce(&mut self, _mac: [u8; 6]) -> Result<bool> {
        Ok(false)
    }
    /// Tells the other end of the link whether ours is up, where somebody can see that.
    fn set_carrier(&mut self, _up: bool) -> Result<()> {
        Ok(())
    }
    /// Asks for memory for the device's notes on what it is working on, before memory and rings are told; `None` where the
    /// device keeps none.
    fn inflight(&mut self, _rings: u16, _ring_size: u16) -> Result<Option<Inflight>> {
        Ok(None)
    }
    /// Gives the device the notes of its predecessor, before its rings are told; false where it keeps none.
    fn set_inflight(&mut self, _inflight: &Inflight) -> Result<bool> {
        Ok(false)
    }
    /// From now on the device notes in a log which pages it writes, those of rings included; or it stops that.
    fn set_log(&mut self, _log: Option<&DirtyLog>) -> Result<()> {
        let sentence = format!("{} keeps no log of what it writes", self.describe());
        Err(Error::new(Errno::ENOTSUP, sentence))
    }
    /// Where a write kicks a ring that has been set up, in place of its bell; `None` where the device has no such place.
    fn doorbell(&mut self, _index: u16) -> Option<Arc<Doorbell>> {
        None
    }
    /// Descriptors that a ring of the device has at most (VIRTIO 2.7 and 2.8: 32768 where it sets no other limit).
    fn max_ring_size(&self) -> u16 {
        0x8000
    }
    /// Ring index of the device's own control queue, if it has one.
    fn control_ring(&self) -> Option<u16> {
        None
    }
}

/// Whether a device takes so many regions of memory.
pub fn check_number(regions: usize, most: usize) -> Result<()> {
    if regions <= most {
        return Ok(());
    }
    let sentence = format!(
        "the device's memory has {regions} regions, and the back-end takes {most} at most: use fewer and larger pools, or \
         register few large mappings of one file each instead of many small ones (memory of DPDK's is in one file for \
         each page size with EAL's --single-file-segments)"
    );
    Err(Error::new(Errno::E2BIG, sentence))
}

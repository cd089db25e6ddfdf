//! `struct vuser_dev`.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::BorrowedFd;

use super::config::{config, offloads, vuser_config};
use super::error::{Sized0, control, fill, put, words};
use super::handle::{DEV, born, gone, living};
use crate::dev::handle::Handle;
use crate::dev::{Device, Side};
use crate::error::{Error, Result};
use crate::spec::virtio::{Features, Status};
use nix::errno::Errno;

/// A virtio-user device. Its control calls may come from any thread; they take turns.
pub struct vuser_dev {
    pub(super) handle: Handle,
}

/// Runs a control call of a device.
///
/// # Safety
/// The pointer is NULL or a living device.
pub(super) unsafe fn with(name: &str, dev: *const vuser_dev, call: impl FnOnce(&mut Device) -> Result<c_int>) -> c_int {
    // SAFETY: by the conventions.
    let dev = unsafe { living(dev, DEV, name) };
    control(name, || {
        let handle = &dev?.handle;
        // Before its lock, which may have been held when the process was forked.
        handle.is_ours()?;
        handle.with(call)
    })
}

/// What is known of a device.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct vuser_dev_info {
    /// sizeof(struct vuser_dev_info), to be set by the caller.
    pub size: usize,
    /// Virtio features that the back-end offers.
    pub device_features: u64,
    /// Virtio features in use, or, before the start, to be used.
    pub features: u64,
    /// vhost-user protocol features in use.
    pub protocol_features: u64,
    /// Queue pairs that the back-end has.
    pub max_queue_pairs: u16,
    /// Queue pairs that the device was made with.
    pub queue_pairs: u16,
    /// Descriptors of a queue whose set-up does not say otherwise.
    pub queue_size: u16,
    /// MTU in use: what was chosen, else what the device has, else 1500.
    pub mtu: u16,
    /// Bytes of the virtio header in front of each frame in a ring.
    pub hdr_len: u16,
    /// MAC address.
    pub mac: [u8; 6],
    /// Device status, VUSER_STATUS_*.
    pub status: u8,
    /// Whether the device is started, its link was not set down, the back-end is there, and it does not say that its link
    /// is down.
    pub link_up: u8,
    /// Packed rings.
    pub packed: u8,
    /// Buffers are used in order.
    pub in_order: u8,
    /// Received frames may span buffers.
    pub mergeable: u8,
    /// Link speed in Mb/s: what was configured, else what the device says; 0xffffffff unknown.
    pub speed: u32,
    /// Kind of back-end and where it is.
    pub backend: [c_char; 128],
    /// Name of the data path: layout and lanes.
    pub path: [c_char; 32],
    /// Offloads in use or, before the start, to be used: VUSER_OFFLOAD_*.
    pub offloads: u64,
    /// Offloads that the device makes possible.
    pub offload_capa: u64,
    /// Queue pairs that are used, of queue_pairs: by the running device or from the next start on.
    pub queue_pairs_used: u16,
    /// Whether a back-end is there.
    pub attached: u8,
    /// Back-ends that came after another and were taken.
    pub reconnects: u64,
    /// Back-ends that were sent away: they did not suit, or there was one already.
    pub refused: u64,
    /// vhost-user protocol features that the back-end offers, or the last one did.
    pub protocol_features_offered: u64,
}

// SAFETY: integers and arrays of them, `size` first.
unsafe impl Sized0 for vuser_dev_info {
    fn size_mut(&mut self) -> &mut usize {
        &mut self.size
    }
}

/// Device status: we have noticed the device.
pub const VUSER_STATUS_ACK: u8 = 1;
/// Device status: we know how to drive it.
pub const VUSER_STATUS_DRIVER: u8 = 2;
/// Device status: it is live.
pub const VUSER_STATUS_DRIVER_OK: u8 = 4;
/// Device status: features are agreed.
pub const VUSER_STATUS_FEATURES_OK: u8 = 8;
/// Device status: it can go on only after a reset.
pub const VUSER_STATUS_NEED_RESET: u8 = 64;
/// Device status: it was given up.
pub const VUSER_STATUS_FAILED: u8 = 128;

const _: () = assert!(
    VUSER_STATUS_ACK == Status::ACKNOWLEDGE.bits()
        && VUSER_STATUS_DRIVER == Status::DRIVER.bits()
        && VUSER_STATUS_DRIVER_OK == Status::DRIVER_OK.bits()
        && VUSER_STATUS_FEATURES_OK == Status::FEATURES_OK.bits()
        && VUSER_STATUS_NEED_RESET == Status::NEEDS_RESET.bits()
        && VUSER_STATUS_FAILED == Status::FAILED.bits()
);

/// Makes a device: connects to the back-end, asks what it offers, and agrees on features as far as that goes without
/// starting. *dev is the device, to be given up by vuser_dev_uninit.
///
/// With server=1 it listens in place of connecting, and returns at once, or, with server_wait_ms, when the first
/// back-end has come. Until then the device counts on one that can do all that the configuration asks for.
///
/// A back-end that goes is looked for again (with server=1: may come again), unless reconnect=0. The device that was
/// started goes on with it: what had come and was not received yet is received, buffers that were posted are posted again,
/// and packets that the last one did not mark used are sent again, or dropped, as resend says. Meanwhile nothing is sent:
/// vuser_tx_burst takes 0 packets. vuser_dev_process tells of all that.
///
/// -EINVAL: the configuration can't be; -ENOENT, -ECONNREFUSED, -EACCES: no back-end there; -ENOTSUP: it can't do what
/// is wanted; -ETIMEDOUT: it doesn't answer, or none came; -EPROTO: it answers nonsense; -EADDRINUSE: somebody listens at
/// that path, or there is a file that is no socket. -EMFILE: each queue pair takes six
/// descriptors and more, and the process may not have so many. With path=/dev/vhost-net: -EPERM, -EACCES: a permission is missing;
/// -ENOENT: a module of the kernel's is; -EBUSY: somebody else has the interface. The sentence says what helps.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_init(config: *const vuser_config, dev: *mut *mut vuser_dev) -> c_int {
    control("vuser_dev_init", || {
        // SAFETY: by the conventions.
        unsafe {
            let made = Box::into_raw(Box::new(vuser_dev { handle: Handle::new(self::config(config)?)? }));
            put(dev, DEV, made).inspect_err(|_| drop(Box::from_raw(made)))?;
            born(made, DEV);
        }
        Ok(0)
    })
}

/// Stops the device, closes the connection and gives everything back. Its queues are gone too. NULL is allowed. A back-end
/// that does not answer is waited for once, timeout_ms. In a child that was forked it does nothing: the device is the
/// parent's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_uninit(dev: *mut vuser_dev) {
    control("vuser_dev_uninit", || {
        if !dev.is_null() {
            gone(dev, DEV, "vuser_dev_uninit");
            // SAFETY: made by `vuser_dev_init`, and by the conventions not used any more.
            drop(unsafe { Box::from_raw(dev) });
        }
        Ok(0)
    });
}

/// Virtio features that the back-end offers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_device_features(dev: *const vuser_dev) -> u64 {
    // SAFETY: by the conventions.
    unsafe { features(dev, Device::offered) }
}

/// Virtio features in use or, before the start, to be used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_features(dev: *const vuser_dev) -> u64 {
    // SAFETY: by the conventions.
    unsafe { features(dev, Device::features) }
}

unsafe fn features(dev: *const vuser_dev, which: fn(&Device) -> Features) -> u64 {
    let mut bits = 0;
    // SAFETY: passed on.
    unsafe {
        with("features", dev, |d| {
            bits = which(d).bits() as u64;
            Ok(0)
        })
    };
    bits
}

/// Chooses virtio features, of those offered, for the next start. -EBUSY: the device is started; -EINVAL: the choice
/// can't be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_set_features(dev: *mut vuser_dev, features: u64) -> c_int {
    // SAFETY: by the conventions.
    unsafe {
        with("vuser_dev_set_features", dev, |d| d.set_features(Features::from_bits_retain(features.into())).map(|()| 0))
    }
}

/// Chooses offloads, VUSER_OFFLOAD_*, for the next start: those of offload_capa in vuser_dev_info can be. The features
/// follow. -EBUSY: the device is started; -EINVAL: unknown bits; -ENOTSUP: the device does not make these possible,
/// vuser_last_error names them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_set_offloads(dev: *mut vuser_dev, offloads: u64) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dev_set_offloads", dev, |d| d.set_offloads(self::offloads(offloads)?).map(|()| 0)) }
}

/// Chooses how many queue pairs are used: 1 to the number that the device was made with, which is what a device begins
/// with. Of a stopped device from the next start on; the back-end hears nothing of the others. Of a started device at once, up
/// to the number that it was started with: the queues of pairs that are not used any more are stopped as by
/// vuser_tx_queue_stop and vuser_rx_queue_stop, those of pairs that are used again are started. -EBUSY: the device was
/// started with fewer; -ENOTSUP: the back-end's rings can't be disabled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_set_queue_pairs(dev: *mut vuser_dev, pairs: u16) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dev_set_queue_pairs", dev, |d| d.set_queue_pairs(pairs).map(|()| 0)) }
}

/// Sets the device status: VUSER_STATUS_DRIVER_OK starts the device, 0 resets it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_set_status(dev: *mut vuser_dev, status: u8) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dev_set_status", dev, |d| d.set_status(Status::from_bits_retain(status)).map(|()| 0)) }
}

/// The device status, with what the back-end adds to it. 0 also for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_get_status(dev: *const vuser_dev) -> u8 {
    // SAFETY: by the conventions.
    let status = unsafe { with("vuser_dev_get_status", dev, |d| Ok(c_int::from(d.status().bits()))) };
    u8::try_from(status).unwrap_or(0)
}

/// Starts the device: features, memory and rings are told to the back-end, and receive buffers are offered. At least one
/// queue must have been set up; of the pairs that are used, a queue that was not is a ring that the back-end knows and
/// that stays empty. Without a back-end the link is down, and all this is done when one comes. On an error the device is
/// stopped, as before. -E2BIG: the memory has more regions than the back-end takes; -ENOTCONN: the back-end has gone, and
/// with reconnect=0 it is not looked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_start(dev: *mut vuser_dev) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dev_start", dev, |d| d.start().map(|()| 0)) }
}

/// Stops the device; all buffers come back to where they came from. Queues may be in use meanwhile: their bursts return 0
/// from then on. It can be started again, with the same features and queues. An error is reported, but the device is stopped
/// all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_stop(dev: *mut vuser_dev) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dev_stop", dev, |d| d.stop().map(|()| 0)) }
}

/// Stops the device and forgets the choice of features.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_reset(dev: *mut vuser_dev) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dev_reset", dev, |d| d.reset().map(|()| 0)) }
}

/// What is known of the device; info->size must be set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_get_info(dev: *const vuser_dev, info: *mut vuser_dev_info) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dev_get_info", dev, |d| fill(info, "info", describe(d)).map(|()| 0)) }
}

fn describe(d: &mut Device) -> vuser_dev_info {
    let info = d.info();
    vuser_dev_info {
        size: size_of::<vuser_dev_info>(),
        device_features: info.offered.bits() as u64,
        features: info.features.bits() as u64,
        protocol_features: info.protocol_features,
        max_queue_pairs: info.max_pairs,
        queue_pairs: d.config().queues,
        queue_size: d.config().queue_size,
        mtu: info.mtu,
        hdr_len: info.framing.hdr_len,
        mac: info.mac,
        status: info.status.bits(),
        link_up: info.link_up.into(),
        packed: info.features.contains(Features::RING_PACKED).into(),
        in_order: info.features.contains(Features::IN_ORDER).into(),
        mergeable: info.framing.mergeable.into(),
        speed: info.speed,
        backend: words(&info.backend),
        path: words(info.path_name),
        offloads: info.offloads.bits(),
        offload_capa: info.offload_capa.bits(),
        queue_pairs_used: info.pairs,
        attached: info.attached.into(),
        reconnects: info.reconnects,
        refused: info.refused,
        protocol_features_offered: info.protocol_features_offered,
    }
}

/// Sets the link up (1) or down (0). While it is down all rings are disabled: nothing is received, and what is sent
/// waits in its ring or is discarded, as the back-end likes. Up again, the queues run that were not stopped. Queues may be
/// in use meanwhile. Of a stopped device it is remembered. -ENOTSUP: the back-end's rings can't be disabled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_set_link(dev: *mut vuser_dev, up: c_int) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dev_set_link", dev, |d| d.set_link(up != 0).map(|()| 0)) }
}

/// Whether the link is up: 1 when the device is started, its link was not set down, the back-end is there and did not say
/// when it was last asked (at the start, by vuser_dev_get_info) that its link is down; else 0. Waits for nobody, not even
/// for another control call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_link(dev: *const vuser_dev) -> c_int {
    // SAFETY: by the conventions.
    control("vuser_dev_link", || Ok(unsafe { living(dev, DEV, "vuser_dev_link") }?.handle.live().link().into()))
}

unsafe fn run(name: &str, dev: *mut vuser_dev, side: Side, pair: u16, run: bool) -> c_int {
    // SAFETY: passed on.
    unsafe { with(name, dev, |d| d.run_queue(side, pair, run).map(|()| 0)) }
}

/// Starts a receive queue that was stopped. While the device is stopped: the queue shall run from the next start on,
/// which is so for a queue that has just been set up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_rx_queue_start(dev: *mut vuser_dev, pair: u16) -> c_int {
    // SAFETY: by the conventions.
    unsafe { run("vuser_rx_queue_start", dev, Side::Rx, pair, true) }
}

/// Stops a receive queue of a running device: its bursts return 0 until vuser_rx_queue_start. Its ring keeps its
/// buffers, and frames that came and were not received wait there. The device's next start starts it too. While the
/// device is stopped: the queue shall not run at the next start, but wait for vuser_rx_queue_start. -ENOTSUP: the back-end's
/// rings can't be disabled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_rx_queue_stop(dev: *mut vuser_dev, pair: u16) -> c_int {
    // SAFETY: by the conventions.
    unsafe { run("vuser_rx_queue_stop", dev, Side::Rx, pair, false) }
}

/// As vuser_rx_queue_start, for a transmit queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_tx_queue_start(dev: *mut vuser_dev, pair: u16) -> c_int {
    // SAFETY: by the conventions.
    unsafe { run("vuser_tx_queue_start", dev, Side::Tx, pair, true) }
}

/// As vuser_rx_queue_stop, for a transmit queue. First the back-end is given 100 ms to send what the ring holds, and
/// packets that it has sent go back to their pool; those that it has not stay with the ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_tx_queue_stop(dev: *mut vuser_dev, pair: u16) -> c_int {
    // SAFETY: by the conventions.
    unsafe { run("vuser_tx_queue_stop", dev, Side::Tx, pair, false) }
}

/// Gives memory of the application's to the device, so that packets in it can be sent and received: `len` bytes
/// mapped at `addr`, from `offset` of the file `fd` (memfd, hugetlbfs or shm; the descriptor is duplicated). What is
/// contiguous in memory and in one file is told to the back-end as one region.
///
/// A running device is told at once, and queues may be in use meanwhile. A back-end that has memory slots goes on; of any
/// other the rings are disabled for that moment, in which frames may be lost. On an error the former memory holds.
///
/// -EBADF: such memory can't be shared, for example because it has no file; -EEXIST: it overlaps memory that is
/// registered; -E2BIG: the running back-end takes fewer regions (a stopped device says that when it is started).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_mem_register(
    dev: *mut vuser_dev,
    fd: c_int,
    offset: u64,
    len: usize,
    addr: *mut c_void,
) -> c_int {
    // SAFETY: by the conventions.
    unsafe {
        with("vuser_mem_register", dev, |d| {
            if fd < 0 {
                return Err(Error::new(Errno::EBADF, "the memory cannot be shared: there is no file descriptor"));
            }
            let own = BorrowedFd::borrow_raw(fd).try_clone_to_owned();
            let own = own.map_err(|e| Error::sys(Errno::try_from(e).unwrap_or(Errno::EBADF), "bad descriptor"))?;
            d.register_memory(own, offset, len as u64, addr as u64).map(|()| 0)
        })
    }
}

/// Takes memory away from the device that was registered at `addr`. A running device is told at once, as by
/// vuser_mem_register; then no queue may hold a buffer of it any more. -ENOENT: none was registered there; -E2BIG: what
/// it leaves has more regions than the back-end takes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_mem_unregister(dev: *mut vuser_dev, addr: *mut c_void) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_mem_unregister", dev, |d| d.unregister_memory(addr as u64).map(|()| 0)) }
}

/// 1 when the device was told of all of these bytes, or will be at its next start; else 0. Waits for no control call, so
/// that a buffer source may ask.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_mem_contains(dev: *const vuser_dev, addr: *const c_void, len: usize) -> c_int {
    control("vuser_mem_contains", || {
        // SAFETY: by the conventions.
        Ok(unsafe { living(dev, DEV, "vuser_mem_contains") }?.handle.live().covers(addr as u64, len as u64).into())
    })
}

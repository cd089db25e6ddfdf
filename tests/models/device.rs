//! The least of a device, from VIRTIO's text: one thread that takes what is available, uses it, calls, and sleeps. Its
//! orderings are the weakest that the standard lets it have.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use loom::sync::atomic::fence;
use vuser::spec::ring::{
    AVAIL_F_NO_INTERRUPT, DESC_F_AVAIL, DESC_F_NEXT, DESC_F_USED, EVENT_DESC, EVENT_DISABLE, EVENT_ENABLE, QueueLayout,
    USED_F_NO_NOTIFY,
};

use crate::mem::atomic::{AtomicU16, AtomicU32, AtomicU64, doubles, halves, words};

/// Memory of a ring: addresses that nothing but the model looks behind.
const BASE: usize = 0x10_0000;

/// Which ring, and how each side is to be woken.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub packed: bool,
    pub size: u16,
    pub event_idx: bool,
}

/// A chain as the device has read it: the id, and address and bytes of each buffer.
pub type Chain = (u16, Vec<(u64, u32)>);

/// The device's side.
pub struct Device {
    shape: Shape,
    layout: QueueLayout,
    /// Descriptors (packed) or chains (split) taken and used so far.
    taken: u16,
    used: u16,
    /// Where calls were considered last.
    called: u16,
}

impl Shape {
    fn layout(self) -> QueueLayout {
        if self.packed { QueueLayout::packed(self.size) } else { QueueLayout::split(self.size) }
    }

    /// Where the driver's ring begins.
    pub fn base(self) -> *mut u8 {
        std::ptr::without_provenance_mut(BASE)
    }

    /// Makes the memory.
    pub fn lay_out(self) {
        let (layout, n) = (self.layout(), usize::from(self.size));
        doubles(BASE + layout.desc, 2 * n);
        if self.packed {
            words(BASE + layout.driver, 1);
            words(BASE + layout.device, 1);
        } else {
            // flags, idx, ring, used_event; flags, idx, ring, avail_event.
            halves(BASE + layout.driver, 2 + n + 1);
            halves(BASE + layout.device, 2);
            doubles(BASE + layout.device + 4, n);
            halves(BASE + layout.device + 4 + 8 * n, 1);
        }
    }
}

fn half(at: usize) -> &'static loom::sync::atomic::AtomicU16 {
    // SAFETY: not used beyond the model.
    &unsafe { AtomicU16::from_ptr(std::ptr::without_provenance_mut(BASE + at)) }.0
}

fn word(at: usize) -> &'static loom::sync::atomic::AtomicU32 {
    // SAFETY: as above.
    &unsafe { AtomicU32::from_ptr(std::ptr::without_provenance_mut(BASE + at)) }.0
}

fn double(at: usize) -> &'static loom::sync::atomic::AtomicU64 {
    // SAFETY: as above.
    &unsafe { AtomicU64::from_ptr(std::ptr::without_provenance_mut(BASE + at)) }.0
}

impl Device {
    pub fn new(shape: Shape) -> Self {
        Self { shape, layout: shape.layout(), taken: 0, used: 0, called: 0 }
    }

    fn size(&self) -> usize {
        self.shape.size.into()
    }

    /// Slot and wrap counter of a packed ring's position (2.8.1: it begins with 1).
    fn place(&self, position: u16) -> (usize, bool) {
        (usize::from(position) % self.size(), (usize::from(position) / self.size()).is_multiple_of(2))
    }

    /// Address, and length, id or next, and flags, of a descriptor as the layouts have them.
    fn descriptor(&self, slot: usize) -> (u64, u64) {
        let at = self.layout.desc + 16 * slot;
        (double(at).load(Relaxed), double(at + 8).load(Relaxed))
    }

    /// Whether there is something to take.
    pub fn is_available(&self) -> bool {
        if !self.shape.packed {
            return half(self.layout.driver + 2).load(Acquire) != self.taken;
        }
        let (slot, wrap) = self.place(self.taken);
        let flags = (double(self.layout.desc + 16 * slot + 8).load(Acquire) >> 48) as u16;
        (flags & DESC_F_AVAIL != 0) == wrap && (flags & DESC_F_USED != 0) != wrap
    }

    /// Takes the next chain.
    pub fn take(&mut self) -> Option<Chain> {
        if !self.is_available() {
            return None;
        }
        let mut chain = Vec::new();
        if self.shape.packed {
            loop {
                let (slot, _) = self.place(self.taken);
                let (addr, rest) = self.descriptor(slot);
                chain.push((addr, rest as u32));
                self.taken += 1;
                if (rest >> 48) as u16 & DESC_F_NEXT == 0 {
                    return Some(((rest >> 32) as u16, chain));
                }
            }
        }
        let head = half(self.layout.driver + 4 + 2 * (usize::from(self.taken) % self.size())).load(Relaxed);
        let mut slot = head;
        loop {
            let (addr, rest) = self.descriptor(slot.into());
            chain.push((addr, rest as u32));
            slot = (rest >> 48) as u16;
            if (rest >> 32) as u16 & DESC_F_NEXT == 0 {
                self.taken = self.taken.wrapping_add(1);
                return Some((head, chain));
            }
        }
    }

    /// Uses a chain of so many descriptors.
    pub fn put(&mut self, id: u16, len: u32, span: u16) {
        if self.shape.packed {
            let (slot, wrap) = self.place(self.used);
            let flags = if wrap { DESC_F_AVAIL | DESC_F_USED } else { 0 };
            let rest = u64::from(len) | u64::from(id) << 32 | u64::from(flags) << 48;
            double(self.layout.desc + 16 * slot + 8).store(rest, Release);
            self.used += span;
        } else {
            let at = self.layout.device + 4 + 8 * (usize::from(self.used) % self.size());
            double(at).store(u64::from(id) | u64::from(len) << 32, Relaxed);
            self.used = self.used.wrapping_add(1);
            half(self.layout.device + 2).store(self.used, Release);
        }
    }

    /// Whether the driver wants a call for what was used since it was asked last (2.7.7.2, 2.8.10).
    pub fn should_call(&mut self) -> bool {
        let (from, to) = (std::mem::replace(&mut self.called, self.used), self.used);
        fence(SeqCst);
        let Shape { packed, event_idx, .. } = self.shape;
        let driver = self.layout.driver;
        if !packed && !event_idx {
            return half(driver).load(Relaxed) & AVAIL_F_NO_INTERRUPT == 0;
        }
        if !packed {
            let event = half(driver + 4 + 2 * self.size()).load(Relaxed);
            return (from..to).any(|index| index == event);
        }
        let event = word(driver).load(Relaxed);
        match (event >> 16) as u16 {
            EVENT_DISABLE => false,
            EVENT_DESC => (from..to).map(|p| self.place(p)).any(|(slot, wrap)| {
                let (at, lap) = (event as u16 & 0x7fff, event & 0x8000 != 0);
                (slot, wrap) == (at.into(), lap)
            }),
            _ => true,
        }
    }

    /// Says whether it wants to be kicked for what it has not taken yet, and looks once more; whether it may sleep.
    pub fn sleep(&self) -> bool {
        self.wish(true);
        // 2.7.10.1, 2.8.21.3.1: the wish before the look.
        fence(SeqCst);
        !self.is_available()
    }

    /// Wants kicks, or none.
    pub fn wish(&self, kicks: bool) {
        let device = self.layout.device;
        match (self.shape.packed, self.shape.event_idx) {
            (false, false) => half(device).store(if kicks { 0 } else { USED_F_NO_NOTIFY }, Relaxed),
            (false, true) => {
                let event = if kicks { self.taken } else { self.taken.wrapping_sub(1) };
                half(device + 4 + 8 * self.size()).store(event, Relaxed);
            }
            (true, event_idx) => {
                let (slot, wrap) = self.place(self.taken);
                let flags = match (kicks, event_idx) {
                    (false, _) => EVENT_DISABLE,
                    (true, false) => EVENT_ENABLE,
                    (true, true) => EVENT_DESC,
                };
                let place = slot as u32 | u32::from(wrap) << 15;
                word(device).store(place | u32::from(flags) << 16, Relaxed);
            }
        }
    }
}

//! The memory of all rings of a device: one sealed file, one region of the memory table.

use std::sync::Arc;

use crate::error::Result;
use crate::mem::lanes::Simd;
use crate::mem::map::Region;
use crate::net::path::{RingPlace, layout};
use crate::net::send::{EXTRA, Extras};
use crate::spec::ring::QueueLayout;
use crate::spec::virtio::Features;
use crate::sys::shm::SharedMemory;

/// Queues begin at page boundaries.
const ALIGN: usize = 4096;

struct Place {
    offset: usize,
    size: u16,
    layout: QueueLayout,
}

/// Rings and transmit extras.
pub struct RingMemory {
    memory: Arc<SharedMemory>,
    places: Vec<Place>,
}

impl RingMemory {
    /// Memory for rings of these sizes; the odd ones transmit and have extras.
    pub fn new(features: Features, sizes: &[u16], huge: bool) -> Result<Self> {
        let (mut offset, mut places) = (0, Vec::new());
        for (index, &size) in sizes.iter().enumerate() {
            let layout = layout(features, size);
            places.push(Place { offset, size, layout });
            let extras = if index % 2 == 1 { usize::from(size) * EXTRA } else { 0 };
            offset += (layout.bytes + extras).next_multiple_of(ALIGN);
        }
        Ok(Self { memory: Arc::new(SharedMemory::new("vuser-rings", offset, huge)?), places })
    }

    /// What the device is to be told of.
    pub fn region(&self) -> Region {
        Region::ours(self.memory.clone())
    }

    /// Where the ring of a queue goes, and the lanes that may work on it.
    pub fn place(&self, index: usize, simd: Simd) -> RingPlace {
        let place = &self.places[index];
        RingPlace { base: self.memory.addr().wrapping_add(place.offset), size: place.size, simd }
    }

    /// The extras of a transmit queue.
    pub fn extras(&self, index: usize) -> Extras {
        let place = &self.places[index];
        // SAFETY: `new` kept room for them behind the ring, which ends at a line.
        unsafe { Extras::new(self.memory.addr().wrapping_add(place.offset + place.layout.bytes)) }
    }

    /// Our addresses of a ring's three parts: descriptors, driver's, device's.
    pub fn addresses(&self, index: usize) -> (u64, u64, u64) {
        let place = &self.places[index];
        let base = self.memory.addr() as u64 + place.offset as u64;
        let QueueLayout { desc, driver, device, .. } = place.layout;
        (base + desc as u64, base + driver as u64, base + device as u64)
    }
}

//! QEMU's whole virtio-net device: its control queue, packed rings and doorbells, through vp_vdpa. What the device has
//! understood is asked of QEMU itself, and tried with frames of a neighbour at the same hub.

mod control;
mod lab;
mod spread;
mod traffic;

/// The interface with split rings, and the one with packed ones.
const SPLIT: u8 = 0;
const PACKED: u8 = 1;
/// The one with several queue pairs.
const SEVERAL: u8 = 3;

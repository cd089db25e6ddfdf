//! What the kernel's vhost devices can do beside virtio: `linux/vhost_types.h`.

use bitflags::bitflags;

bitflags! {
    /// Abilities of the way to a device (`VHOST_BACKEND_F_*`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct BackendFeatures: u64 {
        /// Messages about addresses have the second form.
        const IOTLB_MSG_V2 = 1 << 1;
        /// Addresses are changed by batches.
        const IOTLB_BATCH = 1 << 2;
        /// The device can be suspended.
        const SUSPEND = 1 << 4;
        /// It can be resumed.
        const RESUME = 1 << 5;
        /// Rings can be enabled and disabled while it runs.
        const ENABLE_AFTER_DRIVER_OK = 1 << 6;
        /// It knows its addresses still after a reset.
        const IOTLB_PERSIST = 1 << 8;
    }
}

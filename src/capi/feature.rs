//! `struct vuser_feature`: what a back-end offers, in words.

use std::ffi::{c_char, c_int, c_uint};

use super::dev::{vuser_dev, with};
use super::error::{Sized0, fill, words};
use crate::dev::features::{Feature, Kind};
use crate::error::Error;
use nix::errno::Errno;

/// Kind of feature: of the virtio device.
pub const VUSER_FEATURE_VIRTIO: u32 = 0;
/// Kind of feature: of the vhost-user protocol, between the back-end and this library.
pub const VUSER_FEATURE_PROTOCOL: u32 = 1;

/// A feature, and how it stands with it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct vuser_feature {
    /// sizeof(struct vuser_feature), to be set by the caller.
    pub size: usize,
    /// Whose, VUSER_FEATURE_*.
    pub kind: u32,
    /// Its number: the feature is 1 << bit.
    pub bit: u32,
    /// Its name, the standard's in small letters; "bit_48" for example if it has none.
    pub name: [c_char; 32],
    /// Whether the back-end offers it, or the last one did.
    pub offered: u8,
    /// Whether it is used, or will be from the next start on.
    pub used: u8,
    /// Whether this library can make use of it.
    pub known: u8,
    /// Zero.
    pub reserved: u8,
    /// A sentence: why it is not used although it is offered, or why it is not there although it is wanted. Else empty.
    pub why: [c_char; 160],
}

// SAFETY: integers and arrays of them, `size` first.
unsafe impl Sized0 for vuser_feature {
    fn size_mut(&mut self) -> &mut usize {
        &mut self.size
    }
}

impl vuser_feature {
    fn of(feature: &Feature) -> Self {
        let kind = match feature.kind {
            Kind::Virtio => VUSER_FEATURE_VIRTIO,
            Kind::Protocol => VUSER_FEATURE_PROTOCOL,
        };
        Self {
            size: size_of::<Self>(),
            kind,
            bit: feature.bit,
            name: words(&feature.name),
            offered: feature.offered.into(),
            used: feature.used.into(),
            known: feature.known.into(),
            reserved: 0,
            why: words(&feature.why),
        }
    }
}

/// One of the features that the back-end offers or that have a name: the virtio features, then the protocol features, each in
/// the order of their bits; index counts from 0. feature->size must be set. With server=1, before a back-end has come, none is
/// offered, and those are used that will be asked for. -ENOENT: there are no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_feature(dev: *const vuser_dev, index: c_uint, feature: *mut vuser_feature) -> c_int {
    // SAFETY: by the conventions.
    unsafe {
        with("vuser_dev_feature", dev, |d| {
            let all = d.describe_features();
            let found = all.get(index as usize);
            let none = || Error::new(Errno::ENOENT, format!("there are {} features, no feature {index}", all.len()));
            fill(feature, "feature", vuser_feature::of(found.ok_or_else(none)?)).map(|()| 0)
        })
    }
}

//! Which frames a device gives us.

use std::ffi::c_int;

use super::dev::{vuser_dev, with};
use crate::error::Error;

fn mac(at: *const u8) -> Result<[u8; 6], Error> {
    if at.is_null() {
        return Err(Error::invalid("mac is NULL"));
    }
    // SAFETY: six bytes, by the conventions.
    Ok(unsafe { at.cast::<[u8; 6]>().read() })
}

/// Chooses another MAC address, six bytes. A device that can be told is told, by its control queue (CTRL_MAC_ADDR) or as the
/// back-end can, at once or when it is started; of any other the address is the application's alone, and the frames that
/// come are what they were. -EINVAL: not a unicast address; -EREMOTEIO: the device refused it; -ETIMEDOUT: it doesn't answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_set_mac(dev: *mut vuser_dev, mac: *const u8) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dev_set_mac", dev, |d| d.set_mac(self::mac(mac)?).map(|()| 0)) }
}

/// Receives all frames (1), or only those for our addresses (0). A stopped device is told when it is started, and so is each
/// back-end that comes later. -ENOTSUP: the device has no control queue with CTRL_RX, and decides for itself which frames it
/// gives; -EREMOTEIO: it refused; -ETIMEDOUT: it doesn't answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_set_promiscuous(dev: *mut vuser_dev, on: c_int) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dev_set_promiscuous", dev, |d| d.set_promiscuous(on != 0).map(|()| 0)) }
}

/// Receives all multicast frames (1), or only those for our addresses (0). Otherwise as vuser_dev_set_promiscuous.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_set_allmulticast(dev: *mut vuser_dev, on: c_int) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dev_set_allmulticast", dev, |d| d.set_all_multicast(on != 0).map(|()| 0)) }
}

/// Receives also frames for these `n` addresses of six bytes each, one behind the other, unicast and multicast, and for no
/// others that were given before. -E2BIG: more than 256. Otherwise as vuser_dev_set_promiscuous.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_set_addresses(dev: *mut vuser_dev, addresses: *const u8, n: u16) -> c_int {
    let addresses: &[[u8; 6]] = match n {
        0 => &[],
        // SAFETY: as many addresses as that, by the conventions.
        _ if !addresses.is_null() => unsafe { std::slice::from_raw_parts(addresses.cast(), usize::from(n)) },
        _ => return super::error::control("vuser_dev_set_addresses", || Err(Error::invalid("addresses is NULL"))),
    };
    // SAFETY: by the conventions.
    unsafe { with("vuser_dev_set_addresses", dev, |d| d.set_addresses(addresses).map(|()| 0)) }
}

/// Receives frames of a VLAN, 0 to 4095, too (1), or no longer (0). A device that filters VLANs gives only those that were
/// asked for; it becomes one by the first call of this while it is stopped. -ENOTSUP: the device can't filter VLANs, or does
/// not as it was started; -EREMOTEIO: it refused; -ETIMEDOUT: it doesn't answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_vlan_filter(dev: *mut vuser_dev, vlan: u16, on: c_int) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dev_vlan_filter", dev, |d| d.filter_vlan(vlan, on != 0).map(|()| 0)) }
}

/// Tells a device that had asked for it (VUSER_EVENT_ANNOUNCE) that its address has been announced to the network.
/// -ENOTSUP: the device has no way to ask.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_dev_announced(dev: *mut vuser_dev) -> c_int {
    // SAFETY: by the conventions.
    unsafe { with("vuser_dev_announced", dev, |d| d.acknowledge_announcement().map(|()| 0)) }
}

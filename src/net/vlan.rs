//! VLAN tags that a device does not handle: taken out of received frames, put into frames to be sent.

use crate::buf::MbufRef;
use crate::buf::mbuf::flags;
use crate::mem::shared::{peek, poke};

/// Bytes of a tag.
pub const TAG: u16 = 4;
/// Bytes of the two addresses in front of it.
pub const ADDRESSES: u16 = 12;
const TPID: u16 = 0x8100;

/// Takes the tag out of a received frame, if it has one, and into `vlan_tci`.
pub fn strip(m: MbufRef) {
    if m.data_len() < ADDRESSES + TAG + 2 {
        return;
    }
    let data = m.data();
    // SAFETY: the addresses and the tag lie inside the first segment's data, which is ours now.
    unsafe {
        let [tpid, tci] = [12, 14].map(|at| u16::from_be_bytes(peek(data.add(at))));
        if tpid != TPID {
            return;
        }
        let addresses: [u8; ADDRESSES as usize] = peek(data);
        poke(data.add(usize::from(TAG)), addresses);
        m.set_vlan_tci(tci);
    }
    m.set_data_off(m.data_off() + TAG);
    m.set_data_len(m.data_len() - TAG);
    m.set_pkt_len(m.pkt_len() - u32::from(TAG));
    m.set_ol_flags(m.ol_flags() | flags::RX_VLAN | flags::RX_VLAN_STRIPPED);
}

/// The same, if the tag was put back since.
pub fn strip_again(m: MbufRef) {
    if m.ol_flags() & flags::RX_VLAN_STRIPPED == 0 {
        strip(m);
    }
}

/// Puts the tag back into a received frame out of which it was taken.
pub fn put_back(m: MbufRef) {
    if m.ol_flags() & flags::RX_VLAN_STRIPPED == 0 || m.data_off() < TAG || m.data_len() < ADDRESSES {
        return;
    }
    let bytes = tagged(m);
    m.set_data_off(m.data_off() - TAG);
    m.set_data_len(m.data_len() + TAG);
    m.set_pkt_len(m.pkt_len() + u32::from(TAG));
    m.set_ol_flags(m.ol_flags() & !(flags::RX_VLAN | flags::RX_VLAN_STRIPPED));
    // SAFETY: the frame begins where it began when the tag was in it.
    unsafe { poke(m.data(), bytes) };
}

/// The first bytes of a frame with the tag in: addresses, TPID, TCI.
pub fn tagged(m: MbufRef) -> [u8; (ADDRESSES + TAG) as usize] {
    let mut bytes = [0; (ADDRESSES + TAG) as usize];
    // SAFETY: the caller has seen that the first segment holds the addresses.
    let addresses: [u8; ADDRESSES as usize] = unsafe { peek(m.data()) };
    bytes[..12].copy_from_slice(&addresses);
    bytes[12..14].copy_from_slice(&TPID.to_be_bytes());
    bytes[14..].copy_from_slice(&m.vlan_tci().to_be_bytes());
    bytes
}

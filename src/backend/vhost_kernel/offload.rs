//! Offloads that a tap can do, as virtio features and as `TUN_F_*`.
//!
//! TUNSETOFFLOAD says what frames that *we* receive may still need. What we send may always need as much, as far as
//! the kernel knows of it.

use crate::spec::virtio::Features;
use crate::sys::tap::TapQueue;

/// What a tap does with frames that we send, in any kernel that has virtio-net headers.
const SEND: Features = Features::CSUM.union(Features::HOST_TSO4).union(Features::HOST_TSO6).union(Features::HOST_ECN);
/// What may be asked of frames that we receive, and what comes with it (the last since Linux 6.2).
const STEPS: [(u32, Features); 3] = [
    (libc::TUN_F_CSUM, Features::GUEST_CSUM),
    (
        libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN,
        Features::GUEST_TSO4.union(Features::GUEST_TSO6).union(Features::GUEST_ECN),
    ),
    (libc::TUN_F_USO4 | libc::TUN_F_USO6, Features::GUEST_USO4.union(Features::GUEST_USO6).union(Features::HOST_USO)),
];

/// Asks a tap what it can do: a flag that it does not know is refused. None is set when this returns.
pub fn probe(tap: &TapQueue) -> nix::Result<Features> {
    let (mut flags, mut features) = (0, SEND);
    for (flag, feature) in STEPS {
        if tap.set_offload(flags | flag).is_err() {
            break;
        }
        flags |= flag;
        features |= feature;
    }
    tap.set_offload(0)?;
    Ok(features)
}

/// The flags for features that have been agreed.
pub fn flags(features: Features) -> u32 {
    if !features.contains(Features::GUEST_CSUM) {
        return 0;
    }
    let each = [
        (Features::GUEST_TSO4, libc::TUN_F_TSO4),
        (Features::GUEST_TSO6, libc::TUN_F_TSO6),
        // The kernel knows these two only together.
        (Features::GUEST_USO4.union(Features::GUEST_USO6), libc::TUN_F_USO4 | libc::TUN_F_USO6),
    ];
    let segments = each.iter().filter(|(feature, _)| features.contains(*feature)).fold(0, |all, (_, flag)| all | flag);
    // It refuses ECN without any TSO.
    let ecn = features.contains(Features::GUEST_ECN) && segments & (libc::TUN_F_TSO4 | libc::TUN_F_TSO6) != 0;
    libc::TUN_F_CSUM | segments | if ecn { libc::TUN_F_TSO_ECN } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_what_a_tap_takes() {
        let all = STEPS.iter().fold((0, Features::empty()), |(flags, f), (flag, feature)| (flags | flag, f | *feature));
        assert_eq!(flags(all.1), all.0);
        assert_eq!(flags(all.1 - Features::GUEST_CSUM), 0);
        assert_eq!(flags(Features::GUEST_CSUM), libc::TUN_F_CSUM);
        assert_eq!(flags(Features::GUEST_CSUM | Features::GUEST_ECN), libc::TUN_F_CSUM);
        assert_eq!(flags(Features::GUEST_CSUM | Features::GUEST_USO4), libc::TUN_F_CSUM);
        assert_eq!(flags(SEND), 0);
    }
}

//! Which protocol features we use of those that a back-end offers, and why not the others.

use crate::spec::vhost_user::ProtocolFeatures;

/// Protocol features that we have messages for.
pub const SPOKEN: ProtocolFeatures = ProtocolFeatures::MQ
    .union(ProtocolFeatures::LOG_SHMFD)
    .union(ProtocolFeatures::RARP)
    .union(ProtocolFeatures::REPLY_ACK)
    .union(ProtocolFeatures::NET_MTU)
    .union(ProtocolFeatures::BACKEND_REQ)
    .union(ProtocolFeatures::CONFIG)
    .union(ProtocolFeatures::BACKEND_SEND_FD)
    .union(ProtocolFeatures::HOST_NOTIFIER)
    .union(ProtocolFeatures::INFLIGHT_SHMFD)
    .union(ProtocolFeatures::RESET_DEVICE)
    .union(ProtocolFeatures::CONFIGURE_MEM_SLOTS)
    .union(ProtocolFeatures::STATUS);

/// The protocol features that we use of those that are offered: none that would stay without a message.
pub(super) fn choose(theirs: ProtocolFeatures) -> ProtocolFeatures {
    let mut ours = theirs & SPOKEN;
    // A doorbell is a descriptor, which comes over a channel.
    if !ours.contains(ProtocolFeatures::BACKEND_REQ | ProtocolFeatures::BACKEND_SEND_FD) {
        ours.remove(ProtocolFeatures::HOST_NOTIFIER | ProtocolFeatures::BACKEND_SEND_FD);
    }
    if theirs.contains(ProtocolFeatures::STATUS) {
        // Writing status 0 is the reset already.
        ours.remove(ProtocolFeatures::RESET_DEVICE);
    }
    ours
}

/// Why an offered protocol feature is not used, or one that would be used is not.
pub fn why_not(feature: ProtocolFeatures, offered: ProtocolFeatures) -> &'static str {
    let doorbells = ProtocolFeatures::HOST_NOTIFIER | ProtocolFeatures::BACKEND_SEND_FD;
    match (SPOKEN.contains(feature), offered.contains(feature)) {
        (false, false) => "",
        (false, true) => "this library does not speak it",
        (true, false) => "would be used; the back-end does not offer it",
        (true, true) if feature == ProtocolFeatures::RESET_DEVICE => "not needed: with status, status 0 is the reset",
        (true, true) if feature.intersects(doorbells) => {
            "doorbells need backend_req and backend_send_fd, which the back-end does not offer both"
        }
        (true, true) => "not in use",
    }
}

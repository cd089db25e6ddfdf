//! What works in a queue, whatever it is, as the control plane sees it.

use std::sync::Arc;

use crate::net::path::{Rx, Tx};
use crate::net::relay::Relay;
use crate::net::salvage::{RxSalvage, TxSalvage};
use crate::net::tap;

/// What a queue is at the moment.
pub(super) enum Engine {
    /// The device is not started.
    Idle,
    /// A receive queue at work.
    Rx(Box<dyn Rx>),
    /// A transmit queue at work.
    Tx(Box<dyn Tx>),
    /// A queue that was stopped alone, with the buffers that its ring has.
    Halted(Box<Engine>),
}

impl Engine {
    /// The device has let go of it: all its buffers come back.
    pub(super) fn reclaim(self) {
        match self {
            Self::Rx(mut rx) => rx.reclaim(),
            Self::Tx(mut tx) => tx.reclaim(),
            Self::Halted(engine) => engine.reclaim(),
            Self::Idle => {}
        }
    }

    /// Position for SET_VRING_BASE, if there is a queue.
    pub(super) fn base(&self) -> Option<u32> {
        match self {
            Self::Rx(rx) => Some(rx.base()),
            Self::Tx(tx) => Some(tx.base()),
            Self::Halted(engine) => engine.base(),
            Self::Idle => None,
        }
    }

    /// See [`Ring::untouched`](crate::ring::Ring::untouched).
    pub(super) fn untouched(&self, base: u32) -> Option<u16> {
        match self {
            Self::Rx(rx) => rx.untouched(base),
            Self::Tx(tx) => tx.untouched(base),
            Self::Halted(engine) => engine.untouched(base),
            Self::Idle => None,
        }
    }

    /// The same, which bursts pass by.
    pub(super) fn halted(self) -> Self {
        match self {
            Self::Rx(_) | Self::Tx(_) => Self::Halted(Box::new(self)),
            other => other,
        }
    }

    /// The same, at work.
    pub(super) fn working(self) -> Self {
        match self {
            Self::Halted(engine) => *engine,
            other => other,
        }
    }

    /// The same, with its frames copied there, or nowhere.
    pub(super) fn tapped(self, relay: Option<&Arc<Relay>>) -> Self {
        match self {
            Self::Rx(rx) => Self::Rx(tap::rx(rx, relay)),
            Self::Tx(tx) => Self::Tx(tap::tx(tx, relay)),
            Self::Halted(engine) => Self::Halted(Box::new(engine.tapped(relay))),
            Self::Idle => Self::Idle,
        }
    }

    /// Its device is gone: what it had, for the engine that takes its place.
    pub(super) fn salvage(self) -> Salvage {
        match self {
            Self::Rx(rx) => Salvage::Rx(rx.salvage()),
            Self::Tx(tx) => Salvage::Tx(tx.salvage()),
            Self::Halted(engine) => engine.salvage(),
            Self::Idle => Salvage::Nothing,
        }
    }

    /// Takes over what its predecessor had. Packets that the device had not marked as used are sent once more with
    /// `resend`, else dropped. What there is no place for goes back to where it came from.
    pub(super) fn restore(&mut self, salvage: Salvage, resend: bool) {
        match (self, salvage) {
            (Self::Halted(engine), salvage) => engine.restore(salvage, resend),
            (Self::Rx(rx), Salvage::Rx(salvage)) => rx.restore(salvage),
            (Self::Tx(tx), Salvage::Tx(salvage)) => tx.restore(salvage, resend),
            _ => {}
        }
    }

    /// Whether no frame is half received.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Rx(rx) => rx.is_whole(),
            Self::Halted(engine) => engine.is_whole(),
            _ => true,
        }
    }

    /// See [`Ring::resume_base`](crate::ring::Ring::resume_base); none, too, if there is no queue.
    pub(super) fn resume_base(&self) -> Option<u32> {
        match self {
            Self::Rx(rx) => rx.resume_base(),
            Self::Tx(tx) => tx.resume_base(),
            Self::Halted(engine) => engine.resume_base(),
            Self::Idle => None,
        }
    }

    /// See [`Ring::resume`](crate::ring::Ring::resume).
    pub(super) fn resume(&mut self) {
        match self {
            Self::Rx(rx) => rx.resume(),
            Self::Tx(tx) => tx.resume(),
            Self::Halted(engine) => engine.resume(),
            Self::Idle => {}
        }
    }

    pub(super) fn state(&self) -> u8 {
        match self {
            Self::Idle => IDLE,
            Self::Rx(_) | Self::Tx(_) => WORKING,
            Self::Halted(_) => HALTED,
        }
    }
}

pub(super) const IDLE: u8 = 0;
pub(super) const WORKING: u8 = 1;
pub(super) const HALTED: u8 = 2;
/// There is no device, and another one may come.
pub(super) const WAITING: u8 = 3;
/// There is no device, and none will come.
pub(super) const FORSAKEN: u8 = 4;

/// What an engine had whose device is gone. What is not [restored](Engine::restore) goes back to where it came from when
/// this is dropped.
pub(super) enum Salvage {
    /// There was no queue.
    Nothing,
    /// Of a receive queue.
    Rx(RxSalvage),
    /// Of a transmit queue.
    Tx(TxSalvage),
}

impl Salvage {
    /// Frames and packets in it.
    pub(super) fn frames(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Rx(rx) => rx.frames() as u64,
            Self::Tx(tx) => tx.packets() as u64,
        }
    }
}

//! In place of `src/mem/atomic.rs`: loom's atomics, found by the address that they stand for, and a [`Twin`] of the driver
//! that has lost something.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

use loom::sync::atomic as checked;

/// What the driver of this model has lost. The device is always whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twin {
    /// Nothing.
    Whole,
    /// Its stores release nothing.
    Unreleased,
    /// Its loads acquire nothing.
    Unacquired,
    /// Its fences do nothing.
    Unfenced,
}

thread_local! {
    // loom runs all threads of a model on one.
    static TWIN: Cell<Twin> = const { Cell::new(Twin::Whole) };
    static PLACES: RefCell<HashMap<usize, Box<dyn Any>>> = RefCell::default();
}

/// From here on, the driver is this one.
pub fn become_twin(twin: Twin) {
    TWIN.set(twin);
}

/// All places are gone.
pub fn forget() {
    PLACES.with_borrow_mut(HashMap::clear);
}

/// How the driver of this model stores or loads.
fn order(order: Ordering) -> Ordering {
    match (TWIN.get(), order) {
        (Twin::Unreleased, Release) | (Twin::Unacquired, Acquire) => Relaxed,
        _ => order,
    }
}

/// The driver's fence.
pub fn fence(order: Ordering) {
    if TWIN.get() != Twin::Unfenced {
        checked::fence(order);
    }
}

macro_rules! atomics {
    ($($name:ident, $int:ty, $places:ident;)*) => {$(
        /// A place in shared memory. The device of a model uses what is in it, as it is.
        pub struct $name(pub checked::$name);

        /// There are `n` places of this kind from an address on. To be said before there is a second thread, since a place
        /// is written for the first time, with zero, when it is made.
        pub fn $places(at: usize, n: usize) {
            for k in 0..n {
                let place = Box::new($name(checked::$name::new(0)));
                let former = PLACES.with_borrow_mut(|all| all.insert(at + k * size_of::<$int>(), place));
                assert!(former.is_none(), "two places at one address");
            }
        }

        impl $name {
            /// The place at an address.
            ///
            /// # Safety
            /// It is not used once places are forgotten.
            pub unsafe fn from_ptr<'a>(at: *mut $int) -> &'a Self {
                let find = |all: &HashMap<usize, Box<dyn Any>>| {
                    let place = all.get(&at.addr()).and_then(|place| place.downcast_ref());
                    std::ptr::from_ref::<Self>(place.expect("a place of this kind at this address"))
                };
                // SAFETY: boxed, and there until places are forgotten, as the caller promises.
                unsafe { &*PLACES.with_borrow(find) }
            }

            pub fn load(&self, from: Ordering) -> $int {
                self.0.load(order(from))
            }

            pub fn store(&self, value: $int, to: Ordering) {
                self.0.store(value, order(to));
            }

            pub fn fetch_or(&self, value: $int, order: Ordering) -> $int {
                self.0.fetch_or(value, order)
            }

            pub fn fetch_and(&self, value: $int, order: Ordering) -> $int {
                self.0.fetch_and(value, order)
            }
        }
    )*};
}

atomics! {
    AtomicU8, u8, bytes;
    AtomicU16, u16, halves;
    AtomicU32, u32, words;
    AtomicU64, u64, doubles;
}

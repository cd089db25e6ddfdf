//! Promise: a paused queue is not in use, a thread that sleeps through a pause is woken after it, and both hold on every
//! CPU that the memory model of C++ and Rust allows, not only on this one.
//!
//! `src/sys/turnstile.rs` itself is compiled here over the atomics of loom, which runs all interleavings and lets loads see
//! every value that they may. The kernel's membarrier is a fence on both sides at once; in the model each side runs its own
//! ([`fenced`]). Without it ([`bare`]), or without the fences around sleep ([`hasty`]), the model must find what goes wrong:
//! otherwise it could not find anything.

#![allow(clippy::duplicate_mod, reason = "one file, compiled with and without fences")]

mod bare;
mod fenced;
mod hasty;

/// What the file expects of the crate that it is in.
mod error {
    pub type Result<T> = std::result::Result<T, ()>;
}

/// The models, over one of the two.
macro_rules! models {
    ($name:ident, $turnstile:path) => {
        mod $name {
            use loom::cell::UnsafeCell;
            use loom::sync::Arc;
            use loom::sync::atomic::{AtomicBool, Ordering::SeqCst};
            use loom::thread;
            use this::{Shut, Turnstile};
            use $turnstile as this;

            /// A queue: the engine has been used so many times, and has asked the device for a call.
            struct Port {
                turnstile: Turnstile,
                engine: UnsafeCell<(u32, bool)>,
                bell: AtomicBool,
            }

            // SAFETY: what `dev/port.rs` promises of its port, and what is to be found out here.
            unsafe impl Sync for Port {}
            // SAFETY: as above.
            unsafe impl Send for Port {}

            impl Port {
                fn new() -> Arc<Self> {
                    let (engine, bell) = (UnsafeCell::new((0, false)), AtomicBool::new(false));
                    Arc::new(Self { turnstile: Turnstile::new(), engine, bell })
                }

                /// Whether there was an engine to use.
                fn burst(&self) -> bool {
                    let Some(_inside) = self.turnstile.enter() else { return false };
                    // SAFETY: loom fails where this is not exclusive.
                    self.engine.with_mut(|engine| unsafe { (*engine).0 += 1 });
                    true
                }

                /// Asks for a call before it sleeps.
                fn arm(&self) {
                    self.turnstile.nap(true);
                    self.bell.swap(false, SeqCst);
                    if let Some(_inside) = self.turnstile.enter() {
                        // SAFETY: as above.
                        self.engine.with_mut(|engine| unsafe { (*engine).1 = true });
                    }
                }

                /// Exchanges the engine; the new one has asked for nothing. How often the former was used.
                fn exchange(&self) -> u32 {
                    let shut = self.turnstile.shut().unwrap();
                    while !shut.is_empty() {
                        thread::yield_now();
                    }
                    // SAFETY: as above.
                    let former = self.engine.with_mut(|engine| unsafe { std::mem::take(&mut *engine) });
                    if Shut::open(shut) {
                        self.bell.store(true, SeqCst);
                    }
                    former.0
                }
            }

            /// Bursts while engines are exchanged; every use of an engine is known to somebody.
            #[allow(dead_code, reason = "not of all")]
            pub fn bursts() {
                loom::model(|| {
                    let port = Port::new();
                    let user = port.clone();
                    let user = thread::spawn(move || (0..2).filter(|_| user.burst()).count());
                    let former = port.exchange();
                    let uses = user.join().unwrap();
                    // SAFETY: nobody else is left.
                    let now = port.engine.with(|engine| unsafe { (*engine).0 });
                    assert_eq!(former + now, uses as u32);
                    assert!(port.burst(), "it is not open again");
                });
            }

            /// Whoever has asked for a call hears of the new engine, whatever came first.
            #[allow(dead_code, reason = "not of all")]
            pub fn naps() {
                loom::model(|| {
                    let port = Port::new();
                    let user = port.clone();
                    let user = thread::spawn(move || user.arm());
                    port.exchange();
                    user.join().unwrap();
                    // SAFETY: nobody else is left.
                    let armed = port.engine.with(|engine| unsafe { (*engine).1 });
                    assert!(armed || port.bell.load(SeqCst), "asleep, and nobody knows");
                });
            }
        }
    };
}

models!(with_fences, crate::fenced::turnstile);
models!(without_membarrier, crate::bare::turnstile);
models!(without_fences, crate::hasty::turnstile);

#[test]
fn a_paused_queue_is_not_in_use() {
    with_fences::bursts();
}

#[test]
fn who_sleeps_through_a_pause_is_woken() {
    with_fences::naps();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_membarrier_the_model_finds_the_race() {
    without_membarrier::bursts();
}

#[test]
#[should_panic(expected = "asleep, and nobody knows")]
fn without_the_fences_the_model_finds_who_is_not_woken() {
    without_fences::naps();
}

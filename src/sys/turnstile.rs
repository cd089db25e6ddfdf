//! How the control plane keeps the thread of a queue out of it, at no cost to a burst but two stores and a look.
//!
//! The thread says that it is inside, then looks whether it may be; the control plane says that nobody may, then looks
//! whether somebody is. One of them sees what the other said: between saying and looking stands a fence, which the
//! control plane pays for both ([`asymmetric`](super::asymmetric)).
//!
//! `tests/turnstile` compiles this very file over the atomics of a model checker.

use super::asymmetric::{AtomicBool, Ordering, fence, heavy, light};
use crate::error::Result;

use Ordering::{Acquire, Relaxed, Release, SeqCst};

/// One thread passes at a time, unless it is shut.
#[derive(Debug)]
pub struct Turnstile {
    inside: AtomicBool,
    shut: AtomicBool,
    /// The thread may go to sleep, or sleeps.
    sleepy: AtomicBool,
}

/// Somebody is inside, as long as this lives.
#[derive(Debug)]
pub struct Inside<'a>(&'a Turnstile);

/// Nobody new comes in, as long as this lives.
#[derive(Debug)]
pub struct Shut<'a>(&'a Turnstile);

impl Turnstile {
    /// Open, and nobody is inside.
    pub fn new() -> Self {
        Self { inside: AtomicBool::new(false), shut: AtomicBool::new(false), sleepy: AtomicBool::new(false) }
    }

    /// Goes in, unless it is shut. Never waits. By one thread at a time.
    #[inline(always)]
    pub fn enter(&self) -> Option<Inside<'_>> {
        self.inside.store(true, Relaxed);
        let inside = Inside(self);
        // [turn] we are inside, before the look at whether it is shut; pairs with the fence in `shut`.
        light();
        // [open] pairs with the release of `Shut`: what was changed meanwhile is there.
        if self.shut.load(Acquire) { None } else { Some(inside) }
    }

    /// The thread of the queue is about to sleep until it is woken, or will not any more. To be said before it enters to
    /// see whether it may, and before it forgets former wake-ups.
    pub fn nap(&self, may_sleep: bool) {
        self.sleepy.store(may_sleep, Relaxed);
        // [nap] we may sleep, before the look at whether it is shut; pairs with the fence in `open`. Who finds it shut is
        // woken when it is opened.
        fence(SeqCst);
    }

    /// Lets nobody in any more. Who is inside may still be there: see [`Shut::is_empty`]. By one thread at a time.
    pub fn shut(&self) -> Result<Shut<'_>> {
        self.shut.store(true, Relaxed);
        let shut = Shut(self);
        // [turn] it is shut, before the look at whether somebody is inside; pairs with the fence in `enter`.
        heavy()?;
        Ok(shut)
    }
}

impl Default for Turnstile {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Inside<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // [left] pairs with the acquire of `is_empty`: what was done inside is there.
        self.0.inside.store(false, Release);
    }
}

impl Shut<'_> {
    /// Whether nobody is inside, nor will be as long as this lives.
    pub fn is_empty(&self) -> bool {
        !self.0.inside.load(Acquire)
    }

    /// Lets everybody in again. True when the thread of the queue may be asleep and must be woken: what it had asked for
    /// before may be forgotten, and what it asked for meanwhile was not heard.
    pub fn open(self) -> bool {
        let turnstile = self.0;
        drop(self);
        // [nap] it is open, before the look at whether somebody sleeps; pairs with the fence in `nap`.
        fence(SeqCst);
        turnstile.sleepy.load(Relaxed)
    }
}

impl Drop for Shut<'_> {
    fn drop(&mut self) {
        self.0.shut.store(false, Release);
    }
}

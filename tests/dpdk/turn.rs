//! Who may use the machine: as many polling threads as it has CPUs, or frames wait for a scheduler and not for a driver.

use std::sync::{Condvar, Mutex, PoisonError};

static FREE: Mutex<Option<usize>> = Mutex::new(None);
static FREED: Condvar = Condvar::new();

/// So many CPUs, until dropped.
pub struct Turn(usize);

impl Turn {
    pub fn wait(cpus: usize) -> Self {
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        let cpus = cpus.min(all);
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        while free.unwrap_or(all) < cpus {
            free = FREED.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free = Some(free.unwrap_or(all) - cpus);
        Self(cpus)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        *free = free.map(|free| free + self.0);
        FREED.notify_all();
    }
}

//! Huge pages for a test, set aside when it begins and given back at its end.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

const NR: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

/// Who changes their number does it alone.
static CHANGE: Mutex<()> = Mutex::new(());

/// 2 MiB pages beside those that there are already, until dropped.
pub struct Hugepages(u64);

fn count(path: &str) -> Result<u64, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    text.trim().parse().map_err(|e| format!("{path}: {e}"))
}

fn set(number: u64) -> Result<(), String> {
    fs::write(NR, number.to_string()).map_err(|e| format!("{NR}: {e}"))
}

impl Hugepages {
    /// Sets so many aside. Who is not root takes of those that are free.
    pub fn reserve(wanted: u64) -> Result<Self, String> {
        let _alone = CHANGE.lock().unwrap_or_else(PoisonError::into_inner);
        if fs::metadata("/proc/self").map_err(|e| e.to_string())?.uid() != 0 {
            return match count(FREE)? {
                free if free >= wanted => Ok(Self(0)),
                free => Err(format!("{free} 2 MiB pages are free, {wanted} are needed and only root can reserve them")),
            };
        }
        let before = count(NR)?;
        set(before + wanted)?;
        match count(NR)? {
            now if now >= before + wanted => Ok(Self(wanted)),
            now => {
                set(before)?;
                Err(format!("the kernel could set aside only {} of {wanted} 2 MiB pages", now - before))
            }
        }
    }
}

impl Drop for Hugepages {
    fn drop(&mut self) {
        let _alone = CHANGE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(now) = count(NR) {
            let _ = set(now.saturating_sub(self.0));
        }
    }
}

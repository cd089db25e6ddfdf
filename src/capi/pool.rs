//! `struct vuser_pool`.

use std::ffi::c_int;
use std::sync::Arc;

use super::error::{Sized0, control, put, read};
use super::handle::{POOL, born, gone, living};
use crate::buf::pool::{Pool, PoolConfig};
use crate::error::Result;

/// Packet buffers in memory that can be shared with a device. Any thread may use a pool.
pub struct vuser_pool(pub(super) Arc<Pool>);

/// What a pool is made of.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct vuser_pool_config {
    /// sizeof(struct vuser_pool_config).
    pub size: usize,
    /// Buffers. 0 means 8192. Each queue keeps up to a ring of them, and up to 144 more near it: a pool for forwarding has
    /// as many as all rings have descriptors, and 144 for each queue, and what the application holds.
    pub count: u32,
    /// Bytes of a buffer, headroom and frame. 0 means 2176.
    pub data_size: u16,
    /// Bytes in front of a received frame, for the application. The virtio header comes and goes in the last of them. 0
    /// means 128.
    pub headroom: u16,
    /// 1: ordinary pages even when there are huge pages free.
    pub no_huge: u8,
}

// SAFETY: integers, `size` first.
unsafe impl Sized0 for vuser_pool_config {
    fn size_mut(&mut self) -> &mut usize {
        &mut self.size
    }
}

const EMPTY: vuser_pool_config =
    vuser_pool_config { size: size_of::<vuser_pool_config>(), count: 0, data_size: 0, headroom: 0, no_huge: 0 };

/// Makes a pool; NULL for the configuration means all defaults. *pool is to be given up by vuser_pool_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_pool_create(config: *const vuser_pool_config, pool: *mut *mut vuser_pool) -> c_int {
    control("vuser_pool_create", || {
        // SAFETY: by the conventions.
        let given = unsafe { read(config, "config", EMPTY) };
        let asked = if config.is_null() { EMPTY } else { given? };
        let default = PoolConfig::default();
        let or = |value: u16, default: u16| if value == 0 { default } else { value };
        let made = Pool::new(PoolConfig {
            count: if asked.count == 0 { default.count } else { asked.count },
            data_size: or(asked.data_size, default.data_size),
            headroom: or(asked.headroom, default.headroom),
            huge: asked.no_huge == 0,
        })?;
        let made = Box::into_raw(Box::new(vuser_pool(made)));
        // SAFETY: by the conventions; on an error the pool is still ours.
        unsafe { put(pool, POOL, made).inspect_err(|_| drop(Box::from_raw(made))) }?;
        born(made, POOL);
        Ok(0)
    })
}

/// Gives a pool up. Its memory goes when the last device that uses it has gone; all its buffers must have come back by
/// then. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_pool_free(pool: *mut vuser_pool) {
    if !pool.is_null() {
        gone(pool, POOL, "vuser_pool_free");
        // SAFETY: made by `vuser_pool_create`, and by the conventions not used any more.
        drop(unsafe { Box::from_raw(pool) });
    }
}

/// Free buffers of the pool, not counting those that queues keep near: exact while nobody uses it, else a guess.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vuser_pool_available(pool: *const vuser_pool) -> u32 {
    // SAFETY: by the conventions.
    unsafe { self::pool(pool, "vuser_pool_available") }.map_or(0, |p| p.available() as u32)
}

pub(super) unsafe fn pool<'a>(pool: *const vuser_pool, call: &str) -> Result<&'a Arc<Pool>> {
    // SAFETY: by the conventions.
    unsafe { living(pool, POOL, call) }.map(|p| &p.0)
}

//! What can be told a device beyond starting it, and what it tells.

use std::ffi::c_int;
use std::ptr::{null, null_mut};

use vuser::capi::event::{vuser_dev_fd, vuser_dev_process, vuser_event};
use vuser::capi::extras::{
    vuser_dev_announce, vuser_dev_set_mtu, vuser_dirty_log_read, vuser_dirty_log_start, vuser_dirty_log_stop,
};
use vuser::capi::feature::{vuser_dev_feature, vuser_feature};
use vuser::capi::filter::{
    vuser_dev_announced, vuser_dev_set_addresses, vuser_dev_set_allmulticast, vuser_dev_set_mac,
    vuser_dev_set_promiscuous, vuser_dev_vlan_filter,
};
use vuser::capi::rss::{vuser_dev_rss_limits, vuser_dev_set_rss, vuser_rss, vuser_rss_limits};

use super::calls::{Bytes, call, is, is_among};
use super::device::{Dev, Way};
use super::memory::MEMORY;
use super::sized::{filled, given};

impl Dev {
    /// The call has done what it is for, or, of a back-end that answers as it likes, has not.
    fn must(&self, result: c_int, right: c_int) {
        if self.exact {
            is(result, right);
        }
    }

    /// A call of the rarer ones.
    pub fn tell(&mut self, script: &mut Bytes) {
        let (what, more) = (script.byte(), script.byte());
        match what % 16 {
            0 => self.set_mac(more, script),
            1 => self.filter(more, script),
            2 => {
                let mtu = if more < 128 { u16::from(more) * 13 } else { script.word() as u16 };
                let result = call!(vuser_dev_set_mtu(self.ptr, mtu));
                self.must(result, if (68..=1500).contains(&mtu) { 0 } else { -libc::EINVAL });
                assert!(result < 0 || mtu >= 68);
            }
            3 => {
                let result = call!(vuser_dev_announce(self.ptr));
                self.must(result, 0);
                let result = call!(vuser_dev_announced(self.ptr));
                self.must(result, -libc::ENOTSUP);
            }
            4 | 5 => self.log(more, script),
            6 | 7 => self.feature(more, script),
            8 | 9 => self.rss(script),
            10 => {
                let (result, limits) =
                    filled(script, |limits: *mut vuser_rss_limits| call!(vuser_dev_rss_limits(self.ptr, limits)));
                if let Some(limits) = limits.filter(|_| self.exact) {
                    assert!(result == 0 && limits.key_len == 40 && limits.table_len == 0, "{limits:?}");
                }
            }
            _ => self.process(more, script),
        }
    }

    fn set_mac(&mut self, more: u8, script: &mut Bytes) {
        if more == 0 {
            return is(call!(vuser_dev_set_mac(self.ptr, null())), -libc::EINVAL);
        }
        let mac: Box<[u8]> = script.word().to_be_bytes()[2..].into();
        let result = call!(vuser_dev_set_mac(self.ptr, mac.as_ptr()));
        match mac[0] & 1 == 1 || *mac == [0; 6] {
            true => is(result, -libc::EINVAL),
            false => self.must(result, 0),
        }
    }

    /// The built-in back-end has no control queue.
    fn filter(&mut self, more: u8, script: &mut Bytes) {
        let on = c_int::from(more & 1);
        let result = match more % 4 {
            0 => call!(vuser_dev_set_promiscuous(self.ptr, on)),
            1 => call!(vuser_dev_set_allmulticast(self.ptr, on)),
            2 => {
                let n = if more < 128 { u16::from(script.byte() % 8) } else { 255 + u16::from(script.byte() % 4) };
                let rows = vec![2u8; 6 * usize::from(n)];
                if n > 0 {
                    is(call!(vuser_dev_set_addresses(self.ptr, null(), n)), -libc::EINVAL);
                }
                call!(vuser_dev_set_addresses(self.ptr, if n == 0 { null() } else { rows.as_ptr() }, n))
            }
            _ => {
                let vlan = script.word() as u16;
                let result = call!(vuser_dev_vlan_filter(self.ptr, vlan, on));
                if vlan >= 4096 {
                    return is(result, -libc::EINVAL);
                }
                result
            }
        };
        if self.exact || self.way == Way::Absent {
            is(result, -libc::ENOTSUP);
        }
    }

    fn log(&mut self, more: u8, script: &mut Bytes) {
        match more % 4 {
            0 => {
                let result = call!(vuser_dirty_log_start(self.ptr));
                self.doubt();
                match self.log {
                    true => is(result, -libc::EALREADY),
                    false if self.way == Way::Absent => is(result, -libc::ENOTCONN),
                    false => self.must(result, 0),
                }
                self.log |= result == 0;
            }
            1 => {
                let result = call!(vuser_dirty_log_stop(self.ptr));
                self.doubt();
                self.must(result, 0);
                self.log = false;
            }
            _ => {
                let (mut bits, len) = (vec![0xffu8; usize::from(script.byte() % 5)], usize::from(script.byte()) << 8);
                let addr = match script.byte() % 4 {
                    0 => script.word() as usize as *const u8,
                    1 => self.queues.as_ptr().cast(),
                    _ => MEMORY.addr.wrapping_byte_add(script.byte().into()).cast_const(),
                };
                // A row of no bytes may be anywhere.
                let result = call!(vuser_dirty_log_read(self.ptr, addr.cast(), len, bits.as_mut_ptr(), bits.len()));
                match self.log {
                    true => is_among(result, &[libc::EINVAL]),
                    false => is(result, -libc::ENODATA),
                }
                assert!(result <= 8 * bits.len() as c_int);
                is_among(call!(vuser_dirty_log_read(self.ptr, addr.cast(), 1, null_mut(), 8)), &[libc::EINVAL]);
            }
        }
    }

    fn feature(&mut self, more: u8, script: &mut Bytes) {
        let index = if more == 255 { script.word() as u32 } else { u32::from(more) };
        let (result, feature) =
            filled(script, |feature: *mut vuser_feature| call!(vuser_dev_feature(self.ptr, index, feature)));
        is_among(result, &[libc::EINVAL, libc::ENOENT]);
        if let Some(f) = feature {
            assert!(f.name[0] != 0 && f.name.contains(&0) && f.why.contains(&0) && f.bit < 128 && f.kind < 2);
            assert!([f.offered, f.used, f.known].iter().all(|flag| *flag < 2) && f.used <= f.known, "{f:?}");
        }
    }

    fn rss(&mut self, script: &mut Bytes) {
        let (key_len, table_len) = (u16::from(script.byte() % 64), u16::from(script.byte() % 16));
        let key = vec![7u8; key_len.into()];
        let table: Vec<u16> = (0..table_len).map(|_| u16::from(script.byte() % 4)).collect();
        let (with_key, with_table) = (script.byte() & 3 != 0, script.byte() & 3 != 0);
        let rss = vuser_rss {
            size: 0,
            types: if script.byte() & 1 == 0 { 0x1ff } else { script.word() as u32 },
            key_len,
            table_len,
            key: if with_key { key.as_ptr() } else { null() },
            table: if with_table { table.as_ptr() } else { null() },
        };
        let fit = with_key == (key_len > 0) && with_table == (table_len > 0);
        let can_be = key_len <= 40 && rss.types >> 9 == 0 && table_len == 0;
        let result = given(script, &rss, |rss, known| {
            if known < size_of::<vuser_rss>() && ![0, 8, 16, 24].contains(&known) {
                // No program has half a pointer.
                return -libc::EINVAL;
            }
            let result = call!(vuser_dev_set_rss(self.ptr, rss));
            if known == size_of::<vuser_rss>() {
                match (fit, can_be) {
                    (false, _) => is(result, -libc::EINVAL),
                    (true, true) => self.must(result, 0),
                    (true, false) => self.must(result, -libc::ENOTSUP),
                }
            }
            result
        });
        assert!(result <= 0);
    }

    /// What has happened.
    pub fn process(&mut self, more: u8, script: &mut Bytes) {
        assert!(call!(vuser_dev_fd(self.ptr)) > 0);
        let n = u32::from(more % 8);
        let right = size_of::<vuser_event>();
        let size = match script.byte() {
            0 => 0,
            1 => 16,
            2 => right + 8,
            3 => right + 1,
            4 => 24,
            _ => right,
        };
        let can_be = size >= 24 && size.is_multiple_of(8);
        let mut row = vec![0xa5a5_a5a5_a5a5_a5a5_u64; (size * n as usize).div_ceil(8).max(1)];
        row[0] = size as u64;
        let before = row.clone();
        let first = if n == 0 { null_mut() } else { row.as_mut_ptr().cast() };
        let result = call!(vuser_dev_process(self.ptr, first, n));
        if n > 0 && !can_be {
            assert!(before == row);
            return is(result, -libc::EINVAL);
        }
        assert!((0..=n as c_int).contains(&result));
        let told = result as usize;
        for at in 0..told {
            let event = &row[at * size / 8..(at + 1) * size / 8];
            assert!(event[0] == size as u64 && (1..=9).contains(&event[1]), "{event:x?}");
        }
        assert!(row[told * size / 8..].iter().skip(usize::from(told == 0)).all(|w| *w == 0xa5a5_a5a5_a5a5_a5a5));
        if told < n as usize || n == 0 {
            is(call!(vuser_dev_process(self.ptr, null_mut(), 0)), 0);
        }
        is(call!(vuser_dev_process(self.ptr, null_mut(), 1)), -libc::EINVAL);
        is(call!(vuser_dev_process(null_mut(), null_mut(), 0)), -libc::EINVAL);
    }
}

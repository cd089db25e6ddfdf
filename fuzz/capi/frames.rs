//! The bursts of a device's queues, and what their counters say.

use std::ffi::c_int;
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use vuser::buf::layout::Mbuf;
use vuser::capi::copy::{vuser_rx_burst_copy, vuser_tx_burst_copy};
use vuser::capi::lend::{VUSER_FRAME_MORE, vuser_frame, vuser_rx_peek, vuser_rx_release};
use vuser::capi::queue::{
    vuser_monitor, vuser_queue_call, vuser_queue_count, vuser_queue_descriptor_status, vuser_queue_fd,
    vuser_queue_get_stats, vuser_queue_monitor, vuser_queue_reset_stats, vuser_queue_stats, vuser_queue_status,
    vuser_queue_wait, vuser_rx_burst, vuser_tx_burst, vuser_tx_done_cleanup, vuser_tx_prepare,
};

use super::calls::{Bytes, call, is, is_among};
use super::device::{Dev, Way};
use super::ledger::Echo;
use super::packets::{OWN, PACKETS, Packet, Packets, bytes};
use super::sized::filled;

/// In this time frames that were sent come back, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most of a burst.
const BURST: usize = 64;

fn vlan(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x81, 0])
}

impl Dev {
    /// One call of a queue.
    pub fn burst(&mut self, script: &mut Bytes, packets: &mut Packets) {
        super::tally::count(1);
        let (what, which) = (script.byte(), script.byte());
        let index = usize::from(which) % self.queues.len();
        let Some(queue) = &self.queues[index] else { return no_queue() };
        let (ptr, receives) = (queue.ptr, index.is_multiple_of(2));
        match what % 24 {
            0..=2 => self.traffic(index | 1, script, packets),
            3 | 4 => self.send(index | 1, script, packets),
            5..=8 => _ = self.receive(index & !1, script.byte(), packets),
            9 => self.send_copies(index | 1, script, packets),
            10 => self.receive_copies(index & !1, script),
            11 | 12 => self.peek(index & !1, script),
            13 => self.release(index & !1, script.byte()),
            14 => self.prepare(index | 1, script, packets),
            // SAFETY: a queue of this thread's.
            15 => _ = unsafe { vuser_tx_done_cleanup(ptr, script.byte().into()) },
            16 => self.settle(index / 2, packets),
            17 | 18 => self.count(index, script),
            19 => {
                is(call!(vuser_queue_reset_stats(ptr)), 0);
                let queue = self.queues[index].as_mut().expect("it was set up");
                (queue.frames, queue.counted) = (0, true);
            }
            20 => self.ask(index, script),
            // What a queue of the other direction says.
            // SAFETY: a queue of this thread's; there is room for one.
            21 if receives => assert!(unsafe { vuser_tx_burst(ptr, null_mut(), 0) } == 0),
            // SAFETY: as above.
            21 => assert!(unsafe { vuser_rx_burst(ptr, [null_mut()].as_mut_ptr(), 1) } == 0),
            _ => self.watch(index, script),
        }
    }

    /// Which frames surely come back that are sent over this queue now.
    fn is_sure(&self, index: usize) -> bool {
        let forth = self.exact && !self.odd && !self.down && self.runs(index) && self.runs(index - 1);
        forth && self.echo == Echo::Ordered
    }

    fn note_sent(&mut self, index: usize, packet: &Packet, packets: &Packets) {
        let Some(queue) = &self.queues[index] else { return };
        let frame = bytes(packet.ptr);
        let room = |pool: usize| {
            packets.pools.get(pool).and_then(Option::as_ref).map_or(0, |p| usize::from(p.data_size - p.headroom))
        };
        let fits = self.queues[index - 1].as_ref().is_some_and(|rx| frame.len() <= room(rx.pool) && rx.size > 2);
        let plain = packet.is_plain(queue.pool) && !vlan(&frame);
        let due = self.is_sure(index) && plain && fits && queue.size >= 8;
        self.ledgers[index / 2].sent(frame, packet.wild || !plain, due);
    }

    /// Sends packets that are made for it, and looks at what comes back.
    fn traffic(&mut self, index: usize, script: &mut Bytes, packets: &mut Packets) {
        let Some(pool) = self.queues[index].as_ref().map(|q| q.pool).filter(|p| *p != OWN) else { return no_queue() };
        if packets.alive(pool as u8).is_none() {
            return;
        }
        let (n, len, then) = (script.byte() % 64, u16::from(script.byte()) * 9 + 14, script.byte());
        let made = packets.make(pool, n, len);
        self.send(index, &mut Bytes(&[made as u8]), packets);
        match then % 8 {
            0 => {}
            1 => _ = self.receive(index - 1, u8::MAX, packets),
            2 => self.receive_copies(index - 1, &mut Bytes(&[39, u8::MAX])),
            3 => self.peek(index - 1, script),
            4 => self.count(index, &mut Bytes(&[1, u8::MAX])),
            _ => self.settle(index / 2, packets),
        }
    }

    fn send(&mut self, index: usize, script: &mut Bytes, packets: &mut Packets) {
        let Some(queue) = &self.queues[index] else { return no_queue() };
        let n = usize::from(script.byte()).min(packets.held.len()).min(BURST);
        let from = packets.held.len() - n;
        let mut burst: Vec<*mut Mbuf> = packets.held[from..].iter().map(|p| p.ptr).collect();
        let first = if n == 0 { null_mut() } else { burst.as_mut_ptr() };
        // Afterwards they are no longer the program's to look at.
        let said: Vec<Packet> = packets.held.drain(from..).collect();
        let ptr = queue.ptr;
        let descriptors: Vec<_> = said.iter().map(Packets::descriptors).collect();
        for packet in &said {
            self.note_sent(index, packet, packets);
        }
        // SAFETY: a queue of this thread's, and packets of the program's.
        let taken = usize::from(unsafe { vuser_tx_burst(ptr, first, n as u16) });
        assert!(taken <= n && (taken == 0 || self.runs(index)), "{taken} of {n}");
        self.ledgers[index / 2].take_back(n - taken);
        descriptors[..taken].iter().for_each(|d| packets.lose_sent(d));
        packets.held.extend(said.into_iter().skip(taken));
        self.frames(index, taken);
    }

    fn frames(&mut self, index: usize, n: usize) {
        let queue = self.queues[index].as_mut().expect("it was set up");
        queue.frames += n as u64;
        if index.is_multiple_of(2) {
            queue.lent = false;
        }
    }

    /// Receives frames; how many.
    fn receive(&mut self, index: usize, n: u8, packets: &mut Packets) -> usize {
        let n = usize::from(n).min(BURST).min(PACKETS - packets.held.len());
        let Some(queue) = &self.queues[index] else { return 0 };
        let (mut burst, pool) = (vec![null_mut(); n], queue.pool);
        let first = if n == 0 { null_mut() } else { burst.as_mut_ptr() };
        // SAFETY: a queue of this thread's, and as many places.
        let got = usize::from(unsafe { vuser_rx_burst(queue.ptr, first, n as u16) });
        assert!(got <= n, "{got} of {n}");
        for m in burst.drain(..got) {
            let frame = packets.received(m, pool);
            self.ledgers[index / 2].came(&frame, self.echo);
        }
        if n > 0 {
            self.frames(index, got);
        }
        got
    }

    fn send_copies(&mut self, index: usize, script: &mut Bytes, packets: &Packets) {
        let Some(queue) = &self.queues[index] else { return no_queue() };
        let (n, size) = (usize::from(script.byte() % 16), usize::from(script.byte()) * 16);
        let data: Vec<u8> = (0..size).map(|at| (at % 251) as u8 | 2).collect();
        let (mut offsets, mut lengths) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let wild = script.byte();
            offsets.push(if wild == 255 { script.word() as u32 } else { u32::from(script.byte()) });
            lengths.push(if wild == 254 { script.word() as u32 } else { u32::from(wild) * 8 });
        }
        let (pool, ptr, fresh) = (queue.pool, queue.ptr, self.is_sure(index) && queue.size >= 8);
        let room = self.queues[index - 1]
            .as_ref()
            .filter(|rx| rx.size > 2)
            .and_then(|rx| packets.pools.get(rx.pool)?.as_ref());
        let room = room.map_or(0, |p| usize::from(p.data_size - p.headroom));
        let own = packets.pools.get(pool).and_then(Option::as_ref).map_or(0, |p| usize::from(p.data_size - p.headroom));
        for (at, len) in offsets.iter().zip(&lengths) {
            let (at, len) = (*at as usize, *len as usize);
            let frame = at.checked_add(len).and_then(|end| data.get(at..end)).unwrap_or_default();
            let plain = (14..=room.min(own)).contains(&frame.len()) && !vlan(frame);
            self.ledgers[index / 2].sent(frame.to_vec(), false, plain && fresh);
        }
        // SAFETY: a queue of this thread's, and rows of that length.
        let taken = unsafe {
            vuser_tx_burst_copy(ptr, data.as_ptr().cast(), size, offsets.as_ptr(), lengths.as_ptr(), n as u16)
        };
        let taken = usize::from(taken);
        assert!(taken <= n && (taken == 0 || self.runs(index)), "{taken} of {n}");
        self.ledgers[index / 2].take_back(n - taken);
        self.frames(index, taken);
    }

    fn receive_copies(&mut self, index: usize, script: &mut Bytes) {
        let Some(queue) = &self.queues[index] else { return no_queue() };
        let (n, size) = (usize::from(script.byte() % 40), usize::from(script.byte()) * 64);
        let (mut data, mut offsets, mut lengths) = (vec![0x5a; size], vec![0; n], vec![0; n]);
        // SAFETY: a queue of this thread's, and rows of that length.
        let got = unsafe {
            vuser_rx_burst_copy(
                queue.ptr,
                data.as_mut_ptr().cast(),
                size,
                offsets.as_mut_ptr(),
                lengths.as_mut_ptr(),
                n as u16,
            )
        };
        assert!(usize::from(got) <= n, "{got} of {n}");
        let mut end = 0;
        for (at, len) in offsets.iter().zip(&lengths).take(got.into()) {
            assert!(*at >= end && *len >= 14, "frames of {len} bytes at {at} after {end}");
            end = at + len;
            self.ledgers[index / 2].came(&data[*at as usize..end as usize], self.echo);
        }
        if n > 0 {
            self.frames(index, got.into());
        }
    }

    /// Looks at frames in place, and gives some of them back.
    fn peek(&mut self, index: usize, script: &mut Bytes) {
        let Some(queue) = &self.queues[index] else { return no_queue() };
        let n = usize::from(script.byte() % 40);
        let mut places = vec![vuser_frame { data: std::ptr::null(), len: 0, flags: 0 }; n];
        // SAFETY: a queue of this thread's, and as many places.
        let got = usize::from(unsafe { vuser_rx_peek(queue.ptr, places.as_mut_ptr(), n as u16) });
        assert!(got <= n, "{got} of {n}");
        places.truncate(got);
        let (mut frames, mut ends, mut part) = (Vec::new(), Vec::new(), Vec::new());
        for (at, place) in places.iter().enumerate() {
            // SAFETY: lent until the next burst.
            part.extend_from_slice(unsafe { std::slice::from_raw_parts(place.data.cast::<u8>(), place.len as usize) });
            if place.flags & VUSER_FRAME_MORE == 0 {
                frames.push(std::mem::take(&mut part));
                ends.push(at + 1);
            }
        }
        self.ledgers[index / 2].looked_at(&frames, self.echo);
        self.queues[index].as_mut().expect("it was set up").lent |= got > 0;
        if script.byte() % 4 == 0 {
            return;
        }
        let back = usize::from(script.byte()) % (got + 2);
        let whole = ends.iter().filter(|end| **end <= back.min(got)).count();
        if back > got || back > 0 && ends.get(whole.wrapping_sub(1)) != Some(&back) {
            // There may be more that is lent, or a half is given back.
            return self.release(index, back as u8);
        }
        // SAFETY: a queue of this thread's.
        unsafe { vuser_rx_release(self.queues[index].as_ref().expect("it was set up").ptr, back as u16) };
        for frame in frames.iter().take(whole) {
            self.ledgers[index / 2].came(frame, self.echo);
        }
        self.queues[index].as_mut().expect("it was set up").frames += whole as u64;
    }

    /// Gives back what may be lent.
    fn release(&mut self, index: usize, n: u8) {
        let Some(queue) = &mut self.queues[index] else { return };
        // SAFETY: a queue of this thread's.
        unsafe { vuser_rx_release(queue.ptr, n.into()) };
        if queue.lent {
            queue.counted = false;
            self.ledgers[index / 2].doubt();
            self.ledgers[index / 2].halve();
        }
    }

    fn prepare(&mut self, index: usize, script: &mut Bytes, packets: &mut Packets) {
        let Some(queue) = &self.queues[index] else { return no_queue() };
        let n = usize::from(script.byte()).min(packets.held.len()).min(BURST);
        let from = packets.held.len() - n;
        let mut burst: Vec<*mut Mbuf> = packets.held[from..].iter().map(|p| p.ptr).collect();
        // SAFETY: a queue of this thread's, and packets of the program's.
        let ready = usize::from(unsafe { vuser_tx_prepare(queue.ptr, burst.as_mut_ptr(), n as u16) });
        assert!(ready <= n && (ready == 0 || self.runs(index)), "{ready} of {n}");
        if self.exact && self.runs(index) && ready < n {
            assert!(!packets.held[from + ready].is_plain(queue.pool), "a packet that asks for nothing can't be sent");
        }
    }

    /// Waits for all that must come.
    pub fn settle(&mut self, pair: usize, packets: &mut Packets) {
        let (rx, tx) = (2 * pair, 2 * pair + 1);
        let (Some(receives), Some(sends)) = (&self.queues[rx], &self.queues[tx]) else { return };
        let Some(pool) = packets.pools.get(receives.pool).and_then(Option::as_ref).filter(|p| !p.given_up) else {
            return;
        };
        let room = packets.held.len() + BURST <= PACKETS;
        if !room || !self.is_sure(tx) || pool.available() < u32::from(receives.size) + 160 {
            return;
        }
        let (ptr, end) = (sends.ptr, Instant::now() + PATIENCE);
        while self.ledgers[pair].due() > 0 {
            let got = self.receive(rx, BURST as u8, packets);
            packets.drop_last(got);
            assert!(Instant::now() < end, "{} frames have not come back", self.ledgers[pair].due());
            if got == 0 {
                // SAFETY: a queue of this thread's; no packets.
                unsafe { vuser_tx_burst(ptr, null_mut(), 0) };
                std::thread::yield_now();
            }
        }
    }

    /// What a queue has counted.
    fn count(&mut self, index: usize, script: &mut Bytes) {
        let queue = self.queues[index].as_ref().expect("it was set up");
        let ptr = queue.ptr;
        let (result, stats) = filled(script, |stats: *mut vuser_queue_stats| call!(vuser_queue_get_stats(ptr, stats)));
        is_among(result, &[libc::EINVAL]);
        let Some(s) = stats else { return };
        let sent = !index.is_multiple_of(2);
        let refused = if sent { s.bad_packet + s.bad_offload + s.bad_address + s.too_many_segments } else { 0 };
        if queue.counted {
            assert!(s.packets + refused == queue.frames, "{s:?} of {} frames, exact {}", queue.frames, self.exact);
        }
        let bins: u64 = s.size_bins.iter().sum();
        assert!(bins == if self.stats { s.packets } else { 0 }, "{s:?}");
        assert!(s.multicast + s.broadcast <= s.packets && s.bytes >= 14 * s.packets, "{s:?}");
    }

    /// Calls that say something of a queue.
    fn ask(&mut self, index: usize, script: &mut Bytes) {
        let queue = self.queues[index].as_ref().expect("it was set up");
        let (ptr, size, runs) = (queue.ptr, queue.size, self.runs(index));
        let no: &[c_int] = if self.way == Way::Script { &[libc::ENETDOWN, libc::EIO] } else { &[libc::ENETDOWN] };
        let broken = if self.exact { no } else { &[libc::ENETDOWN, libc::EIO] };
        let used = call!(vuser_queue_count(ptr));
        is_among(used, broken);
        assert!(used <= i32::from(size), "{used} of {size}");
        let offset = if script.byte() & 1 == 0 { script.byte().into() } else { script.word() as u16 };
        let status = call!(vuser_queue_descriptor_status(ptr, offset));
        match offset >= size {
            true => assert!(status == -libc::EINVAL || status == -libc::ENETDOWN || status == -libc::EIO, "{status}"),
            false => is_among(status, broken),
        }
        assert!(status <= 2 && (runs || !self.exact || status < 0), "{status}");
        let (result, monitor) = filled(script, |monitor: *mut vuser_monitor| call!(vuser_queue_monitor(ptr, monitor)));
        is_among(result, &[libc::EINVAL, libc::ENETDOWN, libc::EIO]);
        if let Some(m) = monitor {
            assert!(m.bytes == 2 && !m.addr.is_null() && m.while_equal <= 1 && m.mask <= 0xffff && m.value <= m.mask);
        }
    }

    /// Waiting for a queue.
    fn watch(&mut self, index: usize, script: &mut Bytes) {
        let queue = self.queues[index].as_ref().expect("it was set up");
        let (ptr, more) = (queue.ptr, script.byte());
        assert!(call!(vuser_queue_fd(ptr)) > 0);
        let errors = if self.exact { &[libc::ENETDOWN][..] } else { &[libc::ENETDOWN, libc::EIO] };
        let begun = Instant::now();
        let result = match more % 4 {
            0 => call!(vuser_queue_call(ptr, 0)),
            1 => call!(vuser_queue_call(ptr, i32::from(more) - 2)),
            _ => call!(vuser_queue_wait(ptr, u32::from(more / 64))),
        };
        is_among(result, errors);
        assert!(result <= 1 && (result < 0 || !self.exact || self.runs(index)));
        assert!(begun.elapsed() < PATIENCE);
    }
}

fn no_queue() {
    let no = null_mut();
    let answers = [
        call!(vuser_queue_status(no)),
        call!(vuser_queue_fd(no)),
        call!(vuser_queue_call(no, 1)),
        call!(vuser_queue_wait(no, 1)),
        call!(vuser_queue_count(no)),
        call!(vuser_queue_descriptor_status(no, 0)),
        call!(vuser_queue_monitor(no, null_mut())),
        call!(vuser_queue_get_stats(no, null_mut())),
        call!(vuser_queue_reset_stats(no)),
    ];
    answers.into_iter().for_each(|answer| is(answer, -libc::EINVAL));
}

//! Pools, and the packets that the program has of them.

use std::collections::HashSet;
use std::ffi::c_int;
use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use vuser::buf::layout::Mbuf;
use vuser::capi::mbuf::{
    VUSER_MBUF_F_TX_IP_CKSUM, VUSER_MBUF_F_TX_IPV4, VUSER_MBUF_F_TX_IPV6, VUSER_MBUF_F_TX_TCP_CKSUM,
    VUSER_MBUF_F_TX_TCP_SEG, VUSER_MBUF_F_TX_UDP_CKSUM, VUSER_MBUF_F_TX_UDP_SEG, VUSER_MBUF_F_TX_VLAN, vuser_mbuf_adj,
    vuser_mbuf_alloc, vuser_mbuf_alloc_bulk, vuser_mbuf_append, vuser_mbuf_chain, vuser_mbuf_clone, vuser_mbuf_data,
    vuser_mbuf_free, vuser_mbuf_free_bulk, vuser_mbuf_prepend, vuser_mbuf_set_tx_offload,
};
use vuser::capi::pool::{vuser_pool, vuser_pool_available, vuser_pool_config, vuser_pool_create, vuser_pool_free};

use super::calls::{Bytes, call, is};
use super::sized::given;
use super::source;

/// Pools that there can be, those that were given up while a device had them among them: a bit each.
pub const POOLS: usize = 15;
/// The bit of the program's own buffers, which are of no pool.
pub const OWN: usize = POOLS;
/// Packets that the program has at most.
pub const PACKETS: usize = 512;

/// A pool.
pub struct Pool {
    pub ptr: *mut vuser_pool,
    /// What its buffers say.
    id: *mut std::ffi::c_void,
    pub count: u32,
    pub data_size: u16,
    pub headroom: u16,
    /// It was given up, and lives as long as devices that have it.
    pub given_up: bool,
}

/// A packet that the program has.
pub struct Packet {
    pub ptr: *mut Mbuf,
    /// Pools of its buffers, and of those that it borrows.
    pub pools: u16,
    /// It shares data.
    shared: bool,
    /// It asks for something, or is no packet that can be sent.
    pub wild: bool,
}

/// All that the program has of them.
#[derive(Default)]
pub struct Packets {
    pub pools: [Option<Pool>; POOLS],
    pub held: Vec<Packet>,
    /// Descriptors of those: no other packet has one of them.
    own: HashSet<*mut Mbuf>,
    stamp: u32,
}

/// The descriptors of a packet.
fn segments(first: *mut Mbuf) -> impl Iterator<Item = *mut Mbuf> {
    // SAFETY: packets of the program's, whose chain ends.
    std::iter::successors(Some(first), |m| Some(unsafe { (**m).next }).filter(|next| !next.is_null()))
}

/// The data of a packet.
pub fn bytes(first: *mut Mbuf) -> Vec<u8> {
    let mut all = Vec::new();
    for m in segments(first) {
        // SAFETY: as above; its data lie in its buffer.
        unsafe {
            let (off, len, room) = ((*m).data_off, (*m).data_len, (*m).buf_len);
            assert!(u32::from(off) + u32::from(len) <= room.into(), "{len} bytes from {off} in a buffer of {room}");
            all.extend_from_slice(std::slice::from_raw_parts(vuser_mbuf_data(m).cast::<u8>(), len.into()));
        }
    }
    all
}

impl Packets {
    /// Makes a pool.
    pub fn create(&mut self, script: &mut Bytes) {
        let count = match script.byte() {
            255 => (1 << 24) + 1,
            254 => u32::MAX,
            n @ 0..4 => 1 << n,
            n => u32::from(n % 16) * 128 + 16,
        };
        let (data_size, headroom) = match script.byte() % 16 {
            0 => (1, 0),
            1 => (191, 128),
            2 => (192, 0),
            3 => (300, 1),
            4 => (u16::MAX, u16::MAX),
            5 => (u16::MAX, 128),
            6 => (script.word() as u16, script.word() as u16),
            7 => (512, 12),
            _ => (0, 0),
        };
        let or = |n: u16, other| if n == 0 { other } else { n };
        let (right_size, right_headroom) = (or(data_size, 2176), or(headroom, 128));
        let can_be = count <= 1 << 24 && u32::from(right_size) >= u32::from(right_headroom) + 64;
        // Devices that are told of large pools are not what is tried here.
        let count = if u64::from(count) * u64::from(right_size) > 8 << 20 && can_be { 100 } else { count };
        let free = self.pools.iter().position(Option::is_none).filter(|_| script.byte() != 0);
        let config = vuser_pool_config { size: 0, count, data_size, headroom, no_huge: 1 };
        let (mut ptr, mut sure) = (null_mut(), false);
        let result = given(script, &config, |config, known| {
            if (1..size_of::<vuser_pool_config>()).contains(&known) {
                // What is left out has its default: many buffers, in huge pages that others may want.
                return 1;
            }
            sure = known > 0;
            call!(vuser_pool_create(config, if free.is_some() { &raw mut ptr } else { null_mut() }))
        });
        if sure {
            is(result, if can_be && free.is_some() { 0 } else { -libc::EINVAL });
        }
        let (0, Some(place)) = (result, free) else { return };
        let mut pool =
            Pool { ptr, id: null_mut(), count, data_size: right_size, headroom: right_headroom, given_up: false };
        // SAFETY: a pool of which nobody else knows.
        unsafe {
            let m = vuser_mbuf_alloc(ptr);
            assert!(!m.is_null() && (*m).buf_len == right_size && (*m).data_off == right_headroom);
            pool.id = (*m).pool;
            vuser_mbuf_free(m);
        }
        pool.is_whole();
        self.pools[place] = Some(pool);
    }

    /// A pool with room for all queues of a device.
    pub fn large(&mut self) -> Option<usize> {
        const LARGE: u32 = 1024;
        let known = self.pools.iter().position(|p| p.as_ref().is_some_and(|p| !p.given_up && p.count > LARGE));
        known.or_else(|| {
            let free = self.pools.iter().position(Option::is_none)?;
            // As `create` reads it: 15 x 128 + 16 buffers of the usual size.
            self.create(&mut Bytes(&[15, 15, 1, u8::MAX]));
            Some(free)
        })
    }

    /// Makes up to n packets of a pool, of so many bytes each, unlike all others; how many.
    pub fn make(&mut self, pool: usize, n: u8, len: u16) -> usize {
        let n = usize::from(n).min(PACKETS - self.held.len());
        let len = len.to_be_bytes();
        let before = self.held.len();
        (0..n).for_each(|_| self.alloc(pool as u8, &mut Bytes(&[0, 0, 0, 0, 0, 0, 0, len[0], len[1], 0x5b])));
        self.held.len() - before
    }

    /// Gives a pool up. Without a device that has it, its packets go first.
    pub fn give_up(&mut self, index: usize, is_used: bool) {
        let Some(pool) = self.pools[index].as_mut().filter(|p| !p.given_up) else {
            // SAFETY: NULL is allowed.
            return unsafe { vuser_pool_free(null_mut()) };
        };
        let ptr = std::mem::replace(&mut pool.ptr, null_mut());
        pool.given_up = true;
        if !is_used {
            self.forget(index);
        }
        // SAFETY: it is given up once.
        unsafe { vuser_pool_free(ptr) };
    }

    /// Frees all packets of a pool that is about to go, and forgets it.
    pub fn forget(&mut self, index: usize) {
        let (gone, kept) = std::mem::take(&mut self.held).into_iter().partition(|p| p.pools & 1 << index != 0);
        self.held = kept;
        let gone: Vec<Packet> = gone;
        gone.into_iter().for_each(|p| self.free(p));
        if self.pools[index].as_ref().is_some_and(|p| p.given_up) {
            self.pools[index] = None;
        }
    }

    /// The pool that a script names, alive.
    pub fn alive(&self, index: u8) -> Option<(usize, &Pool)> {
        let index = usize::from(index) % POOLS;
        self.pools[index].as_ref().filter(|p| !p.given_up).map(|p| (index, p))
    }

    fn ptr(&self, index: u8) -> *mut vuser_pool {
        self.alive(index).map_or(null_mut(), |(_, p)| p.ptr)
    }

    /// The program has a packet more.
    pub fn take(&mut self, ptr: *mut Mbuf, pools: u16, shared: bool) {
        for m in segments(ptr) {
            assert!(self.own.insert(m), "a buffer was handed out twice");
        }
        self.held.push(Packet { ptr, pools, shared, wild: false });
    }

    fn lose(&mut self, packet: &Packet) {
        self.lose_sent(&Self::descriptors(packet));
    }

    /// The descriptors of a packet.
    pub fn descriptors(packet: &Packet) -> Vec<*mut Mbuf> {
        segments(packet.ptr).collect()
    }

    /// A queue was given these, which may be anybody's by now.
    pub fn lose_sent(&mut self, descriptors: &[*mut Mbuf]) {
        descriptors.iter().for_each(|m| assert!(self.own.remove(m)));
    }

    fn free(&mut self, packet: Packet) {
        self.lose(&packet);
        if packet.pools & 1 << OWN != 0 {
            return source::free(packet.ptr);
        }
        // SAFETY: the program's, once.
        unsafe { vuser_mbuf_free(packet.ptr) };
    }

    /// A packet of frames that were received.
    pub fn received(&mut self, m: *mut Mbuf, pool: usize) -> Vec<u8> {
        let from = self.pools.get(pool).and_then(Option::as_ref);
        let of = |m: *mut Mbuf| match from {
            // SAFETY: a packet that is ours.
            Some(from) => unsafe { (*m).pool == from.id && (*m).buf_len == from.data_size },
            None => pool == OWN && source::is_ours(m),
        };
        let (mut len, mut count) = (0, 0);
        for m in segments(m) {
            // SAFETY: a packet that is ours.
            unsafe {
                assert!(
                    of(m) && (*m).refcnt.load(Ordering::Relaxed) == 1,
                    "a packet of another pool, or of others too"
                );
                (len, count) = (len + u32::from((*m).data_len), count + 1);
            }
        }
        // SAFETY: as above.
        unsafe { assert!((*m).pkt_len == len && (*m).nb_segs == count, "{len} bytes in {count} segments") };
        self.take(m, 1 << pool, false);
        bytes(m)
    }

    /// Gives all up that was received last, so many packets.
    pub fn drop_last(&mut self, n: usize) {
        (0..n).for_each(|_| {
            let packet = self.held.pop().expect("it was received");
            self.free(packet);
        });
    }

    /// Writes addresses that nobody else has into a packet with room for them, so that it is known when it comes back.
    fn stamp(&mut self, at: usize) {
        let packet = &mut self.held[at];
        // SAFETY: a packet of the program's, which nobody else sees.
        unsafe {
            if packet.shared || (*packet.ptr).data_len < 14 {
                return;
            }
            self.stamp = self.stamp.wrapping_add(1);
            let [a, b, c, d] = self.stamp.to_be_bytes();
            let head = [2, a, b, c, d, 0, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
            std::slice::from_raw_parts_mut(vuser_mbuf_data(packet.ptr).cast(), 14).copy_from_slice(&head);
        }
    }

    /// One call about packets.
    pub fn step(&mut self, script: &mut Bytes) {
        super::tally::count(1);
        let (what, pool) = (script.byte(), script.byte());
        let at = if self.held.is_empty() { None } else { Some(usize::from(script.byte()) % self.held.len()) };
        match (what % 16, at) {
            (0..=3, _) if self.held.len() < PACKETS => self.alloc(pool, script),
            (4, _) if self.held.len() < PACKETS => self.alloc_bulk(pool, script.byte()),
            (5, Some(at)) => {
                let packet = self.held.swap_remove(at);
                self.free(packet);
            }
            (6, _) => self.free_bulk(script.byte()),
            (7, Some(at)) => self.clone(pool, at),
            (8, Some(at)) => self.append(at, script),
            (9, Some(at)) => self.prepend(at, script.byte().into()),
            (10, Some(at)) => self.adj(at, script.byte().into()),
            (11, Some(head)) => self.chain(head, script.byte()),
            (12 | 13, Some(at)) => self.ask(at, script),
            (14, Some(at)) => {
                let packet = &mut self.held[at];
                packet.wild = true;
                // SAFETY: a packet of the program's. Its segments do not add up any more.
                unsafe { (*packet.ptr).pkt_len ^= 1 << (pool % 32) };
            }
            _ => nothing(),
        }
    }

    fn alloc(&mut self, pool: u8, script: &mut Bytes) {
        // SAFETY: NULL or a pool.
        let m = unsafe { vuser_mbuf_alloc(self.ptr(pool)) };
        let Some((index, from)) = self.alive(pool) else { return assert!(m.is_null()) };
        if m.is_null() {
            return assert!(from.available() < from.count);
        }
        self.take(m, 1 << index, false);
        self.append(self.held.len() - 1, script);
    }

    fn alloc_bulk(&mut self, pool: u8, n: u8) {
        let n = usize::from(n).min(PACKETS - self.held.len());
        let mut places = vec![null_mut(); n];
        let places = if n == 0 { &mut [][..] } else { &mut places };
        // SAFETY: NULL or a pool, and as many places.
        let result = unsafe { vuser_mbuf_alloc_bulk(self.ptr(pool), places.as_mut_ptr(), n as u16) };
        let Some((index, from)) = self.alive(pool) else { return is(result, -libc::EINVAL) };
        if result != 0 {
            assert!(result == -libc::ENOMEM && (from.available() as usize) < n, "{result} for {n} buffers");
            return assert!(places.iter().all(|m| m.is_null()));
        }
        places.iter().for_each(|m| self.take(*m, 1 << index, false));
    }

    fn free_bulk(&mut self, n: u8) {
        let mut gone = Vec::new();
        for at in 0..n {
            match at % 3 {
                1 => gone.push(null_mut()),
                _ => {
                    let Some(packet) = self.held.pop_if(|p| p.pools & 1 << OWN == 0) else { break };
                    self.lose(&packet);
                    gone.push(packet.ptr);
                }
            }
        }
        // SAFETY: packets of the program's, and NULLs.
        unsafe { vuser_mbuf_free_bulk(gone.as_ptr(), gone.len() as u16) };
    }

    fn clone(&mut self, pool: u8, at: usize) {
        // A pool knows nothing of the program's own buffers.
        if self.held.len() == PACKETS || self.held[at].pools & 1 << OWN != 0 {
            return;
        }
        let (of, pools) = (self.held[at].ptr, self.held[at].pools);
        // SAFETY: NULL or a pool, and a packet.
        let m = unsafe { vuser_mbuf_clone(self.ptr(pool), of) };
        let Some((index, _)) = self.alive(pool) else { return assert!(m.is_null()) };
        if m.is_null() {
            return;
        }
        assert!(bytes(m) == bytes(of));
        self.held[at].shared = true;
        let wild = self.held[at].wild;
        self.take(m, pools | 1 << index, true);
        self.held.last_mut().expect("it was taken").wild = wild;
    }

    fn append(&mut self, at: usize, script: &mut Bytes) {
        let len = match script.byte() {
            0 => script.word() as u16,
            n @ 1..32 => u16::from(n) * 48,
            n => n.into(),
        };
        let (ptr, shared) = (self.held[at].ptr, self.held[at].shared);
        let last = segments(ptr).last().expect("there is the first");
        // SAFETY: a packet of the program's; what it has of its own is written to.
        unsafe {
            let (end, room) = ((*last).data_off + (*last).data_len, (*last).buf_len);
            let place = vuser_mbuf_append(ptr, len);
            if len > room - end {
                return assert!(place.is_null());
            }
            assert!(place == (*last).buf_addr.wrapping_byte_add(end.into()));
            if !shared {
                place.cast::<u8>().write_bytes(script.byte(), len.into());
            }
        }
        self.stamp(at);
    }

    fn prepend(&mut self, at: usize, len: u16) {
        let (ptr, shared) = (self.held[at].ptr, self.held[at].shared);
        // SAFETY: as above.
        unsafe {
            let off = (*ptr).data_off;
            let place = vuser_mbuf_prepend(ptr, len);
            if len > off {
                return assert!(place.is_null());
            }
            assert!((*ptr).data_off == off - len && place == vuser_mbuf_data(ptr));
            if !shared {
                place.cast::<u8>().write_bytes(0, len.into());
            }
        }
        self.stamp(at);
    }

    fn adj(&mut self, at: usize, len: u16) {
        let ptr = self.held[at].ptr;
        // SAFETY: a packet of the program's.
        let has = unsafe { (*ptr).data_len };
        if self.held[at].wild {
            // Its length may be none from which bytes can be taken.
            return;
        }
        is(call!(vuser_mbuf_adj(ptr, len)), if len > has { -libc::EINVAL } else { 0 });
        self.stamp(at);
    }

    fn chain(&mut self, head: usize, tail: u8) {
        let other = usize::from(tail) % self.held.len();
        let own = (self.held[head].pools | self.held[other].pools) & 1 << OWN != 0;
        if other == head || own || self.held[head].wild || self.held[other].wild {
            return is(call!(vuser_mbuf_chain(self.held[head].ptr, null_mut())), -libc::EINVAL);
        }
        let all = [bytes(self.held[head].ptr), bytes(self.held[other].ptr)].concat();
        let ptr = self.held[head].ptr;
        is(call!(vuser_mbuf_chain(ptr, self.held[other].ptr)), 0);
        assert!(bytes(ptr) == all);
        let (pools, shared) = (self.held[other].pools, self.held[other].shared);
        self.held[head].pools |= pools;
        self.held[head].shared |= shared;
        self.held.swap_remove(other);
    }

    /// Asks for offloads.
    fn ask(&mut self, at: usize, script: &mut Bytes) {
        const FLAGS: [u64; 8] = [
            VUSER_MBUF_F_TX_UDP_SEG,
            VUSER_MBUF_F_TX_TCP_SEG,
            VUSER_MBUF_F_TX_TCP_CKSUM,
            VUSER_MBUF_F_TX_UDP_CKSUM,
            VUSER_MBUF_F_TX_IP_CKSUM,
            VUSER_MBUF_F_TX_IPV4,
            VUSER_MBUF_F_TX_IPV6,
            VUSER_MBUF_F_TX_VLAN,
        ];
        let (chosen, packet) = (script.byte(), &mut self.held[at]);
        let lengths = [0; 4].map(|_| if script.byte() & 15 == 0 { script.word() as u16 } else { script.byte().into() });
        let [l2, l3, l4, segment] = lengths;
        let fit = l2 < 1 << 7 && l3 < 1 << 9 && l4 < 1 << 8;
        packet.wild = true;
        is(call!(vuser_mbuf_set_tx_offload(packet.ptr, l2, l3, l4, segment)), if fit { 0 } else { -libc::EINVAL });
        is(call!(vuser_mbuf_set_tx_offload(null_mut(), 0, 0, 0, 0)), -libc::EINVAL);
        // SAFETY: a packet of the program's. Bits that no flag has are none of its affair.
        unsafe {
            let asked = FLAGS.iter().enumerate().filter(|(n, _)| chosen >> n & 1 == 1).fold(0, |all, (_, f)| all | f);
            (*packet.ptr).ol_flags |= asked;
            (*packet.ptr).vlan_tci = segment;
        }
    }

    /// All is given back.
    pub fn end(&mut self) {
        while let Some(packet) = self.held.pop() {
            self.free(packet);
        }
        source::is_whole();
        for pool in self.pools.iter().flatten() {
            assert!(!pool.given_up, "a device has it still");
            pool.is_whole();
            // SAFETY: it is given up once.
            unsafe { vuser_pool_free(pool.ptr) };
        }
    }
}

impl Pool {
    pub fn available(&self) -> u32 {
        // SAFETY: NULL or a pool.
        unsafe { vuser_pool_available(self.ptr) }
    }

    fn is_whole(&self) {
        assert_eq!(self.available(), self.count, "buffers are missing, or too many");
    }
}

impl Packet {
    /// Whether a device that has this pool can send it surely, and how long it is then.
    pub fn is_plain(&self, pool: usize) -> bool {
        let (mut count, mut len, mut thin) = (0, 0, false);
        for m in segments(self.ptr) {
            // SAFETY: a packet of the program's.
            let part = u32::from(unsafe { (*m).data_len });
            (count, len, thin) = (count + 1, len + part, thin || part == 0);
        }
        !self.wild && self.pools == 1 << pool && count <= 2 && !thin && (14..=65550).contains(&len)
    }
}

/// What packet calls say of no packet.
fn nothing() {
    let none: *mut Mbuf = null_mut();
    // SAFETY: NULL is allowed.
    unsafe {
        vuser_mbuf_free(none);
        assert!(vuser_mbuf_data(none).is_null() && vuser_mbuf_append(none, 1).is_null());
        assert!(vuser_mbuf_prepend(none, 0).is_null() && vuser_mbuf_clone(null_mut(), none).is_null());
    }
    let errors: [c_int; 2] = [call!(vuser_mbuf_adj(none, 0)), call!(vuser_mbuf_chain(none, none))];
    errors.into_iter().for_each(|e| is(e, -libc::EINVAL));
}

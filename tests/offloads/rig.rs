//! A receive and a transmit queue over rings of this process, and the device's side of both in the test's hands.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vuser::buf::MbufRef;
use vuser::buf::mbuf::HEADROOM;
use vuser::buf::pool::{Cache, Pool, PoolConfig};
use vuser::buf::source::Source;
use vuser::device::memory::{Identity, Memory};
use vuser::device::ring::{Areas, Chain, Ring, Setup};
use vuser::mem::kick::Kick;
use vuser::mem::lanes::Simd;
use vuser::mem::map::{MemoryMap, Region};
use vuser::mem::reach::MapCell;
use vuser::net::Framing;
use vuser::net::path::{self, RingPlace, Rx, Tx};
use vuser::net::relay::Relay;
use vuser::net::rx::RxOptions;
use vuser::net::send::{EXTRA, Extras};
use vuser::net::stats::{Board, Stats};
use vuser::net::tap;
use vuser::net::tx::TxParts;
use vuser::spec::net::NetHdr;
use vuser::spec::virtio::Features;
use vuser::sys::shm::SharedMemory;

use super::allocator::Allocator;

/// All that a device can do for frames.
pub const OFFLOADS: Features = Features::CSUM
    .union(Features::HOST_TSO4)
    .union(Features::HOST_TSO6)
    .union(Features::HOST_ECN)
    .union(Features::HOST_USO)
    .union(Features::GUEST_CSUM)
    .union(Features::GUEST_TSO4)
    .union(Features::GUEST_TSO6)
    .union(Features::GUEST_ECN)
    .union(Features::GUEST_USO4)
    .union(Features::GUEST_USO6);

/// Every layout and framing that can be agreed on, without offloads, on all lanes.
pub fn kinds() -> Vec<(Simd, Features)> {
    let subsets = |of: Features| {
        let bits: Vec<Features> = of.iter().collect();
        (0..1usize << bits.len()).map(move |n| {
            let chosen = bits.iter().enumerate().filter(|(k, _)| n >> k & 1 == 1);
            chosen.fold(Features::empty(), |all, (_, bit)| all | *bit)
        })
    };
    let common = Features::MRG_RXBUF | Features::INDIRECT_DESC;
    let modern = common | Features::RING_PACKED | Features::IN_ORDER | Features::HASH_REPORT;
    let legacy = subsets(common | Features::ANY_LAYOUT);
    let all = legacy.chain(subsets(modern).map(|f| f | Features::VERSION_1));
    all.flat_map(|features| Simd::all().map(move |simd| (simd, features))).collect()
}

/// The device's side of one queue.
pub struct Side {
    pub ring: Ring,
    shared: Arc<SharedMemory>,
    layout: vuser::spec::ring::QueueLayout,
    size: u16,
}

impl Side {
    fn new(features: Features, size: u16) -> Self {
        let layout = path::layout(features, size);
        let bytes = layout.bytes + usize::from(size) * EXTRA;
        let shared = Arc::new(SharedMemory::new("test-ring", bytes, false).unwrap());
        let at = |offset| shared.addr().wrapping_add(offset);
        let areas = Areas { desc: at(layout.desc), driver: at(layout.driver), device: at(layout.device) };
        let in_order = features.contains(Features::IN_ORDER);
        let setup = Setup { batch_used: in_order, strict: in_order, ..Setup::new(areas, size, features) };
        // SAFETY: the rig keeps the memory as long as both sides, which use nothing but doors.
        let ring = unsafe { Ring::new(&setup) }.unwrap();
        Self { ring, shared, layout, size }
    }

    fn place(&self, simd: Simd) -> RingPlace {
        RingPlace { base: self.shared.addr(), size: self.size, simd }
    }
}

/// What a rig is made of.
pub struct Plan {
    /// An allocator of the application's in place of a pool.
    pub allocator: Option<Box<Allocator>>,
    /// A pool that there is already.
    pub pool: Option<Arc<Pool>>,
    pub simd: Simd,
    pub features: Features,
    pub size: u16,
    pub buffers: u32,
    pub data_size: u16,
    pub options: RxOptions,
}

impl Plan {
    pub fn new(simd: Simd, features: Features) -> Self {
        let options = RxOptions { port: 7, vlan_strip: false, sort: true, gate: 0, shift: 0 };
        let (size, buffers, data_size) = (128, 600, 2048 + HEADROOM);
        Self { allocator: None, pool: None, simd, features, size, buffers, data_size, options }
    }

    pub fn build(self) -> Rig {
        let Self { allocator, pool, simd, features, size, buffers, data_size, options } = self;
        let pool = allocator.as_ref().map(|allocator| allocator.pool.clone()).or(pool);
        let pool = pool.unwrap_or_else(|| self::pool(buffers, data_size));
        let other = self::pool(80, data_size);
        let (rx_side, tx_side) = (Side::new(features, size), Side::new(features, size));
        let (mut map, mut memory) = (MemoryMap::default(), Identity::default());
        for shared in [&rx_side.shared, &tx_side.shared, pool.memory(), other.memory()] {
            map.add(Region::ours(shared.clone())).unwrap();
            // SAFETY: the rig keeps all of them; what is in them is read and written by raw copies only.
            unsafe { memory.add(shared.addr(), shared.len()) };
        }
        let source = || match &allocator {
            None => Source::Pool(Cache::new(pool.clone())),
            Some(allocator) => allocator.source(),
        };
        let bell = || Arc::new(Kick::new().unwrap());
        let (rx_board, tx_board) = (Arc::new(Board::default()), Arc::new(Board::default()));
        // SAFETY: the places are as large as `layout` says, with extras behind them, and the rig keeps them.
        let (rx, tx) = unsafe {
            let extras = Extras::new(tx_side.shared.addr().add(tx_side.layout.bytes));
            let (map, board, kick) = (Arc::new(MapCell::new(&map)), tx_board.clone(), bell());
            let parts = TxParts { source: source(), features, extras, map, board, kick, sort: options.sort, shift: 0 };
            let rx = path::rx(rx_side.place(simd), source(), features, options, rx_board.clone(), bell());
            (rx, path::tx(tx_side.place(simd), parts))
        };
        let framing = Framing::new(features);
        Rig { features, framing, rx, tx, rx_side, tx_side, rx_board, tx_board, memory, pool, other, allocator }
    }
}

pub fn pool(count: u32, data_size: u16) -> Arc<Pool> {
    Pool::new(PoolConfig { count, data_size, huge: false, ..PoolConfig::default() }).unwrap()
}

/// Both queues and the device.
pub struct Rig {
    pub features: Features,
    pub framing: Framing,
    pub rx: Box<dyn Rx>,
    pub tx: Box<dyn Tx>,
    pub rx_side: Side,
    pub tx_side: Side,
    pub rx_board: Arc<Board>,
    pub tx_board: Arc<Board>,
    pub memory: Identity,
    /// Where both queues take their buffers from.
    pub pool: Arc<Pool>,
    /// Another one that the device was told of.
    pub other: Arc<Pool>,
    /// The application's own allocator, if it is not the pool. After the queues, which call it.
    pub allocator: Option<Box<Allocator>>,
}

/// A packet as the device got it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub header: NetHdr,
    pub frame: Vec<u8>,
    /// Descriptors of the ring.
    pub slots: u16,
    /// Lengths of its elements, header included.
    pub elements: Vec<u32>,
}

impl Rig {
    pub fn new(simd: Simd, features: Features) -> Self {
        Plan::new(simd, features).build()
    }

    /// The same with taps on both queues, or without.
    pub fn tapped(self, rx: Option<&Arc<Relay>>, tx: Option<&Arc<Relay>>) -> Self {
        Self { rx: tap::rx(self.rx, rx), tx: tap::tx(self.tx, tx), ..self }
    }

    pub fn hdr_len(&self) -> usize {
        self.framing.hdr_len.into()
    }

    pub fn tx_stats(&self) -> Stats {
        Stats { kicks: 0, ..self.tx_board.counters.snapshot() }
    }

    pub fn rx_stats(&self) -> Stats {
        Stats { kicks: 0, ..self.rx_board.counters.snapshot() }
    }

    /// Descriptors of the ring that a packet of so many elements takes.
    pub fn slots(&self, elements: usize) -> usize {
        if self.features.contains(Features::INDIRECT_DESC) && elements <= 28 { 1 } else { elements }
    }

    /// Sends packets, all of which are taken, and takes those that got as far as the device.
    pub fn send(&mut self, packets: &[MbufRef]) -> Vec<Seen> {
        assert_eq!(self.tx.burst(packets), packets.len());
        self.sent()
    }

    /// What the device finds; it uses all of it.
    pub fn sent(&mut self) -> Vec<Seen> {
        let (mut all, mut chain) = (Vec::new(), Chain::default());
        while self.tx_side.ring.next(&self.memory, &mut chain).unwrap() {
            assert_eq!(chain.writable(), 0);
            let mut bytes = Vec::new();
            for s in chain.segments() {
                let mut part = vec![0; s.len as usize];
                assert!(self.memory.read(s.addr, &mut part));
                bytes.extend(part);
            }
            let mut header = [0; size_of::<NetHdr>()];
            header[..self.hdr_len()].copy_from_slice(&bytes[..self.hdr_len()]);
            all.push(Seen {
                header: zerocopy::transmute!(header),
                frame: bytes.split_off(self.hdr_len()),
                slots: chain.slots(),
                elements: chain.segments().iter().map(|s| s.len).collect(),
            });
            self.tx_side.ring.push_used(&chain, 0);
        }
        self.tx_side.ring.publish();
        all
    }

    /// The device writes a frame into as many buffers as it needs, which it gives back with these lengths; none when
    /// the driver has offered too few.
    pub fn fill(&mut self, mut header: NetHdr, frame: &[u8]) -> Option<Vec<(Chain, u32)>> {
        let len = self.hdr_len() + frame.len();
        let mut chains: Vec<Chain> = Vec::new();
        while chains.iter().map(Chain::writable).sum::<u64>() < len as u64 {
            let mut chain = Chain::default();
            if !self.rx_side.ring.next(&self.memory, &mut chain).unwrap() {
                chains.iter().rev().for_each(|c| self.rx_side.ring.put_back(c));
                return None;
            }
            chains.push(chain);
        }
        assert!(self.framing.mergeable || chains.len() == 1, "the buffer is too small for the test's frame");
        if self.framing.mergeable && header.num_buffers == 0 {
            header.num_buffers = chains.len() as u16;
        }
        let head: [u8; size_of::<NetHdr>()] = zerocopy::transmute!(header);
        let mut bytes: Vec<u8> = head[..self.hdr_len()].iter().chain(frame).copied().collect();
        let used = chains.into_iter().map(|chain| {
            let part: Vec<u8> = bytes.drain(..bytes.len().min(chain.writable() as usize)).collect();
            self.write(&chain, &part);
            (chain, part.len() as u32)
        });
        Some(used.collect())
    }

    /// Writes into an offered buffer.
    fn write(&self, chain: &Chain, mut bytes: &[u8]) {
        for s in chain.segments() {
            assert!(s.writable);
            let (now, later) = bytes.split_at(bytes.len().min(s.len as usize));
            assert!(self.memory.write(s.addr, now));
            bytes = later;
        }
    }

    /// A frame arrives; the driver sees it at the next [`publish`](Self::publish).
    pub fn arrive(&mut self, header: NetHdr, frame: &[u8]) -> bool {
        let Some(used) = self.fill(header, frame) else { return false };
        let len = used.iter().map(|(_, len)| len).sum();
        let chains: Vec<Chain> = used.into_iter().map(|(chain, _)| chain).collect();
        self.rx_side.ring.push_frame(&chains, len);
        true
    }

    /// The device gives one buffer back with nothing but these bytes in it.
    pub fn arrive_raw(&mut self, bytes: &[u8]) {
        let mut chain = Chain::default();
        assert!(self.rx_side.ring.next(&self.memory, &mut chain).unwrap());
        self.write(&chain, bytes);
        self.rx_side.ring.push_used(&chain, bytes.len() as u32);
    }

    pub fn publish(&mut self) {
        self.rx_side.ring.publish();
    }

    /// One burst of at most `most`.
    pub fn receive(&mut self, most: usize) -> Vec<MbufRef> {
        let mut out = vec![MaybeUninit::uninit(); most];
        let n = self.rx.burst(&mut out);
        // SAFETY: the burst has filled the first n.
        out.iter().take(n).map(|m| unsafe { m.assume_init() }).collect()
    }

    /// All that has arrived, copied; the buffers are given up.
    pub fn received(&mut self) -> Vec<Fields> {
        self.publish();
        let mut all = Vec::new();
        loop {
            let got = self.receive(32);
            if got.is_empty() {
                return all;
            }
            all.extend(got.iter().map(|m| Fields::of(*m)));
            got.into_iter().for_each(free);
        }
    }

    /// The device has stopped: every buffer must be back.
    pub fn finish(mut self) {
        self.rx.reclaim();
        self.tx.reclaim();
        assert_eq!((self.rx_board.lie(), self.tx_board.lie()), (None, None), "{:?}", self.features);
        let both = [&self.pool, &self.other].map(|p| p.config().count as usize - p.available());
        assert_eq!(both, [0, 0], "{:?}: buffers are missing", self.features);
    }
}

/// Gives a packet up.
pub fn free(m: MbufRef) {
    // SAFETY: the tests' packets are theirs, and of pools that live.
    unsafe { Pool::free(m) };
}

/// Puts bytes into a buffer at a distance from its beginning.
pub fn put(m: MbufRef, at: usize, bytes: &[u8]) {
    assert!(at + bytes.len() <= m.buf_len().into());
    // SAFETY: inside the buffer, which is the test's.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), m.buf_addr().cast::<u8>().add(at), bytes.len()) };
}

/// The whole buffer, data and what is around them.
pub fn buffer(m: MbufRef) -> Vec<u8> {
    let mut bytes = vec![0; m.buf_len().into()];
    // SAFETY: as in `put`.
    unsafe { std::ptr::copy_nonoverlapping(m.buf_addr().cast::<u8>(), bytes.as_mut_ptr(), bytes.len()) };
    bytes
}

/// One segment with these data, the rest of the buffer filled with 0xee.
pub fn segment(pool: &Pool, data_off: u16, data: &[u8]) -> MbufRef {
    let m = pool.get().expect("the pool has enough buffers");
    put(m, 0, &vec![0xee; m.buf_len().into()]);
    put(m, data_off.into(), data);
    m.set_data_off(data_off);
    m.set_data_len(data.len() as u16);
    m.set_pkt_len(data.len() as u32);
    m
}

/// A packet of segments of these lengths.
pub fn chained(pool: &Pool, data_off: u16, frame: &[u8], lens: &[usize]) -> MbufRef {
    assert_eq!(lens.iter().sum::<usize>(), frame.len());
    let mut at = 0;
    let parts = lens.iter().map(|len| {
        at += len;
        segment(pool, data_off, &frame[at - len..at])
    });
    let parts: Vec<MbufRef> = parts.collect();
    parts.windows(2).for_each(|pair| pair[0].set_next(Some(pair[1])));
    parts[0].set_nb_segs(parts.len() as u16);
    parts[0].set_pkt_len(frame.len() as u32);
    parts[0]
}

/// A packet of one segment with the pool's headroom.
pub fn plain(pool: &Pool, frame: &[u8]) -> MbufRef {
    segment(pool, HEADROOM, frame)
}

/// A frame that can be told from others.
pub fn frame(seed: usize, len: usize) -> Vec<u8> {
    // Neither multicast nor a VLAN tag by chance.
    let byte = |i: usize| (seed.wrapping_mul(37).wrapping_add(i.wrapping_mul(5)) as u8) & 0x7e;
    (0..len).map(byte).collect()
}

/// The data of a packet.
pub fn bytes(m: MbufRef) -> Vec<u8> {
    let part = |s: MbufRef| buffer(s)[s.data_off().into()..][..s.data_len().into()].to_vec();
    m.segments().flat_map(part).collect()
}

/// What an application sees of one segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    pub data_off: u16,
    pub data_len: u16,
    pub buf_len: u16,
    pub refcnt: u16,
}

/// What an application sees of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Fields {
    pub bytes: Vec<u8>,
    pub segments: Vec<Segment>,
    pub nb_segs: u16,
    pub pkt_len: u32,
    pub port: u16,
    pub ol_flags: u64,
    pub packet_type: u32,
    pub vlan_tci: u16,
    pub hash_rss: u32,
    /// Where the flags say that it means something.
    pub tso_segsz: Option<u16>,
}

impl Fields {
    pub fn of(m: MbufRef) -> Self {
        let segment = |s: MbufRef| Segment {
            data_off: s.data_off(),
            data_len: s.data_len(),
            buf_len: s.buf_len(),
            refcnt: s.refcnt().load(Ordering::Relaxed),
        };
        assert!(m.segments().skip(1).all(|s| s.nb_segs() == 1 && s.ol_flags() == 0), "a segment with a past");
        let lro = m.ol_flags() & vuser::buf::mbuf::flags::RX_LRO != 0;
        Self {
            bytes: bytes(m),
            segments: m.segments().map(segment).collect(),
            nb_segs: m.nb_segs(),
            pkt_len: m.pkt_len(),
            port: m.port(),
            ol_flags: m.ol_flags(),
            packet_type: m.packet_type(),
            vlan_tci: m.vlan_tci(),
            hash_rss: m.hash_rss(),
            tso_segsz: lro.then(|| m.tx_offload().segsz),
        }
    }
}

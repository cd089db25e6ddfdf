//! The lies of the data path: each is told once, at a buffer in the middle of traffic, by a device that is honest before and
//! after it.

use crate::fault::{Fault, Group, Kind, Outcome};

/// Whose buffers the lie is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Receive,
    Transmit,
}

/// A used id that is not the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    Size,
    Far,
    Max,
    /// The right one below bit 16, and bits above it.
    High,
    Free,
    Twice,
    TwiceLater,
    /// Another buffer that is lent, of which nothing was written.
    Other,
}

/// A used length that is not the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Len {
    /// So many bytes.
    Exactly(u32),
    /// More than the buffer has, by so many.
    Over(u32),
    /// More than were written, within the buffer.
    More(u32),
}

/// A used index of a split ring that is not the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    One,
    InFlight,
    Ring,
    Half,
}

/// Flags of a packed ring that are not the right ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    Wrap,
    Skip,
    Foreign,
    All,
    Random,
}

/// num_buffers of a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffers {
    Zero,
    OneMore,
    RingAndOne,
    Max,
}

/// What is scribbled over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    Used,
    Driver,
    Table,
    Rings,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Id(Id),
    Len(Len),
    /// Legal: the newest first.
    Order,
    Ahead(Ahead),
    Flags(Flags),
    Buffers(Buffers),
    /// Random headers, but for num_buffers.
    Header,
    /// csum_start and csum_offset.
    Checksum(u16, u16),
    /// gso_type and gso_size.
    Gso(u8, u16),
    /// Nothing is used any more until the ring is started anew.
    Never,
    Late,
    EventWords,
    Storm,
    CallFull,
    /// The kick's counter is full, and its description blocks.
    KickFull,
    /// It becomes so again and again, at any moment.
    KickRace,
    Random(Area),
    Flip(Area),
    Truncate,
    Holes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lie {
    pub way: Way,
    pub what: What,
}

/// What may be wrong with delivered frames, because the device itself wrote it there. All else is an outcome `Corrupt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// Nothing: each is what was sent, to the byte.
    Whole,
    /// It may end early, or have more bytes behind its end: of its own buffer, which the device says that it wrote. What a
    /// buffer has behind the frame is what the device was lent and could have written there; bytes of any other memory are
    /// a used length beyond the buffer, and that is never delivered.
    Length,
    /// The device wrote over frames, or named buffers that it had not written.
    Free,
}

impl Content {
    pub fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Length => "length",
            Self::Free => "free",
        }
    }
}

impl Lie {
    /// Whether it can be told on a ring of this layout.
    pub fn fits(&self, packed: bool) -> bool {
        match self.what {
            What::Flags(_) => packed,
            What::Ahead(_) | What::Id(Id::High) => !packed,
            _ => true,
        }
    }

    /// Whether it is another lie where frames are not merged; with one buffer a frame, nobody looks at their number.
    pub fn minds_merging(&self) -> bool {
        let of_frames = matches!(group(self.what), Group::Lengths | Group::Headers);
        self.way == Way::Receive && of_frames && !matches!(self.what, What::Buffers(_))
    }

    /// What may be wrong with frames.
    pub fn content(&self) -> Content {
        match self.what {
            What::Id(Id::Other | Id::Free | Id::TwiceLater | Id::Twice) | What::Ahead(_) => Content::Free,
            What::Random(_) | What::Flip(_) | What::Holes | What::Flags(Flags::Random | Flags::All) => Content::Free,
            What::Len(_) | What::Buffers(_) => Content::Length,
            _ => Content::Whole,
        }
    }
}

const WORKS: &[Outcome] = &[Outcome::Works];
const CONTAINED: &[Outcome] = &[Outcome::Contained];
/// It depends on what else is under way at that moment.
const EITHER: &[Outcome] = &[Outcome::Works, Outcome::Contained];
/// Nothing moves until a reset, in which all calls come back.
const STALLED: &[Outcome] = &[Outcome::Stalled];
/// The driver may have lent a buffer of this id again by then: then it is no lie, but the device miscounts.
const RELENT: &[Outcome] = WHATEVER;
const WHATEVER: &[Outcome] = &[Outcome::Works, Outcome::Contained, Outcome::Stalled];

type Row = (&'static str, What, &'static [Outcome]);

/// Told about received and sent frames.
const BOTH_WAYS: [Row; 28] = [
    ("used-id-size", What::Id(Id::Size), CONTAINED),
    ("used-id-far", What::Id(Id::Far), CONTAINED),
    ("used-id-ffff", What::Id(Id::Max), CONTAINED),
    ("used-id-high", What::Id(Id::High), CONTAINED),
    ("used-id-free", What::Id(Id::Free), RELENT),
    ("used-id-twice", What::Id(Id::Twice), RELENT),
    ("used-id-twice-later", What::Id(Id::TwiceLater), RELENT),
    ("used-id-other", What::Id(Id::Other), EITHER),
    ("used-out-of-order", What::Order, WORKS),
    ("used-index-one", What::Ahead(Ahead::One), EITHER),
    ("used-index-in-flight", What::Ahead(Ahead::InFlight), CONTAINED),
    ("used-index-ring", What::Ahead(Ahead::Ring), CONTAINED),
    ("used-index-half", What::Ahead(Ahead::Half), CONTAINED),
    ("packed-wrap-bits", What::Flags(Flags::Wrap), WORKS),
    ("packed-skip", What::Flags(Flags::Skip), WORKS),
    ("packed-foreign-flags", What::Flags(Flags::Foreign), WORKS),
    ("packed-all-used", What::Flags(Flags::All), RELENT),
    ("packed-random-flags", What::Flags(Flags::Random), WHATEVER),
    ("never-used", What::Never, STALLED),
    ("late", What::Late, WORKS),
    ("event-words", What::EventWords, WORKS),
    ("interrupt-storm", What::Storm, WORKS),
    ("call-full", What::CallFull, WORKS),
    ("kick-full", What::KickFull, WORKS),
    ("kick-race", What::KickRace, WORKS),
    ("random-used", What::Random(Area::Used), WHATEVER),
    ("random-driver", What::Random(Area::Driver), WHATEVER),
    ("random-table", What::Random(Area::Table), WHATEVER),
];

const MORE_BOTH_WAYS: [Row; 3] = [
    ("flip-used", What::Flip(Area::Used), WHATEVER),
    ("flip-driver", What::Flip(Area::Driver), WHATEVER),
    ("flip-table", What::Flip(Area::Table), WHATEVER),
];

/// Lengths of sent buffers mean nothing.
const SENT: [Row; 4] = [
    ("used-len-1", What::Len(Len::Exactly(1)), WORKS),
    ("used-len-over-1", What::Len(Len::Over(1)), WORKS),
    ("used-len-64k", What::Len(Len::Exactly(0x1_0000 + 60)), WORKS),
    ("used-len-ones", What::Len(Len::Exactly(u32::MAX)), WORKS),
];

const RECEIVED: [Row; 24] = [
    ("used-len-0", What::Len(Len::Exactly(0)), EITHER),
    ("used-len-less-than-header", What::Len(Len::Exactly(5)), EITHER),
    ("used-len-header", What::Len(Len::Exactly(12)), EITHER),
    ("used-len-runt", What::Len(Len::Exactly(12 + 13)), EITHER),
    ("used-len-cut", What::Len(Len::Exactly(12 + 40)), WORKS),
    ("used-len-more", What::Len(Len::More(100)), WORKS),
    ("used-len-over-1", What::Len(Len::Over(1)), CONTAINED),
    ("used-len-over-4096", What::Len(Len::Over(4096)), CONTAINED),
    ("used-len-64k", What::Len(Len::Exactly(0x1_0000 + 60)), CONTAINED),
    ("used-len-ones", What::Len(Len::Exactly(u32::MAX)), CONTAINED),
    ("num-buffers-0", What::Buffers(Buffers::Zero), EITHER),
    ("num-buffers-one-more", What::Buffers(Buffers::OneMore), EITHER),
    ("num-buffers-ring-and-one", What::Buffers(Buffers::RingAndOne), EITHER),
    ("num-buffers-ffff", What::Buffers(Buffers::Max), EITHER),
    ("header-garbage", What::Header, WORKS),
    ("csum-start-beyond", What::Checksum(2000, 0), WORKS),
    ("csum-offset-beyond", What::Checksum(34, 2000), WORKS),
    ("csum-last-byte", What::Checksum(34, 25), WORKS),
    ("csum-wraps", What::Checksum(0xffff, 0xffff), WORKS),
    ("csum-wraps-to-0", What::Checksum(0xfffe, 2), WORKS),
    ("gso-nonsense", What::Gso(0x7f, 0), WORKS),
    ("gso-size-0", What::Gso(1, 0), WORKS),
    ("gso-never-negotiated", What::Gso(4, 1000), WORKS),
    ("gso-ecn-alone", What::Gso(0x80, 0xffff), WORKS),
];

/// About no ring in particular.
const MEMORY: [Row; 6] = [
    ("random-rings", What::Random(Area::Rings), WHATEVER),
    ("random-all", What::Random(Area::All), WHATEVER),
    ("flip-rings", What::Flip(Area::Rings), WHATEVER),
    ("flip-all", What::Flip(Area::All), WHATEVER),
    ("truncate", What::Truncate, WORKS),
    ("holes", What::Holes, WHATEVER),
];

fn group(what: What) -> Group {
    match what {
        What::Id(_) | What::Order => Group::Ids,
        What::Len(_) => Group::Lengths,
        What::Ahead(_) | What::Flags(_) => Group::Positions,
        What::Buffers(_) | What::Header | What::Checksum(..) | What::Gso(..) => Group::Headers,
        What::Never | What::Late => Group::Slow,
        What::EventWords | What::Storm | What::CallFull | What::KickFull | What::KickRace => Group::Notices,
        What::Random(_) | What::Flip(_) | What::Truncate | What::Holes => Group::Memory,
    }
}

/// All of them.
pub fn faults() -> Vec<Fault> {
    let both = BOTH_WAYS.iter().chain(&MORE_BOTH_WAYS);
    let received = both.clone().chain(&RECEIVED).map(|row| (row, "@rx", Way::Receive));
    let sent = both.chain(&SENT).map(|row| (row, "@tx", Way::Transmit));
    let memory = MEMORY.iter().map(|row| (row, "", Way::Receive));
    let all = received.chain(sent).chain(memory);
    all.map(|(&(name, what, expect), at, way)| Fault {
        name: format!("{name}{at}"),
        group: group(what),
        expect,
        kind: Kind::Data(Lie { way, what }),
    })
    .collect()
}

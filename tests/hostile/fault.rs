//! A fault: what the device does wrong, once, and what may come of it.

use crate::{control, data};

/// What came of a fault, as the front-end's program sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No call failed, and all frames came.
    Works,
    /// A queue was broken or the connection lost, and a reset or the next connection mended it.
    Contained,
    /// Nobody could see a lie, but no frame moved any more; all calls came back, and a reset mended it.
    Stalled,
    /// A call failed with a sentence, and the next attempt worked.
    Refused,
    /// The program was ended by this signal, or by itself (0).
    Crash(i32),
    /// A call was not back at its deadline, or the program came never back into service.
    Hang,
    /// Frames were damaged, or came from where nobody sent them; or buffers were handed out twice.
    Corrupt,
    /// Descriptors were left open, or buffers are missing.
    Leak,
    /// Frames were taken or handed out that no counter has, or did not come and are in none.
    Miscounted,
    /// Resets did not mend it, and another device did.
    Unmended,
}

impl Outcome {
    pub fn word(self) -> String {
        match self {
            Self::Crash(0) => "crash".into(),
            Self::Crash(signal) => format!("crash (signal {signal})"),
            other => format!("{other:?}").to_lowercase(),
        }
    }
}

/// All right outcomes.
pub const ANY: &[Outcome] = &[Outcome::Works, Outcome::Contained, Outcome::Stalled, Outcome::Refused];

/// The rows of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// An answer that cannot be.
    Answers,
    /// No answer, half of one, or one that comes too late.
    Time,
    /// The connection ends at some message, or again and again.
    Ends,
    /// What the device offers cannot be, or is another the next time.
    Offers,
    /// What the back-end asks of the front-end.
    Channel,
    /// Used ids.
    Ids,
    /// Used lengths.
    Lengths,
    /// How far the device is.
    Positions,
    /// Headers of frames.
    Headers,
    /// Buffers that do not come back, or late.
    Slow,
    /// Kicks and calls.
    Notices,
    /// The shared memory itself.
    Memory,
}

impl Group {
    pub fn title(self) -> &'static str {
        match self {
            Self::Answers => "answers that cannot be",
            Self::Time => "silence, halves, delays",
            Self::Ends => "the connection ends",
            Self::Offers => "offers that cannot be or change",
            Self::Channel => "requests of the back-end",
            Self::Ids => "rings: ids that are not lent",
            Self::Lengths => "rings: lengths",
            Self::Positions => "rings: indexes and flags",
            Self::Headers => "headers of frames",
            Self::Slow => "buffers that do not come back",
            Self::Notices => "kicks and calls",
            Self::Memory => "scribbles, holes, cuts",
        }
    }
}

/// Which part of the device tells the lie.
#[derive(Clone, Debug)]
pub enum Kind {
    Control(control::Lie),
    Data(data::Lie),
}

#[derive(Clone, Debug)]
pub struct Fault {
    /// One word: `reply-short-then-silence@GET_FEATURES`.
    pub name: String,
    pub group: Group,
    pub expect: &'static [Outcome],
    pub kind: Kind,
}

pub fn all() -> Vec<Fault> {
    control::faults().into_iter().chain(data::faults()).collect()
}

//! The lies of the control path and of time, one for each request that has an answer and for each message.

use vuser::device::Options;
use vuser::spec::vhost_user::{ProtocolFeatures, Request};
use vuser::spec::virtio::Features;

use crate::fault::{ANY, Fault, Group, Kind};

/// Messages that a connection is closed at, from the first on. No life of a front-end has more; `faults_fire` sees to that.
pub const MESSAGES: usize = 160;

/// Descriptors in one message: more than anybody has room for.
const MANY_FDS: usize = 250;

/// What is done to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    GarbageHeader,
    GarbagePayload,
    OnesPayload,
    OtherRequest,
    /// The header says another size, and so many bytes come. More: by that many bytes.
    Size(u32),
    Less,
    More,
    NoReplyFlag,
    BadVersion,
    WithFds(usize),
    /// An acknowledgement that says no.
    Refusal,
    HalfThenSilence,
    Silence,
    Drip,
    /// Not read any more for longer than the deadline, then all goes on.
    Freeze,
    CloseBefore,
    CloseAfter,
    HalfThenClose,
}

/// What is sent over the channel for requests of the back-end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Garbage,
    Unknown,
    Fds,
    Flood,
    Size4G,
    Half,
    Reply,
    Close,
    DoorbellFar,
}

/// One lie, told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lie {
    /// At the first answer to this request.
    Answer(Request, Answer),
    /// The connection is closed at its n-th message.
    CloseAt(usize),
    /// So many connections are accepted and never read from.
    NeverRead(usize),
    /// For longer than the deadline nobody accepts.
    NeverAccept,
    /// So many connections are closed as soon as they are there.
    Flapping(usize),
    /// So many running devices die.
    Deaths(usize),
    /// A running device reads no more messages for longer than the deadline, and its frames go on.
    FreezeRunning,
    /// The first connection offers these features, and only those.
    Features(u64),
    /// The first running device dies, and the next connection offers less than was agreed on.
    Lessened,
    /// The answer to GET_QUEUE_NUM.
    QueueNum(u64),
    /// Said over the channel, as soon as there is one.
    Ask(Ask),
}

/// Requests in the order of their numbers that have an answer: all but those that come before an answer can be asked for,
/// and one that is obsolete.
pub fn answered() -> Vec<Request> {
    let known = (0..64).filter_map(Request::from_number);
    known.filter(|r| !matches!(r, Request::SET_OWNER | Request::RESET_OWNER | Request::SET_PROTOCOL_FEATURES)).collect()
}

/// Requests whose answer is more than an acknowledgement.
pub fn has_reply(request: Request) -> bool {
    format!("{request:?}").starts_with("GET_") || request == Request::SET_LOG_BASE
}

const ANSWERS: [(&str, Group, Answer); 24] = [
    ("reply-garbage-header", Group::Answers, Answer::GarbageHeader),
    ("reply-garbage-payload", Group::Answers, Answer::GarbagePayload),
    ("reply-ones-payload", Group::Answers, Answer::OnesPayload),
    ("reply-other-request", Group::Answers, Answer::OtherRequest),
    ("reply-size-less", Group::Answers, Answer::Less),
    ("reply-size-more", Group::Answers, Answer::More),
    ("reply-size-0", Group::Answers, Answer::Size(0)),
    ("reply-size-4096", Group::Answers, Answer::Size(4096)),
    ("reply-size-64k", Group::Answers, Answer::Size(65536)),
    ("reply-size-2g", Group::Answers, Answer::Size(1 << 31)),
    ("reply-size-4g", Group::Answers, Answer::Size(u32::MAX)),
    ("reply-no-flag", Group::Answers, Answer::NoReplyFlag),
    ("reply-bad-version", Group::Answers, Answer::BadVersion),
    ("reply-with-fd", Group::Answers, Answer::WithFds(1)),
    ("reply-with-8-fds", Group::Answers, Answer::WithFds(8)),
    ("reply-with-many-fds", Group::Answers, Answer::WithFds(MANY_FDS)),
    ("reply-half-then-silence", Group::Time, Answer::HalfThenSilence),
    ("reply-silence", Group::Time, Answer::Silence),
    ("reply-drip", Group::Time, Answer::Drip),
    ("reply-late", Group::Time, Answer::Freeze),
    ("reply-close-before", Group::Ends, Answer::CloseBefore),
    ("reply-close-after", Group::Ends, Answer::CloseAfter),
    ("reply-half-then-close", Group::Ends, Answer::HalfThenClose),
    ("ack-no", Group::Answers, Answer::Refusal),
];

fn asks() -> [(&'static str, Ask); 9] {
    [
        ("ask-garbage", Ask::Garbage),
        ("ask-unknown", Ask::Unknown),
        ("ask-with-fds", Ask::Fds),
        ("ask-flood", Ask::Flood),
        ("ask-size-4g", Ask::Size4G),
        ("ask-half", Ask::Half),
        ("ask-reply", Ask::Reply),
        ("ask-close", Ask::Close),
        ("ask-doorbell-far", Ask::DoorbellFar),
    ]
}

fn others() -> Vec<(String, Group, Lie)> {
    let legacy = (Options::default().features - Features::VERSION_1).bits() as u64;
    let all: [(&str, Group, Lie); 18] = [
        ("accept-never-read", Group::Time, Lie::NeverRead(1)),
        ("accept-never-read-3", Group::Time, Lie::NeverRead(3)),
        ("never-accept", Group::Time, Lie::NeverAccept),
        ("freeze-running", Group::Time, Lie::FreezeRunning),
        ("flapping-1", Group::Ends, Lie::Flapping(1)),
        ("flapping-7", Group::Ends, Lie::Flapping(7)),
        ("death-1", Group::Ends, Lie::Deaths(1)),
        ("death-5", Group::Ends, Lie::Deaths(5)),
        ("features-none", Group::Offers, Lie::Features(0)),
        ("features-all", Group::Offers, Lie::Features(u64::MAX)),
        ("features-without-version-1", Group::Offers, Lie::Features(legacy)),
        ("features-lessened", Group::Offers, Lie::Lessened),
        ("queue-num-0", Group::Offers, Lie::QueueNum(0)),
        ("queue-num-257", Group::Offers, Lie::QueueNum(257)),
        ("queue-num-65535", Group::Offers, Lie::QueueNum(65535)),
        ("queue-num-65536", Group::Offers, Lie::QueueNum(65536)),
        ("queue-num-4g", Group::Offers, Lie::QueueNum(1 << 32)),
        ("queue-num-ones", Group::Offers, Lie::QueueNum(u64::MAX)),
    ];
    all.into_iter().map(|(name, group, lie)| (name.to_owned(), group, lie)).collect()
}

/// All of them, from the protocol's table of requests.
pub fn faults() -> Vec<Fault> {
    let mut all = Vec::new();
    for request in answered() {
        for (name, group, answer) in ANSWERS {
            if answer != Answer::Refusal || !has_reply(request) {
                all.push((format!("{name}@{request:?}"), group, Lie::Answer(request, answer)));
            }
        }
    }
    all.extend((0..MESSAGES).map(|n| (format!("close@{n}"), Group::Ends, Lie::CloseAt(n))));
    all.extend(others());
    all.extend(asks().map(|(name, ask)| (name.to_owned(), Group::Channel, Lie::Ask(ask))));
    all.into_iter().map(|(name, group, lie)| Fault { name, group, expect: ANY, kind: Kind::Control(lie) }).collect()
}

/// The honest devices that between them are told everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plan {
    /// It has all there is.
    Full,
    /// One that counts its queues by a message, and has no status to write for a reset.
    Counting,
    /// One of before the standard, whose address the driver sets.
    Legacy,
}

impl Plan {
    pub const ALL: [Self; 3] = [Self::Full, Self::Counting, Self::Legacy];

    /// The one for a lie: the first that is told the request which the lie waits for.
    pub fn of(lie: &Lie) -> Self {
        match lie.request() {
            Some(Request::GET_QUEUE_NUM | Request::RESET_DEVICE) => Self::Counting,
            Some(Request::SET_CONFIG) => Self::Legacy,
            _ => Self::Full,
        }
    }

    pub fn options(self) -> Options {
        let full = Options::default();
        let protocol = full.protocol | ProtocolFeatures::INFLIGHT_SHMFD;
        match self {
            Self::Full => Options { protocol, ..full },
            Self::Counting => {
                Options { protocol: protocol - ProtocolFeatures::CONFIG - ProtocolFeatures::STATUS, ..full }
            }
            Self::Legacy => {
                let features = full.features - Features::VERSION_1 - Features::RING_PACKED - Features::IN_ORDER;
                Options { protocol, features, ..full }
            }
        }
    }
}

impl Lie {
    /// The request that it waits for, if it is one.
    pub fn request(&self) -> Option<Request> {
        match self {
            Self::Answer(request, _) => Some(*request),
            Self::QueueNum(_) => Some(Request::GET_QUEUE_NUM),
            Self::Ask(_) => Some(Request::SET_BACKEND_REQ_FD),
            _ => None,
        }
    }
}

//! Runs faults against faces, and says what came of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vuser::spec::vhost_user::Request;

use crate::control::{Lie, Plan, answered};
use crate::data;
use crate::device::{self, Device};
use crate::faces::{Face, Front, Life, Ordeal, sign};
use crate::fault::{Fault, Group, Kind, Outcome};
use crate::man::{Heard, Man};
use crate::support::Scratch;

/// How long our front-ends wait for an answer: not long, since many faults last as long as this; longer when a life has come
/// to nothing, since the device and the front-end may have waited for a busy machine.
const TIMEOUTS: [Duration; 3] = [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(4)];

/// How long without a frame means that nothing moves any more: a machine that is late must not look so. Where that is a right
/// outcome it may.
const STALL: Duration = Duration::from_secs(5);
const STALL_OF_A_STALL: Duration = Duration::from_millis(250);
/// DPDK's own driver has ten seconds for all of a life.
const STALL_OF_OWN: Duration = Duration::from_millis(1500);

/// What is to be run.
pub struct Plans {
    pub faces: Vec<Face>,
    pub layouts: Vec<bool>,
    pub faults: Vec<Fault>,
    /// Whoever takes longer for all of a life hangs.
    pub limit: Duration,
    /// Our port shares only its own memory where the device writes anywhere into what is shared.
    pub bounce: bool,
}

/// What came of one fault at one face.
#[derive(Clone, Debug)]
pub struct Row {
    pub face: Face,
    pub packed: bool,
    /// A frame may have more buffers than one.
    pub merge: bool,
    pub fault: Fault,
    pub fired: usize,
    pub life: Life,
}

/// The words of every queue of ours that the device has broken.
pub const SENTENCE: &str = "the queue is broken until the device is reset: ";

impl Row {
    pub fn is_right(&self) -> bool {
        let outcome = self.life.outcome;
        let expected = if self.face == Face::DpdkOwn {
            // It need not notice a lie that does no harm; a queue that stands still without a word is right for nobody but who has
            // lent buffers that never came back.
            self.fault.expect.contains(&outcome) || outcome == Outcome::Works
        } else {
            let rings = matches!(self.fault.kind, Kind::Data(_));
            let explained = !rings || outcome != Outcome::Contained || self.life.says.contains(SENTENCE);
            self.fault.expect.contains(&outcome) && explained
        };
        self.fired > 0 && expected
    }

    pub fn layout(&self) -> &'static str {
        match (self.packed, self.merge) {
            (false, true) => "split",
            (true, true) => "packed",
            (false, false) => "split,mrg_rxbuf=0",
            (true, false) => "packed,mrg_rxbuf=0",
        }
    }

    pub fn line(&self) -> String {
        let layout = self.layout();
        let fired = if self.fired == 0 { " (never fired)" } else { "" };
        let (face, name, outcome) = (self.face.word(), &self.fault.name, self.life.outcome.word());
        format!("{face} {layout} {name}: {outcome}{fired} {}", self.life.says)
    }
}

/// What a face says to an honest device, by plan.
type Trace = BTreeMap<Plan, Heard>;

static SOCKETS: AtomicUsize = AtomicUsize::new(0);

fn socket(scratch: &Scratch) -> PathBuf {
    scratch.file(&format!("s{}", SOCKETS.fetch_add(1, SeqCst)))
}

/// An honest life on each plan: all works, and it is known what is said.
fn trace(front: &mut Front, scratch: &Scratch) -> Result<Trace, String> {
    let mut trace = Trace::new();
    for plan in Plan::ALL {
        let mut last = None;
        for timeout in TIMEOUTS {
            let path = socket(scratch);
            let man = Man::start(&path, None, plan, timeout, false);
            let life = front.live(&path, timeout, None);
            trace.insert(plan, man.heard());
            let works = life.outcome == Outcome::Works;
            last = Some(life).filter(|_| !works);
            if works {
                break;
            }
        }
        if let Some(life) = last {
            // What DPDK's own driver cannot do with an honest device either is no fault's doing.
            if front.face() == Face::DpdkOwn && plan != Plan::Full {
                trace.remove(&plan);
                continue;
            }
            return Err(format!("an honest device ({plan:?}): {}, {}", life.outcome.word(), life.says));
        }
    }
    Ok(trace)
}

/// Whether a face comes to where the fault waits.
fn applies(trace: &Trace, lie: &Lie) -> bool {
    let Some(heard) = trace.get(&Plan::of(lie)) else { return false };
    match lie {
        Lie::CloseAt(n) => *n < heard.messages,
        _ => lie.request().is_none_or(|request| heard.answered.contains(&(request as u32))),
    }
}

/// A fault that is due, with frames in one buffer each or in more.
#[derive(Clone)]
struct Due {
    fault: Fault,
    merge: bool,
    bounce: bool,
}

/// What a face meets: control lies that it comes to, and all lies about rings of the layout.
fn due(plans: &Plans, trace: &Trace, packed: bool) -> Vec<Due> {
    let mut all = Vec::new();
    for fault in &plans.faults {
        let (fits, both) = match &fault.kind {
            Kind::Control(lie) => (applies(trace, lie), false),
            Kind::Data(lie) => (lie.fits(packed), lie.minds_merging()),
        };
        let merges = if both { &[true, false][..] } else { &[true][..] };
        let bounce = plans.bounce && fault.group == Group::Memory;
        all.extend(merges.iter().filter(|_| fits).map(|&merge| Due { fault: fault.clone(), merge, bounce }));
    }
    all
}

fn ordeal(face: Face, due: &Due, lie: &data::Lie) -> Ordeal {
    let patience = match face {
        Face::DpdkOwn => STALL_OF_OWN,
        _ if due.fault.expect.contains(&Outcome::Stalled) => STALL_OF_A_STALL,
        _ => STALL,
    };
    Ordeal { content: lie.content(), patience, merge: due.merge, bounce: due.bounce }
}

fn one(front: &mut Front, scratch: &Scratch, due: &Due, timeout: Duration) -> (usize, Life) {
    let path = socket(scratch);
    let (fired, life) = match &due.fault.kind {
        Kind::Control(lie) => {
            let man = Man::start(&path, Some(lie.clone()), Plan::of(lie), timeout, false);
            let life = front.live(&path, timeout, None);
            (man.fired(), life)
        }
        Kind::Data(lie) => {
            let plan = device::Plan { sign: Some(sign(&path)), ..device::Plan::new(Some(*lie)) };
            let device = Device::start(&path, plan, false);
            // Nobody waits for an answer in such a life: a machine that is late is no fault.
            let ordeal = ordeal(front.face(), due, lie);
            let mut life = front.live(&path, TIMEOUTS[2], Some(ordeal));
            if device.could_cut() && front.face() != Face::DpdkOwn {
                life = Life { outcome: Outcome::Corrupt, says: "the memory could be cut off".into() };
            }
            (device.fired(), life)
        }
    };
    let _ = std::fs::remove_file(sign(&path));
    let _ = std::fs::remove_file(path);
    (fired, life)
}

/// The fault and what came of it. It is tried again when it did not get its turn, or the program never came back; nothing else that
/// went wrong is. Who waits for ever does so again: DPDK's own driver has a second chance, and twice as long, in case that the
/// machine was late.
fn told(front: &mut Front, scratch: &Scratch, due: &Due, limit: Duration) -> (usize, Life) {
    let mut last = None;
    let own = front.face() == Face::DpdkOwn;
    for (n, timeout) in TIMEOUTS.into_iter().enumerate().take(if own { 2 } else { TIMEOUTS.len() }) {
        front.set_limit(if own && n > 0 { 2 * limit } else { limit });
        let (fired, life) = one(front, scratch, due, timeout);
        let again = fired == 0 || life.outcome == Outcome::Hang;
        last = Some((fired, life));
        if !again {
            break;
        }
    }
    last.expect("it was tried")
}

/// With a device whose rings are honest all works.
fn honest(front: &mut Front, scratch: &Scratch) -> Result<(), String> {
    for merge in [true, false] {
        let path = socket(scratch);
        std::fs::write(sign(&path), "").expect("the sign of an honest device");
        let _device = Device::start(&path, device::Plan::new(None), false);
        let ordeal = Ordeal { content: data::Content::Whole, patience: STALL, merge, bounce: false };
        let life = front.live(&path, TIMEOUTS[2], Some(ordeal));
        if life.outcome != Outcome::Works {
            return Err(format!("honest rings (merge={merge}): {}, {}", life.outcome.word(), life.says));
        }
    }
    Ok(())
}

/// Runs everything, each face on each layout by programs of its own at the same time.
pub fn run(plans: &Plans) -> (Vec<Row>, Vec<String>) {
    let (rows, wrong) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for &face in &plans.faces {
            for &packed in &plans.layouts {
                let (rows, wrong) = (&rows, &wrong);
                scope.spawn(move || match column(plans, face, packed) {
                    Ok(column) => rows.lock().unwrap().extend(column),
                    Err(e) => wrong.lock().unwrap().push(format!("{} {e}", face.word())),
                });
            }
        }
    });
    (rows.into_inner().unwrap(), wrong.into_inner().unwrap())
}

fn column(plans: &Plans, face: Face, packed: bool) -> Result<Vec<Row>, String> {
    let word = if packed { "packed" } else { "split" };
    let scratch = Arc::new(Scratch::new(&format!("hostile-{}-{word}", face.word())));
    let fresh = || Front::new(face, packed, plans.limit, &scratch);
    let mut first = fresh();
    let trace = trace(&mut first, &scratch)?;
    complete(face, &trace)?;
    honest(&mut first, &scratch)?;
    drop(first);
    let due = due(plans, &trace, packed);
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..face.workers() {
            scope.spawn(|| {
                let mut front = fresh();
                while let Some(due) = due.get(next.fetch_add(1, SeqCst)) {
                    let (fired, life) = told(&mut front, &scratch, due, plans.limit);
                    let Due { fault, merge, .. } = due.clone();
                    rows.lock().unwrap().push(Row { face, packed, merge, fault, fired, life });
                }
            });
        }
    });
    Ok(rows.into_inner().unwrap())
}

/// The C face says all that can be said, so that no request is left out.
fn complete(face: Face, trace: &Trace) -> Result<(), String> {
    let said: BTreeSet<u32> = trace.values().flat_map(|heard| heard.answered.iter().copied()).collect();
    let silent: Vec<Request> = answered().into_iter().filter(|r| !said.contains(&(*r as u32))).collect();
    let longest = trace.values().map(|heard| heard.messages).max().unwrap_or(0);
    if face == Face::C && !silent.is_empty() {
        return Err(format!("never says {silent:?}"));
    }
    if longest > crate::control::MESSAGES {
        return Err(format!("says {longest} messages: control::MESSAGES is too small"));
    }
    Ok(())
}

//! Runs faults against faces, and says what came of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vuser::spec::vhost_user::Request;

use crate::control::{Lie, Plan, answered};
use crate::faces::{Face, Front, Life};
use crate::fault::{Fault, Kind, Outcome};
use crate::man::{Heard, Man};
use crate::support::Scratch;

/// How long our front-ends wait for an answer: not long, since many faults last as long as this; longer when a life has come
/// to nothing, since the device and the front-end may have waited for a busy machine.
const TIMEOUTS: [Duration; 3] = [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(4)];

/// What is to be run.
pub struct Plans {
    pub faces: Vec<Face>,
    pub layouts: Vec<bool>,
    pub faults: Vec<Fault>,
    /// Whoever takes longer for all of a life hangs.
    pub limit: Duration,
}

/// What came of one fault at one face.
#[derive(Clone, Debug)]
pub struct Row {
    pub face: Face,
    pub packed: bool,
    pub fault: Fault,
    pub fired: usize,
    pub life: Life,
}

impl Row {
    pub fn is_right(&self) -> bool {
        self.fired > 0 && self.fault.expect.contains(&self.life.outcome)
    }

    pub fn line(&self) -> String {
        let layout = if self.packed { "packed" } else { "split" };
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
            let life = front.live(&path, timeout);
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

fn one(front: &mut Front, scratch: &Scratch, fault: &Fault, timeout: Duration) -> (usize, Life) {
    let Kind::Control(lie) = &fault.kind;
    let path = socket(scratch);
    let man = Man::start(&path, Some(lie.clone()), Plan::of(lie), timeout, false);
    let life = front.live(&path, timeout);
    let fired = man.fired();
    drop(man);
    let _ = std::fs::remove_file(path);
    (fired, life)
}

/// The fault and what came of it. It is tried again when it did not get its turn, or the program never came back; nothing else that
/// went wrong is.
fn told(front: &mut Front, scratch: &Scratch, fault: &Fault) -> (usize, Life) {
    let mut last = None;
    // Who waits for ever does so again.
    let tries = if front.face() == Face::DpdkOwn { 1 } else { TIMEOUTS.len() };
    for timeout in TIMEOUTS.into_iter().take(tries) {
        let (fired, life) = one(front, scratch, fault, timeout);
        let again = fired == 0 || life.outcome == Outcome::Hang;
        last = Some((fired, life));
        if !again {
            break;
        }
    }
    last.expect("it was tried")
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
    let trace = trace(&mut fresh(), &scratch)?;
    complete(face, &trace)?;
    let due: Vec<&Fault> =
        plans.faults.iter().filter(|f| matches!(&f.kind, Kind::Control(lie) if applies(&trace, lie))).collect();
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..face.workers() {
            scope.spawn(|| {
                let mut front = fresh();
                while let Some(fault) = due.get(next.fetch_add(1, SeqCst)) {
                    let (fired, life) = told(&mut front, &scratch, fault);
                    let fault = (*fault).clone();
                    rows.lock().unwrap().push(Row { face, packed, fault, fired, life });
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

//! Promise: a burst never panics, never allocates, never takes a lock, and makes one system call at most: the kick.
//!
//! Read from the machine code of `build/libvuser.so.0`: all that can be reached from a burst by calls and jumps is
//! walked, instruction by instruction. Landing pads are not among it, since only a panic would lead there. Whoever
//! adds an index that the compiler can't prove, or a `push` that could fail, is told here where.
//!
//! Four calls lead out of the library: an application's own allocator is called through pointers. They are known by
//! their line in `src/buf/source.rs`. The queues themselves are called through a table, from `src/dev/port.rs`; what
//! is in the table is where the walk begins.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;

use support::{made, root, run};

/// What the C library may be asked for.
// poll, write: a kick where the kernel does not knock.
const ALLOWED: [&str; 8] = ["write", "poll", "__errno_location", "memcpy", "memmove", "memset", "memcmp", "bcmp"];
/// What one file alone may ask for: a tap the time of a burst, which the vDSO answers; a kick io_submit, by its number.
const OF_ONE: [(&str, &str); 2] = [("src/net/tap.rs", "clock_gettime"), ("src/sys/knock.rs", "syscall")];
/// Where calls through pointers may be, and what is on their line.
const POINTERS: [(&str, &str); 7] = [
    ("src/buf/source.rs", ".get_bulk)("),
    ("src/buf/source.rs", ".put_bulk)("),
    ("src/buf/source.rs", ".free)("),
    ("src/buf/source.rs", "accepts(*ctx"),
    ("src/dev/port.rs", "Engine::"),
    ("src/dev/port.rs", "rx.release(n)"),
    // A queue with a tap has a queue in it, which is in the same table.
    ("src/net/tap.rs", "self.inner."),
];
/// What functions of the language's own are called that must not be there.
const FORBIDDEN: [&str; 9] =
    ["panic", "_fail", "alloc::", "__rust", "core::fmt", "std::", "drop_in_place", "parking_lot", "_Unwind"];

/// The queues' functions, as they stand in the tables of both layouts.
const QUEUES: [&str; 10] = [
    "Rx>::burst",
    "Rx>::peek",
    "Rx>::release",
    "Rx>::copy_out",
    "Rx>::refill",
    "Rx>::set_calls",
    "Tx>::burst",
    "Tx>::copy_in",
    "Tx>::prepare",
    "Tx>::done_cleanup",
];
/// Functions of the C face that are called once a burst or once a packet, and have no guard against panics.
const CALLS: [&str; 14] = [
    "vuser_rx_burst",
    "vuser_rx_burst_copy",
    "vuser_rx_peek",
    "vuser_rx_release",
    "vuser_tx_burst",
    "vuser_tx_burst_copy",
    "vuser_tx_prepare",
    "vuser_tx_done_cleanup",
    "vuser_mbuf_alloc_bulk",
    "vuser_mbuf_free",
    "vuser_mbuf_free_bulk",
    "vuser_mbuf_data",
    "vuser_mbuf_append",
    "vuser_mbuf_prepend",
];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Callee {
    /// An address in the library.
    Here(u64),
    /// A function of another library.
    Import(String),
    /// Through a pointer.
    Pointer,
}

/// The library, taken apart.
struct Code {
    functions: BTreeMap<u64, String>,
    instructions: BTreeMap<u64, String>,
    /// What the dynamic linker puts where.
    slots: HashMap<u64, Callee>,
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

impl Code {
    fn read(library: &Path) -> Self {
        let mut code = Self { functions: BTreeMap::new(), instructions: BTreeMap::new(), slots: HashMap::new() };
        let listing = run(Command::new("objdump").args(["-d", "-C", "--no-show-raw-insn"]).arg(library));
        for line in listing.lines() {
            if let Some((address, name)) = line.strip_suffix(">:").and_then(|l| l.split_once(" <")) {
                code.functions.insert(hex(address).expect("an address"), name.to_owned());
            } else if let Some((address, text)) = line.split_once(":\t") {
                code.instructions.insert(hex(address.trim()).expect("an address"), text.trim().to_owned());
            }
        }
        for line in run(Command::new("readelf").arg("-rW").arg(library)).lines() {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (Some(at), Some(kind), Some(value)) = (fields.first(), fields.get(2), fields.get(3)) else { continue };
            let Some(at) = hex(at) else { continue };
            let name = fields.get(4).map(|name| name.split('@').next().unwrap_or(name).to_owned());
            match (*kind, name) {
                ("R_X86_64_RELATIVE", _) => code.slots.insert(at, Callee::Here(hex(value).expect("an address"))),
                (_, Some(name)) => {
                    // A name that is ours can't be taken by another library: see the map.
                    let own = code.functions.iter().find(|(_, f)| **f == name).map(|(at, _)| Callee::Here(*at));
                    code.slots.insert(at, own.unwrap_or(Callee::Import(name)))
                }
                _ => None,
            };
        }
        code
    }

    /// The function that an address is in.
    fn function(&self, at: u64) -> (u64, &str) {
        self.functions.range(..=at).next_back().map_or((0, "?"), |(start, name)| (*start, name))
    }

    fn body(&self, at: u64) -> impl Iterator<Item = (&u64, &String)> {
        let start = self.function(at).0;
        let end = self.functions.range(start + 1..).next().map_or(u64::MAX, |(next, _)| *next);
        self.instructions.range(start..end)
    }

    /// The address after `#`, where objdump writes what a relative operand comes to.
    fn operand(text: &str) -> Option<u64> {
        hex(text.split_once("# ")?.1.split_whitespace().next()?)
    }

    /// Whom a call (or a jump out of the function) may lead to.
    fn callees(&self, at: u64, text: &str) -> Vec<Callee> {
        let target = text.split_whitespace().find(|word| word.starts_with('*') || hex(word).is_some());
        match target {
            Some(direct) if !direct.starts_with('*') => vec![Callee::Here(hex(direct).expect("an address"))],
            _ if Self::operand(text).is_some() => {
                let slot = Self::operand(text).and_then(|slot| self.slots.get(&slot));
                vec![slot.cloned().unwrap_or(Callee::Pointer)]
            }
            // A function's address that is loaded once and called from a register several times.
            Some(register) if register.starts_with("*%") => {
                let wanted = format!(",{}", register.trim_start_matches('*'));
                let loads = self.body(at).filter(|(_, text)| text.split_whitespace().any(|o| o.ends_with(&wanted)));
                let found: Vec<_> = loads.filter_map(|(_, text)| self.loaded(text)).collect();
                if found.is_empty() { vec![Callee::Pointer] } else { found }
            }
            _ => vec![Callee::Pointer],
        }
    }

    /// The function whose address an instruction loads.
    fn loaded(&self, text: &str) -> Option<Callee> {
        let operand = Self::operand(text)?;
        match text.split_whitespace().next()? {
            "mov" => self.slots.get(&operand).cloned(),
            "lea" => self.functions.contains_key(&operand).then_some(Callee::Here(operand)),
            _ => None,
        }
    }

    fn named(&self, wanted: impl Fn(&str) -> bool) -> Vec<u64> {
        self.functions.iter().filter(|(_, name)| wanted(name)).map(|(at, _)| *at).collect()
    }
}

/// All that can be reached.
#[derive(Default)]
struct Walk {
    seen: BTreeSet<u64>,
    calls: BTreeSet<(u64, Callee)>,
    /// By function, one that leads to it.
    from: HashMap<u64, u64>,
}

impl Walk {
    fn new(code: &Code, roots: &[u64]) -> Self {
        let mut walk = Self::default();
        let mut todo = roots.to_vec();
        while let Some(at) = todo.pop() {
            walk.straight(code, at, &mut todo);
        }
        walk
    }

    /// From an instruction on, as long as one follows another.
    fn straight(&mut self, code: &Code, mut at: u64, todo: &mut Vec<u64>) {
        while let Some(text) = code.instructions.get(&at)
            && self.seen.insert(at)
        {
            let text = text.strip_prefix("notrack ").or_else(|| text.strip_prefix("bnd ")).unwrap_or(text);
            let verb = text.split_whitespace().next().unwrap_or_default();
            if verb.starts_with("call") {
                self.call(code, at, text, todo);
            } else if verb == "jmp" && text.contains("*%") && !text.contains('#') {
                // A jump by a table stays in the function; where to is not read here, so everywhere.
                todo.extend(code.body(at).map(|(at, _)| *at));
            } else if verb.starts_with('j') {
                self.call(code, at, text, todo);
            }
            if matches!(verb, "jmp" | "ret" | "ud2" | "hlt") {
                return;
            }
            let Some((next, _)) = code.instructions.range(at + 1..).next() else { return };
            // Behind the last call of a function that does not return.
            if code.functions.contains_key(next) {
                return;
            }
            at = *next;
        }
    }

    fn call(&mut self, code: &Code, at: u64, text: &str, todo: &mut Vec<u64>) {
        let here = code.function(at).0;
        for callee in code.callees(at, text) {
            match callee {
                Callee::Here(target) if code.function(target).0 == here => todo.push(target),
                Callee::Here(target) => {
                    let (start, name) = code.function(target);
                    self.calls.insert((at, Callee::Here(start)));
                    if !forbidden(name) {
                        self.from.entry(start).or_insert(here);
                        todo.push(target);
                    }
                }
                other => {
                    self.calls.insert((at, other));
                }
            }
        }
    }

    /// How the walk came to an instruction.
    fn trace(&self, code: &Code, at: u64) -> String {
        let (mut at, mut names) = (code.function(at).0, Vec::new());
        while names.len() < 10 {
            names.push(code.function(at).1.to_owned());
            let Some(from) = self.from.get(&at) else { break };
            at = *from;
        }
        names.join("\n      from ")
    }
}

fn forbidden(name: &str) -> bool {
    FORBIDDEN.iter().any(|word| name.contains(word))
}

/// Where in the source each instruction comes from, the innermost place first.
fn sources(library: &Path, addresses: &BTreeSet<u64>) -> HashMap<u64, Vec<String>> {
    let mut command = Command::new("addr2line");
    command.args(["-a", "-i", "-e"]).arg(library).args(addresses.iter().map(|at| format!("{at:#x}")));
    let (mut places, mut at) = (HashMap::<_, Vec<_>>::new(), 0);
    for line in run(&mut command).lines() {
        match line.strip_prefix("0x").filter(|l| !l.contains(':')).and_then(hex) {
            Some(address) => at = address,
            None => places.entry(at).or_default().push(line.split(" (").next().unwrap_or(line).to_owned()),
        }
    }
    places
}

/// Which of [`POINTERS`] a place in the source is.
fn pointer(place: &str) -> Option<usize> {
    let (file, number) = place.rsplit_once(':')?;
    let file = &file[file.rfind("src/")?..];
    let text = std::fs::read_to_string(root().join(file)).ok()?;
    let line = text.lines().nth(number.parse::<usize>().ok()?.checked_sub(1)?)?;
    POINTERS.iter().position(|(f, word)| *f == file && line.contains(word))
}

/// What is wrong with what was reached, and which pointers were called.
fn judge(code: &Code, library: &Path, walk: &Walk) -> (Vec<String>, BTreeSet<usize>) {
    let places = sources(library, &walk.calls.iter().map(|(at, _)| *at).collect());
    let (mut wrong, mut pointers) = (Vec::new(), BTreeSet::new());
    for (at, callee) in &walk.calls {
        let places = places.get(at).map(Vec::as_slice).unwrap_or_default();
        let known = places.first().and_then(|place| pointer(place));
        let what = match callee {
            Callee::Here(start) if forbidden(code.function(*start).1) => code.function(*start).1.to_owned(),
            Callee::Import(name)
                if OF_ONE.iter().any(|(file, call)| name == call && places.iter().any(|p| p.contains(file))) =>
            {
                continue;
            }
            Callee::Import(name) if !ALLOWED.contains(&name.as_str()) => format!("{name} of another library"),
            Callee::Pointer if known.is_none() => "an unknown function, through a pointer".to_owned(),
            Callee::Pointer => {
                pointers.extend(known);
                continue;
            }
            _ => continue,
        };
        let (trace, lines) = (walk.trace(code, *at), places.join("\n         in "));
        wrong.push(format!("  {at:#x} calls {what}\n      in {trace}\n      at {lines}"));
    }
    (wrong, pointers)
}

fn library() -> (std::path::PathBuf, Code) {
    let library = made("libvuser.so.0");
    let code = Code::read(&library);
    let inner = code.named(|name| name.contains("RxQueue")).len();
    assert!(inner > 0, "{} was stripped: its functions have no names; run `make lib`", library.display());
    (library, code)
}

#[test]
fn bursts_do_not_panic_allocate_or_lock() {
    let (library, code) = library();
    let mut roots = Vec::new();
    for queue in QUEUES {
        let found = code.named(|name| name.contains(" as vuser::net::path::") && name.ends_with(queue));
        // One in a place of its own where the compiler merged what is the same for both layouts.
        assert!(!found.is_empty(), "no function {queue} in the library; has it got another name? See QUEUES");
        roots.extend(found);
    }
    for call in CALLS {
        let found = code.named(|name| name == call);
        assert_eq!(found.len(), 1, "{call} is not in the library");
        roots.extend(found);
    }
    let walk = Walk::new(&code, &roots);
    let (wrong, pointers) = judge(&code, &library, &walk);
    assert!(
        wrong.is_empty(),
        "a burst may come here. Let the compiler see that it can't (`get` in place of an index, `try_push` in place of \
         `push`), or take it out of the burst:\n{}",
        wrong.join("\n")
    );
    // A walk that saw nothing would prove nothing.
    assert_eq!(pointers.len(), POINTERS.len(), "calls through pointers that were not met: is POINTERS up to date?");
    for kick in ["syscall", "write"].map(|name| Callee::Import(name.to_owned())) {
        assert!(walk.calls.iter().any(|(_, callee)| *callee == kick), "the walk has not met the kick");
    }
    for name in ["receive_one", "send_one", "move_home", "::enabled", "bring_forward"] {
        let reached = code.named(|f| f.contains(name)).iter().any(|at| walk.seen.contains(at));
        assert!(reached || code.named(|f| f.contains(name)).is_empty(), "the walk has not come to {name}");
    }
}

#[test]
fn the_walk_finds_what_is_there_to_be_found() {
    let (library, code) = library();
    let walk = Walk::new(&code, &code.named(|name| name == "vuser_dev_start"));
    let (wrong, _) = judge(&code, &library, &walk);
    for word in ["panic", "__rust_alloc", "through a pointer"] {
        assert!(wrong.iter().any(|line| line.contains(word)), "no {word} found from vuser_dev_start:\n{}", wrong.len());
    }
}

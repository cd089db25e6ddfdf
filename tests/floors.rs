//! Promise: the house keeps its shape. Each floor uses those below it and never one above or beside it, so that a part
//! can be read with what is under it and nothing else; each burst is there once; functions fit on a screen.
//!
//! The sources are read as text, which rustfmt has brought into one form.

mod support;

use std::path::{Path, PathBuf};

use support::root;

/// Modules by floor. A module may use what is on lower floors.
const FLOORS: [(&str, u8); 10] = [
    ("spec", 0),
    ("sys", 1),
    ("mem", 2),
    ("ring", 3),
    ("buf", 3),
    ("net", 4),
    ("backend", 4),
    ("device", 4),
    ("dev", 5),
    ("capi", 6),
];
/// Modules without a floor: everybody may use them, they use nobody.
const EVERYWHERE: [&str; 2] = ["error", "log"];
/// Lower floors that are out of bounds all the same, and why.
const NEVER: [(&str, &[&str], &str); 2] = [
    ("backend", &["ring", "buf"], "a way to a device knows where rings lie, not what is in them"),
    ("device", &["ring", "buf"], "the built-in device shares no code with the driver that it tests"),
];
/// What is allowed against the rule, and why.
const ALLOWED: [(&str, &str, &str); 1] =
    [("buf/mbuf.rs", "crate::ring::Cookie", "a handle knows how it travels through a ring; nothing else of rings")];

/// Longest function of rings and queues.
const FUNCTION: usize = 40;
/// Longest file without its tests.
const FILE: usize = 600;

/// A source file, in parts.
struct Source {
    /// Below `src`.
    name: String,
    text: String,
}

impl Source {
    fn module(&self) -> &str {
        let first = self.name.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// Lines of code with their numbers, without comments and tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test = self.name.contains("/tests/") || self.name.ends_with("/tests.rs");
        let lines = self.text.lines().take_while(move |line| !is_test && *line != "#[cfg(test)]");
        (1..).zip(lines).filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Lines of code, tests included.
    fn all_code(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Functions: line, name, body.
    fn functions(&self) -> Vec<(usize, &str, Vec<&str>)> {
        let lines: Vec<_> = self.text.lines().collect();
        let starts = self.code().filter_map(|(number, line)| {
            let (before, after) = line.split_once("fn ")?;
            let modifier = |word| matches!(word, "pub" | "const" | "unsafe" | "extern" | "\"C\"");
            let name = after.split(['(', '<']).next()?;
            let rest = before.split_whitespace().map(|word| word.split('(').next().unwrap_or(word));
            (rest.clone().all(modifier) && name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.is_empty())
                .then_some((number, name))
        });
        starts
            .filter_map(|(number, name)| {
                let indent = lines[number - 1].len() - lines[number - 1].trim_start().len();
                let end = format!("{}}}", " ".repeat(indent));
                let from = &lines[number - 1..];
                let signature = from.iter().position(|line| line.ends_with(['{', '}', ';']))?;
                let last = match from[signature].chars().last() {
                    Some('{') => from.iter().position(|line| *line == end)?,
                    Some('}') => signature,
                    // A declaration has no body.
                    _ => return None,
                };
                Some((number, name, from[..=last].to_vec()))
            })
            .collect()
    }
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

fn sources() -> Vec<Source> {
    let (src, mut found) = (root().join("src"), Vec::new());
    files(&src, &mut found);
    found.sort();
    let sources = found.iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    sources
        .map(|path| Source {
            name: path.strip_prefix(&src).expect("below src").display().to_string(),
            text: std::fs::read_to_string(path).expect("a source file"),
        })
        .collect()
}

/// Where no line may be `unsafe`: what the standards say, and whoever reads the words of a back-end.
const SAFE: [&str; 3] = ["spec", "backend", "error"];

/// Fails with all that is wrong at once.
fn report(wrong: &[String], cure: &str) {
    assert!(wrong.is_empty(), "{cure}:\n  {}", wrong.join("\n  "));
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// Why a module may not use another; None when it may.
fn objection(user: &str, used: &str) -> Option<String> {
    if user == used || user == "lib" || EVERYWHERE.contains(&used) {
        return None;
    }
    if let Some((_, _, why)) = NEVER.iter().find(|(module, never, _)| *module == user && never.contains(&used)) {
        return Some((*why).to_owned());
    }
    match (floor(user), floor(used)) {
        (Some(upper), Some(lower)) if lower < upper => None,
        (Some(upper), Some(lower)) => Some(format!("{user} is on floor {upper}, {used} on floor {lower}")),
        (None, _) => Some(format!("{user} uses nothing of the crate")),
        (_, None) => Some(format!("{used} has no floor; give it one in tests/floors.rs")),
    }
}

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (number, line) in source.all_code() {
            for path in line.split("crate::").skip(1) {
                let used = path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                let allowed = ALLOWED.iter().any(|(file, what, _)| *file == source.name && line.contains(what));
                if let Some(why) = objection(source.module(), used).filter(|_| !allowed) {
                    wrong.push(format!("src/{}:{number}: {}: {why}", source.name, line.trim()));
                }
            }
            // `super` of a floor's own mod.rs is the crate, and so is one `super` more further down.
            let top = source.name.matches('/').count() == 1 && source.name.ends_with("mod.rs");
            if line.contains("super::super") || top && line.starts_with("use super::") {
                wrong.push(format!("src/{}:{number}: {}: write crate::", source.name, line.trim()));
            }
        }
    }
    report(&wrong, "imports that go up or sideways; move what both need down, or pass it in");
}

#[test]
fn the_exceptions_are_in_use() {
    let sources = sources();
    for (file, what, why) in ALLOWED {
        let used = sources.iter().any(|s| s.name == file && s.text.contains(what));
        assert!(used, "src/{file} does not need {what} any more ({why}); take it out of ALLOWED");
    }
}

#[test]
fn only_the_c_face_has_symbols() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| s.module() != "capi") {
        for (number, line) in source.all_code() {
            // Slices out of pointers and lengths come from C, or from nowhere.
            if line.contains("no_mangle") || line.contains("export_name") || line.contains("slice::from_raw_parts") {
                wrong.push(format!("src/{}:{number}: {}", source.name, line.trim()));
            }
        }
    }
    report(&wrong, "only src/capi talks to C; move it there");
}

/// Whoever else is called burst passes the call on: no loop in it.
#[test]
fn each_burst_is_written_once() {
    let mut wrong = Vec::new();
    for source in sources() {
        let functions = source.functions();
        let bursts: Vec<_> = functions.iter().filter(|(_, name, _)| name.split('_').any(|w| w == "burst")).collect();
        if matches!(source.name.as_str(), "net/rx.rs" | "net/tx.rs") {
            assert_eq!(bursts.len(), 1, "src/{} has one burst, for all layouts and features", source.name);
            continue;
        }
        for (number, name, body) in bursts {
            let looping = |line: &&str| ["for ", "while ", "loop {"].iter().any(|w| line.trim_start().starts_with(w));
            if body.len() > 12 || body.iter().any(looping) {
                wrong.push(format!("src/{}:{number}: {name} is a burst of its own", source.name));
            }
        }
    }
    report(&wrong, "frames are moved in net/rx.rs and net/tx.rs; everybody else passes the call on");
}

#[test]
fn functions_of_the_data_path_fit_on_a_screen() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for source in sources().iter().filter(|s| ["ring", "net"].contains(&s.module())) {
        for (number, name, body) in source.functions() {
            seen += 1;
            if body.len() > FUNCTION {
                wrong.push(format!("src/{}:{number}: {name} has {} lines", source.name, body.len()));
            }
        }
    }
    assert!(seen > 100, "only {seen} functions found: has rustfmt changed?");
    report(&wrong, &format!("functions of more than {FUNCTION} lines; a body that long has two purposes"));
}

#[test]
fn files_have_one_subject() {
    let long = sources().into_iter().filter_map(|source| {
        let lines = source.text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        let test = source.name.contains("/tests/");
        (lines > FILE && !test).then(|| format!("src/{}: {lines} lines", source.name))
    });
    report(&long.collect::<Vec<_>>(), &format!("files of more than {FILE} lines without their tests; split them"));
}

#[test]
fn the_library_has_no_panic_written_into_it() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (number, line) in source.code() {
            let words = [".unwrap()", ".expect(", ".unwrap_err()", "panic!(", "unreachable!(", "todo!(", "dbg!("];
            if words.iter().any(|word| line.contains(word)) {
                wrong.push(format!("src/{}:{number}: {}", source.name, line.trim()));
            }
        }
    }
    report(&wrong, "a library hands errors out; return one");
}

#[test]
fn nothing_is_promised_in_comments() {
    // Written so that this file does not find itself.
    let words = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["keep in ", "sync"]].map(|word| word.concat());
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for directory in ["src", "include", "tests", "examples", "benches", "bindings", "packaging", "docs", "scripts"] {
        let directory = root().join(directory);
        if directory.is_dir() {
            files(&directory, &mut found);
        }
    }
    found.extend(["build.rs", "Makefile", "cbindgen.toml", "Cargo.toml"].map(|name| root().join(name)));
    for path in found {
        // Files that are no text have no comments.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for (number, line) in (1..).zip(text.lines()) {
            // As whole words: mkstemp's templates are others.
            let marks =
                line.split(|c: char| !c.is_alphanumeric()).any(|word| words[..3].iter().any(|mark| mark == word));
            if marks || line.to_lowercase().contains(&words[3]) {
                wrong.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    report(&wrong, "do it now or write an issue; derive the copy from the original, or compare them in a test");
}

#[test]
fn words_of_a_back_end_are_read_without_unsafe() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| SAFE.contains(&source.module())) {
        let lines =
            source.all_code().filter(|(_, line)| line.split(|c: char| !c.is_alphanumeric()).any(|w| w == "unsafe"));
        wrong.extend(lines.map(|(number, line)| format!("{}:{number}: {}", source.name, line.trim())));
    }
    report(&wrong, "what needs `unsafe` belongs to sys or mem, behind a safe function");
}

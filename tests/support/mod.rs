//! What the tests of the built library have in common: where it is, and how a command is run.
#![allow(dead_code, reason = "each test uses a part")]

pub mod hugepages;
pub mod testpmd;

use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Root of the package.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where `make` puts what it builds: `build`, or what `VUSER_BUILD` says.
pub fn build() -> PathBuf {
    root().join(std::env::var_os("VUSER_BUILD").map_or_else(|| PathBuf::from("build"), PathBuf::from))
}

/// A file that `make lib` makes. It has to be there.
pub fn made(name: &str) -> PathBuf {
    let file = build().join(name);
    assert!(file.is_file(), "{} is missing: run `make lib` first, or `make checked`", file.display());
    file
}

/// A directory of a test's own, which nobody else can enter, gone at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vuser-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::DirBuilder::new().mode(0o700).create(&path).expect("a temporary directory");
        Self(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether a program is installed.
pub fn have(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
}

/// Whether there is a program of this name in the path; it need not say its version.
pub fn have_in_path(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|dir| dir.join(program).is_file())
}

/// Whether the CPU has a feature, by the kernel's name for it.
pub fn have_cpu(feature: &str) -> bool {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines().any(|line| line.starts_with("flags") && line.split_whitespace().any(|flag| flag == feature))
}

/// Says past the test harness, which keeps the output of tests that succeed to itself, what was not tested.
/// `VUSER_REQUIRE_ALL=1` forbids that.
pub fn skip(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr().lock(), "SKIP {test}: {why}");
    assert!(std::env::var("VUSER_REQUIRE_ALL").as_deref() != Ok("1"), "VUSER_REQUIRE_ALL=1, but {test} skipped: {why}");
}

/// Runs a command, whatever comes of it.
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

/// Runs a command, which has to succeed; what it printed.
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    let [text, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{command:?}: {}\n{text}{errors}", output.status);
    text.into_owned()
}

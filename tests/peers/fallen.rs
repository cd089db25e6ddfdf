//! The front-end is killed under traffic, and whoever is at the other end is none the worse: holds nothing of it, and serves
//! the next one. Nor does it leave anything in the file system that the next one minds.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::program::Program;
use crate::support::testpmd::{Testpmd, testpmd_program};
use crate::support::{Scratch, have_in_path, made, skip};

/// Deaths in each of the five ways, if nothing else is asked for.
const KILLS: u32 = 2;
const LIMIT: Duration = Duration::from_secs(60);

/// Who lives on.
enum Survivor {
    Own(Child),
    Testpmd(Box<Testpmd>),
}

impl Survivor {
    fn own(socket: &Path) -> Self {
        let command = Command::new(made("examples/loopback"))
            .args(["--serve".as_ref(), socket])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Self::Own(command.expect("examples/loopback"))
    }

    fn testpmd(dir: &Path, socket: &Path, client: bool) -> Self {
        let client = if client { ",client=1" } else { "" };
        let vdev = format!("--vdev=net_vhost0,iface={}{client}", socket.display());
        let eal = ["--no-huge", "--no-shconf", "-m", "64", &vdev];
        let app = ["--auto-start", "--total-num-mbufs=2048", "--no-flush-rx", "--disable-link-check"];
        Self::Testpmd(Box::new(Testpmd::start(dir, &eal, &app, &[]).expect("dpdk-testpmd")))
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Own(child) => child.id(),
            Self::Testpmd(testpmd) => testpmd.pid(),
        }
    }

    /// What it has: descriptors, mappings of files that were shared with it, and packet buffers that are in use.
    fn holds(&mut self) -> Result<(usize, usize, u64), String> {
        let proc = PathBuf::from(format!("/proc/{}", self.pid()));
        let fds = fs::read_dir(proc.join("fd")).map_err(|e| format!("the back-end has gone: {e}"))?.count();
        let maps = fs::read_to_string(proc.join("maps")).map_err(|e| e.to_string())?;
        let mbufs = match self {
            Self::Own(_) => 0,
            Self::Testpmd(testpmd) => in_use(&testpmd.command("dump_mempool mb_pool_0")?)?,
        };
        Ok((fds, maps.lines().filter(|line| line.contains("/memfd:vuser")).count(), mbufs))
    }
}

impl Drop for Survivor {
    fn drop(&mut self) {
        if let Self::Own(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Buffers of testpmd's pool that are neither in it nor in the caches of its threads.
fn in_use(dump: &str) -> Result<u64, String> {
    let field = |name: &str| {
        let rest = dump.split_once(name).map(|(_, rest)| rest);
        let digits: Option<String> = rest.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect());
        digits.and_then(|digits| digits.parse::<u64>().ok()).ok_or_else(|| format!("no {name} in\n{dump}"))
    };
    let free = field("total_cache_count=")? + field("common_pool_count=")?;
    Ok(field("  size=")?.saturating_sub(free))
}

/// What lies in shared memory's file system under our name.
fn left_in_shm() -> usize {
    let names = fs::read_dir("/dev/shm").into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().contains("vuser")).count()
}

fn kills() -> u32 {
    std::env::var("VUSER_FRONT_KILLS").map_or(KILLS, |text| text.parse().expect("VUSER_FRONT_KILLS is a number"))
}

fn die_under(survivor: &mut Survivor, scratch: &Scratch, socket: &Path, more: &str) -> Result<(), String> {
    let before = survivor.holds()?;
    let others = left_in_shm();
    let tmp = scratch.file("tmp");
    fs::create_dir_all(&tmp).map_err(|e| e.to_string())?;
    let devargs = format!("path={},huge=0,{more}", socket.display());
    for k in 0..kills() {
        let args = ["--victim".to_string(), devargs.clone()];
        let mut victim = Program::with_env("mix", &args, &[("TMPDIR", &tmp)]);
        victim.expect("moving", LIMIT)?;
        thread::sleep(Duration::from_millis(u64::from(k * 7 % 40)));
        drop(victim);
        let end = Instant::now() + LIMIT;
        loop {
            let after = survivor.holds()?;
            if after == before {
                break;
            }
            if Instant::now() > end {
                return Err(format!("death {k}: (descriptors, mappings, buffers) were {before:?}, are {after:?}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        let left = fs::read_dir(&tmp).map_err(|e| e.to_string())?.count();
        if left > 0 || left_in_shm() > others {
            return Err(format!("death {k}: {left} files are left in TMPDIR, {} in /dev/shm", left_in_shm()));
        }
    }
    let _ = writeln!(
        std::io::stderr().lock(),
        "{} front-ends killed, {devargs}: held before and after: {} descriptors, {} mappings, {} buffers",
        kills(),
        before.0,
        before.1,
        before.2
    );
    Ok(())
}

fn wait_for(socket: &Path) {
    let end = Instant::now() + LIMIT;
    while !socket.exists() {
        assert!(Instant::now() < end, "nobody listens at {}", socket.display());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_built_in_device_holds_nothing_of_front_ends_that_died() {
    let scratch = Scratch::new("fallen-own");
    let socket = scratch.file("s");
    let mut survivor = Survivor::own(&socket);
    wait_for(&socket);
    for more in ["packed_vq=0", "packed_vq=1"] {
        die_under(&mut survivor, &scratch, &socket, more).unwrap_or_else(|e| panic!("{more}: {e}"));
    }
}

#[test]
fn dpdks_vhost_holds_nothing_of_front_ends_that_died() {
    if !have_in_path(&testpmd_program()) {
        let why = "there is no dpdk-testpmd (Debian: dpdk-dev)";
        return skip("peers::dpdks_vhost_holds_nothing_of_front_ends_that_died", why);
    }
    let scratch = Scratch::new("fallen-dpdk");
    let socket = scratch.file("s");
    let mut survivor = Survivor::testpmd(&scratch.0, &socket, false);
    for more in ["packed_vq=0", "packed_vq=1"] {
        die_under(&mut survivor, &scratch, &socket, more).unwrap_or_else(|e| panic!("{more}: {e}"));
    }
    drop(survivor);
    // The front-end listens: what is left of one that died is its socket's file, which the next one replaces.
    let socket = scratch.file("server");
    let mut survivor = Survivor::testpmd(&scratch.0, &socket, true);
    let more = "packed_vq=1,server=1";
    die_under(&mut survivor, &scratch, &socket, more).unwrap_or_else(|e| panic!("{more}: {e}"));
}

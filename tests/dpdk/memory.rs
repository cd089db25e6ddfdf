//! Every kind of memory that EAL has: frames pass, or the start fails with a sentence. Never neither.

use std::process::Command;

use crate::paths::BOTH;
use crate::port::{PLAIN, Port, driver};
use crate::support::hugepages::Hugepages;
use crate::support::{Scratch, output, skip};

/// A file system of huge pages, as EAL wants it for memory that has names.
pub struct Mounted(Scratch, #[allow(dead_code, reason = "kept as long as the file system")] Hugepages);

impl Mounted {
    pub fn mount(test: &str) -> Option<Self> {
        let pages = pages(test)?;
        let dir = crate::port::scratch("huge");
        let mut mount = Command::new("mount");
        mount.args(["-t", "hugetlbfs", "-o", "pagesize=2M,mode=700", "none"]).arg(&dir.0);
        match output(&mut mount) {
            o if o.status.success() => Some(Self(dir, pages)),
            o => {
                let why = String::from_utf8_lossy(&o.stderr).trim().to_owned();
                skip(&format!("dpdk::{test}"), &format!("huge pages can't be mounted here: {why}"));
                None
            }
        }
    }

    pub fn argument(&self) -> String {
        format!("--huge-dir={}", self.0.0.display())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0.0).status();
    }
}

/// 2 MiB pages for one of these tests.
fn pages(test: &str) -> Option<Hugepages> {
    Hugepages::reserve(120).map_err(|why| skip(&format!("dpdk::{test}"), &why)).ok()
}

/// Frames pass on both layouts, from the pool `port`, before and after a restart; how: by the driver's word.
fn frames_pass(port: &mut Port, name: &str) -> String {
    let vhost = port.vhost(0, 1, "");
    let mut mode = String::new();
    for way in BOTH {
        let device = port.device(0, &way.args());
        for _ in 0..2 {
            port.run(device, vhost, "");
            port.tell(&format!("exchange port={device} peer={vhost} frames=2000 sizes=64,1518,9000 jitter=1"));
            port.tell(&format!("exchange port={device} peer={vhost} frames=500 sizes=64,1518,9000 segment=300"));
            if driver() == "net_vuser" {
                mode = port.tell(&format!("mode port={device}")).text("rx").to_owned();
            }
            port.tell(&format!("stop port={device}"));
        }
        port.tell(&format!("close port={device}"));
        port.tell(&format!("detach name={}", Port::name(0)));
        let left = port.tell("census").number("port");
        port.check(left == 2000, &format!("{name}, {}: {} buffers are missing", way.name, 2000 - left));
    }
    mode
}

fn small_pools(port: &mut Port) {
    port.tell("pool name=vhost count=2000");
    port.tell("pool name=port count=2000");
}

/// Memory of few files goes to the device as it is; nothing is copied.
fn as_it_is(test: &str, eal: &[&str], huge: bool) {
    let _pages = match huge {
        true => match pages(test) {
            Some(pages) => Some(pages),
            None => return,
        },
        false => None,
    };
    let Some(mut port) = Port::start(test, eal) else { return };
    small_pools(&mut port);
    let mode = frames_pass(&mut port, test);
    port.check(!mode.contains("bounce"), &format!("{test}: frames are copied: {mode}"));
}

#[test]
fn ordinary_pages() {
    as_it_is("ordinary_pages", &["--no-huge", "-m", "64"], false);
}

#[test]
fn anonymous_huge_pages_in_one_file() {
    let eal = ["--in-memory", "--single-file-segments", "-m", "64"];
    as_it_is("anonymous_huge_pages_in_one_file", &eal, true);
}

#[test]
fn named_huge_pages_in_one_file() {
    const TEST: &str = "named_huge_pages_in_one_file";
    let Some(huge) = Mounted::mount(TEST) else { return };
    as_it_is(TEST, &[&huge.argument(), "--single-file-segments", "-m", "64"], true);
}

/// One file a page, and more files than the back-end takes: the frames are copied, and the log says how to avoid it.
/// With bounce=0 the start fails instead, and says the same. Never does a port only seem to be up.
fn too_many_files(test: &str, eal: &[&str]) {
    let Some(_pages) = pages(test) else { return };
    let Some(mut port) = Port::start(test, eal) else { return };
    small_pools(&mut port);
    let vhost = port.vhost(1, 1, "");
    let device = port.device(1, &format!("{},bounce=0", BOTH[0].args()));
    port.tell(&format!("configure port={device}"));
    let mark = port.log().len();
    port.refuse(&format!("start port={device}"));
    port.check(port.says(mark, "--single-file-segments"), "the log does not say what to do");
    let up = port.tell(&format!("link port={device}")).number("up");
    let theirs = port.tell(&format!("link port={vhost}")).number("up");
    port.check((up, theirs) == (0, 0), "the start failed, and the link is up");
    port.tell(&format!("close port={device}"));
    let mark = port.log().len();
    let mode = frames_pass(&mut port, test);
    port.check(mode.contains("bounce"), &format!("{test}: goes by {mode}"));
    port.check(port.says(mark, "--single-file-segments"), "the log does not say what to do");
}

#[test]
fn named_huge_pages_with_a_file_each() {
    const TEST: &str = "named_huge_pages_with_a_file_each";
    let Some(huge) = Mounted::mount(TEST) else { return };
    too_many_files(TEST, &[&huge.argument(), "-m", "64"]);
}

#[test]
fn anonymous_huge_pages_with_a_file_each() {
    too_many_files("anonymous_huge_pages_with_a_file_each", &["--in-memory", "-m", "64"]);
}

#[test]
fn legacy_memory() {
    const TEST: &str = "legacy_memory";
    let Some(huge) = Mounted::mount(TEST) else { return };
    too_many_files(TEST, &[&huge.argument(), "--legacy-mem", "-m", "64"]);
}

/// Buffers in a heap of the application's own, of which nobody has a file: their frames pass, too, and so they do after
/// another configuration.
#[test]
fn heap_of_the_application() {
    let Some(mut port) = Port::start("heap_of_the_application", PLAIN) else { return };
    port.tell("pool name=vhost count=2000");
    port.tell("heap name=ours mb=32");
    port.tell("pool name=port count=2000 heap=ours");
    frames_pass(&mut port, "heap_of_the_application");
    let vhost = port.vhost(2, 1, "");
    let device = port.device(2, &BOTH[0].args());
    for rxo in [0, 1, 0] {
        port.run(device, vhost, &format!("rxo={rxo}"));
        port.tell(&format!("exchange port={device} peer={vhost} frames=500"));
        port.tell(&format!("stop port={device}"));
    }
}

/// A heap of the application's comes while a port runs; the port's own memory is as it was.
#[test]
fn heap_beside_a_running_port() {
    let Some(mut port) = Port::start("heap_beside_a_running_port", PLAIN) else { return };
    port.pools();
    let vhost = port.vhost(0, 1, "");
    for (n, way) in BOTH.into_iter().enumerate() {
        let device = port.device(0, &way.args());
        port.run(device, vhost, "");
        port.tell(&format!("exchange port={device} peer={vhost} frames=500"));
        port.tell(&format!("heap name=ours{n} mb=8"));
        port.tell(&format!("exchange port={device} peer={vhost} frames=500"));
        port.tell(&format!("stop port={device}"));
        port.run(device, vhost, "rxo=1");
        port.tell(&format!("exchange port={device} peer={vhost} frames=500"));
        port.remove(0, device);
    }
}

/// What the back-end's log says of its memory: bytes, and how often it was told.
fn told(log: &str) -> (u64, usize) {
    let tables: Vec<&str> = log.split("read message VHOST_USER_SET_MEM_TABLE").skip(1).collect();
    let sizes = tables.last().map_or("", |t| t).split("guest memory region size: 0x").skip(1);
    let size = |text: &str| u64::from_str_radix(text.split_whitespace().next().unwrap(), 16).unwrap();
    (sizes.map(size).sum(), tables.len())
}

/// The same, as soon as what it has logged is what is waited for: the log comes by a pipe, after the answer.
fn told_soon(log: impl Fn() -> String, wanted: impl Fn(u64, usize) -> bool) -> (u64, usize) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let (bytes, tables) = told(&log());
        if wanted(bytes, tables) || std::time::Instant::now() > end {
            return (bytes, tables);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Memory that comes while the port runs can be sent from; memory that goes is taken from the back-end as well. The
/// back-end is another process: EAL holds a lock meanwhile that a vhost port in this one would wait for.
#[test]
fn memory_comes_and_goes() {
    const TEST: &str = "memory_comes_and_goes";
    let Some(_pages) = pages(TEST) else { return };
    let Some(mut port) = Port::beside(TEST, &["--in-memory", "--single-file-segments", "-m", "32"]) else { return };
    let testpmd = crate::loopback::vhost_testpmd(&port, 1);
    small_pools(&mut port);
    for way in BOTH {
        let mark = testpmd.mark();
        let device = port.device(0, &way.args());
        port.tell(&format!("configure port={device}"));
        port.tell(&format!("start port={device}"));
        let frames = format!("exchange port={device} frames=1000 sizes=64,9000 window=64");
        port.tell(&frames);
        for _ in 0..5 {
            let (before, tables) = told(&testpmd.log_since(mark));
            port.tell("pool name=late count=16000 cache=0");
            let log = || testpmd.log_since(mark);
            let (with, more) = told_soon(log, |bytes, more| bytes > before && more > tables);
            port.check(with > before, &format!("{}: the device knows of {with} bytes, as before", way.name));
            port.check(more > tables, &format!("{}: it was not told", way.name));
            port.tell(&format!("{frames} pool=late"));
            // All that was sent from it must have come back.
            port.tell(&format!("cleanup port={device}"));
            port.tell("unpool name=late");
            let (after, _) = told_soon(log, |bytes, _| bytes < with);
            port.check(after < with, &format!("{}: the device still has memory that is gone", way.name));
            port.tell(&frames);
        }
        port.remove(0, device);
    }
}

/// The whole testpmd with its buffers in a heap of its own: what DPDK's driver does not start with.
#[test]
fn testpmd_with_an_external_heap() {
    const TEST: &str = "testpmd_with_an_external_heap";
    let Some(_pages) = pages(TEST) else { return };
    let app = ["--mp-alloc=xmemhuge", "--total-num-mbufs=2500"];
    crate::programs::testpmd_forwards(
        TEST,
        &["--in-memory", "--single-file-segments", "-m", "64"],
        &app,
        &[],
        &Port::name(0),
    );
}

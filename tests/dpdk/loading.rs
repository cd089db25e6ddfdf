//! The driver gets into programs in every way that DPDK has, and into none of another release.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::paths::BOTH;
use crate::port::{PLAIN, Port, driver, plugin, possible, scratch};
use crate::support::{Scratch, build, made, run, skip};
use crate::turn::Turn;

/// Frames pass, in a program that was started somehow.
fn frames_pass(port: &mut Port, name: &str) {
    port.pools();
    let vhost = port.vhost(0, 1, "");
    for way in BOTH {
        let socket = port.file("s0");
        let args = format!("attach name={name} args=path={},{}", socket.display(), way.args());
        let device = port.tell(&args).number("port");
        port.run(device, vhost, "");
        port.tell(&format!("exchange port={device} peer={vhost} frames=1000 sizes={}", way.sizes()));
        port.tell(&format!("stop port={device}"));
        port.tell(&format!("close port={device}"));
        port.tell(&format!("detach name={name}"));
    }
}

fn launch(test: &str, eal: &[&str], env: &[(&str, &str)]) -> Port {
    let turn = Turn::wait(1);
    let eal = [PLAIN, eal].concat();
    Port::launch(&Arc::new(scratch(test)), &eal, env, Some(turn)).unwrap_or_else(|e| panic!("{test}: {e}"))
}

/// These are about our plug-in; DPDK's driver has its own.
pub fn ours(test: &str) -> bool {
    driver() == "net_vuser" && possible(test)
}

#[test]
fn by_option() {
    if !ours("by_option") {
        return;
    }
    let mut port = launch("by_option", &["-d", &made("librte_net_vuser.so").display().to_string()], &[]);
    frames_pass(&mut port, "net_vuser0");
    port.quit();
}

#[test]
fn by_preload() {
    if !ours("by_preload") {
        return;
    }
    let file = made("librte_net_vuser.so").display().to_string();
    let mut port = launch("by_preload", &[], &[("LD_PRELOAD", &file)]);
    frames_pass(&mut port, "net_vuser0");
    port.quit();
}

/// EAL loads what it finds in a directory that only its owner can write to; the temporary one is not that.
#[test]
fn from_a_directory() {
    if !ours("from_a_directory") {
        return;
    }
    let directory = build().join(format!("tests/pmds-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let _gone = Scratch(directory.clone());
    fs::copy(made("librte_net_vuser.so"), directory.join("librte_net_vuser.so")).unwrap();
    let mut port = launch("from_a_directory", &["-d", &directory.display().to_string()], &[]);
    frames_pass(&mut port, "net_vuser0");
    port.quit();
}

/// The program with DPDK and the driver linked into it.
#[test]
fn linked_statically() {
    if !ours("linked_statically") {
        return;
    }
    let turn = Turn::wait(1);
    let dir = Arc::new(scratch("linked_statically"));
    let mut port = Port::launch_program(&[], "tests/port-static", &dir, PLAIN, &[], Some(turn)).unwrap();
    frames_pass(&mut port, "net_vuser0");
    port.quit();
}

/// In a process of another release of DPDK it says so in one line and is not there; the program goes on.
#[test]
fn not_into_another_release() {
    const TEST: &str = "not_into_another_release";
    if !ours(TEST) {
        return;
    }
    let dir = Arc::new(scratch(TEST));
    let (source, library) = (dir.file("version.c"), dir.file("version.so"));
    fs::write(&source, "const char *rte_version(void) { return \"DPDK 23.03.1\"; }\n").unwrap();
    run(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source));
    let file = made("librte_net_vuser.so").display().to_string();
    let env = [("LD_PRELOAD", library.to_str().unwrap())];
    let eal = [PLAIN, &["-d", file.as_str()]].concat();
    let mut port = Port::launch(&dir, &eal, &env, Some(Turn::wait(1))).unwrap();
    port.check(port.says(0, "net_vuser"), "it says nothing");
    let log = port.log();
    let lines: Vec<&str> = log.lines().filter(|l| l.contains("net_vuser")).collect();
    port.check(lines.len() == 1 && lines[0].contains("23.03"), &format!("it says {lines:?}"));
    port.refuse("attach name=net_vuser0 args=path=loopback");
    port.pools();
    port.vhost(0, 1, "");
    port.quit();
}

/// dpdk-pmdinfo finds what the driver is and takes.
#[test]
fn says_what_it_is() {
    if !ours("says_what_it_is") {
        return;
    }
    let bytes = fs::read(made("librte_net_vuser.so")).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let info = text.split("PMD_INFO_STRING= ").nth(1).and_then(|rest| rest.split('\0').next()).expect("no information");
    for word in ["\"name\" : \"net_vuser\"", "path=<", "packed_vq=", "simd="] {
        assert!(info.contains(word), "{word} is not in {info}");
    }
}

/// A second process of the same EAL can't have the device; it says so, and lives.
#[test]
fn not_into_a_secondary_process() {
    const TEST: &str = "not_into_a_secondary_process";
    if !ours(TEST) {
        return;
    }
    let dir = Arc::new(scratch(TEST));
    let plugin = plugin();
    // Two processes of one EAL share its memory, which ordinary pages can't be.
    let huge = ["--huge-unlink=never", "-m", "32", "--file-prefix=both", "--proc-type"];
    let Some(mount) = crate::memory::Mounted::mount(TEST) else { return };
    let eal = |kind| -> Vec<String> {
        let huge = huge.map(str::to_owned);
        [plugin.clone(), vec![mount.argument()], huge.to_vec(), vec![kind]].concat()
    };
    let (first, second) = (eal("primary".into()), eal("secondary".into()));
    let words = |list: &[String]| list.to_vec();
    let (first, second) = (words(&first), words(&second));
    let turn = Turn::wait(1);
    let mut primary = Port::launch(&dir, &refs(&first), &[], Some(turn)).unwrap();
    primary.tell("pool name=vhost count=1000");
    primary.tell("pool name=port count=1000");
    let vhost = primary.vhost(0, 1, "");
    let device = primary.device(0, &BOTH[0].args());
    primary.run(device, vhost, "");
    // Whether EAL lets it in with the port or not is EAL's; that it comes to no harm is ours.
    if let Ok(mut secondary) = Port::launch(&dir, &refs(&second), &[], None) {
        let error = secondary.ask(&format!("exchange port={device} frames=1 patience=100"));
        secondary.check(error.is_err(), "it uses rings that are the primary's");
        secondary.refuse("attach name=net_vuser7 args=path=loopback");
        secondary.tell("census");
    }
    primary.tell(&format!("exchange port={device} peer={vhost} frames=500"));
    primary.quit();
}

fn refs(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

/// Old names, when their owner says so: ports keep theirs, and old command lines need no change.
#[test]
fn under_the_names_of_dpdks_driver() {
    const TEST: &str = "under_the_names_of_dpdks_driver";
    if !ours(TEST) {
        return;
    }
    for name in ["net_virtio_user0", "virtio_user3"] {
        let file = made("librte_net_vuser.so").display().to_string();
        let mut port = launch(TEST, &["-d", &file], &[("VUSER_CLAIM_VIRTIO_USER", "1")]);
        frames_pass(&mut port, name);
        port.check(port.says(0, &format!("{name} is served")), "the log does not say who serves it");
        let vhost = port.vhost(1, 1, "");
        let socket = port.file("s1");
        let device = port.tell(&format!("attach name={name} args=path={}", socket.display())).number("port");
        let info = port.tell(&format!("info port={device}"));
        let is = (info.text("name"), info.text("driver"), info.text("firmware").contains("vuser"));
        port.check(is == (name, "net_virtio_user", true), &format!("the port is {is:?}"));
        port.run(device, vhost, "");
        port.quit();
    }
}

/// Without their owner's word the old names stay DPDK's.
#[test]
fn leaves_dpdks_driver_alone() {
    const TEST: &str = "leaves_dpdks_driver_alone";
    if !ours(TEST) {
        return;
    }
    let file = made("librte_net_vuser.so").display().to_string();
    let mut port = launch(TEST, &["-d", &file], &[]);
    port.pools();
    port.vhost(0, 1, "");
    let socket = port.file("s0");
    let device = port.tell(&format!("attach name=net_virtio_user0 args=path={}", socket.display())).number("port");
    let info = port.tell(&format!("info port={device}"));
    port.check(!info.text("firmware").contains("vuser"), "it is ours");
}

/// DPDK's own directory of drivers, and what the name of a file has to end in there.
fn drivers_directory() -> (String, String) {
    let ask = "echo RTE_EAL_PMD_PATH | cc $(pkg-config --cflags libdpdk) -include rte_build_config.h -E -P - | tail -1";
    let directory = run(Command::new("sh").args(["-c", ask])).trim().trim_matches('"').to_owned();
    let abi = directory.rsplit('-').next().unwrap().to_owned();
    (directory, abi)
}

/// Starts what follows with the plug-in added to DPDK's own directory, which nobody else sees. None: not possible here.
fn installed(port_directory: &Path) -> Option<[String; 5]> {
    let (directory, abi) = drivers_directory();
    let [upper, work] = ["upper", "work"].map(|name| port_directory.join(name));
    for made in [&upper, &work] {
        fs::create_dir_all(made).unwrap();
    }
    fs::copy(made("librte_net_vuser.so"), upper.join(format!("librte_net_vuser.so.{abi}"))).unwrap();
    let options = format!("lowerdir={directory},upperdir={},workdir={}", upper.display(), work.display());
    let script = format!("mount -t overlay -o {options} none {directory} && exec \"$@\"");
    let by = ["unshare".into(), "--mount".into(), "sh".into(), "-c".into(), script];
    let words = refs(&by);
    let works =
        Command::new(words[0]).args(&words[1..]).args(["sh", "true"]).output().is_ok_and(|o| o.status.success());
    works.then_some(by)
}

#[test]
fn from_dpdks_own_directory() {
    const TEST: &str = "from_dpdks_own_directory";
    if !ours(TEST) {
        return;
    }
    let dir = Arc::new(scratch(TEST));
    let Some(by) = installed(&dir.0) else {
        return skip(&format!("dpdk::{TEST}"), "file systems can't be laid over each other here");
    };
    let by = [&refs(&by)[..], &["sh"]].concat();
    let mut port = Port::launch_program(&by, "tests/port", &dir, PLAIN, &[], Some(Turn::wait(1))).unwrap();
    frames_pass(&mut port, "net_vuser0");
    port.quit();
}

/// Claimed names are ours wherever we are loaded from, and whoever is there already.
#[test]
fn claimed_names_are_ours_however_we_came() {
    const TEST: &str = "claimed_names_are_ours_however_we_came";
    if !ours(TEST) {
        return;
    }
    let dir = Arc::new(scratch(TEST));
    let file = made("librte_net_vuser.so").display().to_string();
    let theirs = format!("{}/librte_net_virtio.so", drivers_directory().0);
    let by = installed(&dir.0);
    let by: Vec<&str> = by.as_ref().map_or(Vec::new(), |by| [&refs(by)[..], &["sh"]].concat());
    let option = ["-d", file.as_str()];
    let after = ["-d", theirs.as_str(), "-d", file.as_str()];
    let cases: [(&str, &[&str], &[&str], &str); 5] = [
        ("by option", &[], &option, ""),
        ("by preload", &[], &[], &file),
        ("after DPDK's driver", &[], &after, ""),
        ("into a program linked with DPDK's driver", &[], &option, &theirs),
        ("from DPDK's directory", &by, &[], ""),
    ];
    for (how, by, options, preload) in cases {
        if how.starts_with("from") && by.is_empty() {
            skip(&format!("dpdk::{TEST}"), "file systems can't be laid over each other here");
            continue;
        }
        let vdevs = ["--vdev=net_virtio_user0,path=loopback", "--vdev=virtio_user5,path=loopback"];
        let eal = [PLAIN, options, &vdevs].concat();
        let env = [("VUSER_CLAIM_VIRTIO_USER", "1"), ("LD_PRELOAD", preload)];
        let mut port = Port::launch_program(by, "tests/port", &dir, &eal, &env, Some(Turn::wait(1))).unwrap();
        for n in 0..2 {
            let info = port.tell(&format!("info port={n}"));
            let is_ours = info.text("firmware").contains("vuser");
            port.check(is_ours, &format!("{how}: port {n} is {}'s", info.text("driver")));
        }
        port.quit();
    }
}

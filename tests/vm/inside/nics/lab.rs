//! QEMU's interfaces, the way to tell QEMU things, and the neighbour.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::inside::lab::{cat, sh};

/// How long QEMU or the kernel may take for what takes no time.
const SOON: Duration = Duration::from_secs(20);

/// QEMU has the queues that were negotiated, at first three, and vp_vdpa those that there are when it comes. So the features of
/// several are written to the device before: MQ and CTRL_VQ, VERSION_1 and ACCESS_PLATFORM (VIRTIO 4.1.4.3).
const SHOWS_ALL_QUEUES: &str = "
    base=$(sed -n 5p PCI/resource | cut -d' ' -f1); echo 1 > PCI/enable
    common() { busybox devmem $((base + $1)) $2 $3; }
    common 20 8 0; common 20 8 1; common 20 8 3
    common 8 32 0; common 12 32 $((1 << 22 | 1 << 17)); common 8 32 1; common 12 32 3";

/// One of QEMU's interfaces, as a vDPA device of the kernel's (vp_vdpa), as long as this lives.
pub struct Nic {
    pub name: String,
    /// What devargs begin with.
    pub path: String,
    /// Its file.
    pub file: String,
}

impl Nic {
    pub fn new(number: u8) -> Self {
        let (name, at) = (format!("nic{number}"), format!("0000:00:1{number}.0"));
        let pci = format!("/sys/bus/pci/devices/{at}");
        // Whoever has it gives it back: no driver takes it by itself while this one is asked for.
        sh(&format!(
            "[ $(basename $(readlink {pci}/driver)) = vp-vdpa ] || {{ echo vp-vdpa > {pci}/driver_override;
             echo {at} > {pci}/driver/unbind; {}
             echo {at} > /sys/bus/pci/drivers/vp-vdpa/bind; }}
             vdpa dev add name {name} mgmtdev pci/{at}",
            if number == super::SEVERAL { SHOWS_ALL_QUEUES.replace("PCI", &pci) } else { String::new() }
        ));
        let file = format!("/dev/{}", sh(&format!("ls /sys/bus/vdpa/devices/{name} | grep ^vhost-vdpa-")));
        Self { name, path: format!("path={file}"), file }
    }
}

impl Drop for Nic {
    fn drop(&mut self) {
        sh(&format!("timeout 20 vdpa dev del {}", self.name));
    }
}

/// What QEMU is told by: QMP, over a port.
pub struct Monitor {
    port: File,
    read: Vec<u8>,
    number: u32,
}

fn readable(file: &impl AsFd, at_most: Duration) -> bool {
    let timeout = PollTimeout::try_from(at_most).expect("a short time");
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, timeout) == Ok(1) && fds[0].revents().is_some_and(|is| is.contains(PollFlags::POLLIN))
}

impl Monitor {
    pub fn new() -> Self {
        let port = sh("basename $(dirname $(grep -lx vm.monitor /sys/class/virtio-ports/*/name))");
        let port = OpenOptions::new().read(true).write(true).open(format!("/dev/{port}")).expect("the port");
        let mut monitor = Self { port, read: Vec::new(), number: 0 };
        // It is refused when it is not the first.
        monitor.exchange("qmp_capabilities", "{}");
        monitor
    }

    /// Executes a command; what it returns.
    pub fn execute(&mut self, command: &str, arguments: &str) -> String {
        let answer = self.exchange(command, arguments);
        assert!(answer.contains("\"return\""), "{command} {arguments}: {answer}");
        answer
    }

    fn exchange(&mut self, command: &str, arguments: &str) -> String {
        self.number += 1;
        let id = format!("{}-{}", std::process::id(), self.number);
        writeln!(self.port, "{{\"execute\": \"{command}\", \"arguments\": {arguments}, \"id\": \"{id}\"}}")
            .expect("QEMU");
        let end = Instant::now() + SOON;
        loop {
            assert!(Instant::now() < end, "QEMU does not answer {command}: {}", String::from_utf8_lossy(&self.read));
            if let Some(line) = self.line().filter(|line| line.contains(&format!("\"id\": \"{id}\""))) {
                return line;
            }
        }
    }

    /// The next line, if one comes soon. Events are lines, too.
    fn line(&mut self) -> Option<String> {
        let end = self.read.iter().position(|byte| *byte == b'\n');
        if let Some(end) = end {
            let line: Vec<u8> = self.read.drain(..=end).collect();
            return Some(String::from_utf8_lossy(&line).into_owned());
        }
        if readable(&self.port, Duration::from_millis(100)) {
            let mut bytes = [0; 4096];
            let n = self.port.read(&mut bytes).expect("the port");
            self.read.extend(&bytes[..n]);
        }
        None
    }

    /// What QEMU says of an interface's filter.
    pub fn filter(&mut self, nic: &Nic) -> Filter {
        Filter(self.execute("query-rx-filter", &format!("{{\"name\": \"{}\"}}", nic.name)))
    }
}

/// Which frames an interface takes, in QEMU's words.
pub struct Filter(String);

impl Filter {
    /// What stands behind a name, up to the end of it.
    fn field(&self, name: &str) -> &str {
        let (_, rest) =
            self.0.split_once(&format!("\"{name}\": ")).unwrap_or_else(|| panic!("no {name} in {}", self.0));
        match rest.strip_prefix('[') {
            Some(list) => list.split(']').next().expect("a list"),
            None => rest.split([',', '}']).next().expect("a value").trim_matches('"'),
        }
    }

    pub fn is(&self, name: &str, value: &str) {
        assert_eq!(self.field(name), value, "{name} in {}", self.0);
    }

    /// A list, sorted.
    pub fn list(&self, name: &str) -> Vec<String> {
        let mut all: Vec<_> = self.field(name).split(", ").map(|item| item.trim_matches('"').to_owned()).collect();
        all.retain(|item| !item.is_empty());
        all.sort();
        all
    }
}

/// The interface beside ours, at the same hub, with the kernel's own driver.
pub struct Neighbour {
    socket: Arc<OwnedFd>,
    echo: Option<(Arc<AtomicBool>, JoinHandle<u64>)>,
}

/// The ethertype of the tests.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

/// The one at the hub, and the one at the bridge, where several queues are.
pub const AT_HUB: u8 = 2;
pub const AT_BRIDGE: u8 = 4;

pub fn neighbour_name(number: u8) -> String {
    sh(&format!("ls /sys/bus/pci/devices/0000:00:1{number}.0/virtio*/net"))
}

/// Whether there is an interface with several queues.
pub fn has_several_queues(test: &str) -> bool {
    let there = std::path::Path::new("/sys/bus/pci/devices/0000:00:13.0").exists();
    if !there {
        println!("SKIP nics::{test}: QEMU could not have taps");
        assert!(
            std::env::var("VUSER_REQUIRE_ALL").as_deref() != Ok("1"),
            "VUSER_REQUIRE_ALL=1, but {test} was skipped"
        );
    }
    there
}

impl Neighbour {
    pub fn new() -> Self {
        Self::at(AT_HUB)
    }

    pub fn at(number: u8) -> Self {
        let name = neighbour_name(number);
        sh(&format!("ip link set {name} up"));
        let index = cat(&format!("/sys/class/net/{name}/ifindex")).parse().expect("a number");
        // SAFETY: plain calls; the structure lives as long as the call.
        let socket = unsafe {
            let all = (libc::ETH_P_ALL as u16).to_be();
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, all.into());
            assert!(fd >= 0, "no packet socket");
            let mut place: libc::sockaddr_ll = std::mem::zeroed();
            (place.sll_family, place.sll_protocol, place.sll_ifindex) = (libc::AF_PACKET as u16, all, index);
            // As the sizes of packets are counted there, the usual has no room for what our rings hold.
            let (room, len): (libc::c_int, _) = (4 << 20, size_of::<libc::c_int>() as u32);
            let set = libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const room).cast::<libc::c_void>(),
                len,
            );
            assert_eq!(set, 0, "SO_RCVBUFFORCE");
            let len = size_of_val(&place) as u32;
            assert_eq!(libc::bind(fd, (&raw const place).cast(), len), 0, "bind");
            OwnedFd::from_raw_fd(fd)
        };
        Self { socket: Arc::new(socket), echo: None }
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) {
        assert_eq!(send(&self.socket, frame), frame.len() as isize, "send");
    }

    /// From now on frames of the tests are sent back as they are.
    pub fn echo(mut self) -> Self {
        let (stop, socket) = (Arc::new(AtomicBool::new(false)), self.socket.clone());
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut bytes, mut count) = ([0; 4096], 0);
            while !told.load(Ordering::Relaxed) {
                let len = if readable(&*socket, Duration::from_millis(20)) { receive(&socket, &mut bytes) } else { 0 };
                if len > 14 && bytes[12..14] == ETHERTYPE {
                    count += u64::from(send(&socket, &bytes[..len]) > 0);
                }
            }
            count
        });
        self.echo = Some((stop, thread));
        self
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.echo.take() {
            stop.store(true, Ordering::Relaxed);
            let _ = thread.join();
        }
    }
}

fn send(socket: &OwnedFd, frame: &[u8]) -> isize {
    // SAFETY: the bytes live as long as the call.
    unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) }
}

/// A frame that came, and not one that went.
fn receive(socket: &OwnedFd, bytes: &mut [u8]) -> usize {
    // SAFETY: all of it may be written, and lives as long as the call.
    let (len, from) = unsafe {
        let mut from: libc::sockaddr_ll = std::mem::zeroed();
        let mut size = size_of_val(&from) as u32;
        let place = (&raw mut from).cast();
        let len = libc::recvfrom(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0, place, &raw mut size);
        (len, from)
    };
    if from.sll_pkttype == libc::PACKET_OUTGOING { 0 } else { usize::try_from(len).unwrap_or(0) }
}

//! Opening a device of the kernel: every way in which that fails has its sentence, with what to do.

use std::path::Path;

use nix::errno::Errno;

use super::{BY_INTERFACE, NEVER, Options, Unit, VhostKernel, offload};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::spec::virtio::Features;
use crate::sys::eventfd::Bell;
use crate::sys::limits;
use crate::sys::netdev::{self, NetDev};
use crate::sys::tap::{self, TapQueue};
use crate::sys::vhost::Vhost;

pub fn open(options: &Options) -> Result<VhostKernel> {
    // First what can be refused without anything having been made.
    let vhosts: Vec<Vhost> = (0..options.pairs).map(|_| open_vhost(&options.path)).collect::<Result<_>>()?;
    let queue = open_tap()?;
    let several = several_queues(&queue, options)?;
    let name = queue.attach(&options.iface, several).map_err(|e| not_attached(e, options, several))?;
    let named = |e: Errno, what: &str| Error::sys(e, format!("{name}: {what} failed"));
    let mut queues = vec![queue];
    for _ in 1..options.pairs {
        let queue = open_tap()?;
        queue.attach(&name, several).map_err(|e| not_attached(e, options, several))?;
        // Nobody serves it yet.
        queue.set_attached(false).map_err(|e| named(e, "TUNSETQUEUE"))?;
        queues.push(queue);
    }
    let mut offered = BY_INTERFACE;
    offered.set(Features::MQ | Features::CTRL_VQ, several);
    if let Some(first) = queues.first() {
        offered |= offload::probe(first).map_err(|e| named(e, "TUNSETOFFLOAD"))?;
        first.set_send_room_unlimited().map_err(|e| named(e, "TUNSETSNDBUF"))?;
    }
    let interface = NetDev::named(&name).map_err(|e| named(e, "looking at the interface"))?;
    let state = interface.state().map_err(|e| named(e, "looking at the interface"))?;
    let units: Vec<Unit> = vhosts.into_iter().zip(queues).zip(0..).map(unit).collect::<Result<_>>()?;
    let vhost = units.iter().map(|unit| unit.vhost.features()).try_fold(u64::MAX, |all, f| f.map(|f| all & f));
    let vhost = vhost.map_err(|e| named(e, "VHOST_GET_FEATURES"))?;
    let vhost = Features::from_bits_retain(vhost.into()) - NEVER;
    let (path, busyloop_us, offered) = (options.path.clone(), options.busyloop_us, offered | vhost);
    let mut made = VhostKernel {
        units,
        interface,
        path,
        name,
        vhost,
        offered,
        busyloop_us,
        state,
        gone: None,
        out_of_sight: false,
    };
    if let Some(mac) = options.mac {
        made.set_mac(mac)?;
    }
    if let Some(mtu) = options.mtu {
        made.set_mtu(mtu)?;
    }
    made.set_carrier(false)?;
    // Last: what failed leaves nothing behind.
    if options.persist {
        let kept = made.tap()?.set_persist(true);
        kept.map_err(|e| Error::sys(e, format!("{}: TUNSETPERSIST failed", made.name)))?;
    }
    Ok(made)
}

fn unit(((vhost, tap), pair): ((Vhost, TapQueue), usize)) -> Result<Unit> {
    let errors = [Bell::new()?, Bell::new()?];
    let owned = vhost.set_owner();
    owned.map_err(|e| Error::sys(e, "VHOST_SET_OWNER failed (it starts a thread of the kernel; see ulimit -u)"))?;
    Ok(Unit { vhost, tap, attached: pair == 0, on: [false; 2], errors })
}

fn open_vhost(path: &Path) -> Result<Vhost> {
    Vhost::open(path).map_err(|e| not_opened(e, &path.display().to_string(), "vhost_net"))
}

fn open_tap() -> Result<TapQueue> {
    TapQueue::open().map_err(|e| not_opened(e, tap::CLONE, "tun"))
}

fn not_opened(e: Errno, path: &str, module: &str) -> Error {
    let hint = match e {
        Errno::ENOENT | Errno::ENXIO | Errno::ENODEV => {
            format!(
                "its kernel module is not loaded: run as root: modprobe {module} (a container needs --device {path})"
            )
        }
        Errno::EACCES | Errno::EPERM => {
            "this needs read and write permission on the file: run as root, or join its group (see ls -l)".to_owned()
        }
        _ => return limits::not_opened(e, &format!("cannot open {path}")),
    };
    Error::new(e, format!("cannot open {path}: {}: {hint}", e.desc()))
}

/// Whether the tap has, or is to have, several queues.
fn several_queues(queue: &TapQueue, options: &Options) -> Result<bool> {
    let (iface, pairs) = (&options.iface, options.pairs);
    let (headers, several) = queue.kernel_can().map_err(|e| Error::sys(e, "TUNGETFEATURES failed"))?;
    let cannot = |what: String| Err(Error::new(Errno::ENOTSUP, what));
    if !headers {
        return cannot("taps of this kernel have no virtio-net headers (IFF_VNET_HDR)".to_owned());
    }
    match tap::is_multi_queue(iface) {
        Some(true) => Ok(true),
        Some(false) if pairs > 1 => cannot(format!(
            "queues={pairs}: {iface} is there already and has one queue: give queues=1, or make it anew: ip link del \
             {iface}; ip tuntap add dev {iface} mode tap multi_queue"
        )),
        None if pairs > 1 && !several => cannot(format!("queues={pairs}: taps of this kernel have one queue each")),
        _ => Ok(pairs > 1),
    }
}

/// TUNSETIFF has failed.
fn not_attached(e: Errno, options: &Options, several: bool) -> Error {
    let iface = match options.iface.as_str() {
        "" => "a tap",
        name => name,
    };
    let kind = if several { "tap multi_queue" } else { "tap" };
    let hint = match e {
        Errno::EPERM | Errno::EACCES => format!(
            "CAP_NET_ADMIN is missing: run as root, or have the interface made for this user: ip tuntap add dev NAME mode \
             {kind} user {}",
            nix::unistd::Uid::effective()
        ),
        Errno::EBUSY => match tap::owner(iface) {
            Some(owner) => format!("{owner} has it: end that, or give another iface"),
            None => "another process has it: end that, or give another iface".to_owned(),
        },
        Errno::EINVAL if tap::is_multi_queue(iface).is_none() && netdev::exists(iface) => {
            "an interface of that name is there, and it is no tap: give another iface".to_owned()
        }
        Errno::EINVAL => {
            "the kernel does not like the name: no slashes, colons or spaces; or leave iface away".to_owned()
        }
        Errno::E2BIG => "the interface has as many queues as it can have".to_owned(),
        _ => return Error::sys(e, format!("cannot get {iface}")),
    };
    Error::new(e, format!("cannot get {iface}: {}: {hint}", e.desc()))
}

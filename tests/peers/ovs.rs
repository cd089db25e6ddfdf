//! Open vSwitch with its DPDK data path, started privately: own database, own sockets, ordinary pages.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use crate::support::{Scratch, skip};

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const DEBIANS: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const LIMIT: Duration = Duration::from_secs(30);

/// Who listens, and who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The switch listens: `dpdkvhostuser`.
    Server,
    /// The switch connects: `dpdkvhostuserclient`.
    Client,
}

/// A running switch with one bridge; gone when dropped.
pub struct Ovs {
    /// One at a time: each has a CPU of its own.
    _alone: MutexGuard<'static, ()>,
    /// An interface of the kernel's has its name.
    bridge: String,
    dir: PathBuf,
    database: Child,
    switch: Option<Child>,
    ports: Vec<PathBuf>,
}

static ALONE: Mutex<()> = Mutex::new(());

fn program() -> PathBuf {
    env::var_os("VUSER_OVS_VSWITCHD").map_or_else(|| PathBuf::from(DEBIANS), PathBuf::from)
}

/// Whether there is one; says why not.
pub fn possible(test: &str) -> bool {
    let there = program().is_file() && Path::new(SCHEMA).is_file();
    if !there {
        skip(&format!("peers::{test}"), "there is no Open vSwitch with DPDK (Debian: openvswitch-switch-dpdk)");
    }
    there
}

impl Ovs {
    /// With a bridge that learns, and no ports yet.
    pub fn start(scratch: &Scratch) -> Result<Self, String> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = scratch.0.clone();
        run(command("ovsdb-tool", &dir).arg("create").arg(dir.join("conf.db")).arg(SCHEMA))?;
        let database = command("ovsdb-server", &dir)
            .arg(dir.join("conf.db"))
            .arg(format!("--remote=punix:{}", dir.join("db.sock").display()))
            .arg(format!("--unixctl={}", dir.join("ovsdb.ctl").display()))
            .args(["-vconsole:off", "--no-chdir"])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|e| format!("ovsdb-server: {e}"))?;
        let bridge = format!("vu{}", process::id());
        let mut ovs = Self { _alone: alone, bridge, dir, database, switch: None, ports: Vec::new() };
        ovs.wait_for("the database", |ovs| ovs.dir.join("db.sock").exists())?;
        // A CPU for packets, which it leaves to others when there are none.
        ovs.ask(&[
            "--no-wait",
            "init",
            "--",
            "set",
            "Open_vSwitch",
            ".",
            "other_config:dpdk-init=true",
            "other_config:dpdk-extra=\"--no-huge --legacy-mem --no-shconf --no-pci --no-telemetry -m 640\"",
            "other_config:per-port-memory=true",
            "other_config:pmd-maxsleep=200",
        ])?;
        ovs.switch_on()?;
        let bridge = ovs.bridge.clone();
        ovs.ask(&["add-br", &bridge, "--", "set", "bridge", &bridge, "datapath_type=netdev"])?;
        Ok(ovs)
    }

    /// A port, the socket of which has its name.
    pub fn add_port(&mut self, name: &str, kind: Kind) -> Result<PathBuf, String> {
        let socket = self.dir.join(name);
        let interface = ["--", "set", "Interface", name];
        let path = format!("options:vhost-server-path={}", socket.display());
        let how: &[&str] = match kind {
            Kind::Server => &["type=dpdkvhostuser"],
            Kind::Client => &["type=dpdkvhostuserclient", &path],
        };
        self.ask(&[&["add-port", &self.bridge, name], &interface[..], how].concat())?;
        if kind == Kind::Server {
            self.ports.push(socket.clone());
        }
        Ok(socket)
    }

    /// Ends the switch as a crash would. The database lives.
    pub fn kill_switch(&mut self) {
        if let Some(mut switch) = self.switch.take() {
            let _ = switch.kill();
            let _ = switch.wait();
        }
    }

    /// Asks the switch to end, and waits until it has.
    pub fn end_switch(&mut self) -> Result<(), String> {
        let control = self.dir.join("vswitchd.ctl");
        run(command("ovs-appctl", &self.dir).arg("-t").arg(control).arg("exit"))?;
        let switch = self.switch.take();
        switch.map_or(Ok(()), |mut switch| switch.wait().map(|_| ()).map_err(|e| e.to_string()))
    }

    /// Starts the switch with what the database has.
    pub fn switch_on(&mut self) -> Result<(), String> {
        // A switch that was killed leaves its sockets, and the next one can't bind there.
        for socket in &self.ports {
            let _ = fs::remove_file(socket);
        }
        let control = self.dir.join("vswitchd.ctl");
        let _ = fs::remove_file(&control);
        let log =
            fs::File::options().create(true).append(true).open(self.dir.join("out")).map_err(|e| e.to_string())?;
        let switch = command(&program().display().to_string(), &self.dir)
            .arg(format!("unix:{}", self.dir.join("db.sock").display()))
            .arg(format!("--unixctl={}", control.display()))
            .arg(format!("--log-file={}", self.dir.join("vswitchd.log").display()))
            .arg("-vconsole:off")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|e| e.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|e| format!("{}: {e}", program().display()))?;
        self.switch = Some(switch);
        self.wait_for("the switch", |ovs| ovs.dir.join("vswitchd.ctl").exists())
    }

    /// Port of the bridge by address, as the switch has learned them.
    pub fn learned(&self) -> Result<Vec<(String, u32)>, String> {
        let control = self.dir.join("vswitchd.ctl");
        let table = run(command("ovs-appctl", &self.dir).arg("-t").arg(control).args(["fdb/show", &self.bridge]))?;
        let rows = table.lines().skip(1).filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            Some(((*words.get(2)?).to_string(), words.first()?.parse().ok()?))
        });
        Ok(rows.collect())
    }

    /// What the switch calls an error in its log.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.log();
        let errors = log.lines().filter(|line| line.contains("|ERR|") || line.contains("|EMER|"));
        errors.map(String::from).collect()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("vswitchd.log")).unwrap_or_default()
    }

    fn ask(&self, args: &[&str]) -> Result<String, String> {
        let database = format!("--db=unix:{}", self.dir.join("db.sock").display());
        run(command("ovs-vsctl", &self.dir).args([database.as_str(), "--timeout=30"]).args(args))
    }

    fn wait_for(&mut self, what: &str, ready: impl Fn(&Self) -> bool) -> Result<(), String> {
        let end = Instant::now() + LIMIT;
        while !ready(self) {
            let gone = match &mut self.switch {
                Some(switch) => switch.try_wait().map_err(|e| e.to_string())?,
                None => self.database.try_wait().map_err(|e| e.to_string())?,
            };
            if gone.is_some() || Instant::now() > end {
                let out = fs::read_to_string(self.dir.join("out")).unwrap_or_default();
                return Err(format!("{what} did not come up ({gone:?}):\n{}\n{out}", self.log()));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        self.kill_switch();
        let _ = self.database.kill();
        let _ = self.database.wait();
    }
}

/// One of Open vSwitch's programs, with all that it keeps in our directory.
fn command(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    for name in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR", "RUNTIME_DIRECTORY"] {
        command.env(name, dir);
    }
    command
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let [text, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    if output.status.success() { Ok(text.into_owned()) } else { Err(format!("{command:?}: {text}{errors}")) }
}

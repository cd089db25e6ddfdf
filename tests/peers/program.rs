//! A program of ours that meets somebody else's: started, told, listened to.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::support::made;
use crate::support::testpmd::keep;

/// The running program; killed when dropped.
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    errors: Arc<Mutex<String>>,
}

impl Program {
    pub fn start(name: &str, args: &[String]) -> Self {
        Self::with_env(name, args, &[])
    }

    pub fn with_env(name: &str, args: &[String], env: &[(&str, &Path)]) -> Self {
        Self::spawn(Command::new(made(&format!("tests/{name}"))).args(args).envs(env.iter().copied()))
    }

    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let errors = Arc::new(Mutex::new(String::new()));
        keep(child.stderr.take().expect("it was asked for"), &errors);
        let lines = listen(child.stdout.take().expect("it was asked for"));
        Self { stdin: child.stdin.take(), child, lines, errors }
    }

    /// The next line that it prints.
    pub fn line(&mut self, limit: Duration) -> Result<String, String> {
        self.lines
            .recv_timeout(limit)
            .map_err(|e| format!("no line within {limit:?} ({e}); on stderr: {}", self.errors.lock().unwrap()))
    }

    /// Waits for a line that is this word.
    pub fn expect(&mut self, word: &str, limit: Duration) -> Result<(), String> {
        match self.line(limit)? {
            line if line == word => Ok(()),
            line => Err(format!("{word:?} was expected, not {line}")),
        }
    }

    pub fn tell(&mut self, line: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ = writeln!(stdin, "{line}");
        }
    }

    /// Its last line, which has to say that all was right.
    pub fn report(mut self, limit: Duration) -> Result<String, String> {
        let mut last = self.line(limit)?;
        while !last.starts_with('{') {
            last = self.line(limit)?;
        }
        drop(self.stdin.take());
        let status = self.child.wait().map_err(|e| e.to_string())?;
        if status.success() && last.contains("\"ok\":true") {
            return Ok(last);
        }
        Err(format!("{status}: {last}\n{}", self.errors.lock().unwrap()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

/// The number behind a name in a line of JSON that our own program wrote.
pub fn number(json: &str, key: &str) -> u64 {
    let rest = json.split_once(&format!("\"{key}\":")).map(|(_, rest)| rest);
    let digits = rest.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    digits.and_then(|d| d.parse().ok()).unwrap_or_else(|| panic!("no {key} in {json}"))
}

//! A daemon that a lab started: its output kept, its readiness awaited, its end certain.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Lines of standard output kept for waiting on; a daemon's readiness is among its first.
const KEPT_LINES: usize = 1024;

/// Lines of its log shown when a process fails.
const TAIL: usize = 12;

/// Between asking a process to stop and ending it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(2);

/// Why a process could not be started or did not do what was awaited.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started, or its log not be written.
    #[error("cannot start {name} ({what}): {source}")]
    Start {
        /// Name given to it.
        name: String,
        /// The command or file at fault.
        what: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// It ended while something was awaited of it.
    #[error("{name} ended ({status}) before {awaited}; last lines of {log}:\n{tail}", log = log.display())]
    Ended {
        /// Name given to it.
        name: String,
        /// What was awaited.
        awaited: String,
        /// How it ended.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The end of its log.
        tail: String,
    },
    /// The deadline passed.
    #[error("{name}: no {awaited} within {waited:?}; last lines of {log}:\n{tail}", log = log.display())]
    Late {
        /// Name given to it.
        name: String,
        /// What was awaited.
        awaited: String,
        /// How long was waited.
        waited: Duration,
        /// Its log.
        log: PathBuf,
        /// The end of its log.
        tail: String,
    },
}

#[derive(Debug, Default)]
struct Output {
    lines: VecDeque<String>,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    output: Mutex<Output>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running process; dropping it ends it (SIGTERM, then SIGKILL).
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`. Its standard error goes to `<directory>/<name>.log`, its standard output to
    /// `<directory>/<name>.out` and to [`Self::await_line`].
    ///
    /// # Errors
    /// [`ProcessError::Start`].
    pub fn start(name: &str, command: Command, directory: &Path) -> Result<Self, ProcessError> {
        let log = directory.join(format!("{name}.log"));
        let file = File::create(&log).map_err(|source| ProcessError::Start {
            name: name.to_owned(),
            what: log.display().to_string(),
            source,
        })?;
        Self::spawn(name, command, directory, file.into())
    }

    /// Like [`Self::start`], but its standard error is this process's: somebody watches.
    ///
    /// # Errors
    /// [`ProcessError::Start`].
    pub fn start_shown(
        name: &str,
        command: Command,
        directory: &Path,
    ) -> Result<Self, ProcessError> {
        Self::spawn(name, command, directory, Stdio::inherit())
    }

    fn spawn(
        name: &str,
        mut command: Command,
        directory: &Path,
        stderr: Stdio,
    ) -> Result<Self, ProcessError> {
        let log = directory.join(format!("{name}.log"));
        let out = directory.join(format!("{name}.out"));
        let fail = |what: String| {
            let name = name.to_owned();
            move |source| ProcessError::Start { name, what, source }
        };
        let copy = File::create(&out).map_err(fail(out.display().to_string()))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(fail(format!("{command:?}")))?;
        let shared = Arc::new(Shared::default());
        let reader = child.stdout.take().map(|stdout| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || read_lines(stdout, copy, &shared))
        });
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
            shared,
            reader,
        })
    }

    /// The process id. The program runs under it directly: `ip netns exec` replaces itself.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its standard error goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until a line of standard output is accepted, and returns what was made of it.
    ///
    /// # Errors
    /// [`ProcessError::Ended`] or [`ProcessError::Late`], with the end of the log.
    pub fn await_line<T>(
        &mut self,
        awaited: &str,
        within: Duration,
        mut accept: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, ProcessError> {
        let deadline = Instant::now() + within;
        let shared = Arc::clone(&self.shared);
        let mut output = shared.lock();
        loop {
            while let Some(line) = output.lines.pop_front() {
                if let Some(found) = accept(&line) {
                    return Ok(found);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if output.is_closed {
                drop(output);
                return Err(self.ended(awaited));
            }
            if left.is_zero() {
                drop(output);
                return Err(self.late(awaited, within));
            }
            output = shared
                .changed
                .wait_timeout(output, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`ProcessError::Late`].
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus, ProcessError> {
        let deadline = Instant::now() + within;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Err(source) => {
                    return Err(ProcessError::Start {
                        name: self.name.clone(),
                        what: "waiting".into(),
                        source,
                    });
                }
                Ok(None) if Instant::now() >= deadline => return Err(self.late("end", within)),
                Ok(None) => std::thread::sleep(LOOK),
            }
        }
    }

    /// Waits for its end and returns all it wrote to standard output.
    ///
    /// # Errors
    /// [`ProcessError::Late`]; [`ProcessError::Start`] if its output cannot be read back.
    pub fn output(&mut self, within: Duration) -> Result<(ExitStatus, String), ProcessError> {
        let status = self.wait(within)?;
        if let Some(reader) = self.reader.take() {
            // A reader that failed has left what it read in the file.
            drop(reader.join());
        }
        let out = self.log.with_extension("out");
        let text = std::fs::read_to_string(&out).map_err(|source| ProcessError::Start {
            name: self.name.clone(),
            what: out.display().to_string(),
            source,
        })?;
        Ok((status, text))
    }

    /// How it ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal; to one that has ended, nothing happens.
    pub fn signal(&mut self, signal: Signal) {
        if self.status().is_none()
            && let Ok(pid) = i32::try_from(self.child.id())
        {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Asks it to stop, and ends it if it does not within five seconds.
    ///
    /// # Errors
    /// [`ProcessError::Late`] if it had to be ended.
    pub fn stop(&mut self) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::SIGTERM);
        let result = self.wait(PATIENCE);
        if result.is_err() {
            self.signal(Signal::SIGKILL);
            drop(self.child.wait());
        }
        result
    }

    /// The last lines of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    fn ended(&mut self, awaited: &str) -> ProcessError {
        let status = match self.wait(PATIENCE) {
            Ok(status) => status.to_string(),
            Err(_) => "closed its output and runs on".to_owned(),
        };
        ProcessError::Ended {
            name: self.name.clone(),
            awaited: awaited.to_owned(),
            status,
            log: self.log.clone(),
            tail: self.tail(),
        }
    }

    fn late(&self, awaited: &str, waited: Duration) -> ProcessError {
        ProcessError::Late {
            name: self.name.clone(),
            awaited: awaited.to_owned(),
            waited,
            log: self.log.clone(),
            tail: self.tail(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

fn read_lines(stdout: ChildStdout, mut copy: File, shared: &Shared) {
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { break };
        // A full disk loses the copy, not the line that is awaited.
        drop(writeln!(copy, "{line}"));
        let mut output = shared.lock();
        if output.lines.len() == KEPT_LINES {
            output.lines.pop_front();
        }
        output.lines.push_back(line);
        shared.changed.notify_all();
    }
    shared.lock().is_closed = true;
    shared.changed.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (Process, PathBuf) {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("plumbline-process-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        (
            Process::start("shell", command, &directory).unwrap(),
            directory,
        )
    }

    #[test]
    fn readiness_is_awaited_and_an_early_end_is_told_with_its_log() {
        let (mut ready, a) = shell("echo no; echo ready 7; exec sleep 60");
        let found = ready.await_line("ready", Duration::from_secs(10), |line| {
            line.strip_prefix("ready ").map(str::to_owned)
        });
        assert_eq!(found.unwrap(), "7");
        assert!(!ready.stop().unwrap().success(), "ended by the signal");

        let (mut ended, b) = shell("echo because >&2; exit 3");
        let error = ended
            .await_line("ready", Duration::from_secs(10), |_| Some(()))
            .unwrap_err()
            .to_string();
        assert!(error.contains("because") && error.contains('3'), "{error}");

        let (mut late, c) = shell("exec sleep 60");
        let error = late
            .await_line("ready", Duration::from_millis(20), |_| Some(()))
            .unwrap_err();
        assert!(matches!(error, ProcessError::Late { .. }), "{error}");
        for directory in [a, b, c] {
            std::fs::remove_dir_all(directory).unwrap();
        }
    }

    #[test]
    fn dropping_ends_the_process() {
        let (mut process, directory) =
            shell("trap '' TERM HUP; echo on; while :; do sleep 0.05; done");
        process
            .await_line("on", Duration::from_secs(10), |line| {
                (line == "on").then_some(())
            })
            .unwrap();
        process.signal(Signal::SIGKILL);
        assert!(!process.wait(Duration::from_secs(10)).unwrap().success());
        let pid = process.pid();
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        std::fs::remove_dir_all(directory).unwrap();
    }
}

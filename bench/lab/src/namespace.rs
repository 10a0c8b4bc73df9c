//! One network namespace: its name, and a way to run a thread inside it.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::thread;

use crate::error::LabError;

/// Where iproute2 keeps named namespaces.
const DIRECTORY: &str = "/run/netns";

/// A named network namespace of a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A handle on the namespace of that name, whether or not it exists yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// The name, as `ip netns list` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(DIRECTORY).join(&self.name)
    }

    pub(crate) fn exists(&self) -> bool {
        self.path().exists()
    }

    /// Moves the calling **thread** into the namespace, for good.
    ///
    /// # Errors
    /// The namespace is gone, or the caller may not enter it.
    pub fn enter(&self) -> io::Result<()> {
        let file = File::open(self.path())?;
        nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
    }

    /// Runs `work` on a new thread inside the namespace: sockets it opens belong there.
    ///
    /// # Errors
    /// The thread could not be started; the namespace could not be entered is told by the thread's result.
    pub fn spawn<T, F>(&self, work: F) -> io::Result<thread::JoinHandle<io::Result<T>>>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        let inside = self.clone();
        thread::Builder::new()
            .name(self.name.chars().take(15).collect())
            .spawn(move || {
                inside.enter()?;
                work()
            })
    }

    /// Runs `work` inside the namespace and waits for it.
    ///
    /// # Errors
    /// [`LabError::Namespace`] saying `what` was tried.
    pub fn run<T, F>(&self, what: &str, work: F) -> Result<T, LabError>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        let fail = |source| LabError::Namespace {
            namespace: self.name.clone(),
            what: what.to_owned(),
            source,
        };
        let handle = self.spawn(work).map_err(fail)?;
        let result = handle
            .join()
            .map_err(|_| fail(io::Error::other("the thread panicked")))?;
        result.map_err(fail)
    }
}

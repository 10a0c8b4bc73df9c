//! A lab that is up: made whole or not at all, and gone when its owner is.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::counters::{Counters, Drops, Port};
use crate::error::LabError;
use crate::namespace::Namespace;
use crate::plan::{Host, MANAGEMENT_LINK, Plan, Shape};
use crate::setup;
use crate::state::Record;
use crate::wire::Wire;

/// Between two readings of the queues while waiting for them to empty.
const SETTLE_LOOK: Duration = Duration::from_millis(5);

/// Held while namespaces are being made, and for good by [`Lab::down_own`]: a signal that arrives
/// half-way waits for the lab to stand before it is removed, and no other is begun after it.
static BUILDING: Mutex<()> = Mutex::new(());

/// A lab that is up; dropping it takes it down.
#[derive(Debug)]
pub struct Lab {
    plan: Plan,
    record: Record,
    ports: Vec<Port>,
    wire: Option<Wire>,
    baseline: Option<Counters>,
    is_down: bool,
}

impl Lab {
    /// Makes the planned lab, after removing labs whose owner died.
    ///
    /// # Errors
    /// [`LabError`]; whatever was made before the failure is removed again.
    pub fn up(plan: Plan) -> Result<Self, LabError> {
        plan.check()?;
        if !nix::unistd::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        Record::reap()?;
        let building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        let record = Record::claim(plan.hosts().map(|host| host.to_string()))?;
        // From here on, leaving early drops the lab, which removes what exists.
        let mut lab = Self {
            plan,
            record,
            ports: Vec::new(),
            wire: None,
            baseline: None,
            is_down: false,
        };
        lab.ports = setup::build(&lab.plan, &lab.record.tag)?;
        drop(building);
        if let Some(wire) = &lab.plan.wire {
            lab.wire = Some(Wire::start(&lab.namespace(Host::Wire), wire, &lab.plan)?);
        }
        lab.baseline = Some(lab.counters()?);
        Ok(lab)
    }

    /// The lab's short name, unique on this machine.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.record.tag
    }

    /// What the lab was made from.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The namespace of a host, whether or not the lab has that host.
    #[must_use]
    pub fn namespace(&self, host: Host) -> Namespace {
        setup::namespace(&self.record.tag, host)
    }

    /// A command that will run on `host`: in its network namespace, with its `/sys`.
    ///
    /// The process is put in a group of its own, so that a Ctrl-C at the terminal reaches only the
    /// lab's owner, who then stops everything in order.
    #[must_use]
    pub fn command(&self, host: Host, program: &str) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", self.namespace(host).name(), program])
            .process_group(0);
        command
    }

    /// The measured address of a host.
    ///
    /// # Errors
    /// [`LabError::NoHost`]: the lab has no such host, or the host has no address.
    pub fn address(&self, host: Host) -> Result<Ipv4Addr, LabError> {
        self.existing(host)
            .and_then(Host::address)
            .ok_or_else(|| self.no(host))
    }

    /// The measured IPv6 address of a host.
    ///
    /// # Errors
    /// As [`Self::address`]; [`LabError::Plan`]: this lab was made without IPv6.
    pub fn address_v6(&self, host: Host) -> Result<Ipv6Addr, LabError> {
        if !self.plan.ipv6 {
            return Err(LabError::Plan {
                field: "ipv6",
                value: "false".to_owned(),
                allowed: "true, if hosts are to have IPv6 addresses",
            });
        }
        self.existing(host)
            .and_then(Host::address_v6)
            .ok_or_else(|| self.no(host))
    }

    fn existing(&self, host: Host) -> Option<Host> {
        self.plan.hosts().find(|each| *each == host)
    }

    fn no(&self, host: Host) -> LabError {
        LabError::NoHost {
            host: host.to_string(),
            challengers: self.plan.challengers,
        }
    }

    /// Gives the measured link of this standing lab another shape, once nothing waits in it; its bucket is full
    /// then. Counters go on: what was dropped before and after still adds up.
    ///
    /// # Errors
    /// [`LabError::Plan`]: the shape cannot be; [`LabError::Unsettled`] after `patience`; tc refused.
    pub fn reshape(&mut self, down: Shape, patience: Duration) -> Result<(), LabError> {
        let plan = Plan {
            down,
            ..self.plan.clone()
        };
        plan.check()?;
        self.settle(patience)?;
        setup::shape_down(&self.record.tag, &down)?;
        self.plan = plan;
        Ok(())
    }

    /// The prover's address on the link that is not measured.
    #[must_use]
    pub fn management(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, MANAGEMENT_LINK, 2)
    }

    /// Reads every counter.
    ///
    /// # Errors
    /// A tool failed or answered what cannot be read.
    pub fn counters(&self) -> Result<Counters, LabError> {
        Counters::read(
            &self.ports,
            |host| self.namespace(host),
            self.wire.as_ref().map(Wire::counters),
        )
    }

    /// What was lost since the lab was made.
    ///
    /// # Errors
    /// As [`Self::counters`].
    pub fn drops(&self) -> Result<Drops, LabError> {
        let now = self.counters()?;
        Ok(now.since(self.baseline.as_ref().unwrap_or(&now)))
    }

    /// Waits until nothing stands in a queue of the lab, and returns the counters of that moment.
    ///
    /// # Errors
    /// [`LabError::Unsettled`] after `patience`; as [`Self::counters`].
    pub fn settle(&self, patience: Duration) -> Result<Counters, LabError> {
        let start = Instant::now();
        loop {
            let counters = self.counters()?;
            let backlog = counters.backlog();
            if backlog == 0 {
                return Ok(counters);
            }
            if start.elapsed() >= patience {
                return Err(LabError::Unsettled {
                    backlog,
                    waited_ms: patience.as_millis(),
                });
            }
            std::thread::sleep(SETTLE_LOOK);
        }
    }

    /// Stops the wire, ends what still runs in the namespaces, and removes them.
    ///
    /// # Errors
    /// A namespace could not be removed; its record stays, and the next `up` or `down` tries again.
    pub fn down(mut self) -> Result<(), LabError> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<(), LabError> {
        if self.is_down {
            return Ok(());
        }
        self.is_down = true;
        drop(self.wire.take());
        self.record.remove()
    }

    /// The labs on this machine.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn list() -> Result<Vec<Record>, LabError> {
        Record::all()
    }

    /// Removes the lab called `tag`, whoever made it.
    ///
    /// # Errors
    /// [`LabError::Unknown`] if there is none; as [`Self::down`].
    pub fn down_tag(tag: &str) -> Result<(), LabError> {
        let record = Record::all()?.into_iter().find(|record| record.tag == tag);
        record
            .ok_or_else(|| LabError::Unknown {
                tag: tag.to_owned(),
            })?
            .remove()
    }

    /// Removes every lab whose owner has died, and returns their tags.
    ///
    /// # Errors
    /// As [`Self::down`].
    pub fn reap() -> Result<Vec<String>, LabError> {
        let dead: Vec<_> = Record::all()?
            .into_iter()
            .filter(|record| !record.is_owned())
            .collect();
        dead.iter().try_for_each(Record::remove)?;
        Ok(dead.into_iter().map(|record| record.tag).collect())
    }

    /// Removes every lab that this process owns, for a process that is about to end: what a signal
    /// handler calls. No lab can be made afterwards; [`Self::up`] then waits for ever.
    ///
    /// # Errors
    /// As [`Self::down`].
    pub fn down_own() -> Result<(), LabError> {
        std::mem::forget(BUILDING.lock().unwrap_or_else(PoisonError::into_inner));
        let me = std::process::id();
        Record::all()?
            .iter()
            .filter(|record| record.pid == me)
            .try_for_each(Record::remove)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Nobody is left to tell; the record stays if this fails, and the next lab tries again.
        drop(self.take_down());
    }
}

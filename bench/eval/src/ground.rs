//! A standing lab and who plays in it: reshaped from proof to proof, the cast renewed only if somebody is to
//! misbehave, or something went wrong.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use plumbline_lab::{Cast, Lab, Met, Plan, Played, Scene, Switch, Terms, Villain, WirePlan};

use crate::cell::{Cell, NONE, PACKET, Site};
use crate::hog::Hogs;
use crate::run::Run;

/// Longest that packets may stand in the lab's queues between two proofs.
const SETTLE: Duration = Duration::from_secs(5);

/// The programs.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// `plumbline`.
    pub(crate) product: PathBuf,
    /// Who misbehaves.
    pub(crate) villain: Villain,
}

impl Tools {
    /// The attack of a cell, if it has one.
    ///
    /// # Errors
    /// No attack has that name.
    pub(crate) fn switch(&self, cell: &Cell) -> Result<Option<Switch>> {
        if cell.attack == NONE {
            return Ok(None);
        }
        let words = format!("{}={}", cell.attack, cell.f.max(1));
        Ok(Some(self.villain.switch(&words)?))
    }
}

/// A lab that stands, and its cast.
pub(crate) struct Ground<'a> {
    tools: &'a Tools,
    lab: Lab,
    /// The honest cast, kept from one proof to the next.
    honest: Option<Cast>,
    directory: tempfile::TempDir,
    casts: u32,
}

/// Who plays one proof.
struct Players {
    cast: Cast,
    culprits: Vec<String>,
    is_honest: bool,
}

impl<'a> Ground<'a> {
    /// Makes the lab of a site.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn up(tools: &'a Tools, site: Site, first: &Cell) -> Result<Self> {
        let delay = Duration::from_micros(u64::from(site.rtt_ms) * 500);
        let wire = (site.rtt_ms > 0).then(|| WirePlan::delay(delay));
        let mut plan = Plan::backhaul(site.n, first.shape(None), wire);
        plan.mtu = PACKET;
        plan.bystander = true;
        Ok(Self {
            tools,
            lab: Lab::up(plan)?,
            honest: None,
            directory: tempfile::tempdir().context("no directory for the run")?,
            casts: 0,
        })
    }

    /// One proof. What went wrong with it is a run as well.
    pub(crate) fn prove(&mut self, cell: &Cell) -> Run {
        let began = Instant::now();
        self.attempt(cell, began).unwrap_or_else(|error| {
            // Whoever still runs may be in any state.
            self.honest = None;
            Run::failed(&format!("{error:#}"), began.elapsed())
        })
    }

    fn attempt(&mut self, cell: &Cell, began: Instant) -> Result<Run> {
        let switch = self.tools.switch(cell)?;
        self.lab.reshape(cell.shape(switch.as_ref()), SETTLE)?;
        let true_bps = self.lab.plan().true_ip_bps();
        let switches: Vec<Switch> = switch.into_iter().collect();
        let mut players = self.players(&switches)?;
        let hogs = Hogs::start(cell.busy);
        let played = self.play(cell, &switches, &mut players.cast)?;
        drop(hogs);
        if players.is_honest {
            self.honest = Some(players.cast);
        }
        let proof = &played.proof;
        let attack = switches.first().zip(played.deeds.first());
        let attack = attack.map(|(switch, deed)| {
            let seen = (proof, deed.as_ref());
            (
                switch,
                Met::judge(switch, seen, &players.culprits, true_bps),
            )
        });
        let link = (true_bps, &played.carried);
        Ok(Run::new(cell, proof, attack, link, began.elapsed()))
    }

    fn play(&self, cell: &Cell, switches: &[Switch], cast: &mut Cast) -> Result<Played> {
        let terms = Terms {
            claim_bps: cell.claim_bps(),
            challengers: cell.n,
            f: cell.f,
            duration: cell.duration(),
            deadline: None,
            more: Vec::new(),
        };
        let run = self.directory.path();
        let scene = Scene {
            lab: &self.lab,
            villain: &self.tools.villain,
            switches,
            cross_bps: cell.cross_bps(),
            bundle: &run.join("evidence.bundle"),
            run,
            shown: false,
        };
        Ok(scene.play(cast, &terms)?)
    }

    /// The honest cast that is there, or a new one.
    fn players(&mut self, switches: &[Switch]) -> Result<Players> {
        let is_honest = switches.iter().all(|switch| switch.hosts().is_empty());
        if let Some(mut cast) = self.honest.take() {
            if is_honest {
                return Ok(Players {
                    cast,
                    culprits: Vec::new(),
                    is_honest,
                });
            }
            cast.stop_all()?;
        }
        self.casts += 1;
        let directory = self.directory.path().join(self.casts.to_string());
        std::fs::create_dir(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let mut cast = Cast::prepare(&self.lab, &self.tools.product, &directory)?;
        let villain = &self.tools.villain;
        let corrupt = villain.take_over(&self.lab, &mut cast, switches)?;
        cast.start_all(&self.lab)?;
        let mut culprits = Vec::new();
        for host in corrupt {
            culprits.push(cast.address(host)?);
        }
        Ok(Players {
            cast,
            culprits,
            is_honest,
        })
    }
}

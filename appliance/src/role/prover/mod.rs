//! The prover: consents, receives, commits, reveals.
//!
//! ```text
//!   coordinator ──events──► serve(session) ──Open──► datapath threads: Sink{Tally} ──commit──► UDP
//!        ▲                     │   ▲                        │ shared: seen, committed
//!        └──────statements─────┘   └────────────────────────┘
//!                              └─Open──► echo thread: probes, acknowledgements
//! ```
//! One task a session. Receiver and control port are made once, at start-up, while the process still
//! has its capabilities; a session only changes maps that are already open.

mod accounting;
mod echo;
mod sink;
mod uplink;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use plumbline_proof::backhaul::messages::{Accounting, ChallengeId, Statement, session_of};
use plumbline_proof::backhaul::params::{
    COMMIT_GIVE_UP_NS, COMMIT_REPEAT_NS, DRAIN_LIMIT_NS, DRAIN_QUIET_NS, Direction,
};
use plumbline_proof::backhaul::prover::{Opening, Prover as Machine, ProverAction};
use plumbline_proof::backhaul::tally::Tally;
use plumbline_trust::session::{Ephemeral, SessionKey};
use plumbline_wire::consent::CLOSED;
use tokio::time::interval;

pub use self::echo::Echo;
use self::echo::{Guests, Peer};
pub use self::sink::{Committed, Outgoing, Sink, Steps};
use super::conduct::{Armed, Conduct, Speaker};
use super::limits::{Budget, Share};
use super::node::{self, Follow, Node, SESSION_LIMIT};
use crate::clock;
use crate::config::Role;
use crate::config::units::{Bytes, Rate};
use crate::datapath::{
    Counters, PathInfo, Receiver, Sender, SessionHandle, SessionSink, SessionSpec,
};
use crate::journal::Seat;

/// How often a session's machine looks at the clock.
const TICK: Duration = Duration::from_millis(10);

/// So long before T0 packets are admitted, ns: challengers begin at T0 by their own clocks, which may be ahead of
/// the prover's. More than steered clocks differ by (milliseconds over the Internet), and little beside a
/// duration of a second: whoever begins so much early is told from who keeps to the start.
const ADMIT_LEAD_NS: u64 = 50_000_000;

/// Why a session is not begun while another is measured.
const ANOTHER: &str = "another measurement of this prover is under way: one at a time, ask again";
/// Why a session that has closed cannot go on.
const NO_COMMITMENT: &str = "the receive threads made no commitment";

/// The prover's equipment: made once, shared by its sessions.
pub struct Prover {
    /// Identity, coordinator and chain.
    pub node: Arc<Node>,
    /// The packet path.
    pub receiver: Receiver,
    /// The control port.
    pub echo: Echo,
    /// Measured address and data port, as challengers are told.
    pub data: SocketAddr,
    /// Measured address and control port.
    pub control: SocketAddr,
    /// How it behaves.
    pub conduct: Arc<dyn Conduct>,
    /// What it lends its sessions.
    pub budget: Arc<Budget>,
    /// Held by the session that is measured.
    pub alone: tokio::sync::Mutex<()>,
}

/// A session as it is open.
struct Live {
    guests: Arc<Guests>,
    sink: Arc<Sink>,
    handle: SessionHandle,
    before: Counters,
    keys: Vec<Option<SessionKey>>,
    controls: Vec<(u16, SocketAddr)>,
}

/// A closed session: the sink, which no thread touches any more, and all counters.
struct Closed {
    sink: Arc<Sink>,
    accounting: Accounting,
}

impl Prover {
    /// Serves one challenge to its end.
    ///
    /// # Errors
    /// In words, what ended the session early. Nothing stays open either way.
    pub async fn serve(&self, challenge: ChallengeId) -> Result<(), String> {
        let mut follow = self.node.follow(challenge);
        let first = follow
            .next(SESSION_LIMIT)
            .await
            .ok_or("the coordinator gave no notice")?;
        let checked = self.node.check_notice(&first).await?;
        let seat = self
            .node
            .begin(Role::Prover, &challenge, checked.asked)
            .await?;
        let served = self
            .serve_seated(&seat, &first, &mut follow, checked.lifetime)
            .await;
        if served.is_ok() {
            node::delivered(seat).await?;
        }
        served
    }

    async fn serve_seated(
        &self,
        seat: &Arc<Seat>,
        first: &Statement,
        follow: &mut Follow,
        lifetime: Duration,
    ) -> Result<(), String> {
        let key = &self.node.network;
        let now_ns = clock::realtime_ns();
        let ephemeral = Ephemeral::from_secret(node::random()?);
        let mut machine = Machine::new(first, key, ephemeral, self.data, self.control, now_ns)
            .map_err(|e| e.to_string())?;
        let terms = machine.record().notice.message.terms;
        // Two floods at once would each read low for the other.
        let Ok(_alone) = self.alone.try_lock() else {
            let last = machine.give_up(key, ANOTHER);
            return self.act(seat, &machine, last, &mut None).await;
        };
        let share = Share {
            price: machine.record().notice.message.price_per_byte,
            rate: Rate(terms.offer_total_bps()),
            bytes: Bytes(terms.offer_bytes()),
            memory: Bytes(0),
        };
        // Given back at once if it comes to nothing.
        let mut share = match self.budget.take(share) {
            Ok(share) => share,
            Err(why) => {
                let last = machine.give_up(key, &why);
                return self.act(seat, &machine, last, &mut None).await;
            }
        };
        if let Err(narrow) = self.receiver.carries(terms.packet_bytes) {
            let last = machine.give_up(key, &narrow.to_string());
            return self.act(seat, &machine, last, &mut None).await;
        }
        if terms.direction == Direction::Up {
            let sending = self.run_uplink(seat, &mut machine, follow);
            let outcome = tokio::time::timeout(lifetime, sending).await;
            if machine.record().start.is_some() {
                share.used();
            }
            return outcome
                .unwrap_or_else(|_| Err(format!("no end after {} s", lifetime.as_secs())));
        }
        let mut live: Option<Live> = None;
        let running = self.run(seat, &mut machine, follow, &mut live);
        let outcome = tokio::time::timeout(lifetime, running).await;
        if let Some(live) = live {
            // Ended early: consent is withdrawn, the sink and its counts are dropped.
            self.echo.dismiss(&live.guests);
            live.handle.close().map_err(|e| e.to_string())?;
        }
        if machine.record().start.is_some() {
            share.used();
        }
        outcome.unwrap_or_else(|_| Err(format!("no end after {} s", lifetime.as_secs())))
    }

    /// What the machine makes of a line. That the set-up is anchored, the chain must say too.
    async fn hear(
        &self,
        machine: &mut Machine,
        statement: &Statement,
    ) -> Result<Vec<ProverAction>, String> {
        let key = &self.node.network;
        if let Statement::Begun(_) = statement
            && let Err(why) = self.node.check_anchor(machine.record()).await
        {
            return Ok(machine.give_up(key, &why));
        }
        Ok(machine.hear(key, statement, clock::realtime_ns()))
    }

    async fn run(
        &self,
        seat: &Arc<Seat>,
        machine: &mut Machine,
        follow: &mut Follow,
        live: &mut Option<Live>,
    ) -> Result<(), String> {
        let key = self.node.network.clone();
        let mut ticks = interval(TICK);
        loop {
            let actions = tokio::select! {
                statement = follow.next(SESSION_LIMIT) => {
                    let statement = statement.ok_or("the coordinator went silent")?;
                    self.hear(machine, &statement).await?
                }
                _ = ticks.tick() => machine.tick(&key, clock::realtime_ns()),
            };
            self.act(seat, machine, actions, live).await?;
            if live.as_ref().is_some_and(|l| l.sink.committed().is_some()) {
                break;
            }
        }
        let open = live.take().ok_or("no session is open")?;
        let closed = self.close(open, machine.slowest_ns()).await?;
        let committed = closed.sink.committed().ok_or(NO_COMMITMENT)?;
        // In the journal before anything is signed that opens it.
        let commit = Statement::Commit(committed.signed.clone());
        self.say(seat, machine, commit).await?;
        let opened = (&committed.commit, committed.roots.clone());
        let reveal = machine.reveal(
            &key,
            &self.node.settler,
            closed.sink.tally(),
            opened,
            closed.accounting,
        );
        self.say(seat, machine, reveal).await
    }

    async fn act(
        &self,
        seat: &Arc<Seat>,
        machine: &Machine,
        actions: Vec<ProverAction>,
        live: &mut Option<Live>,
    ) -> Result<(), String> {
        for action in actions {
            match action {
                ProverAction::Say(statement) => self.say(seat, machine, statement).await?,
                ProverAction::Open(opening) => *live = Some(self.open(seat, machine, opening)?),
                ProverAction::Arm { t0_ns, deadline_ns } => {
                    if let Some(live) = live {
                        let from_ns = t0_ns.saturating_sub(ADMIT_LEAD_NS) + clock::tai_ahead_ns();
                        live.handle.arm(from_ns).map_err(|e| e.to_string())?;
                        live.sink.commit_by(deadline_ns);
                        self.conduct.armed(Armed {
                            notice: machine.record().notice.message.clone(),
                            sink: live.sink.clone(),
                            keys: live.keys.clone(),
                            controls: live.controls.clone(),
                            socket: self.echo.socket(),
                            network: self.node.network.clone(),
                            t0_ns,
                            deadline_ns,
                        });
                    }
                }
                ProverAction::Fail(why) => return Err(why),
            }
        }
        Ok(())
    }

    async fn say(
        &self,
        seat: &Arc<Seat>,
        machine: &Machine,
        statement: Statement,
    ) -> Result<(), String> {
        let speaker = Speaker {
            record: machine.record(),
            network: &self.node.network,
            settler: &self.node.settler,
        };
        let Some(statement) = self.conduct.say(&speaker, statement) else {
            return Ok(());
        };
        let sitting = seat.clone();
        let kept = tokio::task::spawn_blocking(move || sitting.keep(statement)).await;
        let kept = kept
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?;
        let said = self
            .node
            .api
            .say(&self.node.network, seat.challenge(), &kept)
            .await;
        said.map_err(|e| e.to_string())
    }

    fn open(&self, seat: &Seat, machine: &Machine, opening: Opening) -> Result<Live, String> {
        let record = machine.record();
        let challenge = *record.challenge();
        let controls: BTreeMap<u16, SocketAddr> = opening.controls.iter().copied().collect();
        let keyed: Vec<_> = (0u16..)
            .zip(&opening.keys)
            .map(|(i, key)| (i, controls.get(&i).copied().zip(key.clone())))
            .collect();
        let peers: Vec<_> = keyed
            .iter()
            .filter_map(|(i, k)| k.clone().map(|(to, key)| (*i, to, key)))
            .collect();
        let guests = keyed
            .into_iter()
            .map(|(_, k)| k.map(|(to, key)| Peer::new(to, key)))
            .collect();
        let keys = opening.keys.clone();
        let tally = Tally::new(&challenge, 0, &record.notice.message.terms, opening.keys);
        let sink = Arc::new(Sink::new(
            seat,
            tally,
            self.node.network.clone(),
            self.echo.socket(),
            &peers,
        ));
        let spec = SessionSpec {
            session: session_of(&challenge),
            from_tai_ns: CLOSED,
            until_tai_ns: opening.until_ns + clock::tai_ahead_ns(),
            size: record.notice.message.terms.size(),
            cap_packets: record.notice.message.terms.cap_packets(),
            senders: opening
                .senders
                .iter()
                .filter_map(|(index, source)| {
                    // Who was consented to has a key.
                    let key = keys.get(usize::from(*index))?.as_ref()?;
                    Some(Sender {
                        index: *index,
                        cookie: key.cookie(),
                        source: *source,
                    })
                })
                .collect(),
        };
        let before = self.receiver.counters().map_err(|e| e.to_string())?;
        let shared: Arc<dyn SessionSink> = sink.clone();
        let handle = self
            .receiver
            .open(&spec, &shared)
            .map_err(|e| e.to_string())?;
        Ok(Live {
            guests: self.echo.admit(challenge, guests),
            sink,
            handle,
            before,
            keys,
            controls: opening.controls,
        })
    }

    /// After the commitment: repeats it until everyone has it and no more packets come, then
    /// withdraws the consent and gathers all counters.
    async fn close(&self, live: Live, slowest_ns: u64) -> Result<Closed, String> {
        let since = clock::realtime_ns();
        // A challenger hears of the commitment half a round trip later, and its probes take another.
        let quiet_ns = DRAIN_QUIET_NS + 2 * slowest_ns;
        // Authenticated packets only: nobody else keeps a session open.
        let arrived = |live: &Live| {
            let data: u64 = live.sink.tally().received().iter().sum();
            data + live.guests.received.load(Ordering::Relaxed)
        };
        let mut quiet = (arrived(&live), since);
        let mut ticks = interval(Duration::from_nanos(COMMIT_REPEAT_NS));
        // The first tick is now, and the first copies have just left.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let now = clock::realtime_ns();
            let waiting = self.repeat(&live);
            let count = arrived(&live);
            if count != quiet.0 {
                quiet = (count, now);
            }
            let heard = waiting == 0 || now - since >= COMMIT_GIVE_UP_NS;
            if heard
                && (now - quiet.1 >= quiet_ns || now - since >= COMMIT_GIVE_UP_NS + DRAIN_LIMIT_NS)
            {
                break;
            }
        }
        live.handle.close().map_err(|e| e.to_string())?;
        let sink = live.sink;
        let committed = sink.committed().ok_or(NO_COMMITMENT)?;
        let after = self.receiver.counters().map_err(|e| e.to_string())?;
        let fates = accounting::between(&live.before, &after);
        let accounting = Accounting {
            host_dropped: accounting::host_dropped(&live.before, &after),
            interface: accounting::interface(&live.before, &after),
            ..accounting(
                sink.tally(),
                committed,
                &live.guests,
                fates,
                self.receiver.info(),
            )
        };
        self.echo.dismiss(&live.guests);
        Ok(Closed { sink, accounting })
    }

    /// Repeats the commitment to whoever has not acknowledged it; how many those are.
    fn repeat(&self, live: &Live) -> usize {
        let socket = self.echo.socket();
        let outgoing = live.sink.committed().map_or(&[][..], |c| &c.outgoing);
        let waiting = outgoing.iter().filter(|o| {
            let peer = live
                .guests
                .peers
                .get(usize::from(o.index))
                .and_then(Option::as_ref);
            peer.is_some_and(|p| !p.acknowledged.load(Ordering::Acquire))
        });
        waiting
            .inspect(|o| {
                let _lost = socket.send_to(&o.datagram, o.to);
            })
            .count()
    }
}

fn accounting(
    tally: &Tally,
    committed: &Committed,
    guests: &Guests,
    counters: Vec<(String, u64)>,
    info: &PathInfo,
) -> Accounting {
    let refused = tally.refused();
    let mut fates: Vec<(String, u64)> = [
        ("bad_tag", refused.bad_tag),
        ("out_of_range", refused.out_of_range),
        ("duplicate", refused.duplicate),
        ("over_cap", refused.over_cap),
        ("late", refused.late),
    ]
    .map(|(name, count)| (name.to_owned(), count))
    .into();
    fates.extend(counters);
    fates.sort();
    Accounting {
        fates,
        control_received: guests.received.load(Ordering::Relaxed),
        received: tally.received(),
        reordered: tally.reordered(),
        histogram: tally.histogram(),
        commit_latency_ns: committed.steps.send_ns,
        datapath: [
            ("receiver", info.receiver),
            ("xdp_mode", info.xdp_mode),
            ("umem", info.umem),
            ("timestamps", info.timestamps),
        ]
        .into_iter()
        .chain(
            info.fallback_reasons
                .iter()
                .map(|why| ("fallback", why.as_str())),
        )
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect(),
        ..Accounting::default()
    }
}

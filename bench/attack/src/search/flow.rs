//! What arrives at the link of one sender: by the product's schedule, or however it likes.

use plumbline_proof::backhaul::pace::Pace;
use plumbline_proof::backhaul::params::Terms;
use plumbline_proof::backhaul::sendlog::SendLog;

/// How somebody sends who need not keep to the schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wild {
    /// Of the rate r.
    pub(super) rate: f64,
    /// Packets at once.
    pub(super) burst: u32,
    /// Length of a packet at the IP layer, bytes; the measurement's own are what count.
    pub(super) bytes: u16,
    /// They do not carry a tag that verifies, or carry one that came before: they never count.
    pub(super) junk: bool,
    /// (period, share of it in which it sends), ns.
    pub(super) beat: Option<(f64, f64)>,
}

/// Where and when somebody sends. Times are ns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    /// First send.
    pub(super) start: f64,
    /// From its access to the link.
    pub(super) there: f64,
    /// Its own access, in parts of r; packets wait there in a queue of its own.
    pub(super) access: f64,
    /// Its host did nothing from … for …: sorted.
    pub(super) stalls: Vec<(f64, f64)>,
}

/// Packets that wait at a sender's own access at most.
const ACCESS_QUEUE: f64 = 200.0;

enum Source {
    Paced(Pace),
    /// Whether its first burst is gone.
    Wild(Wild, bool),
    Nothing,
}

/// A packet on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) sent: f64,
    pub(super) arrives: f64,
    pub(super) bytes: f64,
    /// It can count.
    pub(super) ours: bool,
}

const NEVER: Head = Head {
    sent: f64::INFINITY,
    arrives: f64::INFINITY,
    bytes: 0.0,
    ours: false,
};

/// A sender.
pub(super) struct Flow {
    source: Source,
    place: Place,
    packet: f64,
    /// r, bit/s.
    r: f64,
    /// ns that a packet of the measurement takes of its access.
    gap: f64,
    free: f64,
    /// Next on the schedule, since the first send.
    clock: f64,
    at_stall: usize,
    /// Of the burst that is handed over.
    left: u64,
    fresh: u64,
    may_send: u64,
    pub(super) head: Head,
    /// What it sends in this time never reaches the link.
    pub(super) cut: (f64, f64),
    /// It sends nothing after this.
    pub(super) stop: f64,
    pub(super) sent: u64,
    pub(super) log: SendLog,
}

impl Flow {
    /// Somebody who sends by the schedule.
    pub(super) fn paced(terms: &Terms, place: &Place, jitter: u64) -> Self {
        let bits = 8 * u64::from(terms.packet_bytes);
        let pace = Pace::new(bits, terms.offer_each_bps(), jitter);
        Self::of(terms, place, Source::Paced(pace))
    }

    /// Somebody who does not.
    pub(super) fn wild(terms: &Terms, place: &Place, wild: Wild) -> Self {
        Self::of(terms, place, Source::Wild(wild, false))
    }

    /// Nobody.
    pub(super) fn nothing(terms: &Terms, place: &Place) -> Self {
        Self::of(terms, place, Source::Nothing)
    }

    fn of(terms: &Terms, place: &Place, source: Source) -> Self {
        let packet = f64::from(terms.packet_bytes);
        let r = terms.offer_each_bps() as f64;
        let mut flow = Self {
            source,
            place: place.clone(),
            packet,
            r,
            gap: 8e9 * packet / (r * place.access),
            free: 0.0,
            clock: 0.0,
            at_stall: 0,
            left: 0,
            fresh: 0,
            may_send: terms.cap_packets(),
            head: NEVER,
            cut: (0.0, 0.0),
            stop: f64::INFINITY,
            sent: 0,
            log: SendLog::new(terms),
        };
        flow.next();
        flow
    }

    /// Its window if it hears the commitment at `heard`, µs.
    pub(super) fn window_us(&self, heard: f64) -> Option<u32> {
        let span = heard - self.place.start;
        (span > 0.0).then(|| (span / 1e3).ceil().min(4e9) as u32)
    }

    /// The first packet goes on its way, and the next one is first.
    pub(super) fn take(&mut self) -> Option<Head> {
        let head = self.head;
        if head.sent > self.stop {
            self.head = NEVER;
            return None;
        }
        if self.fresh > 0 {
            let since = (head.sent - self.place.start).max(0.0);
            self.log
                .add(since as u64, u32::try_from(self.fresh).unwrap_or(u32::MAX));
            self.sent += self.fresh;
            self.fresh = 0;
        }
        self.next();
        let is_cut = head.sent >= self.cut.0 && head.sent < self.cut.1;
        (!is_cut).then_some(head)
    }

    fn next(&mut self) {
        loop {
            if self.left == 0 && !self.hand_over() {
                self.head = NEVER;
                return;
            }
            self.left -= 1;
            let sent = self.clock + self.place.start;
            let (bytes, ours) = match &self.source {
                Source::Wild(wild, _) => (f64::from(wild.bytes), !wild.junk),
                _ => (self.packet, true),
            };
            let gap = self.gap * bytes / self.packet;
            if self.free > sent + ACCESS_QUEUE * self.gap {
                // Its own access drops it. Whoever is slow must not be slow to tell that it stopped.
                if sent > self.stop {
                    self.head = NEVER;
                    return;
                }
                continue;
            }
            self.free = self.free.max(sent) + gap;
            self.head = Head {
                sent,
                arrives: self.free + self.place.there,
                bytes,
                ours,
            };
            return;
        }
    }

    /// The next burst; whether there is one.
    fn hand_over(&mut self) -> bool {
        match &mut self.source {
            Source::Nothing => false,
            Source::Paced(pace) => {
                let mut now = (pace.due_ns() as f64).max(self.clock);
                while let Some((from, long)) = self.place.stalls.get(self.at_stall) {
                    if now < *from {
                        break;
                    }
                    now = now.max(from + long);
                    self.at_stall += 1;
                }
                self.left = pace.take(now as u64).min(self.may_send);
                self.may_send -= self.left;
                self.clock = now;
                self.fresh += self.left;
                self.left > 0
            }
            Source::Wild(wild, begun) => {
                let bits = 8.0 * f64::from(wild.bytes) * f64::from(wild.burst);
                if *begun {
                    self.clock += bits * 1e9 / (self.r * wild.rate);
                }
                *begun = true;
                if let Some((period, share)) = wild.beat {
                    let phase = self.clock % period;
                    if phase > period * share {
                        self.clock += period - phase;
                    }
                }
                self.left = u64::from(wild.burst);
                self.fresh += self.left;
                true
            }
        }
    }
}

/// Everybody's packets over the link, in the order of their arrival, until nobody sends. `crossed` is told who,
/// which packet and when, and may tell the others to stop.
pub(super) fn play(
    flows: &mut [Flow],
    link: &mut super::link::Link,
    mut crossed: impl FnMut(&mut [Flow], usize, &Head, f64),
) {
    let mut heads: Vec<f64> = flows.iter().map(|f| f.head.arrives).collect();
    loop {
        let mut who = 0;
        let mut first = f64::INFINITY;
        for (i, at) in heads.iter().enumerate() {
            if *at < first {
                (who, first) = (i, *at);
            }
        }
        if first == f64::INFINITY {
            return;
        }
        let head = flows[who].take();
        heads[who] = flows[who].head.arrives;
        if let Some(head) = head
            && let Some(at) = link.offer(head.arrives, head.bytes)
        {
            crossed(flows, who, &head, at);
        }
    }
}

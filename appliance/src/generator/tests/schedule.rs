//! The schedule as the engine is handed it, and packets that come while it runs.

use super::*;

/// Takes everything, each time after a while, and keeps when it was handed what.
struct Slow {
    waits_ns: u64,
    handed: Vec<(u64, u64)>,
}

impl Engine for Slow {
    fn send(&mut self, burst: &[u8], _: &dyn Fn() -> bool) -> Result<Sent, GeneratorError> {
        self.handed
            .push((realtime_ns(), (burst.len() / LEN) as u64));
        // Every seventh takes several slots, as a descheduled thread does.
        let slots = if self.handed.len().is_multiple_of(7) {
            9
        } else {
            1
        };
        let until = monotonic_ns() + self.waits_ns * slots;
        while monotonic_ns() < until {}
        Ok(Sent::Bytes(burst.len()))
    }
}

#[test]
fn whatever_the_kernel_does_it_is_never_handed_more_than_the_schedule_has() {
    let (sender, _receiver) = pair();
    let all = packets(4000);
    let stop = AtomicBool::new(false);
    let rate = 2_000_000_000;
    for waits_ns in [0, 20_000, 60_000] {
        let plan = plan(&sender, rate, 20, &stop);
        let handed = Vec::with_capacity(4000);
        let mut slow = Slow { waits_ns, handed };
        let outcome = run(&plan, &mut &all[..], &mut slow, None, ("slow", None)).unwrap();
        assert_eq!(outcome.sent, 4000);
        let first = outcome.first_send_ns.unwrap();
        let mut sum = 0;
        for (at, packets) in slow.handed {
            assert!(at >= first, "stamped after it was sent");
            sum += packets;
            let allowed = u128::from(at - first) * u128::from(rate) / 12_000_000_000_000 + 8;
            assert!(u128::from(sum) <= allowed, "{sum} > {allowed}");
        }
        // Nine slots of 48 us each were not made up for.
        assert!(
            waits_ns < 60_000 || outcome.missed_ns > 1_000_000,
            "{}",
            outcome.missed_ns
        );
    }
}

/// Hands packets out eight at a time, and after each so many has none for a few looks.
struct Slack8<'a> {
    left: &'a [u8],
    looks: u32,
}

impl Supply for Slack8<'_> {
    fn ready(&mut self) -> Ready<'_> {
        self.looks += 1;
        match self.left.len() {
            0 => Ready::End,
            _ if self.looks % 20 < 5 => Ready::Later,
            n => Ready::Packets(&self.left[..n.min(8 * LEN)]),
        }
    }

    fn offered(&mut self, bytes: usize) {
        self.left = &self.left[bytes..];
    }
}

#[test]
fn packets_that_are_made_too_late_leave_a_gap_that_is_named() {
    let (sender, receiver) = pair();
    let all = packets(400);
    let stop = AtomicBool::new(false);
    let mut slack = Slack8 {
        left: &all,
        looks: 0,
    };
    let outcome = flood(&plan(&sender, 10_000_000_000, 10, &stop), &mut slack).unwrap();
    assert_eq!((outcome.sent, outcome.ended), (400, Ended::Exhausted));
    // Slots of 9.6 us, looks of 20: every gap is noticed, and nothing of it is made up for.
    assert!(
        outcome.starved > 0 && outcome.missed_ns > 0,
        "{}",
        outcome.starved
    );
    expect(&receiver, &all, 400);
}

#[test]
fn a_stream_is_sent_as_it_is_made_and_one_whose_maker_dies_is_an_error() {
    let (sender, receiver) = pair();
    let all = packets(1001);
    let stop = AtomicBool::new(false);
    let plan = plan(&sender, 1_000_000_000, 10, &stop);
    let (packer, mut made) = stream(Shape::new(LEN, 1, RING_BYTES), 1001);
    let outcome = std::thread::scope(|scope| {
        let copy = |first: u64, chunk: &mut [u8]| {
            let at = usize::try_from(first).unwrap() * LEN;
            chunk.copy_from_slice(&all[at..at + chunk.len()]);
        };
        scope.spawn(move || packer.run(copy, || {}));
        flood(&plan, &mut made).unwrap()
    });
    assert_eq!((outcome.sent, outcome.ended), (1001, Ended::Exhausted));
    expect(&receiver, &all, 1001);

    let (packer, mut made) = stream(Shape::new(LEN, 1, RING_BYTES), 1001);
    drop(packer);
    let error = flood(&plan, &mut made).unwrap_err();
    assert!(matches!(error, GeneratorError::Lost { sent: 0 }), "{error}");
}

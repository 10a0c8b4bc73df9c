//! Any bytes at the log's door, signed by who may sign them: refused in words or taken, and never a panic.

use plumbline_trust::encoding::{decode, encode};
use plumbline_trust::identity::Signed;
use proptest::prelude::*;

use super::super::bundle::{self, Bundle};
use super::super::judge::judge;
use super::super::messages::{Head, Kind, Statement, Verified};
use super::super::record::Record;
use super::{Sim, World, key};

/// The log of an honest session.
fn log() -> &'static [Statement] {
    static LOG: std::sync::OnceLock<Vec<Statement>> = std::sync::OnceLock::new();
    LOG.get_or_init(|| {
        let (bytes, _) = Sim::new(World::new(20_000_000)).run();
        let signed: Signed = decode(&bytes[20..bytes.len() - 32]).unwrap();
        signed.open::<Bundle>().unwrap().log
    })
}

/// The statement with another body, signed by the same party.
fn said(like: &Statement, body: Vec<u8>) -> Statement {
    let kind = like.kind();
    let own = (0..=u8::MAX)
        .map(key)
        .find(|k| k.verifying() == like.signed().key);
    let own = own.unwrap();
    let signed = Signed {
        key: own.verifying(),
        signature: own.sign(kind.domain(), &body),
        body,
    };
    let mut bytes = encode(like);
    bytes.truncate(1);
    bytes.extend(encode(&signed));
    decode(&bytes).unwrap()
}

/// What the log makes of it in place of line `at`, and whether the rest can still be judged.
fn tried(at: usize, statement: &Statement) {
    let mut record = match log()[..at].is_empty() {
        true => return drop(Record::open(statement).map_err(|e| e.to_string())),
        false => Record::read(&log()[..at]).unwrap(),
    };
    if let Err(refusal) = record.absorb(statement) {
        assert!(!refusal.to_string().is_empty() && !refusal.code().is_empty());
        return;
    }
    for line in &log()[at + 1..] {
        let _refused = record.absorb(line);
    }
    let _judged = judge(&record);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes_are_a_statement_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Some(first) = bytes.first_chunk() {
            let read = Head::read(first);
            prop_assert_eq!(read.is_some(), usize::from(bytes[0]) < Kind::ALL.len());
        }
        if let Ok(statement) = decode::<Statement>(&bytes) {
            prop_assert!(Verified::new(statement).is_err(), "somebody's signature was guessed");
        }
        let _damaged = bundle::verify(&bytes);
    }

    #[test]
    fn any_body_by_its_rightful_author_is_refused_in_words_or_taken(
        at in any::<prop::sample::Index>(), body in prop::collection::vec(any::<u8>(), 0..400)
    ) {
        let at = at.index(log().len());
        tried(at, &said(&log()[at], body));
    }

    #[test]
    fn any_change_by_its_rightful_author_is_refused_in_words_or_taken(
        at in any::<prop::sample::Index>(), change in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>())
    ) {
        let at = at.index(log().len());
        let mut body = log()[at].signed().body.clone();
        for (place, byte) in change {
            let place = place.index(body.len());
            body[place] = byte;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        tried(at, &said(&log()[at], body));
    }

    #[test]
    fn a_head_is_how_a_statement_begins(at in any::<prop::sample::Index>()) {
        let statement = &log()[at.index(log().len())];
        let bytes = encode(statement);
        let head = Head::read(bytes.first_chunk().unwrap()).unwrap();
        prop_assert_eq!(head, statement.head());
        prop_assert_eq!(head.body as usize + Statement::AROUND, bytes.len());
    }
}

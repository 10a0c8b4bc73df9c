//! A statement's way in: looked up, permitted and bounded before it is read; verified before anybody waits for it.
//!
//! ```text
//!   session there? ─► length? ─► permit of a party? ─► head: kind, author, length of the kind ─► room ─► the rest
//!     404              411, 413   401, 403               403, 409, 422                            503      │
//!                                              on disk ◄─ in its place? ◄─ settlement ◄─ signature ◄───────┘
//!                                                         (the log held)   (nobody waits)
//! ```
//! **Guarantees.** Of a stranger's statement no more is read than its head; a party has one long statement at a time
//! under way, and no more of it lies in memory than the terms let its kind be. **Limits.** A permit that somebody
//! overheard permits that party's length again, and not its words. **Tests.** `appliance/tests/door/`,
//! `appliance/tests/netns/door.rs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use plumbline_proof::backhaul::messages::{Head, Kind, Statement, Verified};
use plumbline_proof::backhaul::record::Refusal;
use plumbline_proof::backhaul::sizes;
use plumbline_trust::VerifyingKey;
use plumbline_trust::encoding::decode;
use serde_json::{Value, json};

use super::Permit;
use super::body::{Reader, Room, SMALL, length_said, too_large};
use super::server::{Served, known};
use crate::metrics::Algorithm;
use crate::problem::Problem;
use crate::role::coordinator::{HearError, Hub, Session};

/// Bytes of long statements that lie in memory at once: two of the longest, or a hundred reports.
static STATEMENTS: Room = Room::new(72, "statements");

pub(super) async fn say(
    State(hub): State<Arc<Hub>>,
    Path(id): Path<String>,
    request: Request,
) -> Served<Json<Value>> {
    let session = known(&hub, &id)?;
    let length = length_said(request.headers())?;
    let terms = session.read(|m| m.record().notice.message.terms);
    let longest = Kind::ALL.map(|kind| sizes::most(kind, &terms));
    let most = longest.into_iter().max().unwrap_or(0) + Statement::AROUND as u64;
    if length > most {
        return Err(too_large("a statement of this session", length, most));
    }
    let key = permitted(&session, request.headers(), length)?;
    let mut reader = Reader::new(request.into_body());
    let first = reader.first::<{ Head::BYTES }>().await?;
    let head = wanted(&session, &first, &key, length)?;
    let long = length > SMALL as u64;
    let _turn = if long {
        let turn = session.turn(&key).ok_or_else(|| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "Others are served now",
            )
            .detail("another long statement of this party is under way; one at a time")
            .retry_after(1)
        })?;
        Some((turn, STATEMENTS.wait(length).await?))
    } else {
        None
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&first);
    let bytes = reader.rest(bytes, length).await?;
    let store = hub.store.clone();
    let heard = tokio::task::spawn_blocking(move || {
        let statement: Statement = decode(&bytes).map_err(|e| no_statement(&e))?;
        drop(bytes);
        Ok::<_, Problem>(
            Verified::new(statement)
                .map_err(|e| HearError::Refused(e.into()))
                .and_then(|verified| session.hear(&store, verified)),
        )
    });
    let heard = heard
        .await
        .map_err(|e| Problem::internal(e.to_string()))??;
    hub.metrics.signature(
        Algorithm::Ed25519,
        !matches!(&heard, Err(HearError::Refused(r)) if r.code() == "bad-signature"),
    );
    heard.map_err(|e| match e {
        HearError::Refused(refusal) => refused(head.kind, &refusal),
        e => Problem::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "not-durable",
            "The statement could not be kept",
        )
        .detail(e.to_string()),
    })?;
    Ok(Json(json!({"taken": true})))
}

/// Who hands the statement over: a party of the session that signed for a statement of this length.
fn permitted(session: &Session, headers: &HeaderMap, length: u64) -> Served<VerifyingKey> {
    let unreadable = || {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "no-permit",
            "The statement needs its author's permit",
        )
        .detail(format!(
            "send `authorization: {}`: the author's ed25519 key and its signature over session and length",
            Permit::FORM
        ))
    };
    let said = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(unreadable)?;
    let permit: Permit = said.parse().map_err(|()| unreadable())?;
    if !session.read(|m| m.record().is_party(&permit.key)) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "wrong-author",
            "The statement was not taken",
        )
        .detail(format!(
            "{} is no party of this session; its prover and its challengers speak here",
            permit.key
        )));
    }
    permit.verify(session.id(), length).map_err(|e| {
        let code = "bad-signature";
        Problem::new(StatusCode::FORBIDDEN, code, "The statement was not taken")
            .detail(format!("the permit for {length} bytes: {e}"))
    })?;
    Ok(permit.key)
}

/// What begins like this, if it is wanted here.
fn wanted(
    session: &Session,
    first: &[u8; Head::BYTES],
    key: &VerifyingKey,
    length: u64,
) -> Served<Head> {
    let head = Head::read(first).ok_or_else(|| no_statement("there is no such kind"))?;
    let whole = u64::from(head.body) + Statement::AROUND as u64;
    if whole != length {
        return Err(no_statement(&format!(
            "it says that it has {whole} bytes, and the body has {length}"
        )));
    }
    let admitted = session.read(|m| m.record().admits(&head));
    let admitted = admitted.and_then(|()| match head.kind {
        Kind::Notice | Kind::Begun => Err(Refusal::Conflict(head.kind.name())),
        _ if head.key != *key => Err(Refusal::Author {
            what: head.kind.name(),
            allowed: "whoever holds the permit",
            key: head.key,
        }),
        _ => Ok(()),
    });
    admitted.map_err(|refusal| refused(head.kind, &refusal))?;
    Ok(head)
}

fn no_statement(why: &str) -> Problem {
    Problem::bad_request("bad-message", format!("the body is no statement: {why}"))
}

fn refused(kind: Kind, refusal: &Refusal) -> Problem {
    let status = match refusal.code() {
        "bad-signature" | "wrong-author" => StatusCode::FORBIDDEN,
        "not-canonical" | "bad-field" => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::CONFLICT,
    };
    Problem::new(status, refusal.code(), "The statement was not taken")
        .detail(format!("{}: {refusal}", kind.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumbline_proof::backhaul::messages::ChallengeId;
    use plumbline_trust::NetworkKey;

    #[test]
    fn a_permit_is_for_one_session_and_one_length_by_one_key() {
        let key = NetworkKey::from_secret(&[1; 32]);
        let id: ChallengeId = [7; 32];
        let text = Permit::new(&key, &id, 100).to_string();
        let read: Permit = text.parse().unwrap();
        assert_eq!(read.key, key.verifying());
        assert!(read.verify(&id, 100).is_ok());
        assert!(read.verify(&id, 101).is_err());
        assert!(read.verify(&[8; 32], 100).is_err());
        for bad in [
            "",
            "Plumbline",
            "Bearer x y",
            &text[..text.len() - 1],
            &format!("{text} x"),
        ] {
            assert!(bad.parse::<Permit>().is_err(), "{bad:?}");
        }
    }
}

//! Where evidence is had from and who is given it: its address says what it is, so anyone may have it.
//!
//! ```text
//!   reporter's URL ────────────────┐
//!   own coordinator ───────────────┼─► asked again and again ─► bounded bytes ─► address compared ─► evidence
//!   every registered coordinator ──┘                                                                  │
//!                     ▲                                                                               │
//!                     └──────────── those that lack it ◄── handed on by reporters and jurors ◄────────┘
//! ```
//! Claim: whoever withholds it, lies, redirects, hangs or sends without end costs the others nothing but a
//! place among `AT_ONCE` for `PATIENCE`; of an answer nothing is used but bytes that hash to the address.
//! What it does not promise: that a URL is harmless to whom it names. It is asked for with a plain GET, as
//! by anybody; a juror's host should see no service that acts on one. Tests: here, and `tests/court.rs`.

use std::sync::Arc;
use std::time::Duration;

use plumbline_trust::encoding::Digest;
use plumbline_trust::evidence::Evidence;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::chain::client::{ChainClient, ClientError, role};
use crate::config::units::parse_source;
use crate::control::client::{Api, ApiError};

/// How long one place may take for one answer: the longest evidence at 30 Mbit/s.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause before a place is asked again, first and longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// Places that are asked at once in the whole process, each answer of up to `EVIDENCE_MAX` bytes in memory.
const AT_ONCE: usize = 8;
static ASKING: Semaphore = Semaphore::const_new(AT_ONCE);
/// Places that are given evidence at once: those that take it without end hold up no search.
static GIVING: Semaphore = Semaphore::const_new(AT_ONCE / 2);

/// Evidence that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The file.
    pub bytes: Arc<[u8]>,
    /// What it says.
    pub evidence: Evidence,
}

/// Those who may have evidence, or be given it.
#[derive(Clone, Debug)]
pub struct Places {
    /// The own coordinator first.
    coordinators: Vec<Api>,
}

impl Places {
    /// The own coordinator, and all that are registered.
    ///
    /// # Errors
    /// The chain does not answer.
    pub async fn of(chain: &ChainClient, own: &Api) -> Result<Self, ClientError> {
        let mut coordinators = vec![own.clone()];
        for known in chain.participants().await? {
            if known.roles & role::COORDINATOR == 0 || parse_source(&known.endpoint).is_err() {
                continue;
            }
            let other = Api::new(&known.endpoint).ok();
            coordinators
                .extend(other.filter(|o| coordinators.iter().all(|c| c.base() != o.base())));
        }
        Ok(Self { coordinators })
    }

    /// The evidence at `address`, looked for everywhere until it is found or for as long as `patience`. What is
    /// there and is no evidence counts as not there: no coordinator would hand it on.
    pub async fn find(&self, at: &str, address: Digest, patience: Duration) -> Option<Found> {
        let mut asked = JoinSet::new();
        if parse_source(at).is_ok()
            && let Ok(reporter) = Api::new(at)
        {
            asked.spawn(Place::Reporter(reporter).ask(address));
        }
        for place in &self.coordinators {
            asked.spawn(Place::Coordinator(place.clone()).ask(address));
        }
        let first = timeout(patience, asked.join_next()).await.ok()??;
        first.ok()
    }

    /// Gives the evidence of the dispute `id` to every coordinator that lacks it, for as long as `patience`;
    /// who has it then, and why others have not.
    pub async fn hand_on(
        &self,
        id: [u8; 32],
        address: Digest,
        bytes: &Arc<[u8]>,
        patience: Duration,
    ) -> Vec<(String, Result<(), ApiError>)> {
        let mut given = JoinSet::new();
        for place in &self.coordinators {
            let (place, bytes) = (place.clone(), Arc::clone(bytes));
            given.spawn(async move {
                let done = timeout(patience, give(&place, id, address, &bytes)).await;
                let late = |_| ApiError::Unreachable {
                    url: place.base().to_owned(),
                    why: "it does not take the evidence in time".into(),
                };
                (place.base().to_owned(), done.map_err(late).flatten())
            });
        }
        given.join_all().await
    }
}

/// One place to ask.
enum Place {
    Coordinator(Api),
    Reporter(Api),
}

impl Place {
    /// Asks until it is there.
    async fn ask(self, address: Digest) -> Found {
        let mut pause = AGAIN.0;
        loop {
            if let Some(found) = self.once(&address).await {
                return found;
            }
            sleep(pause).await;
            pause = (pause * 2).min(AGAIN.1);
        }
    }

    async fn once(&self, address: &Digest) -> Option<Found> {
        let _turn = ASKING.acquire().await.ok()?;
        let answer = async {
            match self {
                Self::Coordinator(place) => place.evidence(address).await,
                Self::Reporter(at) => at.file().await,
            }
        };
        let bytes = timeout(PATIENCE, answer).await.ok()?.ok()?;
        if !Evidence::is_at(&bytes, address) {
            return None;
        }
        let (evidence, _) = Evidence::open(&bytes).ok()?;
        let bytes = bytes.into();
        Some(Found { bytes, evidence })
    }
}

/// Gives it to one place, unless that has it; again where it does not know the dispute yet or has no time.
async fn give(place: &Api, id: [u8; 32], address: Digest, bytes: &[u8]) -> Result<(), ApiError> {
    loop {
        if let Ok(_turn) = GIVING.acquire().await {
            if timeout(PATIENCE, place.has_evidence(&address)).await == Ok(true) {
                return Ok(());
            }
            match place.put_evidence(&id, bytes).await {
                Err(ApiError::Refused {
                    status: 404 | 503, ..
                }) => {}
                other => return other,
            }
        }
        sleep(AGAIN.0).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use plumbline_trust::Address;
    use plumbline_trust::evidence::EVIDENCE_MAX;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Longest that something may take here that happens at once.
    const SOON: Duration = Duration::from_secs(60);

    fn evidence(proof: &str) -> (Vec<u8>, Digest) {
        let subject = Evidence {
            proof: proof.into(),
            subject: [1; 32],
            accused: Address([2; 20]),
            exhibits: vec![3; 1_000],
        };
        subject.seal()
    }

    /// A server that answers each request with these bytes, `times` over; how often it was asked.
    async fn serve(answer: Vec<u8>, times: usize) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut request = [0; 4_096];
                    let _read = stream.read(&mut request).await;
                    for _ in 0..times {
                        if stream.write_all(&answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (url, asked)
    }

    fn ok(body: &[u8]) -> Vec<u8> {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    }

    fn places(bases: &[&str]) -> Places {
        let all = bases.iter().map(|base| Api::new(base).unwrap());
        Places {
            coordinators: all.collect(),
        }
    }

    #[tokio::test]
    async fn who_lies_redirects_hangs_or_sends_without_end_hides_nothing() {
        let (bytes, address) = evidence("backhaul");
        let (other, _) = evidence("other");
        let mut bent = bytes.clone();
        bent[40] ^= 1;
        let (good, asked) = serve(ok(&bytes), 1).await;
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = format!("http://{}", silent.local_addr().unwrap());
        let (lies, _) = serve(ok(&other), 1).await;
        let (bends, _) = serve(ok(&bent), 1).await;
        let moved = format!(
            "HTTP/1.1 302 Found\r\nlocation: {good}/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let (redirects, sent_on) = serve(moved.into_bytes(), 1).await;
        let (endless, _) = serve(
            [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[0; 65_536]].concat(),
            4_096,
        )
        .await;
        let hostile = [&*silent, &*lies, &*bends, &*endless];
        // Whoever has none of it learns nothing from them, and is sent nowhere.
        let none = places(&hostile);
        let none = none.find(&redirects, address, Duration::from_secs(3)).await;
        assert!(none.is_none());
        assert!(sent_on.load(Ordering::SeqCst) > 0);
        assert_eq!(asked.load(Ordering::SeqCst), 0, "a redirect was followed");
        // One honest place among them is enough, wherever it is.
        for (at, base) in [(&*good, &*silent), (&*redirects, &*good)] {
            let mut all = hostile.to_vec();
            all.push(base);
            let found = places(&all).find(at, address, SOON).await;
            let found = found.unwrap();
            assert_eq!(found.bytes[..], bytes[..]);
        }
    }

    #[tokio::test]
    async fn what_is_no_evidence_or_too_long_is_not_there() {
        let (no_name, address) = evidence("");
        let (url, asked) = serve(ok(&no_name), 1).await;
        let place = places(&[&url]);
        let found = place.find("", address, Duration::from_secs(2)).await;
        assert!(found.is_none());
        assert!(asked.load(Ordering::SeqCst) > 0);
        let (url, _) = serve(ok(&vec![0; EVIDENCE_MAX + 1]), 1).await;
        let refused = Api::new(&url).unwrap().file().await;
        assert!(
            matches!(refused, Err(ApiError::Strange { .. })),
            "{refused:?}"
        );
        let (url, _) = serve(ok(&vec![0; EVIDENCE_MAX]), 1).await;
        let whole = Api::new(&url).unwrap().file().await;
        assert_eq!(whole.unwrap().len(), EVIDENCE_MAX);
    }

    #[tokio::test]
    async fn it_is_given_to_those_who_lack_it_and_who_hangs_is_left() {
        let (bytes, address) = evidence("backhaul");
        let (has, _) = serve(ok(&[]), 1).await;
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = format!("http://{}", silent.local_addr().unwrap());
        let bytes = Arc::from(bytes);
        let places = places(&[&has, &silent]);
        let given = places.hand_on([7; 32], address, &bytes, Duration::from_secs(2));
        let given = given.await;
        assert_eq!(given.len(), 2);
        for (place, given) in given {
            assert_eq!(given.is_ok(), place == has, "{place}: {given:?}");
        }
    }
}

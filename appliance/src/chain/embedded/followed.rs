//! A chain that somebody else makes, read here: a node's own view of a coordinator's chain.
//!
//! ```text
//!   read ─► catch up (signed head, blocks, executed again) ─► own file ─► answer
//!   eth_sendRawTransaction ──────────────────────────────────────────► its maker
//! ```
//!
//! Claim: whatever is read was executed here, from the pinned founding record on, and is as new as the newest
//! block that the maker showed after the question; its maker can keep transactions out, and show nothing new, but
//! not invent anything. What it does not promise: to be small. It is the whole chain, like the maker's own.
//! Tests: `appliance/tests/chain/view.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::copy::Copy;
use super::follow::{FollowError, Upstream, advance};
use super::{Embedded, Options};
use crate::chain::pin::Origin;

/// A copy that grows whenever it is asked.
#[derive(Debug)]
pub struct Followed {
    upstream: Upstream,
    dir: PathBuf,
    copy: Arc<Mutex<Grown>>,
    reader: Arc<Embedded>,
}

struct Grown {
    copy: Copy,
    /// When it was last looked for more.
    looked: Option<Instant>,
}

impl std::fmt::Debug for Grown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grown").finish_non_exhaustive()
    }
}

impl Followed {
    /// Follows `upstream` into `dir`, if it was founded as pinned, up to its newest block.
    ///
    /// # Errors
    /// See [`FollowError`].
    pub async fn open(
        upstream: Upstream,
        dir: &Path,
        pinned: &Origin,
    ) -> Result<Arc<Self>, FollowError> {
        let (founding, _) = upstream.founded(pinned).await?;
        let copy = Copy::open(dir, &founding)?;
        let (disk, deployment) = (copy.disk(), copy.deployment());
        let followed = Self {
            upstream,
            dir: dir.to_path_buf(),
            copy: Arc::new(Mutex::new(Grown { copy, looked: None })),
            reader: Arc::new(Embedded {
                sequencer: None,
                disk,
                deployment,
                // Only its clock is used: no block is made here.
                options: Options::new(Duration::MAX),
            }),
        };
        followed.catch_up().await?;
        Ok(Arc::new(followed))
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} (copy of {})", self.dir.display(), self.upstream.name())
    }

    /// Answers a request from the copy, once that has what its maker shows now; hands transactions on.
    ///
    /// # Errors
    /// Its maker does not answer, or shows what it may not.
    pub async fn rpc(&self, request: Value) -> Result<Value, FollowError> {
        const SEND: &str = "eth_sendRawTransaction";
        if request["method"] == SEND {
            return self.upstream.pass(SEND, request).await;
        }
        self.catch_up().await?;
        Ok(self.reader.rpc(request).await)
    }

    async fn catch_up(&self) -> Result<(), FollowError> {
        let asked = Instant::now();
        let mut grown = Arc::clone(&self.copy).lock_owned().await;
        if grown.looked.is_some_and(|looked| looked > asked) {
            // Somebody looked since: one look serves all who waited for it.
            return Ok(());
        }
        let (upstream, dir, now) = (self.upstream.clone(), self.dir.clone(), Instant::now());
        let runtime = Handle::current();
        // Execution and the disk must not hold up the runtime's own threads.
        let work = tokio::task::spawn_blocking(move || {
            runtime.block_on(async {
                advance(&upstream, &mut grown.copy, &dir, u64::MAX, &mut |_, _| {}).await?;
                grown.looked = Some(now);
                Ok(())
            })
        });
        work.await.unwrap_or_else(|stopped| {
            Err(FollowError::Strange {
                url: self.upstream.name(),
                method: "plumbline_blocks",
                why: stopped.to_string(),
            })
        })
    }
}

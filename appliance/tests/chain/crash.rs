//! kill -9, at every named point of a block's way to the disk and at random instants; also while the
//! chain is founded.
//!
//! The child is this test binary again. Its store is the chain's file behind [`Killer`], which ends the
//! process (SIGKILL, by itself) at the named point of the block after the one it was told to finish.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Bound;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use plumbline::chain::embedded::verify;
use plumbline::chain::{ChainClient, Embedded};
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use serde_json::json;
use tempfile::TempDir;

use crate::platter::Chance;
use crate::power::{full, seed};
use crate::world::{TestClock, genesis, key, tick};

const FILE: &str = "chain.redb";
const CHILD: &str = "PLUMBLINE_TEST_CRASH";
/// Rounds over all points, in CI and with `PLUMBLINE_FULL=1`; each as many random kills, half as many foundings.
const ROUNDS: (usize, usize) = (1, 20);
/// Crashes of one file before a fresh one is taken, so that checking does not take longer each time.
const CRASHES_OF_A_FILE: usize = 12;
/// Blocks after which a child gives up, if its point never came.
const PATIENCE: usize = 200;

/// A point on a block's way. redb writes the pages of a block, then a slot of its header that names them,
/// syncs, then makes that slot the valid one, and syncs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    BeforePage,
    HalfPage,
    AfterPage,
    BeforeSlot,
    AfterSlot,
    BeforeSync,
    AfterSync,
    BeforeSwap,
    AfterSwap,
    BeforeLastSync,
    AfterLastSync,
    /// The n-th write or sync of coming back.
    Opening(usize),
}

impl Point {
    const ALL: [Self; 13] = [
        Self::BeforePage,
        Self::HalfPage,
        Self::AfterPage,
        Self::BeforeSlot,
        Self::AfterSlot,
        Self::BeforeSync,
        Self::AfterSync,
        Self::BeforeSwap,
        Self::AfterSwap,
        Self::BeforeLastSync,
        Self::AfterLastSync,
        Self::Opening(0),
        Self::Opening(1),
    ];
}

impl FromStr for Point {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|p| format!("{p:?}") == name);
        found.ok_or_else(|| format!("no point {name}"))
    }
}

/// The chain's file, and the point at which its process ends.
#[derive(Debug)]
struct Killer {
    file: FileBackend,
    point: Point,
    /// The next block is the one.
    armed: Arc<AtomicBool>,
    /// Writes of the header, and syncs, since then; and all of both.
    headers: AtomicUsize,
    syncs: AtomicUsize,
    all: AtomicUsize,
}

impl Killer {
    /// Ends the process if this is the point.
    fn at(&self, point: Point) {
        if self.point == point && self.armed.load(Ordering::SeqCst) {
            die();
        }
    }

    fn count(&self) {
        let all = self.all.fetch_add(1, Ordering::SeqCst);
        if self.point == Point::Opening(all) {
            die();
        }
    }

    fn next(&self, counter: &AtomicUsize) -> usize {
        if self.armed.load(Ordering::SeqCst) {
            counter.fetch_add(1, Ordering::SeqCst)
        } else {
            0
        }
    }
}

fn die() -> ! {
    nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::SIGKILL).unwrap();
    unreachable!("SIGKILL cannot be survived")
}

impl StorageBackend for Killer {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.count();
        let (before, after) = match self.next(&self.syncs) {
            0 => (Point::BeforeSync, Point::AfterSync),
            _ => (Point::BeforeLastSync, Point::AfterLastSync),
        };
        self.at(before);
        self.file.sync_data()?;
        self.at(after);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.count();
        let (before, after) = match (offset, self.headers.load(Ordering::SeqCst)) {
            (0, _) => match self.next(&self.headers) {
                0 => (Point::BeforeSlot, Point::AfterSlot),
                _ => (Point::BeforeSwap, Point::AfterSwap),
            },
            _ => (Point::BeforePage, Point::AfterPage),
        };
        self.at(before);
        if before == Point::BeforePage && self.point == Point::HalfPage {
            self.file.write(offset, &data[..data.len() / 2])?;
            self.at(Point::HalfPage);
        }
        self.file.write(offset, data)?;
        self.at(after);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

/// Not a test by itself: the process that is killed. `DIR POINT BLOCKS`, or `DIR found`.
#[test]
fn child_that_dies_at_its_point() {
    let Ok(told) = std::env::var(CHILD) else {
        return;
    };
    let told: Vec<&str> = told.split('\n').collect();
    let dir = Path::new(told[0]);
    let options = TestClock::new().options();
    if told[1] == "found" {
        println!("opening");
        let _chain = Embedded::open(dir, &genesis(), options).unwrap();
        println!("acknowledged 1 founded");
        return;
    }
    let armed = Arc::new(AtomicBool::new(false));
    let point = told[1].parse().ok();
    let path = dir.join(FILE);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let file = FileBackend::new(file).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let chain = match point {
            Some(point) => {
                let armed = Arc::clone(&armed);
                let zero = AtomicUsize::default;
                let (headers, syncs, all) = (zero(), zero(), zero());
                let killer = Killer {
                    file,
                    point,
                    armed,
                    headers,
                    syncs,
                    all,
                };
                Embedded::open_on(killer, &path, &genesis(), options).unwrap()
            }
            None => Embedded::open_on(file, &path, &genesis(), options).unwrap(),
        };
        let client = ChainClient::in_process(&chain, key(2));
        let blocks: usize = told[2].parse().unwrap();
        for block in 0..PATIENCE {
            armed.store(block >= blocks, Ordering::SeqCst);
            let sent = tick(&client).await;
            println!("acknowledged {} {}", sent.block, sent.hash);
        }
    });
}

fn start(dir: &Path, point: &str, blocks: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crash::child_that_dies_at_its_point",
            "--nocapture",
        ])
        .env(CHILD, format!("{}\n{point}\n{blocks}", dir.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the child said before it died: block and transaction.
fn said(child: &mut Child, mut line_seen: impl FnMut(&mut Child, &str)) -> Vec<(u64, String)> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    for line in lines {
        // The harness prints the test's name on the line of our first word.
        let line = line.unwrap();
        line_seen(child, &line);
        let Some((_, words)) = line.split_once("acknowledged ") else {
            continue;
        };
        // The last line may be torn by the kill.
        if let Some((number, hash)) = words.split_once(' ')
            && hash.len() == 66
        {
            acknowledged.push((number.parse().unwrap(), hash.to_owned()));
        }
    }
    let status = child.wait().unwrap();
    assert_eq!(
        status.signal(),
        Some(9),
        "the child was not killed: {status}"
    );
    acknowledged
}

/// Reopens, finds everything that was acknowledged, goes on, and replays it all.
async fn check(dir: &Path, acknowledged: &[(u64, String)], context: &str) {
    let options = TestClock::new().options();
    let chain = Embedded::open(dir, &genesis(), options);
    let chain = chain.unwrap_or_else(|e| panic!("{context}: {e}"));
    let client = ChainClient::in_process(&chain, key(2));
    let head = client.latest_block().await.unwrap().number;
    for (number, hash) in acknowledged {
        let request = json!({ "jsonrpc": "2.0", "id": 1,
            "method": "eth_getTransactionReceipt", "params": [hash] });
        let answer = chain.rpc(request).await;
        let block = format!("{number:#x}");
        assert_eq!(
            answer["result"]["blockNumber"], block,
            "{context}: {answer}"
        );
        assert_eq!(answer["result"]["status"], "0x1", "{context}: {answer}");
    }
    let last = acknowledged.last().map_or(1, |(number, _)| *number);
    assert!(head >= last, "{context}: head {head}, acknowledged {last}");
    if !acknowledged.is_empty() {
        assert!(
            head <= last + 1,
            "{context}: head {head}, acknowledged {last}"
        );
    }
    assert!(client.conserved().await.unwrap(), "{context}");
    assert_eq!(tick(&client).await.block, head + 1, "{context}");
    drop(client);
    assert!(Arc::into_inner(chain).is_some());
    let replayed = verify(dir).unwrap_or_else(|e| panic!("{context}: {e}"));
    assert_eq!(replayed.height, head + 1, "{context}");
}

fn founded() -> TempDir {
    let dir = TempDir::new().unwrap();
    let options = TestClock::new().options();
    drop(Embedded::open(dir.path(), &genesis(), options).unwrap());
    dir
}

fn pass(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

#[tokio::test]
async fn kill_9_at_every_point_loses_no_acknowledged_block() {
    let seed = seed();
    let mut chance = Chance::new(seed);
    let rounds = if full() { ROUNDS.1 } else { ROUNDS.0 };
    let (mut named, mut random, mut foundings) = (0, 0, [0, 0]);
    let mut dir = founded();
    for crash in 0..rounds * Point::ALL.len() {
        if crash % CRASHES_OF_A_FILE == CRASHES_OF_A_FILE - 1 {
            dir = founded();
        }
        let blocks = chance.below(4);
        let point = Point::ALL[crash % Point::ALL.len()];
        let mut child = start(dir.path(), &format!("{point:?}"), blocks);
        let acknowledged = said(&mut child, |_, _| {});
        if !matches!(point, Point::Opening(_)) {
            // At its point, and not before or after.
            assert_eq!(acknowledged.len(), blocks, "{point:?}");
        }
        let context = format!("PLUMBLINE_SEED={seed}, {point:?} after {blocks} blocks");
        check(dir.path(), &acknowledged, &context).await;
        named += 1;

        let enough = 1 + chance.below(5);
        let delay = Duration::from_micros(chance.next() % 3_000);
        let mut seen = 0;
        let mut child = start(dir.path(), "random", 0);
        let acknowledged = said(&mut child, |child, line| {
            seen += usize::from(line.contains("acknowledged "));
            if seen == enough {
                pass(delay);
                child.kill().unwrap();
            }
        });
        let context = format!("PLUMBLINE_SEED={seed}, {delay:?} after {enough} blocks");
        check(dir.path(), &acknowledged, &context).await;
        random += 1;

        if crash % 2 == 0 {
            let fresh = TempDir::new().unwrap();
            let delay = Duration::from_micros(chance.next() % 30_000);
            let mut child = start(fresh.path(), "found", 0);
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            for line in lines {
                if line.unwrap().contains("opening") {
                    pass(delay);
                    child.kill().unwrap();
                }
            }
            child.wait().unwrap();
            let there = fresh.path().join(FILE).exists();
            foundings[usize::from(there)] += 1;
            let context = format!("PLUMBLINE_SEED={seed}, {delay:?} into founding, {there}");
            check(fresh.path(), &[], &context).await;
        }
    }
    let [before, after] = foundings;
    println!(
        "kill -9: {} kills, {named} at {} named points, {random} at random, {} while founding \
         ({before} before there was a file, {after} after), 0 wrong",
        named + random + before + after,
        Point::ALL.len(),
        before + after
    );
    assert!(named + random + before + after >= 30);
}

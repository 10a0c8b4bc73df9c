//! Key files: both secret keys of a participant in one small TOML file that only its owner can read.
//!
//! ```text
//!  getrandom ─► Keys ─► .name.<random> (O_EXCL, 0600, fsync) ─ link ─► name      never replaces a file
//!  name ─► regular? owner-only? ≤ 4 KiB? both keys valid? ─► Keys                or an error that says which
//! ```
//!
//! Claim: a file that exists is whole, was never readable by others, and no message, log or `Debug`
//! ever holds a secret. Not promised: protection from the machine's own root, or encryption at rest
//! (use LoadCredentialEncrypted= of systemd for that). Tests at the end.

use std::fmt;
use std::fs::{DirEntry, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy::signers::local::PrivateKeySigner;
use plumbline_trust::identity::{Address, NetworkKey, VerifyingKey};
use toml::de::{DeTable, DeValue};
use zeroize::{Zeroize, Zeroizing};

/// Mode of a new key file: its owner reads and writes, nobody else does anything.
const MODE: u32 = 0o600;
/// Permission bits that let somebody else in.
const OTHERS: u32 = 0o077;
/// Those of them that a systemd credential may show: its ACL appears as the group's read bit.
const CREDENTIAL_GROUP_READ: u32 = 0o040;
/// Largest key file read: ten times what one needs.
const FILE_MAX_BYTES: u64 = 4096;
/// Names of the two entries.
const NETWORK: &str = "network_secret";
const SETTLEMENT: &str = "settlement_secret";

/// Why a key file was not made or not accepted. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Something of that name is there already.
    #[error("key file {path}: already exists and is never overwritten; choose another name or move it away", path = .0.display())]
    Exists(PathBuf),
    /// The system refused a read or a write.
    #[error("key file {path}: cannot {doing}: {source}", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A directory, device or pipe.
    #[error("key file {path}: not a regular file; make one with `plumbline key new --out FILE`", path = .0.display())]
    NotAFile(PathBuf),
    /// Somebody besides the owner may read or write it.
    #[error("key file {path}: mode {mode:04o} lets others in; allowed: 0600 or 0400; if nobody has read it: chmod 600 {path}", path = .path.display())]
    Permissions {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not what `plumbline key new` writes.
    #[error("key file {path}: {what}; allowed: exactly {NETWORK} and {SETTLEMENT}, each a string of 64 hexadecimal digits, as `plumbline key new --out FILE` writes them", path = .path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, without quoting it.
        what: String,
    },
    /// The system has no random bytes.
    #[error("cannot make a key: the system gave no random bytes: {0}")]
    Random(getrandom::Error),
}

/// Both secret keys of a participant. Wiped from memory when dropped; never printed.
pub struct Keys {
    /// ed25519: packets, commitments, messages.
    pub network: Arc<NetworkKey>,
    /// secp256k1: transactions and typed data.
    pub settlement: Zeroizing<[u8; 32]>,
    signer: PrivateKeySigner,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({}, {})", self.network_key(), self.address())
    }
}

impl Keys {
    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeyFileError`]: unreadable, open to others, or not two valid keys.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        load(path, credentials.as_deref())
    }

    /// Makes two fresh keys and writes them to a new file. The file appears whole or not at all.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] if anything has that name; nothing is changed then.
    pub fn create(path: &Path) -> Result<Self, KeyFileError> {
        let network = random()?;
        let mut settlement = random()?;
        // 1 in 2^128 of all numbers is no secp256k1 key.
        while PrivateKeySigner::from_slice(&*settlement).is_err() {
            settlement = random()?;
        }
        let keys = Self::from_secrets(&network, settlement).map_err(|what| content(path, what))?;
        write(path, &network, &keys.settlement)?;
        Ok(keys)
    }

    /// Public half of the network key.
    pub fn network_key(&self) -> VerifyingKey {
        self.network.verifying()
    }

    /// Settlement address.
    pub fn address(&self) -> Address {
        Address(self.signer.address().into_array())
    }

    /// The settlement key as the chain client takes it.
    pub fn signer(&self) -> PrivateKeySigner {
        self.signer.clone()
    }

    fn from_secrets(
        network: &[u8; 32],
        settlement: Zeroizing<[u8; 32]>,
    ) -> Result<Self, &'static str> {
        if *network == *settlement {
            return Err("both secrets are the same: whoever learns one has the other");
        }
        let signer = PrivateKeySigner::from_slice(&*settlement)
            .map_err(|_| "settlement_secret is zero or too large for a secp256k1 key")?;
        Ok(Self {
            network: Arc::new(NetworkKey::from_secret(network)),
            settlement,
            signer,
        })
    }
}

fn random() -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(KeyFileError::Random)?;
    Ok(bytes)
}

fn content(path: &Path, what: impl Into<String>) -> KeyFileError {
    KeyFileError::Content {
        path: path.to_owned(),
        what: what.into(),
    }
}

fn failed<'p>(path: &'p Path, doing: &'static str) -> impl Fn(io::Error) -> KeyFileError + 'p {
    move |source| KeyFileError::Io {
        path: path.to_owned(),
        doing,
        source,
    }
}

/// Writes beside the target and links: a crash leaves no half-written key file, and `link` refuses
/// to replace anything.
fn write(path: &Path, network: &[u8; 32], settlement: &[u8; 32]) -> Result<(), KeyFileError> {
    let name = path
        .file_name()
        .ok_or_else(|| KeyFileError::NotAFile(path.to_owned()))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).map_err(KeyFileError::Random)?;
    let draft = directory.join(format!(".{}.{}", name.to_string_lossy(), hex::encode(salt)));
    let result = write_draft(path, &draft, network, settlement);
    // The draft goes in any case; after a link it is only a second name.
    let removed = std::fs::remove_file(&draft);
    result?;
    removed.map_err(failed(path, "remove its draft"))?;
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(failed(path, "make its name durable"))
}

fn write_draft(
    path: &Path,
    draft: &Path,
    network: &[u8; 32],
    settlement: &[u8; 32],
) -> Result<(), KeyFileError> {
    let (network, settlement) = (
        Zeroizing::new(hex::encode(network)),
        Zeroizing::new(hex::encode(settlement)),
    );
    let text = Zeroizing::new(format!(
        "# Secret keys of one Plumbline participant. Keep them to yourself; back them up.\n\
         {NETWORK} = \"{}\"\n{SETTLEMENT} = \"{}\"\n",
        *network, *settlement
    ));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(draft)
        .map_err(failed(path, "create it"))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed(path, "write it"))?;
    std::fs::hard_link(draft, path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => failed(path, "give it its name")(source),
    })
}

fn load(path: &Path, credentials: Option<&Path>) -> Result<Keys, KeyFileError> {
    // O_NONBLOCK: a pipe of that name must not hang the start. What is checked is what is read.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(failed(path, "open it"))?;
    let metadata = file.metadata().map_err(failed(path, "examine it"))?;
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile(path.to_owned()));
    }
    // systemd keeps credentials in a directory that only the unit can enter. The unit may show one elsewhere too:
    // the same file, whatever its name.
    let same = |other: io::Result<DirEntry>| {
        let other = other.and_then(|entry| std::fs::metadata(entry.path()));
        other.is_ok_and(|m| (m.dev(), m.ino()) == (metadata.dev(), metadata.ino()))
    };
    let credential = credentials
        .and_then(|directory| std::fs::read_dir(directory).ok())
        .is_some_and(|mut files| files.any(same));
    let refused = if credential {
        OTHERS & !CREDENTIAL_GROUP_READ
    } else {
        OTHERS
    };
    let mode = metadata.mode() & 0o7777;
    if mode & refused != 0 {
        return Err(KeyFileError::Permissions {
            path: path.to_owned(),
            mode,
        });
    }
    // Room for all of it at once: a growing buffer would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(4097));
    let read = file.take(FILE_MAX_BYTES + 1).read_to_string(&mut text);
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(content(path, "not text"));
        }
        Err(error) => return Err(failed(path, "read it")(error)),
        Ok(0) => return Err(content(path, "empty")),
        Ok(bytes) if bytes as u64 > FILE_MAX_BYTES => {
            return Err(content(path, format!("longer than {FILE_MAX_BYTES} bytes")));
        }
        Ok(_) => {}
    }
    parse(&text).map_err(|what| content(path, what))
}

/// Both keys, or what is wrong in words of our own: a parser's message may quote the file.
fn parse(text: &str) -> Result<Keys, String> {
    let root = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        format!(
            "line {} is not TOML",
            text.as_bytes()[..at]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                + 1
        )
    })?;
    if root
        .get_ref()
        .keys()
        .any(|key| !matches!(key.get_ref().as_ref(), NETWORK | SETTLEMENT))
    {
        return Err("an unknown entry".into());
    }
    let network = secret(root.get_ref(), NETWORK)?;
    let settlement = secret(root.get_ref(), SETTLEMENT)?;
    Ok(Keys::from_secrets(&network, settlement)?)
}

fn secret(table: &DeTable<'_>, name: &str) -> Result<Zeroizing<[u8; 32]>, String> {
    let value = table
        .get(name)
        .ok_or_else(|| format!("{name} is missing"))?;
    let DeValue::String(digits) = value.get_ref() else {
        return Err(format!("{name} is not a string"));
    };
    let mut out = Zeroizing::new([0; 32]);
    if hex::decode_to_slice(digits.as_ref(), &mut *out).is_err() {
        out.zeroize();
        return Err(format!(
            "{name} is {} characters and not 64 hexadecimal digits",
            digits.chars().count()
        ));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const GOOD: &str = "network_secret = \"1111111111111111111111111111111111111111111111111111111111111111\"\n\
        settlement_secret = \"ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80\"\n";

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_new_file_is_private_whole_and_loads_to_the_same_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        let made = Keys::create(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600);
        let read = Keys::load(&path).unwrap();
        assert_eq!(
            (read.address(), read.network_key()),
            (made.address(), made.network_key())
        );
        assert_eq!(*read.settlement, *made.settlement);
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "a draft was left behind"
        );
        assert_ne!(
            Keys::create(&dir.path().join("b.key")).unwrap().address(),
            made.address()
        );
    }

    #[test]
    fn nothing_is_ever_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        let first = Keys::create(&path).unwrap();
        assert!(matches!(Keys::create(&path), Err(KeyFileError::Exists(p)) if p == path));
        assert_eq!(Keys::load(&path).unwrap().address(), first.address());
        let link = dir.path().join("dangling");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert!(matches!(Keys::create(&link), Err(KeyFileError::Exists(_))));
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            2,
            "a draft was left behind"
        );
        let gone = dir.path().join("no/such/dir.key");
        assert!(matches!(Keys::create(&gone), Err(KeyFileError::Io { .. })));
    }

    #[test]
    fn the_address_is_the_one_other_tools_derive() {
        let (_dir, path) = file(GOOD, 0o600);
        // The first account of the mnemonic that anvil and hardhat print.
        assert_eq!(
            Keys::load(&path).unwrap().address().to_string(),
            "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
        );
    }

    #[test]
    fn only_owner_bits_are_accepted() {
        for mode in [0o600, 0o400, 0o700] {
            let (_dir, path) = file(GOOD, mode);
            assert!(Keys::load(&path).is_ok(), "{mode:o}");
        }
        for mode in [0o640, 0o604, 0o620, 0o610, 0o601, 0o644] {
            let (_dir, path) = file(GOOD, mode);
            let error = Keys::load(&path).unwrap_err();
            assert!(
                matches!(error, KeyFileError::Permissions { mode: m, .. } if m == mode),
                "{error}"
            );
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_credential_may_show_its_acl_as_a_group_bit() {
        let (dir, path) = file(GOOD, 0o440);
        assert!(load(&path, Some(dir.path())).is_ok());
        assert!(load(&path, Some(Path::new("/elsewhere"))).is_err());
        // A unit shows it at another path: the same file.
        let shown = tempfile::tempdir().unwrap();
        let bound = shown.path().join("prover.key");
        std::fs::hard_link(&path, &bound).unwrap();
        assert!(load(&bound, Some(dir.path())).is_ok());
        let (dir, path) = file(GOOD, 0o444);
        assert!(load(&path, Some(dir.path())).is_err());
    }

    #[test]
    fn bad_content_is_named_and_never_quoted() {
        let secret = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
        let ones = "1".repeat(64);
        let cases = [
            (String::new(), "empty"),
            (
                format!("network_secret = \"{ones}\"\n"),
                "settlement_secret is missing",
            ),
            (
                format!("settlement_secret = \"{secret}\"\n"),
                "network_secret is missing",
            ),
            (GOOD.replace("80\"", "8\""), "63 characters"),
            (GOOD.replace("80\"", "801\""), "65 characters"),
            (GOOD.replace("80\"", "8g\""), "not 64 hexadecimal digits"),
            (GOOD.replace(secret, &"0".repeat(64)), "zero or too large"),
            (GOOD.replace(secret, &"f".repeat(64)), "zero or too large"),
            (GOOD.replace(secret, &ones), "both secrets are the same"),
            (format!("{GOOD}other = \"{secret}\"\n"), "an unknown entry"),
            (
                format!("network_secret = 5\nsettlement_secret = \"{secret}\"\n"),
                "network_secret is not a string",
            ),
            (
                GOOD.replace(&format!("\"{secret}\""), secret),
                "line 2 is not TOML",
            ),
            (
                format!("{GOOD}{}", "#".repeat(4096)),
                "longer than 4096 bytes",
            ),
        ];
        for (text, want) in cases {
            let (_dir, path) = file(&text, 0o600);
            let error = Keys::load(&path).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(want), "{want:?} is not in {shown}");
            assert!(
                !shown.contains(&secret[..16]) && !shown.contains(&ones[..16]),
                "{shown}"
            );
        }
        let (_dir, path) = file("", 0o600);
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(
            Keys::load(&path)
                .unwrap_err()
                .to_string()
                .contains("not text")
        );
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            Keys::load(dir.path()),
            Err(KeyFileError::NotAFile(_))
        ));
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(matches!(Keys::load(&pipe), Err(KeyFileError::NotAFile(_))));
        assert!(matches!(
            Keys::load(&dir.path().join("none")),
            Err(KeyFileError::Io { .. })
        ));
    }

    #[test]
    fn debug_shows_public_halves_only() {
        let (_dir, path) = file(GOOD, 0o600);
        let shown = format!("{:?}", Keys::load(&path).unwrap());
        assert!(
            shown.contains("0xf39f") && !shown.contains("ac0974") && !shown.contains("111111"),
            "{shown}"
        );
    }
}

//! TLS 1.3: whom a caller believes, and what a coordinator shows.
//!
//! ```text
//!  URL                               who is believed to answer there
//!  https://HOST:PORT#sha256=HEX      the holder of the certificate with this SHA-256, whatever names it bears
//!  https://HOST                      whom the system's authorities certify for that name
//!  http://HOST:PORT                  anybody on the way
//! ```
//! The hash is of the certificate in DER, as `openssl x509 -fingerprint -sha256` shows it. A coordinator registers
//! its URL with the hash in it: the chain says which certificate is the right one.
//!
//! **Guarantees.** Nothing is sent to whoever cannot prove that it holds the key of the pinned certificate.
//! **Limits.** Names, dates and chains of a pinned certificate are not looked at: the pin replaces them. What
//! statements are worth never depends on this: each is signed by itself. **Tests** at the end, and
//! `appliance/tests/door/`.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use reqwest::Url;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;

/// How a pin begins in a URL's fragment.
const PIN: &str = "sha256=";
/// The only version that a coordinator speaks, and whoever pins one.
const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// SHA-256 of a certificate in DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin([u8; 32]);

impl Pin {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// From a URL's fragment.
    ///
    /// # Errors
    /// In words: what is allowed.
    pub fn parse(fragment: &str) -> Result<Self, String> {
        let mut pin = [0; 32];
        fragment
            .strip_prefix(PIN)
            .and_then(|digits| hex::decode_to_slice(digits, &mut pin).ok())
            .ok_or_else(|| {
                format!("after # only {PIN} and the 64 hexadecimal digits of a certificate's SHA-256 are allowed")
            })?;
        Ok(Self(pin))
    }
}

impl std::fmt::Display for Pin {
    /// As it stands in a URL, after `#`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PIN}{}", hex::encode(self.0))
    }
}

/// Somebody to ask.
pub struct Target {
    /// Believes nobody else.
    pub client: reqwest::ClientBuilder,
    /// Without the pin.
    pub url: Url,
    /// The certificate to find there, if it was said.
    pub pin: Option<Pin>,
}

/// What a URL says.
///
/// # Errors
/// In words: neither http nor https, a fragment that is no pin, or no authorities on this system.
pub fn target(url: &str) -> Result<Target, String> {
    let mut url = Url::parse(url).map_err(|e| e.to_string())?;
    let pin = url.fragment().map(Pin::parse).transpose()?;
    url.set_fragment(None);
    // Nobody who is asked says whom else to ask, and what measures a network is on it, behind no web proxy.
    let plain = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none());
    let client = match (url.scheme(), pin) {
        ("http", None) => plain.tls_backend_preconfigured(pinning(None)?),
        ("http", Some(_)) => {
            return Err("a certificate's hash is of use with https:// alone".into());
        }
        ("https", Some(pin)) => plain
            .https_only(true)
            .tls_backend_preconfigured(pinning(Some(pin))?),
        ("https", None) => plain
            .https_only(true)
            .tls_backend_preconfigured(certified()?),
        _ => return Err("it begins neither with http:// nor with https://".into()),
    };
    Ok(Target { client, url, pin })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Believes whoever holds the pinned certificate; without a pin, nobody.
fn pinning(pin: Option<Pin>) -> Result<ClientConfig, String> {
    let provider = provider();
    let verifier = Pinned {
        pin,
        provider: provider.clone(),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(config.with_no_client_auth())
}

/// Believes whom the system's authorities certify.
fn certified() -> Result<ClientConfig, String> {
    let provider = provider();
    let verifier = rustls_platform_verifier::Verifier::new(provider.clone())
        .map_err(|e| format!("this system's authorities cannot be read ({e}); install ca-certificates, or pin the certificate with #{PIN}HEX"))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(config.with_no_client_auth())
}

#[derive(Debug)]
struct Pinned {
    pin: Option<Pin>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = Pin::of(certificate);
        if self.pin == Some(found) {
            return Ok(ServerCertVerified::assertion());
        }
        let wanted = self
            .pin
            .map_or_else(|| "none".to_owned(), |pin| pin.to_string());
        Err(rustls::Error::General(format!(
            "the certificate there is {found}, not the pinned one, {wanted}"
        )))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 alone is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// A certificate with its key, as a coordinator shows it.
pub struct Shown {
    /// Takes connections.
    pub acceptor: TlsAcceptor,
    /// What callers pin.
    pub pin: Pin,
}

impl Shown {
    /// From two PEM files.
    ///
    /// # Errors
    /// In words: a file that cannot be read, or a key that is not the certificate's.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, String> {
        let named = |path: &Path, why: String| format!("{}: {why}", path.display());
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| named(certificate, e.to_string()))?;
        let first = chain
            .first()
            .ok_or_else(|| named(certificate, "there is no certificate in it".into()))?;
        let pin = Pin::of(first);
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| named(key, e.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .map_err(|e| e.to_string())?
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(|e| named(key, e.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            pin,
        })
    }

    /// From two files in `directory`, made if they are not there: a certificate that nobody but its own key signed,
    /// for these names and addresses.
    ///
    /// # Errors
    /// As [`Shown::read`], or the files cannot be made.
    pub fn generated(directory: &Path, names: Vec<String>) -> Result<Self, String> {
        let (certificate, key) = (directory.join("tls.crt"), directory.join("tls.key"));
        if !certificate.exists() {
            fs::create_dir_all(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
            let pair = rcgen::generate_simple_self_signed(names).map_err(|e| e.to_string())?;
            // The key first: a certificate that is there has one.
            write(&key, &pair.signing_key.serialize_pem(), 0o600)?;
            write(&certificate, &pair.cert.pem(), 0o644)?;
        }
        Self::read(&certificate, &key)
    }
}

/// Whole or not at all.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    let draft = path.with_extension("new");
    let whole = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
        })
        .and_then(|()| fs::rename(&draft, path));
    whole.map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Answers every connection alike, over TLS, and counts the bytes of requests that it was sent.
    async fn server(shown: Shown) -> (u16, Arc<std::sync::atomic::AtomicUsize>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = heard.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = shown.acceptor.accept(stream).await else {
                    continue;
                };
                let mut bytes = [0; 4096];
                let read = stream.read(&mut bytes).await.unwrap_or(0);
                count.fetch_add(read, std::sync::atomic::Ordering::SeqCst);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                let _gone = stream.write_all(answer).await;
                let _gone = stream.shutdown().await;
            }
        });
        (port, heard)
    }

    async fn ask(url: &str) -> Result<String, String> {
        let Target { client, url, .. } = target(url)?;
        let client = client.build().map_err(|e| format!("{e:?}"))?;
        let answer = client.get(url).send().await.map_err(|e| format!("{e:?}"))?;
        answer.text().await.map_err(|e| format!("{e:?}"))
    }

    #[tokio::test]
    async fn the_holder_of_the_pinned_certificate_is_believed_and_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let names = || vec!["coordinator.example".to_owned(), "192.0.2.1".to_owned()];
        let shown = Shown::generated(directory.path(), names()).unwrap();
        let pin = shown.pin;
        let again = Shown::generated(directory.path(), names()).unwrap();
        assert_eq!(again.pin, pin, "the certificate is kept");
        let elsewhere = tempfile::tempdir().unwrap();
        let other = Shown::generated(elsewhere.path(), names()).unwrap().pin;

        let (port, heard) = server(shown).await;
        assert_eq!(
            ask(&format!("https://127.0.0.1:{port}#{pin}"))
                .await
                .unwrap(),
            "ok"
        );
        let before = heard.load(std::sync::atomic::Ordering::SeqCst);
        let told = ask(&format!("https://127.0.0.1:{port}/secret#{other}"))
            .await
            .unwrap_err();
        assert!(
            told.contains(&pin.to_string()) && told.contains(&other.to_string()),
            "{told}"
        );
        // Nor is a certificate that no authority signed, without a pin.
        ask(&format!("https://127.0.0.1:{port}/secret"))
            .await
            .unwrap_err();
        assert_eq!(
            heard.load(std::sync::atomic::Ordering::SeqCst),
            before,
            "not a byte was said"
        );
    }

    #[test]
    fn urls_say_whom_to_believe() {
        let pin = format!("#sha256={}", "ab".repeat(32));
        for url in [
            "http://a:1".to_owned(),
            format!("https://a:1{pin}"),
            format!("https://a/rpc{pin}"),
        ] {
            let bare = target(&url).unwrap().url;
            assert!(!bare.as_str().contains('#'), "{bare}");
        }
        for url in [
            format!("http://a:1{pin}"),
            "https://a:1#sha256=ab".into(),
            "https://a:1#md5=00".into(),
            "ftp://a:1".into(),
            "a:1".into(),
        ] {
            assert!(target(&url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_key_that_is_another_ones_and_files_that_are_none_are_named() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for directory in [&one, &two] {
            Shown::generated(directory.path(), vec!["::1".into()]).unwrap();
        }
        let (certificate, key) = (one.path().join("tls.crt"), one.path().join("tls.key"));
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        for (certificate, key) in [
            (certificate.clone(), two.path().join("tls.key")),
            (certificate.clone(), one.path().join("nothing")),
            (key.clone(), key.clone()),
        ] {
            let told = Shown::read(&certificate, &key).map(drop).unwrap_err();
            assert!(
                told.contains("tls.key") || told.contains("nothing"),
                "{told}"
            );
        }
    }
}

//! The door with a certificate: whoever pins it is served, and who is shown another one, or none, says nothing.

use plumbline::control::client::{Api, ApiError};
use plumbline::tls;

use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn the_registered_url_says_which_certificate_and_no_other_is_talked_to() {
    let stage = Stage::up("tls = \"generated\"\noperator = \"somebody\"");
    let begin = format!("https://{}#sha256=", stage.listen);
    assert!(stage.api.starts_with(&begin), "{}", stage.api);

    let api = Api::new(&stage.api).unwrap();
    let deployment = api.deployment().await.unwrap();
    assert!(deployment.chain_id > 0);
    // The same URL stands on the chain.
    let list = format!(
        "{}/v1/participants#{}",
        api.base(),
        &stage.api[begin.len() - 7..]
    );
    let target = tls::target(&list).unwrap();
    let listed = target.client.build().unwrap().get(target.url).send().await;
    let listed = listed.unwrap().text().await.unwrap();
    assert!(listed.contains(&stage.api), "{listed}");

    // Another certificate, or an authority that is to vouch for this one: refused, in words.
    let digit = |c: char| if c == '0' { '1' } else { '0' };
    let (first, rest) = stage.api[begin.len()..].split_at(1);
    let other = format!(
        "{begin}{}{rest}",
        first.chars().map(digit).collect::<String>()
    );
    for (url, word) in [
        (other.as_str(), "not the pinned one"),
        (&stage.api[..begin.len() - 8], "certificate"),
    ] {
        let told = Api::new(url).unwrap().deployment().await.unwrap_err();
        assert!(matches!(told, ApiError::Unreachable { .. }), "{told}");
        assert!(told.to_string().contains(word), "{url}: {told}");
    }
    // Plain HTTP is no way in, and what is no handshake holds nobody up.
    let plain = Api::new(&format!("http://{}", stage.listen)).unwrap();
    plain.deployment().await.unwrap_err();
    api.deployment().await.unwrap();
}

//! The personal part.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_receipt::{disclose, disclosure_digest, open_disclosure};
use countersign_schemas::{Disclosed, DisclosureMode};

fn content() -> Disclosed {
    Disclosed { human_name: Some("Zoë \u{1F512}".to_owned()), ..Disclosed::default() }
}

#[test]
fn a_committed_content_is_kept_beside_the_leaf_and_opens_its_digest() {
    let (in_leaf, text) = disclose(&content(), DisclosureMode::Committed, [7; 16]);
    let text = text.unwrap();
    assert_eq!(in_leaf.digest, disclosure_digest(&text));
    assert_eq!(None, in_leaf.content);
    assert_eq!(content(), open_disclosure(&text).unwrap());
    let json = String::from_utf8(URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap();
    assert_eq!("[\"BwcHBwcHBwcHBwcHBwcHBw\",\"disclosed\",{\"humanName\":\"Zoë \u{1F512}\"}]", json);
}

#[test]
fn the_salt_hides_equal_contents() {
    let digest = |salt| disclose(&content(), DisclosureMode::Committed, salt).0.digest;
    assert_ne!(digest([1; 16]), digest([2; 16]));
}

#[test]
fn a_hashed_content_is_nowhere() {
    let (in_leaf, text) = disclose(&content(), DisclosureMode::Hashed, [7; 16]);
    assert_eq!((None, None), (in_leaf.content, text));
}

#[test]
fn rfc_9901_gives_the_digest_that_we_do() {
    // RFC 9901 section 4.2.3: the disclosure of `family_name` and its digest.
    let text = "WyJfMjZiYzRMVC1hYzZxMktJNmNCVzVlcyIsICJmYW1pbHlfbmFtZSIsICJNw7ZiaXVzIl0";
    assert_eq!("X9yH0Ajrdm1Oij4tWso9UzzKJvPoDxwmuEcO3XAdRC0", disclosure_digest(text));
}

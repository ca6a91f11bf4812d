//! Confusions of algorithms and keys.

use meshless_fakes::tokens::{Signing, encode};
use ring::hmac;
use serde_json::{Value, json};

use super::*;

fn set(keys: &[Value]) -> Vec<Key> {
    keys_of(json!({ "keys": keys })).unwrap()
}

fn keys_of(set: Value) -> Result<Vec<Key>, String> {
    keys(set.to_string().as_bytes())
}

fn verify(text: &str, keys: &[Key]) -> Result<(), Bad> {
    Token::parse(text)?.verify(keys)
}

fn unsigned(header: &Value) -> String {
    format!("{}.{}.", encode(header.to_string().as_bytes()), encode(b"{}"))
}

#[test]
fn a_token_of_the_issuer_is_taken_and_no_bit_of_it_may_change() {
    let signing = Signing::new("one");
    let keys = set(&[signing.jwk()]);
    let token = signing.token(&json!({ "sub": "a" }));
    assert_eq!(verify(&token, &keys), Ok(()));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (head, _) = signed.split_once('.').unwrap();
    let other = format!("{head}.{}.{signature}", encode(br#"{"sub":"b"}"#));
    assert_eq!(verify(&other, &keys), Err(Bad::Signature));
    let renamed = encode(json!({ "alg": "ES256", "kid": "one", "x": 1 }).to_string().as_bytes());
    let other = format!("{renamed}.{}.{signature}", signed.split_once('.').unwrap().1);
    assert_eq!(verify(&other, &keys), Err(Bad::Signature));
    assert_eq!(verify(&Signing::new("one").token(&json!({})), &keys), Err(Bad::Signature), "another issuer");
}

#[test]
fn neither_none_nor_an_hmac_with_the_public_key_is_a_signature() {
    let signing = Signing::new("one");
    let keys = set(&[signing.jwk()]);
    for algorithm in
        ["none", "None", "NONE", "nOnE", "", "HS256", "HS384", "RS512", "PS256", "ES384", "es256", "ES256 "]
    {
        assert_eq!(verify(&unsigned(&json!({ "alg": algorithm })), &keys), Err(Bad::Algorithm), "{algorithm}");
    }
    for secret in [signing.point().to_vec(), signing.jwk().to_string().into_bytes()] {
        let text = unsigned(&json!({ "alg": "HS256", "kid": "one" }));
        let signed = text.trim_end_matches('.');
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
        assert_eq!(verify(&format!("{signed}.{}", encode(mac.as_ref())), &keys), Err(Bad::Algorithm));
    }
    assert_eq!(verify(&unsigned(&json!({ "alg": "ES256", "kid": "one" })), &keys), Err(Bad::Signature), "no signature");
}

#[test]
fn a_key_is_used_for_its_own_algorithm_alone() {
    let signing = Signing::new("one");
    let keys = set(&[signing.jwk()]);
    for algorithm in ["RS256", "EdDSA"] {
        let token = signing.token_with(&json!({ "alg": algorithm, "kid": "one" }), &json!({}));
        assert_eq!(verify(&token, &keys), Err(Bad::UnknownKey), "{algorithm}");
    }
}

#[test]
fn the_key_id_chooses_among_the_issuers_keys_and_nothing_else_does() {
    let (one, two) = (Signing::new("one"), Signing::new("two"));
    let keys = set(&[one.jwk(), two.jwk()]);
    assert_eq!(verify(&two.token(&json!({})), &keys), Ok(()));
    assert_eq!(
        verify(&two.token_with(&json!({ "alg": "ES256", "kid": "one" }), &json!({})), &keys),
        Err(Bad::Signature)
    );
    assert_eq!(verify(&two.token_with(&json!({ "alg": "ES256" }), &json!({})), &keys), Ok(()), "all are tried");
    let stranger = Signing::new("three");
    let own = json!({ "alg": "ES256", "kid": "three", "jwk": stranger.jwk(), "jku": "http://127.0.0.1:1/" });
    assert_eq!(verify(&stranger.token_with(&own, &json!({})), &keys), Err(Bad::UnknownKey), "its own key");
    let critical = json!({ "alg": "ES256", "kid": "one", "crit": ["exp"], "exp": 1 });
    assert!(matches!(verify(&one.token_with(&critical, &json!({})), &keys), Err(Bad::Malformed(_))));
}

#[test]
fn a_token_has_one_form() {
    let signing = Signing::new("one");
    let token = signing.token(&json!({ "sub": "a" }));
    for text in [
        String::new(),
        "a.b".to_owned(),
        format!("{token}.x"),
        token.replace('.', ".."),
        format!("{token}="),
        format!(" {token}"),
        "e30.e30.e30".to_owned(),
        "a".repeat(MAX_TOKEN + 1),
    ] {
        assert!(matches!(Token::parse(&text), Err(Bad::Malformed(_))), "{text}");
    }
    let twice = format!("{}.e30.", encode(br#"{"alg":"ES256","alg":"none"}"#));
    assert!(matches!(Token::parse(&twice), Err(Bad::Malformed(_))), "a header that says two algorithms");
}

#[test]
fn keys_for_other_purposes_are_left_out_and_no_key_is_an_error() {
    let mut encryption = Signing::new("one").jwk();
    encryption["use"] = json!("enc");
    assert!(keys_of(json!({ "keys": [encryption] })).is_err());
    let mut other = Signing::new("one").jwk();
    other["alg"] = json!("ES384");
    assert!(keys_of(json!({ "keys": [other] })).is_err());
    let mut short = Signing::new("one").jwk();
    short["x"] = json!("AAAA");
    assert!(keys_of(json!({ "keys": [short, Signing::new("two").jwk()] })).unwrap().len() == 1);
    assert!(keys_of(json!({ "keys": [{ "kty": "oct", "k": "AAAA" }] })).is_err(), "a secret is no public key");
    assert!(keys_of(json!({ "keys": [] })).is_err());
    assert!(keys_of(json!([])).is_err());
    assert!(keys_of(json!({ "keys": vec![Signing::new("one").jwk(); MAX_KEYS + 1] })).is_err());
}

/// RFC 7515, A.2 (RS256), and RFC 8037, A.4 (EdDSA): tokens and keys that others made.
#[test]
fn the_examples_of_the_standards_verify() {
    let rsa = json!({ "kty": "RSA", "e": "AQAB", "n":
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_\
         YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlx\
         vb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ" });
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
         cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBY\
         NX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7no\
         OPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    assert_eq!(verify(token, &set(&[rsa])), Ok(()));
    let ed25519 = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5\
         BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(verify(token, &set(&[ed25519])), Ok(()));
}

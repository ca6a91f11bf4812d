use std::fs;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use tempfile::TempDir;

use super::*;

struct Root {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn root() -> Root {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pem = params.self_signed(&key).unwrap().pem();
    Root { issuer: Issuer::new(params, key), pem }
}

impl Root {
    fn leaf(&self, id: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn place() -> (TempDir, IdentityFiles) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let files = IdentityFiles { chain: at("chain.pem"), key: at("key.pem"), bundle: at("bundle.pem") };
    (directory, files)
}

fn write(files: &IdentityFiles, root: &Root, (chain, key): &(String, String)) {
    fs::write(&files.bundle, &root.pem).unwrap();
    fs::write(&files.key, key).unwrap();
    fs::write(&files.chain, chain).unwrap();
}

const WEB: &str = "spiffe://example.org/svc/web";

fn source(files: &IdentityFiles) -> FilesSource {
    FilesSource::new(files.clone(), "example.org".parse().unwrap())
}

#[tokio::test]
async fn files_that_come_late_say_which_one_is_missing_and_then_make_an_identity() {
    let (_directory, files) = place();
    let mut source = source(&files);
    let missing = source.next().await.unwrap_err();
    assert!(matches!(&missing, SourceError::Unreachable(why) if why.contains("chain.pem")), "{missing}");
    let root = root();
    write(&files, &root, &root.leaf(WEB));
    let identity = source.next().await.unwrap();
    assert_eq!((identity.id().as_str(), identity.bundle().roots.len()), (WEB, 1));
}

#[tokio::test]
async fn a_changed_identity_is_the_next_one_and_the_same_one_is_none() {
    let (_directory, files) = place();
    let root = root();
    write(&files, &root, &root.leaf(WEB));
    let mut source = source(&files);
    let first = source.next().await.unwrap();
    let again = root.leaf(WEB);
    let waiting = tokio::time::timeout(POLL / 10, source.next()).await;
    assert!(waiting.is_err(), "nothing changed");
    write(&files, &root, &again);
    let second = source.next().await.unwrap();
    assert_ne!(first.leaf().serial, second.leaf().serial);
}

#[tokio::test]
async fn half_of_a_new_state_is_read_again_until_the_other_half_is_there() {
    let (_directory, files) = place();
    let root = root();
    write(&files, &root, &root.leaf(WEB));
    let mut source = source(&files);
    source.next().await.unwrap();
    let (chain, key) = root.leaf(WEB);
    fs::write(&files.chain, chain).unwrap();
    let late = files.key.clone();
    let writing = async move {
        tokio::time::sleep(POLL + AGAIN * 2).await;
        fs::write(&late, key).unwrap();
    };
    let (next, ()) = tokio::join!(source.next(), writing);
    next.unwrap();
}

#[tokio::test]
async fn a_wrong_state_says_why_and_the_old_one_is_said_again_when_it_is_back() {
    let (_directory, files) = place();
    let root = root();
    let good = root.leaf(WEB);
    write(&files, &root, &good);
    let mut source = source(&files);
    let first = source.next().await.unwrap();
    for (chain, expected) in [
        (root.leaf("spiffe://elsewhere.org/svc/web").0, "trust domain"),
        (self::root().leaf(WEB).0, "not signed by an authority"),
        (root.leaf(WEB).0, "key does not fit"),
        ("rubbish".to_owned(), "no certificate in it"),
    ] {
        fs::write(&files.chain, chain).unwrap();
        let error = source.next().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    write(&files, &root, &good);
    assert_eq!(source.next().await.unwrap().leaf(), first.leaf());
}

#[tokio::test]
async fn a_file_that_is_far_too_large_is_not_read_to_its_end() {
    let (_directory, files) = place();
    let root = root();
    write(&files, &root, &root.leaf(WEB));
    fs::write(&files.bundle, vec![b'x'; (1 << 20) + 1]).unwrap();
    let error = source(&files).next().await.unwrap_err().to_string();
    assert!(error.contains("bundle.pem: larger than 1 MiB"), "{error}");
}

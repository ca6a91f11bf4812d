//! An authority, a server and a client certificate for the hop between two sidecars.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The name in the server's certificate.
pub(super) const SERVER_NAME: &str = "b.bench.internal";

/// Where the PEM files are. `client` and `server` are stems: `.crt`, `.key`, and `.pem` with both, as HAProxy wants it.
#[derive(Debug, Clone)]
pub(super) struct Certs {
    pub(super) authority: PathBuf,
    pub(super) client: PathBuf,
    pub(super) server: PathBuf,
}

/// Makes new P-256 certificates in `folder`.
pub(super) fn write(folder: &Path) -> anyhow::Result<Certs> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let key = KeyPair::generate().context("make the authority's key")?;
    let mut params = CertificateParams::default();
    name_as(&mut params, "bench authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = params.self_signed(&key).context("make the authority")?.pem();
    let issuer = Issuer::new(params, key);
    let certs =
        Certs { authority: folder.join("authority.crt"), client: folder.join("client"), server: folder.join("server") };
    fs::write(&certs.authority, authority).context("write the authority's certificate")?;
    leaf(&certs.client, "a.bench.internal", ExtendedKeyUsagePurpose::ClientAuth, &issuer)?;
    leaf(&certs.server, SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth, &issuer)?;
    Ok(certs)
}

fn leaf(stem: &Path, name: &str, usage: ExtendedKeyUsagePurpose, issuer: &Issuer<'_, KeyPair>) -> anyhow::Result<()> {
    let key = KeyPair::generate().context("make a key")?;
    let mut params = CertificateParams::new(vec![name.to_owned()]).context("name a certificate")?;
    name_as(&mut params, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, issuer).context("sign a certificate")?.pem();
    let key = key.serialize_pem();
    fs::write(stem.with_extension("crt"), &certificate).context("write a certificate")?;
    fs::write(stem.with_extension("key"), &key).context("write a key")?;
    fs::write(stem.with_extension("pem"), certificate + &key).context("write a certificate with its key")
}

/// OpenSSL takes a leaf with the subject of its authority for a self-signed one.
fn name_as(params: &mut CertificateParams, name: &str) {
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
}

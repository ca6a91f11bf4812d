//! What rcgen cannot make, by the `openssl` program.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;

use super::made::{DOMAIN, Signer};
use crate::pem;

/// The extensions of a good leaf, one a line.
pub(super) const LEAF: &str = "basicConstraints = critical, CA:FALSE\n\
    keyUsage = critical, digitalSignature\n\
    extendedKeyUsage = serverAuth, clientAuth\n";

/// A folder with files for `openssl`.
pub(super) struct Files(TempDir);

impl Files {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(super) fn run(&self, arguments: &str) -> String {
        openssl(self.0.path(), &arguments.split_whitespace().collect::<Vec<_>>())
    }

    /// Makes a key by arguments of `genpkey`, and has a leaf for it signed. `signing` are arguments of `x509 -req`.
    pub(super) fn leaf(&self, signer: &Signer, key: &str, extensions: &str, signing: &str) -> CertificateDer<'static> {
        self.write("ca.pem", pem::encode_chain(std::slice::from_ref(&signer.der)));
        self.write("ca.key", signer.issuer.key().serialize_pem());
        self.run(&format!("genpkey {key} -out leaf.key"));
        self.run("req -new -key leaf.key -subj /CN=leaf -out leaf.csr");
        let extensions = match extensions {
            "" => "",
            some => {
                let uri = format!("subjectAltName = URI:spiffe://{DOMAIN}/svc/web\n");
                let has_names = some.contains("subjectAltName");
                self.write("leaf.ext", if has_names { some.to_owned() } else { uri + some });
                "-extfile leaf.ext"
            }
        };
        self.run(&format!("x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -out leaf.pem {extensions} {signing}"));
        CertificateDer::from_pem_file(self.path("leaf.pem")).unwrap()
    }
}

pub(super) fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {text}");
    text
}

//! `meshless ca`, as a process: an authority is made, looked after, backed up and restored by its commands alone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn ca(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshless"));
    command.arg("ca").args(arguments).arg("--dir").arg(directory).env_clear().output().unwrap()
}

fn done(directory: &Path, arguments: &[&str]) -> String {
    let output = ca(directory, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = ca(directory, arguments);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn an_authority_is_made_once_and_says_how_it_is() {
    let outer = tempfile::tempdir().unwrap();
    let directory = outer.path().join("ca");
    let (code, told) = refused(&directory, &["status"]);
    assert!(code == Some(64) && told.contains("meshless ca init"), "{told}");
    let told = done(&directory, &["init", "--trust-domain", "example.org"]);
    assert!(told.contains("pin (identity.authority_pin): sha256:"), "{told}");
    let (code, told) = refused(&directory, &["init", "--trust-domain", "example.org"]);
    assert!(code == Some(64) && told.contains("meshless ca rotate root"), "{told}");
    let status: serde_json::Value = serde_json::from_str(&done(&directory, &["status", "--json"])).unwrap();
    assert_eq!((&status["trust_domain"], &status["sequence"]), (&"example.org".into(), &1.into()));
    assert_eq!(status["roots"][0]["phase"], "active");
    let text = done(&directory, &["status"]);
    assert!(text.contains("next: ") && text.contains("prepare the next intermediate"), "{text}");
    assert!(done(&directory, &["bundle"]).contains("-----BEGIN CERTIFICATE-----"));
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    let (code, told) = refused(&directory, &["status"]);
    assert!(code == Some(77) && told.contains("chmod 0700"), "{told}");
}

#[test]
fn tokens_entries_and_certificates_by_hand_are_in_the_log() {
    let outer = tempfile::tempdir().unwrap();
    let directory = outer.path().join("ca");
    done(&directory, &["init", "--trust-domain", "example.org"]);
    let token = done(&directory, &["token", "create", "--id", "/svc/web", "--ttl", "1h", "--cidr", "10.0.0.0/8"]);
    assert!(token.starts_with("mjt_") && token.lines().count() == 1, "{token}");
    let listed = done(&directory, &["token", "list"]);
    assert!(listed.contains("/svc/web") && listed.contains("from 10.0.0.0/8") && !listed.contains(token.trim()));
    assert!(!done(&directory, &["token", "list", "--json"]).contains("hash"));
    let id = listed.split_whitespace().next().unwrap();
    done(&directory, &["token", "revoke", id]);
    assert_eq!(refused(&directory, &["token", "create", "--id", "/svc/web", "--ttl", "25h"]).0, Some(64));
    done(&directory, &["entry", "add", "--attestor", "kubernetes", "--id", "/svc/api", "--fact", "namespace=default"]);
    assert!(done(&directory, &["entry", "list"]).contains("kubernetes namespace=default → /svc/api"));
    assert_eq!(refused(&directory, &["entry", "add", "--attestor", "ec2", "--id", "/svc/api"]).0, Some(64));

    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let file = outer.path().join("web.csr");
    fs::write(&file, request.pem().unwrap()).unwrap();
    let chain = done(&directory, &["issue", path(&file), "--id", "/svc/web"]);
    assert_eq!(chain.matches("-----BEGIN CERTIFICATE-----").count(), 2);
    done(&directory, &["block", "/svc/web"]);
    let (code, told) = refused(&directory, &["issue", path(&file), "--id", "/svc/web"]);
    assert!(code == Some(77) && told.contains("is blocked"), "{told}");
    done(&directory, &["unblock", "/svc/web"]);
    done(&directory, &["rotate", "intermediate", "--now"]);
    assert!(done(&directory, &["audit", "verify"]).starts_with("ok: 9 lines"));

    let log = directory.join("audit.log");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replacen("/svc/web", "/svc/wib", 1)).unwrap();
    let (code, told) = refused(&directory, &["audit", "verify"]);
    assert!(code == Some(1) && told.contains("line 2"), "{told}");
}

#[test]
fn a_backup_is_restored_and_a_root_is_kept_elsewhere() {
    let outer = tempfile::tempdir().unwrap();
    let (directory, vault) = (outer.path().join("ca"), outer.path().join("vault"));
    let told = done(&directory, &["init", "--trust-domain", "example.org", "--root-dir", path(&vault)]);
    assert!(told.contains("take it off this machine"), "{told}");
    let (code, told) = refused(&directory, &["rotate", "intermediate"]);
    assert!(code == Some(64) && told.contains("--root-key"), "{told}");
    done(&directory, &["rotate", "intermediate", "--root-key", path(&vault.join("root.key"))]);
    let next = outer.path().join("vault2");
    done(&directory, &["rotate", "root", "--root-dir", path(&next)]);
    assert!(next.join("root.key").exists() && next.join("root.pem").exists());

    let (passphrase, backup) = (outer.path().join("passphrase"), outer.path().join("backup"));
    fs::write(&passphrase, "correct horse battery\n").unwrap();
    let seal = ["--backup-passphrase-file", path(&passphrase)];
    done(&directory, &["backup", "--out", path(&backup), seal[0], seal[1]]);
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(refused(&directory, &["backup", "--out", path(&backup), seal[0], seal[1]]).0, Some(64));
    assert_eq!(refused(&directory, &["restore", path(&backup), seal[0], seal[1]]).0, Some(64), "it is not empty");
    let restored = outer.path().join("restored");
    let told = done(&restored, &["restore", path(&backup), seal[0], seal[1]]);
    assert!(told.contains("sequence 1002"), "{told}");
    assert!(done(&restored, &["bundle"]).contains("sequence 1002"));
    assert!(done(&restored, &["audit", "verify"]).starts_with("ok: 0 lines"));
}

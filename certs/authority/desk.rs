//! The authority's desk: its directory, open. Everything that is decided goes through here, one at a time.
//!
//! A decision is a line in the audit log and a transaction in the store, in this order; if either fails there is no
//! decision. What is in memory follows the store, never runs ahead of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;

use super::Denied;
use super::audit::{Head, Line, Log};
use super::clock::seconds;
use super::directory::{self, AUDIT as AUDIT_FILE, DATABASE, DirectoryError};
use super::hierarchy::{Authority as Link, Hierarchy};
use super::keys::{Key, is_sealed};
use super::limits::Throttle;
use super::open::OpenError;
use super::options::Options;
use super::policy::Rule;
use super::record::{self, AUDIT, ENTRIES, Entry, HIERARCHY, ISSUING, Issuing, KEYS, RESTORED, Read};
use super::store::{Change, Embedded, EmbeddedError, Store, StoreError};
use crate::{REFRESH_HINT, SpiffeId, TrustBundle, TrustDomain};

/// An authority's directory, open for commands. As long as it lives, no other process can open it.
pub struct Desk {
    pub(crate) directory: PathBuf,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) options: Options,
    pub(crate) store: Box<dyn Store>,
    bundle: ArcSwap<TrustBundle>,
    held: Mutex<Held>,
}

/// What is held while one decides.
pub(crate) struct Held {
    pub(crate) hierarchy: Read<Hierarchy>,
    pub(crate) issuing: Read<Issuing>,
    pub(crate) restored: Option<u64>,
    pub(crate) entries: Vec<Read<Entry>>,
    pub(crate) signer: Option<Signer>,
    pub(crate) throttle: Throttle,
    pub(crate) log: Log,
    audit_version: u64,
    /// When expired records were dropped last.
    pub(crate) pruned: u64,
}

/// The intermediate that signs.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) not_after: u64,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: Key,
}

impl fmt::Debug for Desk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Desk")
            .field("directory", &self.directory)
            .field("trust_domain", &self.trust_domain)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Desk {
    /// Opens the authority in a directory. Blocks.
    pub fn open(directory: &Path, options: Options) -> Result<Self, OpenError> {
        options.check()?;
        let names = match directory::check(directory) {
            Err(DirectoryError::Missing(_)) => return Err(OpenError::None(directory.to_owned())),
            other => other?,
        };
        if !names.iter().any(|name| name == DATABASE) {
            return Err(if names.is_empty() {
                OpenError::None(directory.to_owned())
            } else {
                OpenError::Torn { path: directory.to_owned(), found: names.join(", ") }
            });
        }
        let unreadable = |why: String| OpenError::Unreadable { path: directory.to_owned(), why };
        let store = Embedded::open(&directory.join(DATABASE)).map_err(|error| match error {
            EmbeddedError::InUse => OpenError::InUse(directory.to_owned()),
            EmbeddedError::Unreadable(why) => unreadable(why),
        })?;
        let hierarchy: Read<Hierarchy> =
            record::read(&store, HIERARCHY)?.ok_or_else(|| unreadable("it has no hierarchy".to_owned()))?;
        let trust_domain = hierarchy.value.trust_domain().map_err(|error| unreadable(error.to_string()))?;
        let head: Read<Head> =
            record::read(&store, AUDIT)?.ok_or_else(|| unreadable("it knows of no audit log".to_owned()))?;
        let log = Log::open(&directory.join(AUDIT_FILE), head.value.clone())?;
        let mut audit_version = head.version;
        if *log.head() != head.value {
            // The crash was between the line and the database: nobody was told, but the line stays.
            audit_version = store.commit(&[record::put(AUDIT, log.head(), audit_version)?])?;
            tracing::warn!(
                line = log.head().lines,
                "The audit log was one line ahead of the database; what that line says was not answered."
            );
        }
        let issuing = record::read(&store, ISSUING)?.unwrap_or(Read { value: Issuing::default(), version: 0 });
        let restored = record::read(&store, RESTORED)?.map(|read: Read<u64>| read.value);
        let entries = record::list(&store, ENTRIES)?.into_iter().map(|(_, entry)| entry).collect();
        seal(&store, &options)?;
        let signer = signer(&store, &hierarchy.value, &options)?;
        let bundle = ArcSwap::from_pointee(bundle(&trust_domain, &hierarchy.value));
        let throttle = Throttle::new(options.limits);
        let held = Held { hierarchy, issuing, restored, entries, signer, throttle, log, audit_version, pruned: 0 };
        let held = Mutex::new(held);
        Ok(Self { directory: directory.to_owned(), trust_domain, options, store: Box::new(store), bundle, held })
    }

    /// Returns the name of the trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Returns the roots.
    #[must_use]
    pub fn bundle(&self) -> Arc<TrustBundle> {
        self.bundle.load_full()
    }

    /// Returns the time.
    pub(crate) fn now(&self) -> SystemTime {
        (self.options.clock)()
    }

    /// Takes the desk.
    pub(crate) fn held(&self) -> Result<MutexGuard<'_, Held>, Denied> {
        // Somebody panicked while deciding: what is in memory may be half of it.
        self.held.lock().map_err(|_| Denied::Unavailable("the authority failed before; restart it".to_owned()))
    }

    /// Writes a decision down and makes its changes. Returns the version that what was put has now.
    pub(crate) fn decide(
        &self,
        held: &mut Held,
        line: Line,
        mut changes: Vec<Change>,
        now: SystemTime,
    ) -> Result<u64, Denied> {
        let head = held.log.append(line, seconds(now)).map_err(|error| not_written(&error))?;
        let put = record::put(AUDIT, &head, held.audit_version).map_err(|error| not_stored(&error))?;
        changes.push(put);
        match self.store.commit(&changes) {
            Ok(version) => {
                held.log.settle(head);
                held.audit_version = version;
                Ok(version)
            }
            Err(error) => {
                match error {
                    // Nothing was changed for sure.
                    StoreError::Conflict { .. } | StoreError::TooLarge(_) => {
                        held.log.undo().map_err(|error| not_written(&error))?;
                    }
                    // Whether the database has it is known once it is opened again.
                    StoreError::Failed(_) => held.log.give_up(),
                }
                Err(not_stored(&error))
            }
        }
    }

    /// Makes a change of the hierarchy, with the keys that come and go with it.
    pub(crate) fn change_hierarchy(
        &self,
        held: &mut Held,
        hierarchy: Hierarchy,
        line: Line,
        (added, gone): (Vec<(u64, Key)>, Vec<u64>),
        now: SystemTime,
    ) -> Result<(), Denied> {
        let mut changes =
            vec![record::put(HIERARCHY, &hierarchy, held.hierarchy.version).map_err(|error| not_stored(&error))?];
        for (number, key) in &added {
            let at_rest = key.at_rest(self.options.passphrase.as_ref());
            let at_rest = at_rest.map_err(|error| Denied::Unavailable(error.to_string()))?;
            changes.push(Change::Put { key: format!("{KEYS}{number}"), value: at_rest, was: 0 });
        }
        for number in gone {
            let key = format!("{KEYS}{number}");
            if let Some(stored) = self.store.read(&key).map_err(|error| not_stored(&error))? {
                changes.push(Change::delete(key, stored.version));
            }
        }
        let version = self.decide(held, line, changes, now)?;
        held.hierarchy = Read { value: hierarchy, version };
        self.bundle.store(Arc::new(bundle(&self.trust_domain, &held.hierarchy.value)));
        let signs = held.signer.as_ref().map(|signer| signer.number);
        if held.hierarchy.value.signer().map(|link| link.number) != signs {
            held.signer = None;
            held.signer = signer(self.store.as_ref(), &held.hierarchy.value, &self.options)
                .map_err(|error| Denied::Unavailable(error.to_string()))?;
        }
        Ok(())
    }

    /// Returns the key of a root or an intermediate; `None` if it is not here.
    pub(crate) fn key(&self, link: &Link) -> Result<Option<Key>, Denied> {
        key(self.store.as_ref(), link, &self.options).map_err(|error| Denied::Unavailable(error.to_string()))
    }

    /// Returns the identity of the authority's own server, which policy gives to nobody.
    pub(crate) fn own_id(&self) -> Result<SpiffeId, Denied> {
        self.trust_domain.id("/meshless/ca").map_err(|error| Denied::Unavailable(error.to_string()))
    }
}

impl Held {
    /// Returns all rules, those of the configuration first.
    pub(crate) fn rules<'a>(&'a self, options: &'a Options) -> impl Iterator<Item = &'a Rule> {
        options.rules.iter().chain(self.entries.iter().map(|entry| &entry.value.rule))
    }
}

pub(crate) fn not_stored(error: &StoreError) -> Denied {
    tracing::error!(%error, "The authority's database fails; nothing is issued.");
    Denied::Unavailable("the authority's database fails; its log says why".to_owned())
}

pub(crate) fn not_written(error: &dyn fmt::Display) -> Denied {
    tracing::error!(%error, "The audit log cannot be written; nothing is issued.");
    Denied::Unavailable("the authority cannot write its audit log, so it decides nothing; its log says why".to_owned())
}

fn bundle(trust_domain: &TrustDomain, hierarchy: &Hierarchy) -> TrustBundle {
    let roots = hierarchy.roots.iter().map(|root| CertificateDer::from(root.certificate.clone())).collect();
    TrustBundle { trust_domain: trust_domain.clone(), sequence: hierarchy.sequence, roots, refresh_hint: REFRESH_HINT }
}

fn signer(store: &dyn Store, hierarchy: &Hierarchy, options: &Options) -> Result<Option<Signer>, OpenError> {
    let Some(link) = hierarchy.signer() else { return Ok(None) };
    let key = key(store, link, options)?.ok_or_else(|| {
        OpenError::Failed(format!("the key of {} is not in the database; restore a backup", link.name))
    })?;
    Ok(Some(Signer {
        number: link.number,
        name: link.name.clone(),
        not_after: link.not_after,
        certificate: CertificateDer::from(link.certificate.clone()),
        key,
    }))
}

fn key(store: &dyn Store, link: &Link, options: &Options) -> Result<Option<Key>, OpenError> {
    let Some(stored) = store.read(&format!("{KEYS}{}", link.number))? else { return Ok(None) };
    let what = format!("the key of {}", link.name);
    let key = Key::open(&stored.value, options.passphrase.as_ref()).map_err(OpenError::key(&what))?;
    if key.hash() == link.key {
        Ok(Some(key))
    } else {
        Err(OpenError::Failed(format!("{what} in the database is another's; restore a backup")))
    }
}

/// Seals keys that are not, where a passphrase is given now: in one transaction, so that none is between.
fn seal(store: &dyn Store, options: &Options) -> Result<(), OpenError> {
    let Some(passphrase) = &options.passphrase else { return Ok(()) };
    let mut changes = Vec::new();
    for (name, stored) in store.list(KEYS)? {
        if !is_sealed(&stored.value) {
            let key = Key::open(&stored.value, None).map_err(OpenError::key(&name))?;
            let value = key.at_rest(Some(passphrase)).map_err(OpenError::key(&name))?;
            changes.push(Change::Put { key: name, value, was: stored.version });
        }
    }
    if !changes.is_empty() {
        store.commit(&changes)?;
        tracing::warn!(
            keys = changes.len(),
            "Keys of the authority were sealed; traces of the open ones may be left in free pages and in older backups."
        );
    }
    Ok(())
}

//! The state directory: the identity, the key of a request under way, the last time proven.
//!
//! ```text
//! STATE/                 0700
//!   current -> identity-<fingerprint>     one rename switches key and certificate together
//!   identity-<fingerprint>/               key.pem 0600, certificate.pem, ca.pem, state.json
//!   key.pem, certificate.pem, ca.pem      links into current/, for people and other programs
//!   pending.pem          0600             written before a request is sent, so that a repeat after
//!                                         a lost answer shows the same key
//!   proven-time                           the latest time that the cloud proved
//! ```
//!
//! A crash at any point leaves the old identity or the new one, never a mixture.

use std::{
    fmt::Display,
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, symlink},
    path::{Path, PathBuf},
};

use model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Identity, ServerAddress, certificate::fingerprint, identity::refuse_readable_by_others, key::Key, pem,
};

/// A state directory, which may not exist yet.
#[derive(Debug, Clone)]
pub struct StateDirectory {
    path: PathBuf,
}

/// What goes wrong with the state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is no identity yet.
    #[error(
        "{0} holds no identity; enrol first: run `tcpmux-client enroll - --state {0}` and paste the line that `tcpmux passcode new` prints"
    )]
    NotEnrolled(PathBuf),
    /// Others than the owner can read the key.
    #[error(
        "{path} can be read by others (mode {mode:04o}); if nobody did, run `chmod 600 {path}`, else enrol anew"
    )]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file is there but holds something else.
    #[error("{path}: {problem}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Another process uses the directory.
    #[error("{0} is in use by another tcpmux-client")]
    InUse(PathBuf),
    /// The operating system refuses.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl StateError {
    pub(crate) fn broken(path: &Path, problem: impl Display) -> Self {
        Self::Broken { path: path.into(), problem: problem.to_string() }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}

/// Held while one process has the right to do something; ends with the process at the latest.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

/// Which lock.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Right {
    /// To ask for a certificate and to replace the identity.
    Change,
    /// To be the device's daemon.
    Run,
}

/// What an identity directory says beside its PEM files.
#[derive(Serialize, Deserialize)]
struct Description {
    server: ServerAddress,
}

impl StateDirectory {
    /// The directory at this path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory, or takes it from the eyes of others.
    pub(crate) fn prepare(&self) -> Result<(), StateError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .and_then(|()| fs::set_permissions(&self.path, Permissions::from_mode(0o700)))
            .map_err(|error| StateError::io("create", &self.path, error))
    }

    pub(crate) fn lock(&self, right: Right) -> Result<Lock, StateError> {
        let path = self.path.join(match right {
            Right::Change => "change.lock",
            Right::Run => "run.lock",
        });
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file
            .and_then(|file| self.give_to_owner(&file).map(|()| file))
            .map_err(|error| StateError::io("open", &path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(self.path.clone())),
            Err(TryLockError::Error(error)) => Err(StateError::io("lock", &path, error)),
        }
    }

    /// Reads the identity.
    ///
    /// # Errors
    /// If there is none, or it cannot be used.
    pub fn identity(&self) -> Result<Identity, StateError> {
        // A renewal may replace the directory between two reads; then the next one is complete.
        self.identity_once().or_else(|_| self.identity_once())
    }

    fn identity_once(&self) -> Result<Identity, StateError> {
        let directory = self.current().ok_or_else(|| StateError::NotEnrolled(self.path.clone()))?;
        let path = directory.join(DESCRIPTION);
        let text = fs::read(&path).map_err(|error| StateError::io("read", &path, error))?;
        let description: Description =
            serde_json::from_slice(&text).map_err(|error| StateError::broken(&path, error))?;
        let file = |name| directory.join(name);
        Identity::read(description.server, &file(KEY), &file(CERTIFICATE), &file(CA))
    }

    /// The name of the identity in use; another name means another identity.
    pub(crate) fn current(&self) -> Option<PathBuf> {
        fs::read_link(self.path.join(CURRENT)).ok().map(|target| self.path.join(target))
    }

    /// The key for the next certificate: made once, the same until [`StateDirectory::install`].
    pub(crate) fn pending_key(&self) -> Result<Key, StateError> {
        let path = self.path.join(PENDING);
        if path.exists() {
            refuse_readable_by_others(&path)?;
            let text = fs::read(&path).map_err(|error| StateError::io("read", &path, error))?;
            // A key that already has its certificate is left behind by a crash right after the switch.
            match Key::from_pem(&text) {
                Ok(key) if !self.is_in_use(&key) => return Ok(key),
                _ => {}
            }
        }
        let key = Key::generate();
        self.place(&path, key.to_pem().expose().as_bytes(), 0o600)?;
        sync(&self.path)?;
        Ok(key)
    }

    fn is_in_use(&self, key: &Key) -> bool {
        self.identity().is_ok_and(|identity| identity.certificate.public_key_info == key.public_key_info())
    }

    /// Makes this key and certificate the identity, in one step.
    pub(crate) fn install(
        &self,
        server: &ServerAddress,
        key: &Key,
        certificate: &[u8],
        anchors: &[impl AsRef<[u8]>],
    ) -> Result<Identity, StateError> {
        let name = format!("{IDENTITY_PREFIX}{}", &fingerprint(certificate).to_string()[..16]);
        let directory = self.path.join(&name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .and_then(|()| self.give_to_owner(&File::open(&directory)?))
            .map_err(|error| StateError::io("create", &directory, error))?;
        let description = serde_json::to_vec(&Description { server: server.clone() });
        let description = description.map_err(|error| StateError::broken(&directory, error))?;
        let ca: String = anchors.iter().map(|anchor| pem::block("CERTIFICATE", anchor.as_ref())).collect();
        let file = |name| directory.join(name);
        self.place(&file(KEY), key.to_pem().expose().as_bytes(), 0o600)?;
        self.place(&file(CERTIFICATE), pem::block("CERTIFICATE", certificate).as_bytes(), 0o644)?;
        self.place(&file(CA), ca.as_bytes(), 0o644)?;
        self.place(&file(DESCRIPTION), &description, 0o644)?;
        // What is not there for good, or cannot be read back, must not become the identity.
        sync(&directory)?;
        sync(&self.path)?;
        let identity = Identity::read(server.clone(), &file(KEY), &file(CERTIFICATE), &file(CA))?;
        self.link(CURRENT, &name)?;
        for name in [KEY, CERTIFICATE, CA] {
            self.link(name, &format!("{CURRENT}/{name}"))?;
        }
        // The identity before goes only after this.
        sync(&self.path)?;
        self.remove_leftovers(&name)?;
        Ok(identity)
    }

    fn remove_leftovers(&self, keep: &str) -> Result<(), StateError> {
        crash_point();
        let pending = self.path.join(PENDING);
        match fs::remove_file(&pending) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StateError::io("remove", &pending, error));
            }
            _ => {}
        }
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with(IDENTITY_PREFIX) && name != keep) {
                crash_point();
                fs::remove_dir_all(entry.path())
                    .map_err(|error| StateError::io("remove", &entry.path(), error))?;
            }
        }
        Ok(())
    }

    /// The latest time that the cloud proved in an earlier run.
    pub(crate) fn proven_time(&self) -> Option<Timestamp> {
        let text = fs::read_to_string(self.path.join(PROVEN_TIME)).ok()?;
        text.trim().parse().ok().map(Timestamp::from_secs)
    }

    /// After a power cut it may be the time before: that was proven, too.
    pub(crate) fn remember_time(&self, time: Timestamp) -> Result<(), StateError> {
        self.place(&self.path.join(PROVEN_TIME), format!("{}\n", time.secs()).as_bytes(), 0o600)
    }

    /// Replaces a file in one step: readers see the old content or the new one, also after a power cut; which of
    /// them, is settled once its directory is synchronised.
    fn place(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), StateError> {
        let fresh = path.with_extension("new");
        let written = || {
            drop(fs::remove_file(&fresh));
            crash_point();
            let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&fresh)?;
            crash_point();
            self.give_to_owner(&file)?;
            file.write_all(content)?;
            file.sync_all()?;
            crash_point();
            fs::rename(&fresh, path)?;
            crash_point();
            Ok(())
        };
        written().map_err(|error| StateError::io("write", path, error))
    }

    /// `sudo tcpmux-client enroll` must leave files that the unprivileged daemon can use: what root makes
    /// belongs to whoever has the directory.
    fn give_to_owner(&self, file: &File) -> io::Result<()> {
        let (directory, made) = (fs::metadata(&self.path)?, file.metadata()?);
        if made.uid() == directory.uid() {
            return Ok(());
        }
        fchown(file, Some(directory.uid()), Some(directory.gid()))
    }

    /// Points a name elsewhere in one step; for good once the directory is synchronised.
    fn link(&self, name: &str, target: &str) -> Result<(), StateError> {
        let path = self.path.join(name);
        if fs::read_link(&path).is_ok_and(|now| now == Path::new(target)) {
            return Ok(());
        }
        let fresh = self.path.join(format!("{name}.link"));
        let linked = || {
            drop(fs::remove_file(&fresh));
            crash_point();
            symlink(target, &fresh)?;
            crash_point();
            fs::rename(&fresh, &path)?;
            crash_point();
            Ok(())
        };
        linked().map_err(|error| StateError::io("write", &path, error))
    }
}

/// What was made, renamed or removed in a directory stays so from here on, also after a power cut.
fn sync(directory: &Path) -> Result<(), StateError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| StateError::io("write", directory, error))
}

const CURRENT: &str = "current";
const IDENTITY_PREFIX: &str = "identity-";
const KEY: &str = "key.pem";
const CERTIFICATE: &str = "certificate.pem";
const CA: &str = "ca.pem";
const DESCRIPTION: &str = "state.json";
const PENDING: &str = "pending.pem";
const PROVEN_TIME: &str = "proven-time";

#[cfg(not(test))]
fn crash_point() {}

#[cfg(test)]
use tests::crash_point;

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        panic::{self, AssertUnwindSafe},
    };

    use super::*;
    use crate::test_pki::Pki;

    thread_local! {
        static STEPS_LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    /// Stands for a power cut between two steps.
    pub(super) fn crash_point() {
        STEPS_LEFT.with(|left| match left.get() {
            0 => panic::resume_unwind(Box::new("power cut")),
            steps => left.set(steps - 1),
        });
    }

    fn fresh() -> (tempfile::TempDir, StateDirectory) {
        let temporary = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(temporary.path().join("state"));
        state.prepare().unwrap();
        (temporary, state)
    }

    fn install(state: &StateDirectory, pki: &Pki) -> Result<Identity, StateError> {
        let key = state.pending_key()?;
        let certificate = pki.device_certificate("cam-01", &key.public_key_info());
        state.install(&"localhost:7443".parse().unwrap(), &key, &certificate, &[pki.root_der()])
    }

    #[test]
    fn an_installed_identity_is_read_back() {
        let (_temporary, state) = fresh();
        assert!(matches!(state.identity(), Err(StateError::NotEnrolled(_))));
        install(&state, &Pki::new()).unwrap();
        let identity = state.identity().unwrap();
        assert_eq!(identity.device.unwrap().as_str(), "cam-01");
        assert_eq!(identity.server.to_string(), "localhost:7443");
        let mode = |name: &str| fs::metadata(state.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("key.pem"), mode("current")), (0o700, 0o600, 0o700));
        assert!(!state.path().join(PENDING).exists());
    }

    #[test]
    fn the_pending_key_stays_the_same_until_it_has_a_certificate() {
        let (_temporary, state) = fresh();
        let first = state.pending_key().unwrap().public_key_info();
        assert_eq!(state.pending_key().unwrap().public_key_info(), first);
        install(&state, &Pki::new()).unwrap();
        assert_eq!(state.identity().unwrap().certificate.public_key_info, first);
        assert_ne!(state.pending_key().unwrap().public_key_info(), first);
    }

    #[test]
    fn a_power_cut_at_any_step_leaves_a_usable_pair() {
        let pki = Pki::new();
        let mut old_seen = 0;
        let mut new_seen = 0;
        for steps in 0.. {
            let (_temporary, state) = fresh();
            let before = install(&state, &pki).unwrap().certificate.fingerprint;
            STEPS_LEFT.set(steps);
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| install(&state, &pki).unwrap()));
            STEPS_LEFT.set(usize::MAX);
            if state.identity().unwrap().certificate.fingerprint == before {
                old_seen += 1;
            } else {
                new_seen += 1;
            }
            let after = install(&state, &pki).unwrap().certificate;
            assert_eq!(state.identity().unwrap().certificate, after);
            let directories = fs::read_dir(state.path()).unwrap().flatten();
            assert_eq!(directories.filter(|entry| entry.file_type().unwrap().is_dir()).count(), 1);
            if outcome.is_ok() {
                break;
            }
        }
        assert!(
            old_seen > 10 && new_seen > 2,
            "the cuts were not where they should be: {old_seen} {new_seen}"
        );
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let (_temporary, state) = fresh();
        install(&state, &Pki::new()).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o644] {
            fs::set_permissions(state.path().join("key.pem"), Permissions::from_mode(mode)).unwrap();
            let error = state.identity().unwrap_err();
            assert!(
                matches!(error, StateError::KeyExposed { .. }) && error.to_string().contains("chmod 600")
            );
        }
        fs::set_permissions(state.path().join("key.pem"), Permissions::from_mode(0o400)).unwrap();
        assert!(state.identity().is_ok());
    }

    #[test]
    fn a_certificate_of_another_key_is_refused() {
        let (_temporary, state) = fresh();
        let pki = Pki::new();
        let certificate = pki.device_certificate("cam-01", &Key::generate().public_key_info());
        let server = "localhost:7443".parse().unwrap();
        let outcome = state.install(&server, &Key::generate(), &certificate, &[pki.root_der()]);
        assert!(matches!(outcome, Err(StateError::Broken { .. })));
        assert!(matches!(state.identity(), Err(StateError::NotEnrolled(_))));
    }

    #[test]
    fn what_root_makes_belongs_to_the_owner_of_the_directory() {
        let (_temporary, state) = fresh();
        let nobody = 65_534;
        if std::os::unix::fs::chown(state.path(), Some(nobody), Some(nobody)).is_err() {
            // Only root can give away a directory, and only root needs this.
            return;
        }
        install(&state, &Pki::new()).unwrap();
        drop(state.lock(Right::Change).unwrap());
        for name in ["current", "key.pem", "certificate.pem", "ca.pem", "change.lock"] {
            assert_eq!(fs::metadata(state.path().join(name)).unwrap().uid(), nobody, "{name}");
        }
    }

    #[test]
    fn one_process_at_a_time() {
        let (_temporary, state) = fresh();
        let held = state.lock(Right::Run).unwrap();
        assert!(matches!(state.lock(Right::Run), Err(StateError::InUse(_))));
        state.lock(Right::Change).unwrap();
        drop(held);
        state.lock(Right::Run).unwrap();
    }

    #[test]
    fn the_proven_time_is_remembered() {
        let (_temporary, state) = fresh();
        assert_eq!(state.proven_time(), None);
        state.remember_time(Timestamp::from_secs(1_795_303_719)).unwrap();
        assert_eq!(state.proven_time(), Some(Timestamp::from_secs(1_795_303_719)));
        fs::write(state.path().join(PROVEN_TIME), "garbage").unwrap();
        assert_eq!(state.proven_time(), None);
    }
}

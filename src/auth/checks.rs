//! Whether a user's password is right, without bcrypt for every request and without letting anybody keep the machine
//! busy with it.
//!
//! Bcrypt runs off the async workers, a few at a time; the answer for a pair of user and password is remembered under
//! its digest, right ones and wrong ones apart, so that a flood of wrong ones displaces no right one. Another file
//! begins with nothing remembered.

use super::{
    Denied, MAX_CREDENTIAL, Method, Principal, PrincipalKind,
    basic::Htpasswd,
    bearer::behind,
    digest::Digest,
    htpasswd::{Secret, Users},
};
use crate::{config::ConfigError, net::tls::Reload};
use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Semaphore;

/// Answers remembered, of each kind.
const REMEMBERED: usize = 4096;

/// Requests that may wait for a turn; further ones are asked to come back.
const WAITING: usize = 256;

/// The users of a server.
pub(super) struct Accounts {
    config: Htpasswd,
    current: ArcSwap<Table>,
    /// Passwords being checked at one time.
    turns: Arc<Semaphore>,
    places: Semaphore,
}

/// The users of one version of the file. Nobody is let in by none.
#[derive(Default)]
struct Table {
    users: Users,
    costly: Option<Arc<str>>,
    remembered: Mutex<Remembered>,
}

#[derive(Default)]
struct Remembered {
    right: HashMap<Digest, Arc<Principal>>,
    wrong: HashSet<Digest>,
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Accounts")
    }
}

impl Accounts {
    pub(super) fn new(config: &Htpasswd) -> Result<Self, ConfigError> {
        Users::default().add("htpasswd::inline", config.inline.expose())?;
        // Half the machine at most.
        let turns = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
        Ok(Accounts {
            config: config.clone(),
            current: ArcSwap::default(),
            turns: Arc::new(Semaphore::new(turns)),
            places: Semaphore::new(WAITING),
        })
    }

    pub(super) fn files(&self) -> Option<&Path> {
        Some(self.config.file.as_path()).filter(|path| !path.as_os_str().is_empty())
    }

    /// Who shows this value of the header.
    pub(super) async fn check(&self, value: &[u8]) -> Result<Arc<Principal>, Denied> {
        if value.is_empty() {
            return Err(Denied::NoBasic);
        }
        if value.len() > MAX_CREDENTIAL {
            return Err(Denied::Credentials);
        }
        let encoded = behind("Basic", value).ok_or(Denied::Scheme)?;
        let pair = STANDARD.decode(encoded).map_err(|_| Denied::Format)?;
        let colon = memchr::memchr(b':', &pair).ok_or(Denied::Format)?;
        let table = self.current.load_full();
        let digest = Digest::of(&pair);
        if let Some(answer) = table.remembered().answer(&digest) {
            return answer;
        }
        let (user, password) = (&pair[..colon], &pair[colon + 1..]);
        let (secret, known) = match (table.users.get(user), &table.costly) {
            (Some(secret), _) => (secret.clone(), true),
            // Who is a user must not be told by the time it takes.
            (None, Some(costly)) => (Secret::Bcrypt(costly.clone()), false),
            (None, None) => return Err(Denied::Credentials),
        };
        let right = match &secret {
            Secret::Bcrypt(_) => match self.slowly(&table, &digest, secret, password.to_vec()).await? {
                Checked::Before(answer) => return answer,
                Checked::Now(right) => right && known,
            },
            _ => secret.is(password),
        };
        let answer = match right {
            true => Ok(principal(user)),
            false => Err(Denied::Credentials),
        };
        table.remembered().keep(digest, &answer);
        answer
    }

    async fn slowly(
        &self,
        table: &Table,
        digest: &Digest,
        secret: Secret,
        password: Vec<u8>,
    ) -> Result<Checked, Denied> {
        let _place = self.places.try_acquire().map_err(|_| Denied::Busy)?;
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| Denied::Busy)?;
        // Somebody else with the same pair may have had the turn before.
        if let Some(answer) = table.remembered().answer(digest) {
            return Ok(Checked::Before(answer));
        }
        // The turn is over when the work is, also where nobody waits for it any more.
        let work = tokio::task::spawn_blocking(move || {
            let right = secret.is(&password);
            drop(turn);
            right
        });
        Ok(Checked::Now(work.await.map_err(|_| Denied::Busy)?))
    }
}

enum Checked {
    Before(Result<Arc<Principal>, Denied>),
    Now(bool),
}

fn principal(user: &[u8]) -> Arc<Principal> {
    let id = String::from_utf8_lossy(user).into();
    Arc::new(Principal { id, kind: PrincipalKind::Account, method: Method::Basic })
}

impl Table {
    /// A poisoned lock is no reason to lock people out: the maps are whole between any two statements.
    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn answer(&self, digest: &Digest) -> Option<Result<Arc<Principal>, Denied>> {
        match self.right.get(digest) {
            Some(principal) => Some(Ok(principal.clone())),
            None => self.wrong.contains(digest).then_some(Err(Denied::Credentials)),
        }
    }

    /// At the bound everything of the kind is forgotten; what is still in use is soon back.
    fn keep(&mut self, digest: Digest, answer: &Result<Arc<Principal>, Denied>) {
        match answer {
            Ok(principal) => {
                if self.right.len() >= REMEMBERED {
                    self.right.clear();
                }
                self.right.insert(digest, principal.clone());
            }
            Err(_) => {
                if self.wrong.len() >= REMEMBERED {
                    self.wrong.clear();
                }
                self.wrong.insert(digest);
            }
        }
    }
}

impl Reload for Accounts {
    const WHAT: &'static str = "authentication";
    const FIRST: &'static str = "request";

    fn reload(&self) -> Result<(), ConfigError> {
        let mut users = Users::default();
        if let Some(file) = self.files() {
            users.add("htpasswd::file", &super::read("htpasswd::file", file)?)?;
        }
        users.add("htpasswd::inline", self.config.inline.expose())?;
        if users.is_empty() {
            return Err(ConfigError::new("htpasswd", "holds no user").with_hint("make one with htpasswd -nB user"));
        }
        let costly = users.costly();
        self.current.store(Arc::new(Table { users, costly, remembered: Mutex::default() }));
        Ok(())
    }
}

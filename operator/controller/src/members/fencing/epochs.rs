//! How far each application is on a member: one ConfigMap per namespace,
//! which the admission policy reads.
//!
//! An application that was never moved has no entry: its epoch is the first,
//! and no lower one exists. So a first placement costs nothing here. Entries
//! that several applications of a namespace need at the same time are written
//! together.

use super::{
    super::{
        connection::{Answer, Connection, REQUEST_TIMEOUT, RequestError, get, request},
        discovery::encoded,
        error::MemberError,
        live::Live,
        member::Member,
        metrics::Verb,
        pages::Pages,
    },
    ABSENT, APPLY, Fencing, Trouble, data,
    policy::{self, EPOCHS, MANAGED_BY_LABEL},
    trouble,
};
use flambeau_crds::FIELD_MANAGER;
use flambeau_planner::model::{ApplicationKey, Name};
use http::Method;
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// How long the API server may take to see what was written, and how often it
/// is asked.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);
/// How often an entry is tried that others get in the way of.
const ATTEMPTS: usize = 4;

/// How far an application is. Of two with one name, the one that was created
/// later is further, whatever its epoch: an application that was deleted and
/// declared anew begins with the first epoch again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Token {
    /// When the application was created, in seconds of Unix time.
    created: i64,
    pub epoch: i64,
}

impl Token {
    pub fn new(created: Option<Timestamp>, epoch: i64) -> Self {
        Self {
            created: created.map_or(0, Timestamp::as_second).max(0),
            epoch: epoch.clamp(0, 9_999_999_999),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let created = Timestamp::from_second(self.created).unwrap_or_default();
        write!(formatter, "{created}/{:010}", self.epoch)
    }
}

impl FromStr for Token {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (created, epoch) = text.split_once('/').ok_or(())?;
        Ok(Self {
            created: created.parse::<Timestamp>().map_err(drop)?.as_second(),
            epoch: epoch.parse().map_err(drop)?,
        })
    }
}

/// What to do where the Namespace is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum IfMissing {
    /// Make it: objects will follow.
    Make,
    /// Leave it: there is nothing in it.
    Leave,
}

/// What is known of the entries of one member.
#[derive(Default)]
pub(in super::super) struct Epochs(Mutex<HashMap<Name, Namespace>>);

#[derive(Default)]
struct Namespace {
    /// Resource version of the ConfigMap; 0 when there is none.
    version: u64,
    known: HashMap<Name, Token>,
    /// What is to be written next.
    wanted: BTreeMap<Name, Token>,
    /// One write at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Namespace {
    fn take(&mut self, live: &Live) {
        if live.metadata.version() <= self.version {
            return;
        }
        self.version = live.metadata.version();
        self.known = data(live)
            .filter_map(|(name, entry)| Some((name.as_str().into(), entry.parse().ok()?)))
            .collect();
    }

    /// Whether an entry is to be raised.
    ///
    /// # Errors
    /// When it is higher already.
    fn lacks(&self, name: &Name, token: Token) -> Result<bool, MemberError> {
        match self.known.get(name) {
            None => Ok(token.epoch > 1),
            Some(known) if *known > token => Err(fenced(known.epoch, token.epoch)),
            Some(known) => Ok(*known < token),
        }
    }
}

fn fenced(live: i64, epoch: i64) -> MemberError {
    MemberError::Fenced {
        object: format!("ConfigMap/{EPOCHS}"),
        live,
        epoch,
    }
}

impl Epochs {
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Namespace>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the entries of all namespaces.
    pub async fn list(&self, connection: &Connection) -> Result<(), RequestError> {
        let path = format!("/api/v1/configmaps?fieldSelector=metadata.name%3D{EPOCHS}");
        let mut pages = Pages::<Live>::of(connection, path);
        let (mut here, mut version) = (HashSet::new(), 0);
        while let Some(page) = pages.next().await? {
            let mut namespaces = self.lock();
            for live in &page.items {
                let namespace: Name = live.metadata.namespace.as_str().into();
                namespaces.entry(namespace.clone()).or_default().take(live);
                here.insert(namespace);
            }
            version = page.metadata.resource_version.parse().unwrap_or(0);
        }
        self.keep(&here, version);
        Ok(())
    }

    /// Forgets the namespaces that have no entries in a list made at a
    /// resource version: with a namespace went what it remembered.
    fn keep(&self, here: &HashSet<Name>, version: u64) {
        self.lock().retain(|name, namespace| {
            if namespace.version > version || here.contains(name) {
                return true;
            }
            namespace.version = 0;
            namespace.known.clear();
            // Somebody is about to write there.
            !namespace.wanted.is_empty() || Arc::strong_count(&namespace.turn) > 1
        });
    }

    /// Makes sure that an application's entry is at least at a token.
    /// Nothing is written when it is.
    ///
    /// # Errors
    /// When it is higher: a newer leader has taken over. When the member does
    /// not answer.
    pub async fn raise(
        &self,
        member: &Member,
        connection: &Connection,
        key: &ApplicationKey,
        token: Token,
        if_missing: IfMissing,
    ) -> Result<(), MemberError> {
        // Nobody would read it.
        if !self.lacks(key, token)? || member.fence.unavailable() {
            return Ok(());
        }
        let turn = {
            let mut namespaces = self.lock();
            let namespace = namespaces.entry(key.namespace.clone()).or_default();
            namespace.wanted.insert(key.name.clone(), token);
            namespace.turn.clone()
        };
        let _turn = turn.lock().await;
        if !self.lacks(key, token)? {
            return Ok(());
        }
        let mut entries = self
            .lock()
            .get_mut(&key.namespace)
            .map(|namespace| std::mem::take(&mut namespace.wanted))
            .unwrap_or_default();
        entries.insert(key.name.clone(), token);
        let together = entries.len() > 1;
        let write = Write {
            epochs: self,
            member,
            connection,
            namespace: &key.namespace,
            if_missing,
        };
        match write.run(&entries).await {
            // Another's entry may be the one that was refused.
            Err(MemberError::Fenced { .. }) if together => {
                let own = BTreeMap::from([(key.name.clone(), token)]);
                write.run(&own).await
            }
            result => result,
        }
    }

    /// Reads an application's entry again; returns whether it has to be
    /// raised, which only somebody who leads may do.
    pub async fn behind(
        &self,
        connection: &Connection,
        key: &ApplicationKey,
        token: Token,
    ) -> Result<bool, MemberError> {
        let answer = match get(&path(&key.namespace)) {
            Ok(request) => connection.call(Verb::Get, request, REQUEST_TIMEOUT).await,
            Err(error) => Err(error),
        };
        self.accept(&key.namespace, answer)
            .map_err(|error| not_yet(&error))?;
        self.lacks(key, token)
    }

    fn lacks(&self, key: &ApplicationKey, token: Token) -> Result<bool, MemberError> {
        self.lock()
            .get(&key.namespace)
            .map_or(Ok(token.epoch > 1), |namespace| {
                namespace.lacks(&key.name, token)
            })
    }

    fn accept(
        &self,
        namespace: &Name,
        answer: Result<Answer, RequestError>,
    ) -> Result<(), RequestError> {
        let live: Live = answer?.json()?;
        self.lock()
            .entry(namespace.clone())
            .or_default()
            .take(&live);
        Ok(())
    }
}

/// One write of entries of a namespace.
struct Write<'a> {
    epochs: &'a Epochs,
    member: &'a Member,
    connection: &'a Connection,
    namespace: &'a Name,
    if_missing: IfMissing,
}

impl Write<'_> {
    async fn run(&self, entries: &BTreeMap<Name, Token>) -> Result<(), MemberError> {
        let (member, namespace) = (self.member, self.namespace);
        let mut exists = self
            .epochs
            .lock()
            .get(namespace)
            .is_some_and(|namespace| namespace.version > 0);
        for _ in 0..ATTEMPTS {
            let answer = send(self.connection, namespace, entries, exists).await;
            match self.epochs.accept(namespace, answer) {
                Ok(()) => {
                    tracing::debug!(cluster = %member.name, %namespace, applications = entries.len(), "epochs raised");
                    self.effective(entries).await;
                    return Ok(());
                }
                Err(error) if error.code() == Some(404) && exists => exists = false,
                Err(error) if error.code() == Some(409) => exists = true,
                Err(error) if error.code() == Some(404) => match self.if_missing {
                    IfMissing::Make => member.ensure_namespace(self.connection, namespace).await?,
                    IfMissing::Leave => return Ok(()),
                },
                Err(error) => return self.refused(&error),
            }
        }
        Err(MemberError::NotYet {
            what: format!("ConfigMap/{EPOCHS}"),
            message: "it comes and goes".to_owned(),
        })
    }

    /// Waits until the API server goes by what was written, which it reads
    /// from a cache: tries without effect a write that it must refuse then.
    async fn effective(&self, entries: &BTreeMap<Name, Token>) {
        let Some((application, token)) = entries.first_key_value() else {
            return;
        };
        if self.member.fence.state() != Fencing::Installed {
            return;
        }
        let (path, body) = policy::stale(self.namespace, application, token.epoch - 1);
        let body = body.to_string();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let body = body.clone().into_bytes();
            let Ok(request) = request(Method::PATCH, &path, Some(APPLY), body) else {
                return;
            };
            let tried = self
                .connection
                .call(Verb::Create, request, REQUEST_TIMEOUT)
                .await;
            if tried.is_err() {
                return;
            }
            sleep(PAUSE).await;
        }
        tracing::warn!(cluster = %self.member.name, namespace = %self.namespace, "the member does not go by the epochs that it was told");
    }

    /// What it means that the entries were not written. Where they cannot be,
    /// the writer's own comparison has to do.
    fn refused(&self, error: &RequestError) -> Result<(), MemberError> {
        let RequestError::Api(api) = error else {
            return Err(not_yet(error));
        };
        if let Some((live, epoch)) = policy::told(&api.message) {
            self.member.shared.metrics.fenced(&self.member.name);
            return Err(fenced(live, epoch));
        }
        if api.going() {
            return Err(not_yet(error));
        }
        match trouble("raising the epochs of applications", error.clone()) {
            Trouble::Passing(error) => Err(not_yet(&error)),
            Trouble::Lasting(message) => {
                let unavailable = Fencing::Unavailable { message };
                self.member.fence.set(self.member, unavailable);
                Ok(())
            }
        }
    }
}

fn path(namespace: &str) -> String {
    format!(
        "/api/v1/namespaces/{}/configmaps/{EPOCHS}",
        encoded(namespace)
    )
}

async fn send(
    connection: &Connection,
    namespace: &Name,
    entries: &BTreeMap<Name, Token>,
    exists: bool,
) -> Result<Answer, RequestError> {
    let data: BTreeMap<&str, String> = entries
        .iter()
        .map(|(name, token)| (&**name, token.to_string()))
        .collect();
    let (verb, request) = if exists {
        let body = serde_json::json!({"data": data}).to_string().into_bytes();
        let path = format!("{}?fieldManager={FIELD_MANAGER}", path(namespace));
        let media_type = "application/merge-patch+json";
        (
            Verb::Patch,
            request(Method::PATCH, &path, Some(media_type), body)?,
        )
    } else {
        let body = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data, "metadata": {
            "name": EPOCHS, "resourceVersion": ABSENT, "labels": {MANAGED_BY_LABEL: "flambeau"}, "annotations": {
                "flambeau.dev/description": "How far each application is: creation time / epoch. Protected by ValidatingAdmissionPolicy flambeau-fencing."}}});
        let body = body.to_string().into_bytes();
        let path = format!(
            "{}?fieldManager={FIELD_MANAGER}&force=true",
            path(namespace)
        );
        (
            Verb::Create,
            request(Method::PATCH, &path, Some(APPLY), body)?,
        )
    };
    connection.call(verb, request, REQUEST_TIMEOUT).await
}

fn not_yet(error: &RequestError) -> MemberError {
    MemberError::NotYet {
        what: format!("ConfigMap/{EPOCHS}"),
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(created: i64, epoch: i64) -> Token {
        Token::new(Timestamp::from_second(created).ok(), epoch)
    }

    #[test]
    fn entries_are_ordered_as_tokens_are() {
        let ascending = [
            token(1_700_000_000, 2),
            token(1_700_000_000, 10),
            token(1_700_000_001, 1),
            token(4_000_000_000, 1),
        ];
        assert!(ascending.is_sorted());
        let entries = ascending.map(|token| token.to_string());
        assert!(entries.is_sorted(), "{entries:?}");
        assert_eq!(entries[0], "2023-11-14T22:13:20Z/0000000002");
        for (token, entry) in ascending.iter().zip(&entries) {
            assert_eq!(entry.parse(), Ok(*token));
        }
    }

    #[test]
    fn namespaces_without_entries_are_forgotten_unless_somebody_writes_there() {
        let epochs = Epochs::default();
        for (name, version) in [("here", 3), ("gone", 4), ("busy", 5), ("newer", 9)] {
            let mut namespaces = epochs.lock();
            let namespace = namespaces.entry(name.into()).or_default();
            namespace.version = version;
            namespace.known.insert("shop".into(), token(100, 2));
        }
        let turn = epochs.lock()["busy"].turn.clone();
        epochs.keep(&HashSet::from(["here".into()]), 7);
        let known = |name: &str| {
            let namespaces = epochs.lock();
            namespaces.get(name).map(|namespace| namespace.known.len())
        };
        assert_eq!(
            ["here", "gone", "busy", "newer"].map(known),
            [Some(1), None, Some(0), Some(1)]
        );
        drop(turn);
        epochs.keep(&HashSet::new(), 9);
        assert!(epochs.lock().is_empty());
    }

    #[test]
    fn the_first_epoch_needs_no_entry_unless_one_is_left_of_another_application() {
        let mut namespace = Namespace::default();
        let name = Name::from("shop");
        assert_eq!(namespace.lacks(&name, token(100, 1)), Ok(false));
        assert_eq!(namespace.lacks(&name, token(100, 2)), Ok(true));
        namespace.known.insert(name.clone(), token(100, 5));
        assert_eq!(namespace.lacks(&name, token(100, 5)), Ok(false));
        assert_eq!(namespace.lacks(&name, token(100, 6)), Ok(true));
        assert_eq!(namespace.lacks(&name, token(200, 1)), Ok(true));
        assert!(matches!(
            namespace.lacks(&name, token(100, 4)),
            Err(MemberError::Fenced {
                live: 5,
                epoch: 4,
                ..
            })
        ));
    }
}

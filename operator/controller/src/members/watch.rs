//! Watches of a member's objects: a complete list made aside, then changes,
//! for every kind on its own, so that trouble with one starves no other.

use super::{
    connection::{ANSWER_LIMIT, Connection, RequestError, get, shortened, unreadable},
    discovery::Resource,
    live::{Event, EventKind, Live},
    member::Member,
    metrics::Verb,
    pages::Pages,
    seen::{self, Seen},
    store::Scope,
    weight,
};
use flambeau_crds::APPLICATION_LABEL;
use flambeau_planner::model::{ApplicationKey, Kind};
use http_body_util::BodyExt;
use kube::client::Body;
use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

/// How long the API server keeps one watch.
const WATCH_SECONDS: u64 = 300;
/// How long a watch may be silent: bookmarks come about every minute.
const SILENCE: Duration = Duration::from_secs(150);
/// How soon a list or watch that failed is tried again; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What a member says that may pass by itself is told once it has said so for
/// about as long.
const PASSING: Duration = Duration::from_secs(4);
/// How long more declarations are waited for before a kind is listed again.
const BURST: Duration = Duration::from_millis(100);
/// A watch that ends earlier by itself is not begun again at once.
const SHORT: Duration = Duration::from_secs(1);

/// Watches what is wanted and served, until it is stopped.
pub(super) async fn run(member: Arc<Member>, connection: Arc<Connection>) {
    let mut tasks = JoinSet::new();
    let mut running: HashMap<(Kind, Scope), (Resource, AbortHandle)> = HashMap::new();
    let limits = member.limits();
    let scopes = limits.scopes();
    let mut wanted = member.shared.wanted.subscribe();
    let mut discovery = member.discovery();
    loop {
        let kinds = wanted.borrow_and_update().clone();
        let found = discovery.borrow_and_update().clone();
        if let Some(found) = found {
            for kind in kinds.iter() {
                // Objects are the same in every version of a kind.
                let resource = found.any_version(kind);
                let hidden = resource.and_then(|resource| limits.hide_kind(resource));
                let Some(resource) = resource.filter(|_| hidden.is_none()) else {
                    for scope in &scopes {
                        if let Some((_, task)) = running.remove(&(kind.clone(), scope.clone())) {
                            task.abort();
                        }
                    }
                    let mut contents = member.store.lock();
                    let news = match hidden {
                        Some(why) => {
                            let why = format!("kind {kind} on member {} {why}", member.name);
                            contents.set_hidden(kind, why)
                        }
                        None => contents.set_not_served(kind),
                    };
                    drop(contents);
                    if news {
                        member.shared.dirty.mark();
                    }
                    continue;
                };
                member.store.lock().await_lists(kind, &scopes);
                for scope in &scopes {
                    let place = (kind.clone(), scope.clone());
                    match running.get(&place) {
                        Some((known, _)) if resource == known => continue,
                        Some((_, task)) => task.abort(),
                        None => {}
                    }
                    let watch = Watch {
                        member: member.clone(),
                        connection: connection.clone(),
                        kind: kind.clone(),
                        resource: resource.clone(),
                        scope: scope.clone(),
                        resume: None,
                    };
                    let task = tasks.spawn(watch.run());
                    running.insert(place, (resource.clone(), task));
                }
            }
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            changed = discovery.changed() => if changed.is_err() { return },
            Some(_) = tasks.join_next() => {}
        }
    }
}

struct Watch {
    member: Arc<Member>,
    connection: Arc<Connection>,
    kind: Kind,
    resource: Resource,
    scope: Scope,
    /// Resource version from which changes are still to come; none before
    /// the first list.
    resume: Option<String>,
}

/// Why a watch ended.
enum End {
    /// It goes on where it stopped.
    Resume,
    /// It goes on at once.
    Recheck,
    /// Objects are to be seen once more: a new list is due.
    Relist,
    /// Changes were missed: a new list is due.
    Expired,
}

impl Watch {
    async fn run(mut self) {
        let mut generation = self.member.health.generation();
        let mut recheck = self.member.recheck.subscribe();
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = Instant::now();
            // A member that answers again may have lost the connection silently.
            let result = tokio::select! {
                result = self.cycle() => Some(result),
                changed = generation.changed() => match changed {
                    Ok(()) => None,
                    Err(_) => return,
                },
                _ = recheck.changed() => {
                    // Declarations come in bursts.
                    sleep(BURST).await;
                    Some(Ok(self.rechecked()))
                }
            };
            match result {
                None => pause = FIRST_PAUSE,
                Some(Ok(End::Recheck)) => {}
                Some(Ok(End::Relist)) => {
                    self.resume = None;
                    pause = FIRST_PAUSE;
                }
                Some(Ok(end @ (End::Resume | End::Expired))) => {
                    if matches!(end, End::Expired) {
                        self.resume = None;
                    }
                    pause = FIRST_PAUSE;
                    // Something between may end every watch at once.
                    if begun.elapsed() < SHORT {
                        sleep(SHORT).await;
                    }
                }
                Some(Err(error)) => {
                    // Something between may say so for want of a backend. Whether the kind is gone says discovery alone.
                    if error.code() == Some(404) {
                        self.member.rediscover.notify_one();
                    }
                    // What may pass by itself is told when it has not: to tell it ends a move.
                    let passing = matches!(error.code(), Some(401 | 404 | 408 | 410 | 429));
                    if !passing || pause >= PASSING {
                        self.note_trouble(&error);
                    }
                    tokio::select! {
                        () = sleep(pause) => {}
                        _ = generation.changed() => {}
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn path(&self) -> String {
        match &self.scope {
            None => self.resource.everywhere(),
            Some(namespace) => self.resource.within(namespace),
        }
    }

    fn rechecked(&self) -> End {
        let place = (self.kind.clone(), self.scope.clone());
        let due = self.member.store.lock().recheck.remove(&place);
        if due { End::Relist } else { End::Recheck }
    }

    fn note_trouble(&self, error: &RequestError) {
        tracing::debug!(cluster = %self.member.name, kind = %self.kind, %error, "watch failed");
        // Silence of the whole member is told by its health; a refusal concerns this kind.
        let refused = matches!(error, RequestError::Api(api) if api.code < 500)
            || matches!(
                error,
                RequestError::Unreadable(_) | RequestError::TooLarge(_)
            );
        if refused {
            let trouble = format!(
                "{} cannot be listed on {}: {error}",
                self.kind, self.member.name
            );
            if self
                .member
                .store
                .lock()
                .set_trouble(&self.kind, &self.scope, Some(trouble))
            {
                self.member.shared.dirty.mark();
            }
        }
    }

    async fn cycle(&mut self) -> Result<End, RequestError> {
        if self.resume.is_none() {
            self.list().await?;
        }
        match self.follow().await {
            Err(error) if error.code() == Some(410) => Ok(End::Expired),
            end => end,
        }
    }

    async fn list(&mut self) -> Result<(), RequestError> {
        let path = format!(
            "{}?labelSelector={}",
            self.path(),
            super::discovery::encoded(APPLICATION_LABEL),
        );
        let connection = self.connection.clone();
        let mut pages = Pages::<Live>::of(&connection, path);
        let (mut listed, mut version) = (Vec::new(), String::new());
        while let Some(page) = pages.next().await? {
            listed.extend(page.items.iter().filter_map(|live| self.see(live)));
            version = page.metadata.resource_version;
        }
        let number = version.parse().unwrap_or(0);
        self.resume = Some(version);
        let mut contents = self.member.store.lock();
        if contents.replace(&self.kind, &self.scope, number, listed) {
            self.member.shared.dirty.mark();
        }
        Ok(())
    }

    fn see(&self, live: &Live) -> Option<(ApplicationKey, Seen)> {
        let key = seen::owner(live)?;
        let declared = self.member.declared(&key);
        let key = declared
            .as_ref()
            .map_or(key, |declared| declared.key.clone());
        let seen = Seen::of(&self.kind, live, declared.as_deref());
        Some((key, seen))
    }

    async fn follow(&mut self) -> Result<End, RequestError> {
        let resume = self.resume.clone().unwrap_or_default();
        // Not all watches of all kinds end at the same moment.
        let mut hasher = DefaultHasher::new();
        (&self.kind, &self.member.name).hash(&mut hasher);
        let seconds = WATCH_SECONDS + hasher.finish() % 60;
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&labelSelector={}&resourceVersion={}&timeoutSeconds={seconds}",
            self.path(),
            super::discovery::encoded(APPLICATION_LABEL),
            super::discovery::encoded(&resume)
        );
        let mut lines = Lines {
            body: self.connection.stream(Verb::Watch, get(&path)?).await?,
            buffer: Buffer::default(),
        };
        if self
            .member
            .store
            .lock()
            .set_trouble(&self.kind, &self.scope, None)
        {
            self.member.shared.dirty.mark();
        }
        while let Some(event) = lines.next(&self.connection).await? {
            if let Some(end) = self.take(event)? {
                return Ok(end);
            }
        }
        Ok(End::Resume)
    }

    fn take(&mut self, event: Event) -> Result<Option<End>, RequestError> {
        let live = &event.object;
        if event.kind == EventKind::Error {
            let code = live
                .fields
                .get("code")
                .and_then(serde_json::Value::as_u64)
                .unwrap_or(0);
            let message = live
                .fields
                .get("message")
                .and_then(serde_json::Value::as_str)
                .unwrap_or("the watch failed");
            return match code {
                410 => Ok(Some(End::Expired)),
                _ => Err(RequestError::Transport(shortened(message.to_owned()))),
            };
        }
        let version = live.metadata.version();
        self.resume = Some(live.metadata.resource_version.clone());
        let seen = match event.kind {
            EventKind::Added | EventKind::Modified => self.see(live),
            _ => None,
        };
        let mut contents = self.member.store.lock();
        let news = match (event.kind, seen) {
            (EventKind::Deleted, _) => {
                let (namespace, name) = (
                    live.metadata.namespace.as_str().into(),
                    live.metadata.name.as_str().into(),
                );
                contents.remove(&self.kind, &namespace, &name, version)
            }
            (_, Some((key, seen))) => contents.observed(key, seen),
            _ => false,
        };
        contents.progress(&self.kind, version);
        drop(contents);
        if news {
            self.member.shared.dirty.mark();
        }
        Ok(None)
    }
}

/// The lines of a stream.
struct Lines {
    body: Body,
    buffer: Buffer,
}

impl Lines {
    async fn next(&mut self, connection: &Connection) -> Result<Option<Event>, RequestError> {
        loop {
            if let Some(line) = self.buffer.line() {
                weight::check(line)?;
                return serde_json::from_slice(line)
                    .map(Some)
                    .map_err(|error| RequestError::Unreadable(unreadable(&error)));
            }
            let frame = timeout(SILENCE, self.body.frame())
                .await
                .map_err(|_| RequestError::Timeout(SILENCE))?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(RequestError::transport(&error)),
                Some(Ok(frame)) => {
                    connection.answered();
                    if let Some(data) = frame.data_ref() {
                        self.buffer.take(data)?;
                    }
                }
            }
        }
    }
}

/// What came of a stream and was not taken yet.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Where the next line begins: lines before it were taken, and are removed
    /// together after the last.
    begin: usize,
    /// How far was looked for the end of a line.
    read: usize,
}

impl Buffer {
    /// The next line; none before its end came.
    fn line(&mut self) -> Option<&[u8]> {
        let rest = &self.bytes[self.read..];
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
            self.bytes.drain(..self.begin);
            (self.begin, self.read) = (0, self.bytes.len());
            if self.bytes.is_empty() && self.bytes.capacity() > 64 * 1024 {
                self.bytes = Vec::new();
            }
            return None;
        };
        let (begin, end) = (self.begin, self.read + length);
        (self.begin, self.read) = (end + 1, end + 1);
        Some(&self.bytes[begin..end])
    }

    fn take(&mut self, data: &[u8]) -> Result<(), RequestError> {
        if self.bytes.len() + data.len() > ANSWER_LIMIT {
            return Err(RequestError::TooLarge(ANSWER_LIMIT));
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart_wherever_they_were_cut() {
        let mut buffer = Buffer::default();
        let mut lines = Vec::new();
        for part in ["a\nbc", "", "d", "e\n\nf\n", "g"] {
            buffer.take(part.as_bytes()).unwrap();
            while let Some(line) = buffer.line() {
                lines.push(String::from_utf8_lossy(line).into_owned());
            }
        }
        assert_eq!(lines, ["a", "bcde", "", "f"]);
        assert_eq!(buffer.bytes, b"g");
    }

    /// Were the rest moved for each of them, this would take minutes.
    #[test]
    fn any_number_of_lines_is_taken_in_no_time() {
        let mut buffer = Buffer::default();
        let data = b"{}\n".repeat(ANSWER_LIMIT / 3);
        buffer.take(&data).unwrap();
        let mut lines = 0;
        while buffer.line().is_some() {
            lines += 1;
        }
        assert_eq!(lines, ANSWER_LIMIT / 3);
        assert!(matches!(
            buffer.take(&data).and_then(|()| buffer.take(&data)),
            Err(RequestError::TooLarge(_))
        ));
    }
}

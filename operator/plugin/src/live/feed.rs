//! Every change of what is looked at, as the hub tells it.

use crate::hub::{Hub, Kind, explain};
use flambeau_operator::offline::objects::{self, Objects};
use futures::StreamExt;
use kube::{
    Api,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use std::{collections::BTreeMap, future::poll_fn};
use tokio::{sync::mpsc, task::JoinSet};

type Change = Box<dyn FnOnce(&mut Objects) + Send>;

enum Message {
    /// Something changed.
    Change(Change),
    /// All of one kind is known.
    Listed,
    /// The hub does not answer; the watch tries again by itself.
    Trouble(String),
    /// The hub refuses to tell.
    Refused(anyhow::Error),
}

/// What was told.
pub enum Told {
    /// Something changed.
    News,
    /// The hub does not answer, for this reason.
    Trouble(String),
}

/// Objects that follow the hub.
pub struct Feed {
    /// As last told.
    pub objects: Objects,
    missing: usize,
    messages: mpsc::Receiver<Message>,
    _watches: JoinSet<()>,
}

impl Feed {
    /// Begins to watch.
    pub fn open(hub: &Hub) -> Self {
        let (sender, messages) = mpsc::channel(256);
        let client = || hub.client.clone();
        let mut watches = JoinSet::new();
        watches.spawn(relay(
            hub.here(),
            sender.clone(),
            |all| &mut all.applications,
            objects::key,
        ));
        watches.spawn(relay(
            hub.here(),
            sender.clone(),
            |all| &mut all.migrations,
            objects::key,
        ));
        watches.spawn(relay(
            Api::all(client()),
            sender.clone(),
            |all| &mut all.clusters,
            objects::name,
        ));
        watches.spawn(relay(
            Api::all(client()),
            sender.clone(),
            |all| &mut all.evacuations,
            objects::name,
        ));
        watches.spawn(relay(
            Api::all(client()),
            sender,
            |all| &mut all.freezes,
            objects::name,
        ));
        Self {
            objects: Objects::default(),
            missing: watches.len(),
            messages,
            _watches: watches,
        }
    }

    /// Whether everything was told at least once.
    pub fn complete(&self) -> bool {
        self.missing == 0
    }

    /// Waits until something is told, and takes everything that is there.
    ///
    /// # Errors
    /// When the hub refuses to tell.
    pub async fn next(&mut self) -> anyhow::Result<Told> {
        let mut batch = Vec::new();
        let room = self.messages.max_capacity();
        poll_fn(|context| self.messages.poll_recv_many(context, &mut batch, room)).await;
        let mut told = Told::News;
        for message in batch {
            match message {
                Message::Change(change) => change(&mut self.objects),
                Message::Listed => self.missing = self.missing.saturating_sub(1),
                Message::Trouble(message) => told = Told::Trouble(message),
                Message::Refused(error) => return Err(error),
            }
        }
        Ok(told)
    }
}

async fn relay<I, K>(
    api: Api<K>,
    sender: mpsc::Sender<Message>,
    map: fn(&mut Objects) -> &mut BTreeMap<I, K>,
    identify: fn(&mut K) -> I,
) where
    I: Ord + Send + 'static,
    K: Kind + Send + 'static,
{
    let mut stream = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut fresh = BTreeMap::new();
    let mut listed = false;
    while let Some(event) = stream.next().await {
        let mut messages = Vec::new();
        match event {
            Ok(Event::Init) => fresh.clear(),
            Ok(Event::InitApply(mut object)) => {
                fresh.insert(identify(&mut object), object);
            }
            Ok(Event::InitDone) => {
                let all = std::mem::take(&mut fresh);
                messages.push(Message::Change(Box::new(move |objects| {
                    *map(objects) = all
                })));
                if !std::mem::replace(&mut listed, true) {
                    messages.push(Message::Listed);
                }
            }
            Ok(Event::Apply(mut object)) => {
                messages.push(Message::Change(Box::new(move |objects| {
                    map(objects).insert(identify(&mut object), object);
                })))
            }
            Ok(Event::Delete(mut object)) => {
                messages.push(Message::Change(Box::new(move |objects| {
                    map(objects).remove(&identify(&mut object));
                })))
            }
            Err(error) => messages.push(refusal::<K>(error)),
        }
        for message in messages {
            if sender.send(message).await.is_err() {
                return;
            }
        }
    }
}

fn refusal<K: Kind>(error: watcher::Error) -> Message {
    let (verb, cause) = match error {
        watcher::Error::InitialListFailed(cause) => ("list", cause),
        watcher::Error::WatchStartFailed(cause) | watcher::Error::WatchFailed(cause) => {
            ("watch", cause)
        }
        watcher::Error::WatchError(status) => ("watch", kube::Error::Api(status)),
        other => return Message::Trouble(other.to_string()),
    };
    match &cause {
        kube::Error::Api(status) if matches!(status.code, 401 | 403 | 404) => {
            Message::Refused(explain::<K>(cause, verb, None))
        }
        _ => Message::Trouble(cause.to_string()),
    }
}

//! Writes an application to a member: one server-side apply per object that
//! is not there as declared, none for the others.

use super::{
    admission::Admission,
    body::{Body, Expect},
    connection::{Answer, Connection, REQUEST_TIMEOUT, RequestError, get, request},
    discovery::Resource,
    erase,
    error::MemberError,
    fencing::epochs::{IfMissing, Token},
    limits::Limits,
    live::Live,
    member::Member,
    metrics::Verb,
    observe::{self, How, Write},
    order,
    refusal::{Failure, failure, not_written, refused, title},
    secrets,
    seen::{self, Judgement, Seen},
};
use crate::declared::{Declared, DeclaredObject};
use flambeau_crds::{DIGEST_ANNOTATION, EPOCH_ANNOTATION, FIELD_MANAGER};
use futures::future::join_all;
use http::Method;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

/// Brings a copy to what is declared, under an epoch.
pub(super) async fn apply(
    member: &Member,
    declared: &Declared,
    epoch: i64,
) -> Result<(), MemberError> {
    let connection = member.connection()?;
    let turn = member.works.begin(&declared.key, digest(declared, epoch))?;
    let job = Job {
        member,
        limits: member.limits(),
        connection: &connection,
        declared,
        epoch,
    };
    let result = job.lead().await;
    let result = result.map_err(|error| secrets::without_values(error, declared));
    match &result {
        Ok(corrected) => turn.done(*corrected, &member.shared.dirty),
        // The watch that is missing asks for a plan when it is there.
        Err(MemberError::NotObserved { .. }) => {}
        Err(error) => {
            if !member.fence.told(&declared.key, error) {
                tracing::warn!(cluster = %member.name, application = %declared.key, %error, "application not written");
            }
            turn.failed(error, &member.shared.dirty);
        }
    }
    result.map(|_| ())
}

fn digest(declared: &Declared, epoch: i64) -> u64 {
    let mut hasher = DefaultHasher::new();
    epoch.hash(&mut hasher);
    for object in &declared.objects {
        (&object.kind, &object.name, &object.digest).hash(&mut hasher);
    }
    hasher.finish()
}

struct Job<'a> {
    member: &'a Member,
    limits: Arc<Limits>,
    connection: &'a Connection,
    declared: &'a Declared,
    epoch: i64,
}

impl Job<'_> {
    fn token(&self) -> Token {
        Token::new(self.declared.created, self.epoch)
    }

    /// Writes what is due; returns whether something was put right that had
    /// been so before.
    async fn lead(&self) -> Result<bool, MemberError> {
        let result = self.run().await;
        let fenced = matches!(result, Err(MemberError::Fenced { .. }));
        let epochs = &self.member.fence.epochs;
        let key = &self.declared.key;
        // What is remembered may be left of an application of the same name that was deleted before this one was made.
        if fenced && Box::pin(epochs.behind(self.connection, key, self.token())).await? {
            return Box::pin(self.run()).await;
        }
        result
    }

    async fn run(&self) -> Result<bool, MemberError> {
        self.limits
            .check(&self.member.name, self.declared, |kind| {
                self.member.resource(kind)
            })?;
        let pending = observe::pending(
            &self.member.store.lock(),
            &self.member.name,
            self.declared,
            self.epoch,
        )?;
        // All or nothing: what others read is not written for what cannot be.
        for write in &pending.writes {
            self.resource(write)?;
        }
        if !pending.is_empty() {
            let (epochs, key) = (&self.member.fence.epochs, &self.declared.key);
            let raise = epochs.raise(
                self.member,
                self.connection,
                key,
                self.token(),
                IfMissing::Make,
            );
            Box::pin(raise).await?;
        }
        let mut corrected = false;
        // Kubelets wait for what a new pod reads: nothing there has to wait.
        let fresh = pending
            .writes
            .iter()
            .all(|write| matches!(write.how, How::Create));
        let rank = |write: &Write| {
            if fresh {
                order::with_workloads(write.rank)
            } else {
                write.rank
            }
        };
        for rank in pending
            .writes
            .chunk_by(|one, other| rank(one) == rank(other))
        {
            let written = join_all(rank.iter().map(|write| self.write(write))).await;
            let mut worst: Option<MemberError> = None;
            for result in written {
                match result {
                    Ok(drifted) => corrected |= drifted,
                    // That a newer leader has taken over says most, and a refusal more than silence.
                    Err(error @ MemberError::Fenced { .. }) => worst = Some(error),
                    Err(error)
                        if worst.as_ref().is_none_or(|worst| {
                            !worst.is_refusal() && !matches!(worst, MemberError::Fenced { .. })
                        }) =>
                    {
                        worst = Some(error)
                    }
                    Err(_) => {}
                }
            }
            // What comes later may need what is missing.
            if let Some(error) = worst {
                return Err(error);
            }
        }
        let delete = erase::delete_all(
            self.member,
            self.connection,
            &self.declared.key,
            &pending.surplus,
            self.epoch,
        );
        Box::pin(delete).await?;
        Ok(corrected)
    }

    /// How the member serves what is to be written.
    fn resource(&self, write: &Write) -> Result<Resource, MemberError> {
        let object = &self.declared.objects[write.index];
        let resource = self.member.resource(&object.kind);
        resource.ok_or_else(|| MemberError::NotServed {
            cluster: self.member.name.clone(),
            object: title(object),
            kind: object.kind.clone(),
        })
    }

    async fn write(&self, write: &Write) -> Result<bool, MemberError> {
        let (object, resource) = (&self.declared.objects[write.index], self.resource(write)?);
        // Closed never: the semaphore lives as long as the member.
        let _permit = self.member.permits.acquire().await;
        // The member may have gone silent while others were waited for.
        self.member.connection()?;
        // Many wait for a permit at the same time: what a request needs is
        // allocated when it may begin.
        Box::pin(self.write_now(&write.how, object, &resource)).await
    }

    /// Whether it was put right after a change by somebody else.
    async fn write_now(
        &self,
        how: &How,
        object: &DeclaredObject,
        resource: &Resource,
    ) -> Result<bool, MemberError> {
        match how {
            How::Create => self.create(object, resource).await.map(|()| false),
            How::Update { uid, drifted } => {
                if *drifted {
                    tracing::info!(cluster = %self.member.name, application = %self.declared.key, kind = %object.kind.kind,
                        name = %object.name, "put right: it was changed by somebody else");
                }
                self.send(object, resource, Expect::Uid(uid)).await?;
                Ok(*drifted)
            }
            How::Check { uid } => self.check(object, resource, uid).await,
        }
    }

    async fn create(
        &self,
        object: &DeclaredObject,
        resource: &Resource,
    ) -> Result<(), MemberError> {
        match self.send(object, resource, Expect::Absent).await {
            Err(Failure::NoNamespace) => {
                let namespace = &self.declared.key.namespace;
                self.member
                    .ensure_namespace(self.connection, namespace)
                    .await?;
                match self.send(object, resource, Expect::Absent).await {
                    Err(Failure::Conflict) => self.adopt(object, resource).await,
                    other => other.map_err(Into::into),
                }
            }
            Err(Failure::Conflict) => self.adopt(object, resource).await,
            other => other.map_err(Into::into),
        }
    }

    /// An object of that name is there although none was seen: ours if it
    /// says so, else not to be touched.
    async fn adopt(&self, object: &DeclaredObject, resource: &Resource) -> Result<(), MemberError> {
        let live = self.read(object, resource).await?;
        let ours = match seen::owner(&live) {
            Some(owner) => owner == self.declared.key,
            // Its label was taken away.
            None => [EPOCH_ANNOTATION, DIGEST_ANNOTATION]
                .iter()
                .all(|annotation| live.metadata.annotations.contains_key(*annotation)),
        };
        if !ours {
            return Err(MemberError::Foreign {
                cluster: self.member.name.clone(),
                object: title(object),
            });
        }
        let seen = Seen::of(&object.kind, &live, Some(self.declared));
        if let Some(live) = seen.epoch.filter(|live| *live > self.epoch) {
            return Err(MemberError::EpochTooLow {
                object: title(object),
                live,
                epoch: self.epoch,
            });
        }
        self.send(object, resource, Expect::Uid(&seen.uid))
            .await
            .map_err(Into::into)
    }

    async fn check(
        &self,
        object: &DeclaredObject,
        resource: &Resource,
        uid: &str,
    ) -> Result<bool, MemberError> {
        let live = self.read(object, resource).await?;
        let seen = Seen::of(&object.kind, &live, Some(self.declared));
        let current = seen.current(object, self.epoch);
        self.take(seen);
        if !current {
            self.send(object, resource, Expect::Uid(uid)).await?;
        }
        Ok(!current)
    }

    async fn read(
        &self,
        object: &DeclaredObject,
        resource: &Resource,
    ) -> Result<Live, MemberError> {
        let path = resource.object(&self.declared.key.namespace, &object.name);
        let answer = match get(&path) {
            Ok(request) => {
                self.connection
                    .call(Verb::Get, request, REQUEST_TIMEOUT)
                    .await
            }
            Err(error) => Err(error),
        };
        answer
            .and_then(|answer| answer.json())
            .map_err(|error| not_written(object, &error))
    }

    /// Writes an object; where the application may not yet write in its
    /// namespace, and Flambeau may let it, lets it and writes again.
    async fn send(
        &self,
        object: &DeclaredObject,
        resource: &Resource,
        expect: Expect<'_>,
    ) -> Result<(), Failure> {
        let mut admitted: Option<Admission> = None;
        loop {
            let failure = match self.send_once(object, resource, expect).await {
                Err(failure @ Failure::NotPermitted(_)) if self.limits.admits() => failure,
                result => return result,
            };
            let member = self.member;
            match &admitted {
                None => {
                    let namespace = &self.declared.key.namespace;
                    admitted = Some(member.admit(self.connection, namespace).await?);
                }
                // The API server goes by a new binding within moments.
                Some(admission) if admission.wait().await => {}
                Some(_) => return Err(failure),
            }
        }
    }

    async fn send_once(
        &self,
        object: &DeclaredObject,
        resource: &Resource,
        expect: Expect<'_>,
    ) -> Result<(), Failure> {
        let key = &self.declared.key;
        let path = format!(
            "{}?fieldManager={FIELD_MANAGER}&force=true&fieldValidation=Strict",
            resource.object(&key.namespace, &object.name)
        );
        let body = serde_json::to_vec(&Body {
            object,
            key,
            uid: &self.declared.uid,
            epoch: self.epoch,
            expect,
        })
        .map_err(|error| refused(object, error.to_string()))?;
        let request = request(
            Method::PATCH,
            &path,
            Some("application/apply-patch+yaml"),
            body,
        );
        let request = request.and_then(|mut request| {
            self.limits.impersonate(&key.namespace, &mut request)?;
            Ok(request)
        });
        let request = request.map_err(|error| refused(object, error.to_string()))?;
        match self
            .connection
            .call(Verb::Apply, request, REQUEST_TIMEOUT)
            .await
        {
            Ok(answer) => self.accept(object, &answer),
            Err(RequestError::Api(api))
                if api.code == 403 && self.limits.lacks_permission(&api.message) =>
            {
                Err(Failure::NotPermitted(MemberError::Refused {
                    object: title(object),
                    message: format!("{api}: grant it there, or remove the resource"),
                }))
            }
            Err(error) => {
                let failure = failure(object, &error);
                if let Failure::Final(MemberError::Fenced { .. }) = &failure {
                    self.member.shared.metrics.fenced(&self.member.name);
                }
                Err(failure)
            }
        }
    }

    fn accept(&self, object: &DeclaredObject, answer: &Answer) -> Result<(), Failure> {
        let live: Live = answer
            .json()
            .map_err(|error| Failure::Final(not_written(object, &error)))?;
        let mut seen = Seen::of(&object.kind, &live, Some(self.declared));
        if let Judgement::Differs(shape) = seen.judgement {
            tracing::info!(cluster = %self.member.name, application = %self.declared.key, kind = %object.kind.kind,
                name = %object.name, "the member changes this object while it is written: taken as it is");
            seen.accepted = Some(shape);
        }
        self.take(seen);
        Ok(())
    }

    fn take(&self, seen: Seen) {
        if self
            .member
            .store
            .lock()
            .written(self.declared.key.clone(), seen)
        {
            self.member.shared.dirty.mark();
        }
    }
}

//! What a request makes: shown, or created and followed.

use crate::{
    cli::{Output, Request},
    hub::{Hub, Kind},
    live::{self, Interruption, Subject, Wanted},
    print,
};
use kube::{Api, ResourceExt};
use serde::Serialize;
use serde_json::Value;
use std::process::ExitCode;

/// An object that a person asks for.
pub struct Asked<'a, K> {
    /// Where it is created.
    pub api: Api<K>,
    /// What is created.
    pub object: K,
    /// What it does, in a few words.
    pub about: String,
    /// What `kubectl flambeau status` takes to show it.
    pub follow: String,
    /// How it was asked for.
    pub request: &'a Request,
}

impl<K: Kind> Asked<'_, K> {
    /// Creates it, says so, and follows it to its end when that was asked for;
    /// with `--dry-run`, asks the hub and creates nothing.
    ///
    /// # Errors
    /// When the hub refuses, or it does not end as asked.
    pub async fn create(
        self,
        hub: &Hub,
        subject: impl Fn(&str) -> Subject,
    ) -> anyhow::Result<ExitCode> {
        let request = self.request;
        let made = hub.create(&self.api, &self.object, request.dry_run).await?;
        if request.dry_run {
            eprintln!("the hub would take it; nothing was created (--dry-run)");
            return Ok(ExitCode::SUCCESS);
        }
        let interruption = request.wait.then(Interruption::expected).transpose()?;
        let name = made.name_any();
        match request.output {
            Output::Json => print::json(&tidy(&made)?)?,
            Output::Yaml => print::yaml(&tidy(&made)?)?,
            _ => {
                let kind = K::kind(&()).to_lowercase();
                let group = K::group(&());
                print::raw(&format!("{kind}.{group}/{name} created: {}\n", self.about))?;
            }
        }
        if let Some(interruption) = interruption {
            let subject = subject(&name);
            let limit = request.timeout;
            live::follow(hub, &subject, Wanted::Completed, limit, interruption).await?;
        } else if request.output == Output::Table {
            eprintln!("follow it: kubectl flambeau status {} -w", self.follow);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What would be made, as kubectl create takes it, below what the planner says
/// of it.
pub fn draft(object: &impl Serialize, said: &str) -> anyhow::Result<String> {
    let mut manifest = serde_json::to_value(object)?;
    // Fields that are false say nothing.
    if let Some(spec) = manifest.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|_, value| *value != Value::Bool(false));
    }
    let said: String = said.lines().map(|line| format!("# {line}\n")).collect();
    Ok(format!("{said}{}", serde_yaml::to_string(&manifest)?))
}

/// An object as people want to read it.
fn tidy(object: &impl Serialize) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(object)?;
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    Ok(value)
}

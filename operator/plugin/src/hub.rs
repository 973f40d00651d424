//! The hub's API server: who asks, and every call that the plugin makes.

use crate::failure::Failure;
use anyhow::{Context, anyhow, bail};
use clap::Args;
use flambeau_operator::offline::objects::{self, Objects};
use flambeau_planner::model::ApplicationKey;
use k8s_openapi::{
    NamespaceResourceScope, api::authentication::v1::SelfSubjectReview,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Config, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{fmt::Debug, path::PathBuf, time::Duration};

/// Field manager of everything that the plugin writes.
pub const FIELD_MANAGER: &str = "kubectl-flambeau";

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which hub, as whom, and in which namespace: the options of kubectl.
#[derive(Clone, Debug, Default, Args)]
pub struct Connection {
    /// Namespace of the application; the one of the context when absent.
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Every namespace, whatever --namespace says.
    #[arg(short = 'A', long, global = true)]
    pub all_namespaces: bool,
    /// Context of the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Kubeconfig of the hub; as with kubectl, KUBECONFIG and ~/.kube/config
    /// are read without it.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// User to act as.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub impersonate: Option<String>,
    /// Group to act as, once for each.
    #[arg(
        long = "as-group",
        global = true,
        value_name = "GROUP",
        requires = "impersonate"
    )]
    pub impersonate_group: Vec<String>,
}

/// A kind without a scope or a name that is chosen at run time.
pub trait Kind: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Serialize {}

impl<K> Kind for K where K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Serialize
{}

/// The hub.
#[derive(Clone)]
pub struct Hub {
    /// Client, for watches.
    pub client: Client,
    /// Namespace where names are looked up.
    pub namespace: String,
    /// Every namespace is asked for.
    pub all_namespaces: bool,
}

impl Hub {
    /// Connects with the credentials that kubectl would use.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read or used.
    pub async fn connect(connection: &Connection) -> anyhow::Result<Self> {
        let options = KubeConfigOptions {
            context: connection.context.clone(),
            ..KubeConfigOptions::default()
        };
        let mut config = match &connection.kubeconfig {
            Some(path) => {
                let context = || format!("--kubeconfig {}", path.display());
                let kubeconfig = Kubeconfig::read_from(path)
                    .map_err(|error| in_words(&error))
                    .with_context(context)?;
                Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .map_err(|error| in_words(&error))
                    .with_context(context)?
            }
            None => match Config::from_kubeconfig(&options).await {
                Ok(config) => config,
                Err(error) if connection.context.is_some() => {
                    return Err(in_words(&error).context("--context"));
                }
                // A pod has credentials without a kubeconfig.
                Err(error) => Config::incluster().map_err(|_| {
                    in_words(&error).context("set KUBECONFIG, or name the file with --kubeconfig")
                })?,
            },
        };
        if connection.impersonate.is_some() {
            config
                .auth_info
                .impersonate
                .clone_from(&connection.impersonate);
            config.auth_info.impersonate_groups = (!connection.impersonate_group.is_empty())
                .then(|| connection.impersonate_group.clone());
        }
        let namespace = connection
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client =
            Client::try_from(config).context("the kubeconfig of the hub cannot be used")?;
        Ok(Self {
            client,
            namespace,
            all_namespaces: connection.all_namespaces,
        })
    }

    /// Namespace and name of what is called so here.
    pub fn key(&self, name: &str) -> ApplicationKey {
        ApplicationKey {
            namespace: self.namespace.as_str().into(),
            name: name.into(),
        }
    }

    /// The user name as the API server knows it.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn user(&self) -> anyhow::Result<String> {
        let review = SelfSubjectReview {
            metadata: ObjectMeta::default(),
            status: None,
        };
        let api: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let parameters = PostParams::default();
        let answer = self
            .call::<SelfSubjectReview, _>("create", None, api.create(&parameters, &review))
            .await
            .context("the hub was asked who you are, for requestedBy")?;
        answer
            .status
            .and_then(|status| status.user_info?.username)
            .context("the hub does not say who you are, so requestedBy cannot be filled in")
    }

    /// Every object of every kind of Flambeau, in all namespaces: what a plan
    /// needs, because budgets are global.
    ///
    /// # Errors
    /// When one kind cannot be listed.
    pub async fn fleet(&self) -> anyhow::Result<Objects> {
        let (providers, clusters, policies, applications, migrations, evacuations, freezes) = tokio::try_join!(
            self.list(),
            self.list(),
            self.list(),
            self.list(),
            self.list(),
            self.list(),
            self.list(),
        )?;
        Ok(Objects {
            providers: named(providers),
            clusters: named(clusters),
            policies: named(policies),
            applications: keyed(applications),
            migrations: keyed(migrations),
            evacuations: named(evacuations),
            freezes: named(freezes),
        })
    }

    /// What a person looks at: applications and moves of the namespaces asked
    /// for, and everything that has no namespace and holds or drives them.
    ///
    /// # Errors
    /// When one kind cannot be listed.
    pub async fn scope(&self) -> anyhow::Result<Objects> {
        let all = ListParams::default();
        let (clusters, applications, migrations, evacuations, freezes) = tokio::try_join!(
            self.list(),
            self.list_here(&all),
            self.list_here(&all),
            self.list(),
            self.list(),
        )?;
        Ok(Objects {
            clusters: named(clusters),
            applications: keyed(applications),
            migrations: keyed(migrations),
            evacuations: named(evacuations),
            freezes: named(freezes),
            ..Objects::default()
        })
    }

    /// Every object of a kind, in all namespaces.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn list<K: Kind>(&self) -> anyhow::Result<Vec<K>> {
        let api: Api<K> = Api::all(self.client.clone());
        let list = self
            .call::<K, _>("list", None, api.list(&ListParams::default()))
            .await?;
        Ok(list.items)
    }

    /// Every object of a namespaced kind, in the namespaces that are asked for.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn list_here<K>(&self, selected: &ListParams) -> anyhow::Result<Vec<K>>
    where
        K: Kind + Resource<Scope = NamespaceResourceScope>,
    {
        let place = (!self.all_namespaces).then_some(self.namespace.as_str());
        let api: Api<K> = self.here();
        let list = self.call::<K, _>("list", place, api.list(selected)).await?;
        Ok(list.items)
    }

    /// A namespaced kind in the namespaces that are asked for.
    pub fn here<K>(&self) -> Api<K>
    where
        K: Kind + Resource<Scope = NamespaceResourceScope>,
    {
        if self.all_namespaces {
            Api::all(self.client.clone())
        } else {
            Api::namespaced(self.client.clone(), &self.namespace)
        }
    }

    /// Creates an object, or asks whether it could be created.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn create<K: Kind>(
        &self,
        api: &Api<K>,
        object: &K,
        dry_run: bool,
    ) -> anyhow::Result<K> {
        let parameters = PostParams {
            dry_run,
            field_manager: Some(FIELD_MANAGER.to_owned()),
        };
        let namespace = object.namespace();
        self.call::<K, _>(
            "create",
            namespace.as_deref(),
            api.create(&parameters, object),
        )
        .await
    }

    /// Changes some fields of an object, or asks whether they could be changed.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn patch<K: Kind>(
        &self,
        api: &Api<K>,
        name: &str,
        change: &Value,
        dry_run: bool,
    ) -> anyhow::Result<K> {
        let parameters = PatchParams {
            dry_run,
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let place = (K::plural(&()) == "migrations").then_some(self.namespace.as_str());
        self.call::<K, _>(
            "patch",
            place,
            api.patch(name, &parameters, &Patch::Merge(change)),
        )
        .await
    }

    async fn call<K: Kind, T>(
        &self,
        verb: &'static str,
        namespace: Option<&str>,
        asked: impl Future<Output = kube::Result<T>>,
    ) -> anyhow::Result<T> {
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(explain::<K>(error, verb, namespace)),
            Err(_) => bail!(
                "the API server of the hub does not answer within {} s: is this the right \
                 --context, and is the hub up (kubectl get --raw /readyz)?",
                PATIENCE.as_secs()
            ),
        }
    }
}

/// An error of a kubeconfig: its message has those of its causes in it.
fn in_words(error: &KubeconfigError) -> anyhow::Error {
    anyhow!("{error}")
}

/// An error of the API server in words that say what to do next.
pub fn explain<K: Kind>(
    error: kube::Error,
    verb: &'static str,
    namespace: Option<&str>,
) -> anyhow::Error {
    let resource = match K::group(&()) {
        group if group.is_empty() => K::plural(&()).into_owned(),
        group => format!("{}.{group}", K::plural(&())),
    };
    let kube::Error::Api(status) = &error else {
        return anyhow::Error::new(error).context(
            "the API server of the hub cannot be asked: is this the right --context, and is the \
             hub up (kubectl get --raw /readyz)?",
        );
    };
    match status.code {
        403 => {
            let user = status
                .message
                .split_once("User \"")
                .and_then(|(_, rest)| rest.split_once('"'))
                .map_or("your user", |(user, _)| user);
            // Quotas and admission policies answer 403 as well, with words of
            // their own.
            if !status.message.contains(" cannot ") {
                return anyhow::anyhow!("the hub refuses: {}", status.message);
            }
            Failure::Forbidden {
                user: user.to_owned(),
                verb,
                resource,
                place: namespace.map_or_else(String::new, |namespace| {
                    format!(" in namespace {namespace}")
                }),
            }
            .into()
        }
        401 => anyhow::anyhow!(
            "the hub does not know you: {}: renew the credentials of this context",
            status.message
        ),
        404 if verb == "list" => anyhow::anyhow!(
            "this cluster knows no {resource}: it is not a hub of Flambeau (choose another with \
             --context), or its definitions are older than this plugin"
        ),
        _ => anyhow::anyhow!("the hub refuses: {}", status.message),
    }
}

fn named<K: ResourceExt>(
    list: Vec<K>,
) -> std::collections::BTreeMap<flambeau_planner::model::Name, K> {
    list.into_iter()
        .map(|mut object| (objects::name(&mut object), object))
        .collect()
}

fn keyed<K: ResourceExt>(list: Vec<K>) -> std::collections::BTreeMap<ApplicationKey, K> {
    list.into_iter()
        .map(|mut object| (objects::key(&mut object), object))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kubeconfig_that_is_not_there_is_named_once() {
        let connection = Connection {
            kubeconfig: Some("nowhere/kubeconfig".into()),
            ..Connection::default()
        };
        let refused = Hub::connect(&connection)
            .await
            .err()
            .expect("it is refused");
        let told = format!("{refused:#}");
        assert!(
            told.starts_with("--kubeconfig nowhere/kubeconfig: "),
            "{told}"
        );
        assert_eq!(told.matches("No such file").count(), 1, "{told}");
    }
}

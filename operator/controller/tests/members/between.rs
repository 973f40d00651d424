//! A member whose API server answers what another one would not: something
//! stands between, or somebody means ill.

use crate::{
    hostile::{Hostile, Stream, say},
    support::{Fleet, application, key, kind, kinds},
};
use flambeau_operator::{
    declared::Declared,
    members::{MemberError, MemberSettings, Verb},
};
use flambeau_planner::model::{Nodes, Reach};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const PAUSE: Duration = Duration::from_millis(20);
const NOTHING: &str = "404 page not found";

/// What an API server is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// As it should be.
    Well,
    /// Nothing but `/readyz` is there.
    NoBackend,
    /// Nothing is there.
    Nothing,
    /// It does not serve Games any more.
    NoGames,
    /// It serves Games in a later version only.
    LaterGames,
}

/// An API server that serves ConfigMaps and Games, one of each, and
/// EndpointSlices, until its mood changes.
#[derive(Clone)]
struct Fake(Arc<Mutex<Mood>>);

impl Fake {
    fn start() -> (Self, Hostile) {
        let fake = Self(Arc::new(Mutex::new(Mood::Well)));
        let answering = fake.clone();
        let server = Hostile::start(move |path, stream| answering.answer(path, stream));
        (fake, server)
    }

    fn mood(&self) -> Mood {
        *self.0.lock().unwrap()
    }

    fn set(&self, mood: Mood) {
        *self.0.lock().unwrap() = mood;
    }

    fn answer(&self, path: &str, stream: &mut Stream) -> std::io::Result<()> {
        let mood = self.mood();
        let (name, query) = path.split_once('?').unwrap_or((path, ""));
        let here = match (mood, name) {
            (Mood::Nothing, _) => false,
            (Mood::NoBackend, _) => name == "/readyz",
            _ => true,
        };
        if !here {
            return say(stream, "404 Not Found", NOTHING);
        }
        if name == "/readyz" {
            return say(stream, "200 OK", "ok");
        }
        if let Some(answer) = discovery(name, mood) {
            return say(stream, "200 OK", &answer.to_string());
        }
        let plural = name.rsplit('/').next().unwrap_or_default();
        let games = if mood == Mood::LaterGames { "v2" } else { "v1" };
        let object = match plural {
            "configmaps" if !query.contains("fieldSelector") => Some(("ConfigMap", "settings")),
            "games" if mood != Mood::NoGames && name.contains(games) => Some(("Game", "main")),
            "endpointslices" => None,
            _ => return say(stream, "404 Not Found", NOTHING),
        };
        if query.contains("watch=true") {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
            )?;
            stream.flush()?;
            // Every connection is cut when the mood changes.
            while self.mood() == mood {
                thread::sleep(PAUSE);
            }
            return Ok(());
        }
        let items: Vec<Value> = object
            .iter()
            .map(|(_, name)| {
                json!({"metadata": {"name": name, "namespace": "games", "uid": name, "resourceVersion": "5",
                    "labels": {"flambeau.dev/application": "shop"}, "annotations": {"flambeau.dev/epoch": "1"}}})
            })
            .collect();
        let list = json!({"metadata": {"resourceVersion": "9"}, "items": items});
        say(stream, "200 OK", &list.to_string())
    }
}

fn discovery(path: &str, mood: Mood) -> Option<Value> {
    let group = |name: &str, version: &str, plural: &str, kind: &str| {
        json!({"metadata": {"name": name}, "versions": [{"version": version, "freshness": "Current", "resources": [
            {"resource": plural, "scope": "Namespaced", "responseKind": {"kind": kind},
                "verbs": ["get", "list", "watch", "patch", "delete"]}]}]})
    };
    let games = match mood {
        Mood::NoGames => None,
        Mood::LaterGames => Some("v2"),
        _ => Some("v1"),
    };
    Some(match path {
        // Longer than any version is.
        "/version" => json!({"gitVersion": format!("v1.36.0{}", "+".repeat(100_000))}),
        "/api" => json!({"items": [group("", "v1", "configmaps", "ConfigMap")]}),
        "/apis" => {
            let mut groups = vec![group(
                "discovery.k8s.io",
                "v1",
                "endpointslices",
                "EndpointSlice",
            )];
            groups.extend(games.map(|version| group("example.org", version, "games", "Game")));
            json!({"items": groups})
        }
        _ => return None,
    })
}

/// What is there, as its application declares it.
fn shop() -> Declared {
    application(
        "games",
        "shop",
        &[
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}),
            json!({"apiVersion": "example.org/v1", "kind": "Game", "metadata": {"name": "main"}}),
        ],
    )
}

/// The Game alone.
fn game() -> Declared {
    let mut game = shop();
    game.objects.remove(0);
    game
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_not_found_does_not_mean_that_its_objects_are_gone() {
    let (fake, server) = Fake::start();
    let fleet = Fleet::with(MemberSettings::default());
    fleet.configure(Ok(&server.kubeconfig()));
    let declared = shop();
    fleet.declare(&declared);
    let present = || fleet.observe(&declared, 1).present;
    fleet.until("seen", || present() == 2).await;
    assert!(fleet.members.version("member").unwrap().len() < 100);

    fake.set(Mood::NoBackend);
    fleet
        .until("told", || {
            let copy = fleet.observe(&declared, 1);
            assert_eq!(copy.present, 2, "unknown is not absent");
            copy.hidden
                .is_some_and(|why| why.contains("cannot be listed"))
        })
        .await;
    let absent = fleet
        .members
        .verify_absent("member", &declared.key, &kinds(&declared))
        .await;
    assert!(
        matches!(absent, Err(MemberError::NotYet { .. })),
        "{absent:?}"
    );

    // Not even `/readyz`: nobody is there.
    fake.set(Mood::Nothing);
    fleet
        .until("unreachable", || {
            matches!(fleet.members.reach("member"), Reach::Unreachable { .. })
        })
        .await;
    assert_eq!(present(), 2);

    fake.set(Mood::Well);
    fleet
        .until("well", || {
            fleet.members.reach("member") == Reach::Reachable
                && fleet.observe(&declared, 1).obstacle().is_none()
        })
        .await;
    assert_eq!(present(), 2);

    // Discovery alone says that a kind is gone, and is asked at once.
    fake.set(Mood::NoGames);
    let begun = Instant::now();
    fleet.until("gone", || present() == 1).await;
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    let game = BTreeSet::from([kind("example.org/v1", "Game")]);
    let absent = fleet
        .members
        .verify_absent("member", &key("games", "nobody"), &game)
        .await;
    assert_eq!(absent, Ok(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_in_another_version_only_is_not_gone() {
    let (fake, server) = Fake::start();
    fake.set(Mood::LaterGames);
    let fleet = Fleet::with(MemberSettings::default());
    fleet.configure(Ok(&server.kubeconfig()));
    let declared = game();
    fleet.declare(&declared);
    fleet
        .until("seen", || fleet.observe(&declared, 1).present == 1)
        .await;
    let absent = fleet
        .members
        .verify_absent("member", &declared.key, &kinds(&declared))
        .await;
    assert_eq!(absent, Ok(false));
    // It is written in the version that is declared, and in no other.
    let error = fleet.apply_once(&declared, 1).await.unwrap_err();
    assert!(matches!(error, MemberError::NotServed { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_is_not_allowed_any_more_is_not_gone() {
    let before = json!({"kinds": ["configmaps", "games.example.org"]});
    narrowed(
        &before,
        &json!({"kinds": ["services"]}),
        "spec.access.kinds",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_namespace_that_is_not_allowed_any_more_is_not_gone() {
    let before = json!({"namespaces": ["games", "medals"]});
    narrowed(
        &before,
        &json!({"namespaces": ["medals"]}),
        "spec.access.namespaces",
    )
    .await;
}

/// A copy is there, and Flambeau may not look at it any more: it says why, and takes it for gone neither at once nor after a
/// restart.
async fn narrowed(before: &Value, after: &Value, field: &str) {
    let (_fake, server) = Fake::start();
    let fleet = Fleet::with(MemberSettings::default());
    let kubeconfig = server.kubeconfig();
    fleet.configure_with(before, Ok(&kubeconfig));
    let declared = game();
    fleet.declare(&declared);
    let copy = || fleet.observe(&declared, 1);
    let seen = || copy().observed && copy().present == 1;
    fleet.until("seen", seen).await;

    fleet.configure_with(after, Ok(&kubeconfig));
    fleet
        .until("told", || {
            assert!(!copy().absent(), "it runs on");
            copy()
                .hidden
                .is_some_and(|why| why.contains(field) && why.contains("join"))
        })
        .await;
    assert!(!copy().observed);

    // A process that never saw it.
    let anew = Fleet::with(MemberSettings::default());
    anew.declare(&declared);
    anew.configure_with(after, Ok(&kubeconfig));
    anew.until("told, and there is no more to see", || {
        anew.observe(&declared, 1).hidden.is_some() && anew.members.observes("member")
    })
    .await;
    assert!(!anew.observe(&declared, 1).observed);

    fleet.configure_with(before, Ok(&kubeconfig));
    fleet
        .until("seen again", || seen() && copy().hidden.is_none())
        .await;
}

/// Answers discovery, and what is asked for by path as it is told.
fn server(
    answer: impl Fn(&str, &mut Stream) -> std::io::Result<()> + Send + Sync + 'static,
) -> Hostile {
    Hostile::start(move |path, stream| match discovery(path, Mood::Well) {
        Some(found) => say(stream, "200 OK", &found.to_string()),
        None if path == "/readyz" => say(stream, "200 OK", "ok"),
        None => answer(path, stream),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_empty_pages_ends() {
    let begun = Arc::new(AtomicUsize::new(0));
    let counter = begun.clone();
    let server = server(move |path, stream| {
        if !path.contains("endpointslices") {
            return say(stream, "404 Not Found", NOTHING);
        }
        if path.ends_with("continue=") {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        let page = json!({"metadata": {"resourceVersion": "9", "continue": "more"}, "items": []});
        say(stream, "200 OK", &page.to_string())
    });
    let fleet = Fleet::with(MemberSettings::default());
    fleet.configure(Ok(&server.kubeconfig()));
    // It is given up, and begun anew.
    let patience = Instant::now() + Duration::from_secs(300);
    while begun.load(Ordering::SeqCst) < 2 {
        assert!(Instant::now() < patience, "the list never ends");
        tokio::time::sleep(PAUSE).await;
    }
    assert!(!fleet.members.observes("member"), "nothing was listed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_expires_at_once_is_not_begun_again_and_again() {
    let server = server(|path, stream| {
        if !path.contains("endpointslices") {
            return say(stream, "404 Not Found", NOTHING);
        }
        if path.contains("watch=true") {
            return say(stream, "410 Gone", "too old");
        }
        let page = json!({"metadata": {"resourceVersion": "9"}, "items": []});
        say(stream, "200 OK", &page.to_string())
    });
    let fleet = Fleet::with(MemberSettings::default());
    fleet.configure(Ok(&server.kubeconfig()));
    let lists = || {
        fleet
            .members
            .metrics()
            .requests("member", Verb::List, &[200])
    };
    let begun = Instant::now();
    while lists() < 4 {
        tokio::time::sleep(PAUSE).await;
    }
    assert!(
        begun.elapsed() > Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_counted_over_all_pages() {
    let server = server(|path, stream| {
        let (name, query) = path.split_once('?').unwrap_or((path, ""));
        if !matches!(name.rsplit('/').next(), Some("nodes" | "leases")) {
            return say(stream, "404 Not Found", NOTHING);
        }
        let item = |name: &str| {
            json!({"metadata": {"name": name}, "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        };
        let (items, more) = if query.ends_with("continue=") {
            (json!([item("a"), item("b")]), "more")
        } else {
            (json!([item("c")]), "")
        };
        let page = json!({"metadata": {"resourceVersion": "9", "continue": more}, "items": items});
        say(stream, "200 OK", &page.to_string())
    });
    let fleet = Fleet::with(MemberSettings::default());
    fleet.configure(Ok(&server.kubeconfig()));
    fleet
        .until("counted", || fleet.members.nodes("member").is_some())
        .await;
    let counted = fleet.members.nodes("member");
    assert_eq!(counted, Some(Nodes { total: 3, ready: 3 }));
}

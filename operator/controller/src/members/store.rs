//! What is known of the objects of applications on one member: digests, not
//! objects.

use super::seen::Seen;
use flambeau_planner::model::{ApplicationKey, Kind, Name};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What one list and watch covers: a namespace, or all of them.
pub(super) type Scope = Option<Name>;

/// How well one kind is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Coverage {
    /// It was not listed yet.
    #[default]
    Pending,
    /// Its objects were listed and are watched.
    Listed,
    /// The member does not serve it: there are no objects of it.
    NotServed,
    /// The member serves it, and Flambeau may not look at it: objects of it
    /// may be there.
    Hidden,
}

#[derive(Debug, Default)]
struct KindState {
    coverage: Coverage,
    /// What has to be listed.
    scopes: BTreeSet<Scope>,
    /// What of that was not listed yet.
    awaited: BTreeSet<Scope>,
    /// Why it cannot be listed or watched now.
    trouble: BTreeMap<Scope, String>,
    /// Resource version up to which changes were seen.
    version: u64,
    /// Which application an object belongs to, by namespace and name.
    owners: HashMap<(Name, Name), Name>,
}

/// The objects of one application.
#[derive(Debug, Default)]
pub(super) struct Copy {
    /// Few, as a rule; a member can have any number with the application's
    /// label. To be changed by [`Contents`] only.
    objects: HashMap<(Kind, Name), Seen>,
    /// The last answer about them.
    pub cached: Option<super::observe::Cached>,
}

impl Copy {
    /// A copy of these objects.
    pub fn of(objects: Vec<Seen>) -> Self {
        let named = objects
            .into_iter()
            .map(|seen| ((seen.kind.clone(), seen.name.clone()), seen));
        Self {
            objects: named.collect(),
            cached: None,
        }
    }

    /// One object.
    pub fn find(&self, kind: &Kind, name: &Name) -> Option<&Seen> {
        self.objects.get(&(kind.clone(), name.clone()))
    }

    /// Its objects, in no order.
    pub fn objects(&self) -> impl Iterator<Item = &Seen> {
        self.objects.values()
    }
}

/// What is known of one member's objects.
#[derive(Debug, Default)]
pub(super) struct Store(Mutex<Contents>);

/// The inside of a store, while it is locked.
#[derive(Debug, Default)]
pub(super) struct Contents {
    kinds: HashMap<Kind, KindState>,
    /// By application.
    pub copies: HashMap<ApplicationKey, Copy>,
    /// Kinds that have to be listed again, to be compared with what was
    /// declared since.
    pub recheck: BTreeSet<(Kind, Scope)>,
}

impl Store {
    /// Locks the store, for a moment: nothing waits while it is locked.
    pub fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    /// How well a kind is known.
    pub fn coverage(&self, kind: &Kind) -> Coverage {
        self.kinds
            .get(kind)
            .map_or(Coverage::Pending, |state| state.coverage.clone())
    }

    /// Whether any kind is hidden.
    pub fn hides(&self) -> bool {
        let mut kinds = self.kinds.values();
        kinds.any(|state| state.coverage == Coverage::Hidden)
    }

    /// Whether what is known was listed in other scopes than this one: how far
    /// Flambeau may look has changed, and the lists are still to come.
    pub fn listed_elsewhere(&self, scope: &Scope) -> bool {
        self.kinds
            .values()
            .any(|state| state.coverage == Coverage::Listed && !state.scopes.contains(scope))
    }

    /// Why a kind cannot be listed or watched now.
    pub fn trouble(&self, kind: &Kind) -> Option<&str> {
        let state = self.kinds.get(kind)?;
        state.trouble.values().next().map(String::as_str)
    }

    /// Says what has to be listed of a kind before it is known. What was
    /// listed already need not be listed again.
    pub fn await_lists(&mut self, kind: &Kind, scopes: &BTreeSet<Scope>) {
        let state = self.kinds.entry(kind.clone()).or_default();
        if state.scopes == *scopes {
            return;
        }
        state.scopes.clone_from(scopes);
        state.awaited.clone_from(scopes);
        match state.coverage {
            Coverage::Listed => state.coverage = Coverage::Pending,
            Coverage::Hidden => {
                state.coverage = Coverage::Pending;
                state.trouble.clear();
            }
            Coverage::Pending | Coverage::NotServed => {}
        }
    }

    /// Notes why a kind cannot be listed or watched. Returns whether that is
    /// news.
    pub fn set_trouble(&mut self, kind: &Kind, scope: &Scope, trouble: Option<String>) -> bool {
        let state = self.kinds.entry(kind.clone()).or_default();
        let news = state.trouble.get(scope) != trouble.as_ref();
        match trouble {
            Some(trouble) => state.trouble.insert(scope.clone(), trouble),
            None => state.trouble.remove(scope),
        };
        news
    }

    /// Notes that the member does not serve a kind: its objects are gone with
    /// it. Returns whether that is news.
    pub fn set_not_served(&mut self, kind: &Kind) -> bool {
        if self.coverage(kind) == Coverage::NotServed {
            return false;
        }
        if let Some(state) = self.kinds.get_mut(kind) {
            state.coverage = Coverage::Pending;
        }
        self.replace(kind, &None, u64::MAX, Vec::new());
        if let Some(state) = self.kinds.get_mut(kind) {
            state.coverage = Coverage::NotServed;
            state.version = 0;
            state.scopes.clear();
            state.awaited.clear();
            state.trouble.clear();
        }
        true
    }

    /// Notes that a kind is served and may not be looked at, and why. What was
    /// known of it stays: unknown is not absent. Returns whether that is news.
    pub fn set_hidden(&mut self, kind: &Kind, why: String) -> bool {
        let state = self.kinds.entry(kind.clone()).or_default();
        let trouble = BTreeMap::from([(None, why)]);
        if state.coverage == Coverage::Hidden && state.trouble == trouble {
            return false;
        }
        state.coverage = Coverage::Hidden;
        state.scopes.clear();
        state.awaited.clear();
        state.trouble = trouble;
        true
    }

    /// Takes a complete list of a kind within a scope, made at a resource
    /// version, in place of what was known; what was written since is kept.
    /// Returns whether anything is news.
    pub fn replace(
        &mut self,
        kind: &Kind,
        scope: &Scope,
        version: u64,
        listed: Vec<(ApplicationKey, Seen)>,
    ) -> bool {
        let state = self.kinds.entry(kind.clone()).or_default();
        if state.coverage == Coverage::Hidden {
            // It was on its way when the kind was hidden.
            return false;
        }
        let mut news = state.trouble.remove(scope).is_some();
        state.awaited.remove(scope);
        if state.awaited.is_empty() && state.coverage != Coverage::Listed {
            state.coverage = Coverage::Listed;
            news = true;
        }
        state.version = state.version.max(version);
        let here: BTreeSet<(&Name, &Name)> = listed
            .iter()
            .map(|(key, seen)| (&key.namespace, &seen.name))
            .collect();
        let gone: Vec<(Name, Name)> = state
            .owners
            .keys()
            .filter(|(namespace, _)| scope.as_ref().is_none_or(|scope| scope == namespace))
            .filter(|(namespace, name)| !here.contains(&(namespace, name)))
            .cloned()
            .collect();
        for (namespace, name) in gone {
            news |= self.remove(kind, &namespace, &name, version);
        }
        for (key, seen) in listed {
            news |= self.insert(key, seen);
        }
        news
    }

    /// Takes an object as a watch reports it. Returns whether it is news.
    pub fn observed(&mut self, key: ApplicationKey, seen: Seen) -> bool {
        self.progress(&seen.kind, seen.version);
        self.insert(key, seen)
    }

    /// Takes an object as a write returns it. Returns whether it is news.
    pub fn written(&mut self, key: ApplicationKey, seen: Seen) -> bool {
        let known = self
            .copies
            .get(&key)
            .and_then(|copy| copy.find(&seen.kind, &seen.name));
        let watched = self.kinds.get(&seen.kind).map_or(0, |state| state.version);
        // The watch is further already: it has seen the object go.
        if known.is_none() && seen.version <= watched {
            return false;
        }
        self.insert(key, seen)
    }

    /// Notes up to which resource version a watch is complete.
    pub fn progress(&mut self, kind: &Kind, version: u64) {
        if let Some(state) = self.kinds.get_mut(kind) {
            state.version = state.version.max(version);
        }
    }

    fn insert(&mut self, key: ApplicationKey, mut seen: Seen) -> bool {
        let state = self.kinds.entry(seen.kind.clone()).or_default();
        let place = (key.namespace.clone(), seen.name.clone());
        let before = state.owners.get(&place).cloned();
        match before {
            Some(owner) if owner != key.name => {
                let version = seen.version;
                let (namespace, name, kind) =
                    (key.namespace.clone(), seen.name.clone(), seen.kind.clone());
                if !self.remove(&kind, &namespace, &name, version) {
                    return false;
                }
                self.kinds
                    .entry(kind)
                    .or_default()
                    .owners
                    .insert(place, key.name.clone());
            }
            Some(_) => {}
            None => {
                state.owners.insert(place, key.name.clone());
            }
        }
        let copy = self.copies.entry(key).or_default();
        let name = (seen.kind.clone(), seen.name.clone());
        match copy.objects.entry(name) {
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                let older = known.version > seen.version
                    || known.version == seen.version && !seen.settles(known);
                if older {
                    return false;
                }
                seen.inherit(known);
                let news = !seen.says_the_same(known);
                *known = seen;
                if news {
                    copy.cached = None;
                }
                news
            }
            Entry::Vacant(entry) => {
                entry.insert(seen);
                copy.cached = None;
                true
            }
        }
    }

    /// Forgets an object that is gone since a resource version. Returns
    /// whether it was known.
    pub fn remove(&mut self, kind: &Kind, namespace: &Name, name: &Name, version: u64) -> bool {
        let Some(state) = self.kinds.get_mut(kind) else {
            return false;
        };
        let place = (namespace.clone(), name.clone());
        let Some(owner) = state.owners.get(&place) else {
            return false;
        };
        let key = ApplicationKey {
            namespace: namespace.clone(),
            name: owner.clone(),
        };
        let Some(copy) = self.copies.get_mut(&key) else {
            return false;
        };
        let Entry::Occupied(seen) = copy.objects.entry((kind.clone(), name.clone())) else {
            return false;
        };
        if seen.get().version > version {
            return false;
        }
        seen.remove();
        state.owners.remove(&place);
        copy.cached = None;
        if copy.objects.is_empty() {
            self.copies.remove(&key);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kind() -> Kind {
        Kind {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
        }
    }

    fn key(name: &str) -> ApplicationKey {
        ApplicationKey {
            namespace: "games".into(),
            name: name.into(),
        }
    }

    fn seen(name: &str, version: u64) -> Seen {
        let live = serde_json::from_value(
            json!({"metadata": {"name": name, "uid": name, "resourceVersion": version.to_string(),
            "annotations": {"flambeau.dev/epoch": version.to_string()}}}),
        )
        .unwrap();
        Seen::of(&kind(), &live, None)
    }

    fn epoch(contents: &Contents, application: &str, name: &str) -> Option<i64> {
        contents
            .copies
            .get(&key(application))?
            .find(&kind(), &name.into())?
            .epoch
    }

    #[test]
    fn a_late_event_does_not_undo_a_write() {
        let store = Store::default();
        let mut contents = store.lock();
        contents.replace(&kind(), &None, 1, Vec::new());
        assert!(contents.written(key("a"), seen("x", 7)));
        assert!(!contents.observed(key("a"), seen("x", 5)));
        assert_eq!(epoch(&contents, "a", "x"), Some(7));
        assert!(
            !contents.remove(&kind(), &"games".into(), &"x".into(), 6),
            "an earlier deletion"
        );
        assert!(contents.remove(&kind(), &"games".into(), &"x".into(), 8));
        assert!(contents.copies.is_empty());
    }

    #[test]
    fn a_late_answer_does_not_bring_back_what_is_gone() {
        let store = Store::default();
        let mut contents = store.lock();
        contents.replace(&kind(), &None, 1, Vec::new());
        contents.progress(&kind(), 9);
        assert!(!contents.written(key("a"), seen("x", 7)));
        assert!(contents.copies.is_empty());
    }

    #[test]
    fn a_list_replaces_what_is_older_and_keeps_what_was_written_since() {
        let store = Store::default();
        let mut contents = store.lock();
        contents.replace(
            &kind(),
            &None,
            3,
            vec![(key("a"), seen("old", 2)), (key("a"), seen("kept", 3))],
        );
        contents.written(key("b"), seen("new", 12));
        assert!(contents.replace(&kind(), &None, 10, vec![(key("a"), seen("kept", 3))]));
        assert_eq!(epoch(&contents, "a", "old"), None);
        assert_eq!(epoch(&contents, "a", "kept"), Some(3));
        assert_eq!(epoch(&contents, "b", "new"), Some(12));
        assert!(!contents.replace(
            &kind(),
            &None,
            13,
            vec![(key("a"), seen("kept", 3)), (key("b"), seen("new", 12))]
        ));
    }

    #[test]
    fn an_object_belongs_to_one_application() {
        let store = Store::default();
        let mut contents = store.lock();
        contents.replace(&kind(), &None, 3, vec![(key("a"), seen("x", 2))]);
        assert!(contents.observed(key("b"), seen("x", 5)));
        assert_eq!(epoch(&contents, "a", "x"), None);
        assert_eq!(epoch(&contents, "b", "x"), Some(5));
    }

    #[test]
    fn a_kind_that_is_not_served_has_no_objects() {
        let store = Store::default();
        let mut contents = store.lock();
        assert_eq!(contents.coverage(&kind()), Coverage::Pending);
        contents.replace(&kind(), &None, 3, vec![(key("a"), seen("x", 2))]);
        assert!(contents.set_not_served(&kind()));
        assert!(!contents.set_not_served(&kind()));
        assert!(contents.copies.is_empty());
        assert_eq!(contents.coverage(&kind()), Coverage::NotServed);
    }

    #[test]
    fn what_was_listed_in_one_namespace_says_nothing_of_another() {
        let store = Store::default();
        let mut contents = store.lock();
        let scope = |namespace: &str| Some(Name::from(namespace));
        contents.await_lists(&kind(), &BTreeSet::from([scope("medals")]));
        assert!(!contents.listed_elsewhere(&scope("games")), "not listed");
        contents.replace(&kind(), &scope("medals"), 3, Vec::new());
        assert!(!contents.listed_elsewhere(&scope("medals")));
        assert!(contents.listed_elsewhere(&scope("games")));
        assert!(contents.listed_elsewhere(&None), "any namespace");
        let both = BTreeSet::from([scope("medals"), scope("games")]);
        contents.await_lists(&kind(), &both);
        assert_eq!(contents.coverage(&kind()), Coverage::Pending);
        assert!(!contents.listed_elsewhere(&scope("games")));
    }

    #[test]
    fn a_kind_that_may_not_be_looked_at_keeps_its_objects() {
        let store = Store::default();
        let mut contents = store.lock();
        let scopes = BTreeSet::from([None]);
        contents.await_lists(&kind(), &scopes);
        contents.replace(&kind(), &None, 3, vec![(key("a"), seen("x", 2))]);
        assert!(contents.set_hidden(&kind(), "not allowed".to_owned()));
        assert!(!contents.set_hidden(&kind(), "not allowed".to_owned()));
        assert_eq!(epoch(&contents, "a", "x"), Some(2));
        assert_eq!(contents.trouble(&kind()), Some("not allowed"));
        // It may be looked at again, and has to be.
        contents.await_lists(&kind(), &scopes);
        assert_eq!(contents.coverage(&kind()), Coverage::Pending);
        assert_eq!(contents.trouble(&kind()), None);
        contents.replace(&kind(), &None, 9, Vec::new());
        assert_eq!(contents.coverage(&kind()), Coverage::Listed);
        assert!(contents.copies.is_empty());
    }

    /// Whoever writes to a member can label any number of objects for one
    /// application. Looked for one by one, these would take minutes, with the
    /// store locked.
    #[test]
    fn any_number_of_objects_of_one_application_is_taken_in_no_time() {
        const MANY: u64 = 100_000;
        let store = Store::default();
        let mut contents = store.lock();
        let listed = || {
            let objects = (1..=MANY).map(|number| (key("a"), seen(&number.to_string(), number)));
            objects.collect()
        };
        contents.replace(&kind(), &None, MANY, listed());
        assert!(!contents.replace(&kind(), &None, MANY, listed()));
        assert_eq!(epoch(&contents, "a", "77777"), Some(77777));
        for number in 1..=MANY {
            let name = number.to_string().into();
            assert!(contents.remove(&kind(), &"games".into(), &name, MANY));
        }
        assert!(contents.copies.is_empty());
    }
}

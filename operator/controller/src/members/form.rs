//! The form of each copy on a member: whole, or a standby.

use crate::declared::Declared;
use flambeau_planner::model::ApplicationKey;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Copies that stand by; all others are whole.
#[derive(Default)]
pub(super) struct Forms(Mutex<HashMap<ApplicationKey, Standby>>);

struct Standby {
    replicas: u32,
    /// What was declared, and what a standby has of it; made once, as it is
    /// asked for in every plan.
    made: Option<(Arc<Declared>, Arc<Declared>)>,
}

impl Forms {
    fn lock(&self) -> MutexGuard<'_, HashMap<ApplicationKey, Standby>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the form of a copy: the replicas of a standby, or none for whole.
    /// Returns whether that is news.
    pub fn set(&self, key: &ApplicationKey, standby: Option<u32>) -> bool {
        let mut forms = self.lock();
        let before = forms.get(key).map(|standby| standby.replicas);
        if before == standby {
            return false;
        }
        match standby {
            None => forms.remove(key),
            Some(replicas) => {
                let standby = Standby {
                    replicas,
                    made: None,
                };
                forms.insert(key.clone(), standby)
            }
        };
        true
    }

    /// What is declared, in the form of the copy. The same value for as long
    /// as neither changes.
    pub fn of(&self, declared: Arc<Declared>) -> Arc<Declared> {
        let mut forms = self.lock();
        let Some(standby) = forms.get_mut(&declared.key) else {
            return declared;
        };
        match &standby.made {
            Some((from, made)) if Arc::ptr_eq(from, &declared) => made.clone(),
            _ => {
                let made = Arc::new(declared.standby(standby.replicas));
                standby.made = Some((declared, made.clone()));
                made
            }
        }
    }

    /// What is declared, in the form of the copy.
    pub fn apply<'a>(&self, declared: &'a Declared) -> std::borrow::Cow<'a, Declared> {
        use std::borrow::Cow;
        match self.lock().get(&declared.key) {
            Some(standby) => Cow::Owned(declared.standby(standby.replicas)),
            None => Cow::Borrowed(declared),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declared::DeclaredObject;
    use flambeau_planner::model::Kind;
    use serde_json::json;

    #[test]
    fn a_form_is_made_once_and_again_when_the_declaration_changes() {
        let kind = Kind {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
        };
        let manifest = json!({"spec": {"replicas": 3}});
        let object = DeclaredObject::new(kind, "x".into(), &manifest, "d".into());
        let key = ApplicationKey {
            namespace: "games".into(),
            name: "a".into(),
        };
        let whole = Arc::new(Declared {
            key: key.clone(),
            uid: "u".into(),
            created: None,
            objects: vec![object],
            traffic: None,
        });
        let forms = Forms::default();
        assert!(Arc::ptr_eq(&forms.of(whole.clone()), &whole));
        assert!(forms.set(&key, Some(1)));
        assert!(!forms.set(&key, Some(1)));
        let standby = forms.of(whole.clone());
        assert_eq!(standby.objects[0].manifest()["spec"]["replicas"], 1);
        assert!(Arc::ptr_eq(&forms.of(whole.clone()), &standby));
        assert_eq!(*forms.apply(&whole), *standby);
        let anew = Arc::new((*whole).clone());
        assert!(!Arc::ptr_eq(&forms.of(anew), &standby));
        assert!(forms.set(&key, None));
        assert!(Arc::ptr_eq(&forms.of(whole.clone()), &whole));
    }
}

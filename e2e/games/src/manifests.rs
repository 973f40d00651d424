//! The Kubernetes objects of each application, as plain resources without a namespace.

use crate::application::Application;

/// The image that the manifests name. It has the `games` binary as its entry point.
pub const IMAGE: &str = "games.flambeau.dev/games:dev";

/// The objects of an application as a YAML stream: a ConfigMap, a Deployment of two pods, a Service that listens on
/// port 80, and a Secret for accreditation. Deployment and Service carry the application's name.
pub const fn yaml(application: Application) -> &'static str {
    match application {
        Application::Accreditation => include_str!("../manifests/accreditation.yaml"),
        Application::AccessControl => include_str!("../manifests/access-control.yaml"),
        Application::Volunteers => include_str!("../manifests/volunteers.yaml"),
        Application::Ticketing => include_str!("../manifests/ticketing.yaml"),
        Application::Results => include_str!("../manifests/results.yaml"),
        Application::Website => include_str!("../manifests/website.yaml"),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_yaml::Value;

    use super::*;
    use crate::settings::Settings;

    fn objects(application: Application) -> Vec<Value> {
        serde_yaml::Deserializer::from_str(yaml(application))
            .map(|document| Value::deserialize(document).unwrap())
            .collect()
    }

    fn kind<'a>(objects: &'a [Value], kind: &str) -> Option<&'a Value> {
        objects.iter().find(|object| object["kind"] == kind)
    }

    #[test]
    fn each_application_plays_itself_and_can_be_reached_by_its_name() {
        for application in Application::ALL {
            let objects = objects(application);
            let name = application.name();
            let deployment = kind(&objects, "Deployment").unwrap();
            assert_eq!(deployment["metadata"]["name"], name);
            let pod = &deployment["spec"]["template"];
            let container = &pod["spec"]["containers"][0];
            assert_eq!(container["image"], IMAGE);
            assert_eq!(container["env"][0]["value"], name);
            let service = kind(&objects, "Service").unwrap();
            assert_eq!(service["metadata"]["name"], name);
            assert_eq!(service["spec"]["selector"], pod["metadata"]["labels"]);
            assert_eq!(
                service["spec"]["ports"][0]["targetPort"],
                container["ports"][0]["name"]
            );
            assert_eq!(
                kind(&objects, "Secret").is_some(),
                application == Application::Accreditation
            );
        }
    }

    #[test]
    fn the_settings_are_read_by_the_program_and_leave_time_to_drain() {
        for application in Application::ALL {
            let objects = objects(application);
            let data = &kind(&objects, "ConfigMap").unwrap()["data"];
            let settings = Settings::read(|variable| match variable {
                "APPLICATION" => Some(application.name().to_owned()),
                other => data[other].as_str().map(str::to_owned),
            })
            .unwrap();
            assert_ne!(settings.title, application.name());
            let pod = &kind(&objects, "Deployment").unwrap()["spec"]["template"]["spec"];
            let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
            assert!(grace > settings.drain.as_secs() + 10);
        }
    }

    #[test]
    fn no_object_names_a_namespace() {
        for application in Application::ALL {
            for object in objects(application) {
                assert!(object["metadata"].get("namespace").is_none());
            }
        }
    }
}

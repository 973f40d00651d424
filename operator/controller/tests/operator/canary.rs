//! What is secret stands in Secrets, in `spec.resources`, and nowhere else:
//! not in logs at any level, status, events, metrics, or the last words of the
//! process.

use crate::fleet::{Fleet, application, condition};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// A text that stands nowhere else; one for each place.
fn canary(place: &str) -> String {
    format!("canary-of-{place}-2718281828459")
}

/// What every canary has in it.
const SONG: &str = "2718281828459";

/// The song as it is, and in base64 wherever it begins.
fn forms() -> Vec<String> {
    let encoded = (0..3).map(|shift| {
        let padded = format!("{}{SONG}", "_".repeat(shift));
        // The first and the last letters hold bits of the neighbours.
        let encoded = STANDARD.encode(padded);
        encoded[4..encoded.len() - 4].to_owned()
    });
    encoded.chain([SONG.to_owned()]).collect()
}

fn quiet(what: &str, text: &str) {
    for form in forms() {
        if let Some(found) = text.find(&form) {
            let from = text.floor_char_boundary(found.saturating_sub(300));
            let to = text.floor_char_boundary((found + 100).min(text.len()));
            panic!("{what} sings {form}: …{}…", &text[from..to]);
        }
    }
}

fn secret(name: &str, fields: &Value) -> Value {
    let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    for (key, value) in fields.as_object().unwrap() {
        secret[key] = value.clone();
    }
    secret
}

fn with_resources(name: &str, resources: &[Value]) -> Value {
    let mut application = application(name);
    application["spec"]["resources"] = json!(resources);
    application
}

/// A policy of the member that tells what it refuses: the value under `key`.
fn telltale(name: &str, operation: &str, object: &str) -> [Value; 2] {
    let api = "admissionregistration.k8s.io/v1";
    [
        json!({"apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                "operations": [operation], "resources": ["configmaps", "secrets"]}]},
            "matchConditions": [{"name": "named-so", "expression": format!("{object}.metadata.name == '{name}'")}],
            "validations": [{"expression": "false",
                "messageExpression": format!("'the value ' + string({object}.data.key) + ' is refused'")}]}}),
        json!({"apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]}}),
    ]
}

/// Applications whose objects a member refuses, with words that hold a value.
fn refused() -> Vec<(&'static str, Vec<Value>)> {
    let own = |name: &str| secret(name, &json!({"stringData": {"key": canary(name)}}));
    let config = |name: &str, fields: Value| {
        let mut object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        for (key, value) in fields.as_object().unwrap() {
            object[key] = value.clone();
        }
        object
    };
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "in-a-service"},
        "spec": {"type": canary("in-a-service"), "ports": [{"port": 80}]}});
    vec![
        ("in-a-service", vec![own("in-a-service"), service]),
        (
            "in-a-flag",
            vec![
                own("in-a-flag"),
                config("in-a-flag", json!({"immutable": canary("in-a-flag")})),
            ],
        ),
        (
            "nested",
            vec![secret(
                "nested",
                &json!({"stringData": {"key": {"deep": canary("nested")}}}),
            )],
        ),
        (
            "not-base64",
            vec![secret(
                "not-base64",
                &json!({"data": {"key": canary("not-base64")}}),
            )],
        ),
        (
            "of-no-type",
            vec![secret(
                "of-no-type",
                &json!({"type": "kubernetes.io/dockerconfigjson",
                    "stringData": {".dockerconfigjson": format!("[{}", canary("of-no-type"))}}),
            )],
        ),
        ("telltale", vec![own("telltale")]),
        (
            "telltale-of-another",
            vec![
                own("of-another"),
                config("telltale", json!({"data": {"key": canary("of-another")}})),
            ],
        ),
    ]
}

/// Kubeconfigs that are of no use, with a credential in each.
fn unusable(server: &str, authority: &str) -> Vec<(&'static str, String)> {
    let kubeconfig = |cluster: &str, user: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
        )
    };
    let good = format!("server: '{server}', certificate-authority-data: {authority}");
    let token = |place: &str| format!("token: {}", canary(place));
    let beside = |cluster: &str, place: &str| kubeconfig(cluster, &token(place));
    let of_user =
        |user: &str, place: &str| kubeconfig(&good, &user.replace("SONG", &canary(place)));
    let host = server.trim_start_matches("https://");
    vec![
        ("garbage", format!("{}: [", canary("garbage"))),
        ("text", canary("text")),
        ("list", of_user("token: [SONG]", "list")),
        ("wrong", beside(&good, "wrong")),
        ("two-lines", of_user("token: \"SONG\\nSONG\"", "two-lines")),
        (
            "key",
            of_user(
                "client-certificate-data: SONG, client-key-data: SONG",
                "key",
            ),
        ),
        (
            "password",
            of_user("username: me, password: SONG", "password"),
        ),
        (
            "exec",
            of_user(
                "exec: {apiVersion: client.authentication.k8s.io/v1, command: id, args: [SONG]}",
                "exec",
            ),
        ),
        (
            "provider",
            of_user(
                "auth-provider: {name: gcp, config: {access-token: SONG}}",
                "provider",
            ),
        ),
        ("file", of_user("tokenFile: /SONG", "file")),
        ("plain", beside("server: 'http://192.0.2.1'", "plain")),
        (
            "authority",
            beside(
                &format!(
                    "server: '{server}', certificate-authority-data: {}",
                    canary("authority")
                ),
                "authority",
            ),
        ),
        (
            "user-in-address",
            beside(
                &good.replace(host, &format!("me:{}@{host}", canary("address"))),
                "address",
            ),
        ),
        (
            "query-in-address",
            beside(
                &good.replace(host, &format!("{host}/?token={}", canary("query"))),
                "query",
            ),
        ),
    ]
}

#[test]
fn what_is_secret_is_told_nowhere() {
    let mut fleet = Fleet::start_saying("trace");
    ask_for_trouble(&fleet);
    let unusable = connect_badly(&fleet);
    told(&fleet, &unusable);
    // The member will not let the Secret go, and says why.
    fleet.hub(&["delete", "gapp", "kept", "--wait=false"]);
    fleet.until("the refusal to delete is logged", |fleet| {
        fleet.log().contains("application not erased")
    });

    // What a thief of the lease makes it say last.
    let holder = r#"{"spec": {"holderIdentity": "thief"}}"#;
    let (metrics, readiness) = (fleet.metrics(), format!("{:?}", fleet.readyz()));
    fleet.hub(&[
        "patch",
        "lease",
        "flambeau-operator",
        "--type=merge",
        "-p",
        holder,
    ]);
    fleet.until("it ends", |fleet| fleet.readyz().is_none());
    fleet.kill_operator();

    silent(&fleet, &metrics, &readiness);
}

/// Places an application, and declares others that a member refuses with words that hold a value.
fn ask_for_trouble(fleet: &Fleet) {
    for policy in telltale("telltale", "CREATE", "object")
        .iter()
        .chain(&telltale("kept", "DELETE", "oldObject"))
    {
        fleet.members["one"]
            .apply(std::slice::from_ref(policy))
            .unwrap();
        fleet.members["two"]
            .apply(std::slice::from_ref(policy))
            .unwrap();
    }

    let text = canary("placed");
    let placed = secret(
        "kept",
        &json!({"stringData": {"key": text}, "data": {"other": STANDARD.encode(canary("placed-too"))}}),
    );
    fleet.place(&with_resources("kept", &[placed]));
    for (name, resources) in refused() {
        fleet.apply(&with_resources(name, &resources));
    }
}

/// Members with kubeconfigs that are of no use.
fn connect_badly(fleet: &Fleet) -> Vec<&'static str> {
    let member = std::fs::read_to_string(fleet.members["one"].kubeconfig()).unwrap();
    let member: Value = serde_yaml::from_str(&member).unwrap();
    let cluster = &member["clusters"][0]["cluster"];
    let [server, authority] =
        ["server", "certificate-authority-data"].map(|field| cluster[field].as_str().unwrap());
    let unusable = unusable(server, authority);
    for (name, kubeconfig) in &unusable {
        fleet.apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"},
            "stringData": {"kubeconfig": kubeconfig}}));
        fleet.apply(&json!({
            "apiVersion": "flambeau.dev/v1alpha1", "kind": "MemberCluster", "metadata": {"name": name},
            "spec": {"provider": "east", "residency": "FR", "cordoned": true,
                "kubeconfigSecret": {"namespace": "default", "name": name}},
        }));
    }
    unusable.iter().map(|(name, _)| *name).collect()
}

/// Each trouble is told where people look.
fn told(fleet: &Fleet, unusable: &[&str]) {
    for (name, _) in refused() {
        let (reason, message) = fleet.condition(&format!("gapp/{name}"), "Stalled", "True");
        assert_eq!(reason, "ObjectRefused", "{name}: {message}");
        println!("{name}: {message}");
    }
    for name in unusable {
        let what = format!("membercluster/{name}");
        fleet.until(&format!("{name} is told to be of no use"), |fleet| {
            let ready = condition(&fleet.get(&what), "Ready");
            ready.is_some_and(|ready| ready["reason"] == "ClusterMisconfigured")
        });
        println!(
            "{name}: {}",
            condition(&fleet.get(&what), "Ready").unwrap()["message"]
        );
    }
}

/// And none of them with a value.
fn silent(fleet: &Fleet, metrics: &str, readiness: &str) {
    let log = fleet.log();
    assert!(
        log.contains("held by thief now"),
        "its last words are there"
    );
    assert!(log.contains("TRACE"), "everything is logged");
    println!("{} MB of log", log.len() / 1_000_000);
    quiet("the log", &log);
    assert!(metrics.contains("flambeau_"), "{metrics}");
    quiet("a metric", metrics);
    quiet("readiness", readiness);
    let events = fleet.hub(&["get", "events", "-A", "-o", "json"]);
    assert!(events.contains("ObjectRefused"), "{events}");
    quiet("an event", &events);
    let reported = fleet.get("flambeau");
    let reported = reported["items"].as_array().unwrap();
    assert!(reported.len() > 20);
    for object in reported {
        quiet("a status", &object["status"].to_string());
    }
    let others = "configmaps,services,endpointslices,leases";
    quiet(
        "an object of the hub",
        &fleet.hub(&["get", others, "-A", "-o", "json"]),
    );
}

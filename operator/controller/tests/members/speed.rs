//! What a crowd of applications costs.

use crate::support::{self, Fleet, application, shop};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: run it alone, in release mode, with --nocapture"]
async fn five_hundred_applications() {
    const APPLICATIONS: usize = 500;
    let plane = support::own_plane();
    plane.run("create namespace crowd");
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let all: Vec<_> = (0..APPLICATIONS)
        .map(|number| {
            let mut objects = vec![shop()[0].clone(), shop()[3].clone()];
            for object in &mut objects {
                object["metadata"]["name"] = format!("app-{number}").into();
            }
            application("crowd", &format!("app-{number}"), &objects)
        })
        .collect();
    all.iter().for_each(|declared| fleet.declare(declared));
    fleet
        .until("listed", || fleet.observe(&all[0], 1).observed)
        .await;

    let settled = |fleet: &Fleet| {
        all.iter()
            .all(|declared| fleet.observe(declared, 1).settled())
    };
    let (begun, spent) = (std::time::Instant::now(), support::processor_time());
    let writes = all.iter().map(|declared| fleet.apply_once(declared, 1));
    for result in futures::future::join_all(writes).await {
        result.unwrap();
    }
    assert!(settled(&fleet));
    assert_eq!(fleet.applies(), 2 * APPLICATIONS as u64);
    println!(
        "{APPLICATIONS} applications written in {:?} with {:?} of processor time",
        begun.elapsed(),
        support::processor_time() - spent
    );

    let (begun, spent) = (std::time::Instant::now(), support::processor_time());
    for _ in 0..10 {
        assert!(settled(&fleet));
    }
    println!("{APPLICATIONS} observed in {:?}", begun.elapsed() / 10);
    drop(fleet);

    let again = Fleet::unconfigured(&plane);
    all.iter().for_each(|declared| again.declare(declared));
    again.configure(Ok(&plane.kubeconfig()));
    again.until("settled", || settled(&again)).await;
    assert_eq!(again.applies(), 0);
    println!(
        "{APPLICATIONS} found unchanged after a restart in {:?} with {:?} of processor time",
        begun.elapsed(),
        support::processor_time() - spent
    );
}

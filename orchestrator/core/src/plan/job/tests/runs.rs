//! Jobs and schedules that are run once more.

use super::*;

#[test]
fn a_run_is_a_job_of_its_own_and_goes_with_its_owner() {
    let mut works = Works::new(1);
    works.job(
        "load",
        json!({ "args": ["a"], "env": { "A": "1", "B": "2" } }),
    );
    works.finish_all("load", 0);
    let request = RunJob {
        env: serde_json::from_value(json!({ "B": "3" })).unwrap(),
        args: Some(vec!["b".to_owned()]),
    };
    let run = |works: &mut Works| {
        let mut name = None;
        works.act(|txn| {
            let uid = Uid(Uuid::from_u128(7));
            name = Some(command::job::run(txn, &key("load"), &request, uid).unwrap());
        });
        name.unwrap().name.to_string()
    };
    assert_eq!(run(&mut works), "load-run-1");
    assert_eq!(run(&mut works), "load-run-2");
    let made = &works.world.cluster.workloads[&key("load-run-1")];
    assert_eq!(made.meta.owner.as_ref().unwrap().as_str(), "load");
    let template = made.manifest.spec.template(0);
    let main = template.main().unwrap();
    assert_eq!(main.args, Some(vec!["b".to_owned()]));
    let env: Vec<_> = main
        .env
        .iter()
        .map(|(k, v)| format!("{k}={}", v.0))
        .collect();
    assert_eq!(env, ["A=1", "B=3"]);
    works.finish_all("load-run-1", 5);
    assert_eq!(works.job_status("load-run-1").indices[0].code, 5);
    works.act(|txn| command::delete(txn, &key("load"), None).unwrap());
    works.sync_all();
    let cluster = &works.world.cluster;
    assert!(cluster.workloads.is_empty() && cluster.instances.is_empty());
}

#[test]
fn runs_are_bounded() {
    let mut works = Works::new(1);
    works.job("load", json!({}));
    works.finish_all("load", 0);
    for n in 1..=15 {
        let uid = Uid(Uuid::from_u128(n));
        works.act(|txn| {
            drop(command::job::run(txn, &key("load"), &RunJob::default(), uid).unwrap())
        });
        works.finish_all(&format!("load-run-{n}"), 0);
        works.wait(1);
    }
    let runs: Vec<_> = works.world.cluster.owned_by(&key("load")).collect();
    assert_eq!(runs.len(), 10);
    assert!(
        works
            .world
            .cluster
            .workloads
            .contains_key(&key("load-run-15"))
    );
}

#[test]
fn only_jobs_and_schedules_are_run_once_more() {
    let mut works = Works::new(1);
    works.try_apply("Service", "web", json!({})).unwrap();
    let mut txn = Transaction::new(&works.world.cluster, works.world.now);
    let uid = Uid(Uuid::nil());
    let mut run = |name| command::job::run(&mut txn, &key(name), &RunJob::default(), uid);
    assert!(matches!(run("web"), Err(Refusal::Conflict(_))));
    assert!(matches!(run("nothing"), Err(Refusal::NotFound { .. })));
}

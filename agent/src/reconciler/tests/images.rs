//! Images, from their pull to the containers that wait for them.

use super::*;

#[tokio::test(start_paused = true)]
async fn ten_instances_wait_for_one_pull() {
    let fake = Fake::default();
    fake.add_remote_image("web:1");
    fake.delay(Call::Pull, Duration::from_secs(30));
    let rig = Rig::on(fake, None);
    let all = (0..10).map(|n| instance(&format!("web-{n}-{n}"))).collect();
    rig.assign(1, all);
    secs(10).await;
    let phase = rig.status("web-3-3").unwrap().phase;
    assert_eq!(phase, Phase::Pulling);
    rig.until("web-9-9", Phase::is_running).await;
    secs(1).await;
    assert_eq!(rig.fake.containers().len(), 10);
    assert_eq!(rig.fake.count(Call::Pull), 1);
    secs(15).await;
    assert!(rig.board.images.borrow().contains("web:1"));
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_nobody_waits_for_any_more_is_cut_off() {
    let rig = Rig::on(Fake::default(), None);
    rig.fake.delay(Call::Pull, Duration::from_secs(600));
    // As many as are pulled at a time, so that another one has to wait for them.
    let all = ["web:2", "web:3", "web:4"].map(|image| {
        rig.fake.add_remote_image(image);
        let mut template = template();
        template.containers[0].image = image.parse().unwrap();
        AssignedInstance {
            template: Arc::new(template),
            ..instance(&image.replace(':', "-"))
        }
    });
    rig.assign(1, all.to_vec());
    rig.until("web-2", |p| *p == Phase::Pulling).await;
    secs(1).await;
    rig.fake.add_remote_image("web:1");
    rig.fake.delay(Call::Pull, Duration::from_secs(1));
    rig.assign(2, vec![instance("web-0-1")]);
    rig.until_gone("web-2").await;
    let took = rig.until("web-0-1", Phase::is_running).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(rig.fake.containers().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_fails_is_tried_again_and_shown() {
    let fake = Fake::default();
    let rig = Rig::on(fake, None);
    rig.assign(1, vec![instance("web-0-1")]);
    rig.until("web-0-1", |p| matches!(p, Phase::BackingOff { .. }))
        .await;
    let status = rig.status("web-0-1").unwrap();
    let reason = status.phase.reason().unwrap();
    assert_eq!(reason, "web:1 is not in its registry");
    secs(20).await;
    let pulls = rig.fake.count(Call::Pull);
    assert!((4..=7).contains(&pulls), "{pulls} pulls in 20 s");
    rig.fake.add_remote_image("web:1");
    rig.until("web-0-1", Phase::is_running).await;
    assert_eq!(rig.status("web-0-1").unwrap().restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_there_and_cannot_be_used_is_not_tried_without_a_pause() {
    let rig = Rig::new();
    for _ in 0..1000 {
        let kind = ErrorKind::ImageMissing;
        rig.fake
            .fail_next(Call::Create, kind, "no image of this platform");
    }
    rig.assign(1, vec![instance("web-0-1")]);
    secs(20).await;
    let creates = rig.fake.count(Call::Create);
    assert!((4..=8).contains(&creates), "{creates} attempts in 20 s");
    let status = rig.status("web-0-1").unwrap();
    assert_eq!(status.phase.reason(), Some("no image of this platform"));
}

#[tokio::test(start_paused = true)]
async fn a_prepared_instance_has_its_image_and_starts_when_told() {
    let fake = Fake::default();
    fake.add_remote_image("web:1");
    fake.delay(Call::Pull, Duration::from_secs(30));
    let rig = Rig::on(fake, None);
    let prepared = AssignedInstance {
        goal: Goal::Prepare,
        ..instance("web-0-1")
    };
    rig.assign(1, vec![prepared]);
    rig.until("web-0-1", |p| *p == Phase::Prepared).await;
    secs(60).await;
    assert_eq!(changes(&rig.fake), 0);
    rig.assign(2, vec![instance("web-0-1")]);
    let took = rig.until("web-0-1", Phase::is_running).await;
    assert!(took < Duration::from_millis(50), "{took:?}");
    assert_eq!(rig.fake.count(Call::Pull), 1);
}

#[tokio::test(start_paused = true)]
async fn always_pulls_before_every_new_container_and_no_restart() {
    let rig = Rig::new();
    rig.fake.add_remote_image("web:1");
    let mut template = template();
    template.containers[0].image_pull_policy = PullPolicy::Always;
    let always = AssignedInstance {
        template: Arc::new(template),
        ..instance("web-0-1")
    };
    rig.assign(1, vec![always]);
    rig.until("web-0-1", Phase::is_running).await;
    rig.fake.exit(&id("web-0-1"), 1);
    secs(1).await;
    assert_eq!(rig.fake.count(Call::Pull), 1);
    rig.fake.remove_behind(&id("web-0-1"));
    secs(5).await;
    assert!(rig.status("web-0-1").unwrap().phase.is_running());
    assert_eq!(rig.fake.count(Call::Pull), 2);
}

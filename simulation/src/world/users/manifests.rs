//! What users apply.

use serde_json::{Value, json};

use super::super::World;

const IMAGES: [&str; 9] = [
    "app:1",
    "app:2",
    "app:3",
    "later:1",
    "later:2",
    "app:4",
    "crash:1",
    "never:1",
    "missing:1",
];
const GOOD_IMAGES: u64 = 6;

impl World {
    fn image(&mut self) -> &'static str {
        if self.random.percent(75) {
            let index = self.random.below(GOOD_IMAGES);
            IMAGES[usize::try_from(index).expect("an index fits")]
        } else {
            self.random.pick::<&str>(&IMAGES)
        }
    }

    pub(super) fn service(&mut self, name: &str) -> Value {
        let exclusive = self.random.percent(20);
        let mut spec = json!({
            "image": self.image(),
            "replicas": self.random.between(0, 4),
            "resources": { "cpu": format!("{}m", self.random.between(1, 9) * 100), "memory": "64Mi" },
            "stopGracePeriod": format!("{}s", self.random.between(1, 5)),
            "update": if exclusive { self.update_alone() } else { self.update() },
        });
        if exclusive {
            spec["exclusive"] = json!(true);
        }
        if self.random.percent(30) {
            spec["disconnect"] = self.disconnect();
        }
        if self.random.percent(15) {
            spec["ports"] = json!([{ "container": 80, "host": 8_000 + self.random.below(3) }]);
        }
        json!({ "kind": "Service", "name": name, "spec": spec })
    }

    fn update(&mut self) -> Value {
        let mut update = self.update_alone();
        if self.random.percent(40) {
            update["order"] = json!(self.random.pick(&["startFirst", "stopFirst"]));
        }
        if self.random.percent(20) {
            update["canary"] = json!(1);
        }
        update
    }

    /// How what is exclusive is updated: nothing may be beside it.
    fn update_alone(&mut self) -> Value {
        let mut update = json!({
            "parallelism": self.random.between(1, 2),
            "minReady": "1s",
            "progressDeadline": "30s",
        });
        if self.random.percent(30) {
            update["onFailure"] = json!(self.random.pick(&["rollback", "pause", "continue"]));
        }
        update
    }

    fn disconnect(&mut self) -> Value {
        let mut policy = json!({
            "onReturn": self.random.pick(&["keepOriginal", "keepReplacement"]),
        });
        match self.random.below(4) {
            0 => policy["replace"] = json!(false),
            1 => policy["lostAfter"] = json!(format!("{}s", self.random.between(1, 20))),
            2 => policy["stopAfter"] = json!(format!("{}s", self.random.between(5, 40))),
            _ => {}
        }
        policy
    }

    pub(super) fn daemon(&mut self) -> Value {
        let image = self.image();
        let update = json!({ "minReady": "1s", "progressDeadline": "30s" });
        let spec = json!({ "image": image, "resources": { "cpu": "50m" }, "update": update });
        json!({ "kind": "Daemon", "name": "watch", "spec": spec })
    }

    pub(super) fn job(&mut self) -> Value {
        let image = *self.random.pick(&["job:1", "job:1", "crash:1"]);
        let name = *self.random.pick(&["import", "report"]);
        let spec = json!({
            "image": image,
            "completions": self.random.between(1, 3),
            "backoffLimit": 2,
            "resources": { "cpu": "100m" },
        });
        json!({ "kind": "Job", "name": name, "spec": spec })
    }
}

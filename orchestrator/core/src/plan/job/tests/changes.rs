//! Jobs that are changed before they have begun.

use serde_json::json;

use super::*;

#[test]
fn a_job_that_waits_for_nodes_gives_up_the_indices_that_are_wanted_no_more() {
    let mut works = Works::new(0);
    works.job("load", json!({ "completions": 3, "parallelism": 3 }));
    assert_eq!(works.slots("load"), [0, 1, 2]);
    works.job("load", json!({ "completions": 1, "parallelism": 3 }));
    assert_eq!(works.slots("load"), [0]);
}

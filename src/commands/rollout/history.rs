//! `windlass rollout history`.

use std::io::{self, Write};

use jiff::Timestamp;
use windlass_api::{clock, resource::Revision};

use super::Shown;
use crate::{
    commands::Context,
    error::Failure,
    output::{
        self, TextFormat,
        age::age,
        style,
        table::{Cell, Table},
    },
};

/// How many changed fields are named; `-o json` has all of them, with their values.
const FIELDS_MAX: usize = 4;

pub(super) async fn show(context: &Context, shown: &Shown) -> Result<(), Failure> {
    let key = context.workload_key(&shown.name);
    let mut list = context.client.revisions(&key).await?;
    list.items
        .sort_by_key(|revision| std::cmp::Reverse(revision.number));
    match shown.format.output {
        TextFormat::Json => output::json(&list),
        TextFormat::Text => Ok(write(&list.items, clock::now(), &mut output::stdout())?),
    }
}

fn write(revisions: &[Revision], now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let mut table = Table::new(vec![
        "REVISION",
        "STATE",
        "INSTANCES",
        "AGE",
        "IMAGE",
        "CHANGED",
    ]);
    for revision in revisions {
        let (style, state) = match (revision.wanted, revision.good) {
            (true, true) => (style::GOOD, "wanted"),
            (true, false) => (style::BUSY, "wanted, not yet good"),
            (false, true) => (style::PLAIN, "good"),
            (false, false) => (style::DIM, "never good"),
        };
        table.row(vec![
            Cell::new(revision.number),
            Cell::styled(style, state),
            Cell::new(revision.instances),
            Cell::new(age(now, revision.created_at)),
            Cell::new(revision.images.join(", ")),
            Cell::or_dash(changed(revision)),
        ]);
    }
    table.write(out)
}

fn changed(revision: &Revision) -> Option<String> {
    let mut fields = revision.changes.iter().map(|c| c.path.as_str());
    let named: Vec<&str> = fields.by_ref().take(FIELDS_MAX).collect();
    let more = match fields.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!named.is_empty()).then(|| format!("{}{more}", named.join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::NOW;

    #[test]
    fn revisions_show_which_were_good_and_what_changed() {
        let fields = ["image", "env.A", "env.B", "env.C", "env.D"];
        let changes: Vec<_> = fields.iter().map(|f| json!({ "path": f })).collect();
        let revisions: Vec<Revision> = serde_json::from_value(json!([
            { "number": 3, "createdAt": NOW, "images": ["app:3"], "wanted": true, "good": false,
              "instances": 1, "changes": changes },
            { "number": 2, "createdAt": NOW, "images": ["app:2"], "wanted": false, "good": true,
              "instances": 2 },
        ]))
        .unwrap();
        let mut out = Vec::new();
        write(&revisions, NOW, &mut out).unwrap();
        let text = anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string();
        assert_eq!(
            text,
            "REVISION   STATE                  INSTANCES   AGE   IMAGE   CHANGED\n\
             3          wanted, not yet good   1           0s    app:3   image, env.A, env.B, env.C and 1 more\n\
             2          good                   2           0s    app:2   -\n"
        );
    }
}

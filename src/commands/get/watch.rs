//! `windlass get -w`: what is selected, and each change after that.

use std::{collections::BTreeMap, io::Write};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use windlass_api::client::{Change, Mirror, Resource, Selection};

use super::{Context, ListOptions, detail, fill, say_empty};
use crate::{
    error::Failure,
    output::{
        self, ListFormat,
        columns::{self, Namespaces, Row},
        style::{self, paint},
        table::{Cell, Table},
    },
};

/// Lists what is selected, and each change after that: as a row or a name, if that is another one
/// than before, or as a document or a line of JSON.
pub(super) async fn watch<T: Row + Resource + Serialize>(
    context: &Context,
    options: &ListOptions,
    selection: Selection,
) -> Result<(), Failure> {
    let is_for_people = matches!(options.output, ListFormat::Table | ListFormat::Wide);
    let mut mirror = Mirror::<T>::open(&context.client, selection.clone()).await?;
    if mirror.items().is_empty() && is_for_people {
        say_empty::<T>(&selection);
    }
    let mut view = View::new::<T>(options);
    let mut change = Change::Relisted;
    loop {
        let mut out = output::stdout();
        match &change {
            Change::Relisted => view.relisted(mirror.items(), &mut out)?,
            Change::Put(name) => view.put(name, mirror.items().get(name), &mut out)?,
            Change::Delete(name) => view.delete::<T>(name, &mut out)?,
        }
        out.flush()?;
        drop(out);
        change = mirror.changed().await?;
    }
}

/// What was written of the objects, by their full names.
struct View<'a> {
    options: &'a ListOptions,
    table: Table,
    written: BTreeMap<String, Written>,
}

/// What was written last of an object.
struct Written {
    /// The name that commands take.
    reference: String,
    /// The row without what only the passing of time changes; empty where no rows are written.
    row: Vec<Cell>,
}

impl<'a> View<'a> {
    fn new<T: Row>(options: &'a ListOptions) -> Self {
        Self {
            options,
            table: columns::table::<T>(detail(options.output), options.namespaces()),
            written: BTreeMap::new(),
        }
    }

    /// Any of the objects may have changed.
    fn relisted<T: Row + Serialize>(
        &mut self,
        items: &BTreeMap<String, T>,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let written = self.written.keys();
        let gone: Vec<String> = written
            .filter(|n| !items.contains_key(*n))
            .cloned()
            .collect();
        gone.iter()
            .try_for_each(|name| self.delete::<T>(name, out))?;
        let mut items: Vec<(&String, &T)> = items.iter().collect();
        items.sort_by(|(_, a), (_, b)| a.compare(b));
        if self.has_rows() {
            items.retain(|(name, item)| self.is_news(name, *item));
            if items.is_empty() {
                return Ok(());
            }
            // All rows at once, so that the columns fit them all.
            let (format, namespaces) = (self.options.output, self.options.namespaces());
            let items = items.iter().map(|(_, item)| *item);
            fill(&mut self.table, format, namespaces, items);
            return Ok(self.table.write(out)?);
        }
        let mut items = items.into_iter();
        items.try_for_each(|(name, item)| self.put(name, Some(item), out))
    }

    fn put<T: Row + Serialize>(
        &mut self,
        name: &str,
        item: Option<&T>,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let Some(item) = item else {
            return Ok(());
        };
        let is_news = self.is_news(name, item);
        match self.options.output {
            ListFormat::Json => {
                output::json_line(out, &json!({ "type": "put", "object": item }))?;
            }
            ListFormat::Yaml => write!(out, "---\n{}", output::to_yaml(item))?,
            ListFormat::Name if is_news => {
                writeln!(
                    out,
                    "{}",
                    columns::reference(item, self.options.namespaces())
                )?;
            }
            ListFormat::Table | ListFormat::Wide if is_news => {
                let (format, namespaces) = (self.options.output, self.options.namespaces());
                fill(&mut self.table, format, namespaces, std::iter::once(item));
                self.table.write(out)?;
            }
            ListFormat::Name | ListFormat::Table | ListFormat::Wide => {}
        }
        Ok(())
    }

    fn delete<T: Row>(&mut self, name: &str, out: &mut impl Write) -> Result<(), Failure> {
        let written = self.written.remove(name);
        match self.options.output {
            ListFormat::Json => {
                output::json_line(out, &json!({ "type": "delete", "name": name }))?;
            }
            ListFormat::Table | ListFormat::Wide if T::MISSED => {
                let short = match self.options.namespaces() {
                    Namespaces::One => name.rsplit_once('/').map_or(name, |(_, short)| short),
                    Namespaces::All => name,
                };
                let text = format!("{short} is gone");
                writeln!(out, "{}", paint(style::DIM, text))?;
            }
            ListFormat::Name if T::MISSED => {
                if let Some(Written { reference, .. }) = written {
                    writeln!(out, "{reference} is gone")?;
                }
            }
            // A document cannot say that something is gone.
            ListFormat::Yaml | ListFormat::Name | ListFormat::Table | ListFormat::Wide => {}
        }
        Ok(())
    }

    fn has_rows(&self) -> bool {
        matches!(self.options.output, ListFormat::Table | ListFormat::Wide)
    }

    /// Notes how an object is, and tells whether that looks different from before.
    fn is_news<T: Row>(&mut self, name: &str, item: &T) -> bool {
        let (detail, namespaces) = (detail(self.options.output), self.options.namespaces());
        let row = if self.has_rows() {
            columns::cells(item, detail, namespaces, Timestamp::UNIX_EPOCH)
        } else {
            Vec::new()
        };
        let reference = columns::reference(item, namespaces);
        let now = Written { reference, row };
        let is_news = self
            .written
            .get(name)
            .is_none_or(|before| before.row != now.row);
        self.written.insert(name.to_owned(), now);
        is_news
    }
}

#[cfg(test)]
mod tests {
    use windlass_api::{event::Event, resource::Workload};

    use super::*;
    use crate::fixtures;

    fn options(output: ListFormat) -> ListOptions {
        ListOptions {
            output,
            watch: true,
            all_namespaces: false,
            labels: "".parse().unwrap(),
            fields: "".parse().unwrap(),
        }
    }

    fn text(write: impl FnOnce(&mut Vec<u8>) -> Result<(), Failure>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec()).unwrap()
    }

    #[test]
    fn a_row_is_written_when_it_is_another_one() {
        let options = options(ListFormat::Table);
        let mut view = View::new::<Workload>(&options);
        let mut web = fixtures::workload("web", 1, 2);
        let items = [("default/web".to_owned(), web.clone())].into();
        let first = text(|out| view.relisted(&items, out));
        assert_eq!(first.lines().count(), 2, "{first}");
        assert_eq!(text(|out| view.relisted(&items, out)), "");
        web.meta.version.0 += 1;
        assert_eq!(text(|out| view.put("default/web", Some(&web), out)), "");
        web.status.ready = 2;
        let changed = text(|out| view.put("default/web", Some(&web), out));
        assert!(changed.contains("2/2"), "{changed}");
        let gone = text(|out| view.relisted::<Workload>(&BTreeMap::new(), out));
        assert_eq!(gone, "web is gone\n");
    }

    #[test]
    fn names_come_once_and_go() {
        let options = options(ListFormat::Name);
        let mut view = View::new::<Workload>(&options);
        let web = fixtures::workload("web", 1, 2);
        let put = |view: &mut View<'_>| text(|out| view.put("default/web", Some(&web), out));
        assert_eq!(put(&mut view), "workload/web\n");
        assert_eq!(put(&mut view), "");
        let gone = text(|out| view.delete::<Workload>("default/web", out));
        assert_eq!(gone, "workload/web is gone\n");
        assert_eq!(put(&mut view), "workload/web\n");
    }

    #[test]
    fn a_watch_of_events_begins_in_the_order_in_which_they_happened() {
        let options = options(ListFormat::Table);
        let mut view = View::new::<Event>(&options);
        // The first one happened again; all at the same moment.
        let events = [(2, 5, "Again"), (9, 3, "First"), (10, 4, "Second")];
        let items = events.map(|(id, version, reason)| {
            let event: Event = serde_json::from_value(json!({
                "id": id, "subject": { "kind": "Cluster" }, "severity": "Normal",
                "reason": reason, "message": "it happened", "count": 1, "version": version,
                "firstAt": "2026-01-01T00:00:00Z", "lastAt": "2026-01-01T00:00:00Z",
            }))
            .unwrap();
            (id.to_string(), event)
        });
        let written = text(|out| view.relisted(&items.into(), out));
        let reasons: Vec<_> = written
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().nth(2).unwrap())
            .collect();
        assert_eq!(reasons, ["First", "Second", "Again"]);
        assert_eq!(text(|out| view.delete::<Event>("2", out)), "");
    }
}

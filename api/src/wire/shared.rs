//! Instances as they are written: each template once, however many instances are made from it.
//!
//! Those of a revision share one in memory, and a node can have hundreds of them: written with
//! each, a large template would make an assignment of hundreds of megabytes.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{AssignedInstance, ResolvedImage};
use crate::{
    ids::{ContainerName, InstanceId, RevisionNumber, Slot, WorkloadKey},
    resource::Goal,
    template::InstanceTemplate,
};

/// Instances, and what they are made from.
#[derive(Serialize, Deserialize)]
struct Written {
    templates: Vec<Arc<InstanceTemplate>>,
    items: Vec<Item>,
}

/// An instance without its template.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    id: InstanceId,
    workload: WorkloadKey,
    slot: Slot,
    revision: RevisionNumber,
    goal: Goal,
    /// The position of the template.
    template: usize,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    images: BTreeMap<ContainerName, ResolvedImage>,
}

impl<'a> FromIterator<&'a AssignedInstance> for Written {
    fn from_iter<I: IntoIterator<Item = &'a AssignedInstance>>(instances: I) -> Self {
        let mut templates = Templates::default();
        let mut shared = Vec::new();
        let items = instances.into_iter().map(|instance| {
            let AssignedInstance {
                id,
                workload,
                slot,
                revision,
                goal,
                template,
                images,
            } = instance;
            let position = templates.position(workload, *revision, template);
            if position == shared.len() {
                shared.push(Arc::clone(template));
            }
            Item {
                id: id.clone(),
                workload: workload.clone(),
                slot: *slot,
                revision: *revision,
                goal: *goal,
                template: position,
                images: images.clone(),
            }
        });
        let items = items.collect();
        Self {
            templates: shared,
            items,
        }
    }
}

impl Written {
    fn into_instances<E: de::Error>(self) -> Result<Vec<AssignedInstance>, E> {
        let Self { templates, items } = self;
        let instance = |item: Item| {
            let template = templates.get(item.template).ok_or_else(|| {
                let id = &item.id;
                E::custom(format_args!("the template of instance {id} is missing"))
            })?;
            Ok(AssignedInstance {
                id: item.id,
                workload: item.workload,
                slot: item.slot,
                revision: item.revision,
                goal: item.goal,
                template: Arc::clone(template),
                images: item.images,
            })
        };
        items.into_iter().map(instance).collect()
    }
}

/// A template with its position.
type Seen<'a> = (usize, &'a Arc<InstanceTemplate>);

/// The templates that were seen, each with its position.
#[derive(Default)]
struct Templates<'a> {
    known: BTreeMap<(&'a WorkloadKey, RevisionNumber), Vec<Seen<'a>>>,
    count: usize,
}

impl<'a> Templates<'a> {
    /// The position of a template: the next free one for a template that was not seen.
    fn position(
        &mut self,
        workload: &'a WorkloadKey,
        revision: RevisionNumber,
        template: &'a Arc<InstanceTemplate>,
    ) -> usize {
        // A revision has one template; if somebody says otherwise, nothing must get mixed up.
        let known = self.known.entry((workload, revision)).or_default();
        if let Some((position, _)) = known.iter().find(|(_, other)| *other == template) {
            return *position;
        }
        let position = self.count;
        known.push((position, template));
        self.count += 1;
        position
    }
}

/// A list of instances.
pub(super) mod list {
    use super::*;

    pub(in crate::wire) fn serialize<S: Serializer>(
        instances: &[AssignedInstance],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        instances.iter().collect::<Written>().serialize(serializer)
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<AssignedInstance>, D::Error> {
        Written::deserialize(deserializer)?.into_instances()
    }
}

/// Instances by their ids.
pub(super) mod map {
    use super::*;

    pub(in crate::wire) fn serialize<S: Serializer>(
        instances: &BTreeMap<InstanceId, AssignedInstance>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        instances
            .values()
            .collect::<Written>()
            .serialize(serializer)
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<InstanceId, AssignedInstance>, D::Error> {
        let instances = Written::deserialize(deserializer)?.into_instances()?;
        Ok(instances.into_iter().map(|i| (i.id.clone(), i)).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{resource::Manifest, wire::Assignment};

    fn template(image: &str) -> Arc<InstanceTemplate> {
        let manifest = json!({ "kind": "Service", "name": "web", "spec": { "image": image } });
        Arc::new(Manifest::from_json(manifest).unwrap().spec.template(0))
    }

    fn instance(slot: u32, revision: u32, template: &Arc<InstanceTemplate>) -> AssignedInstance {
        AssignedInstance {
            id: format!("web-{slot}-1").parse().unwrap(),
            workload: "default/web".parse().unwrap(),
            slot: Slot(slot),
            revision: RevisionNumber(revision),
            goal: Goal::Run,
            template: Arc::clone(template),
            images: BTreeMap::new(),
        }
    }

    #[test]
    fn a_template_is_written_once_and_shared_again_when_read() {
        let (a, b) = (template("a:1"), template("b:1"));
        let instances = [instance(0, 1, &a), instance(1, 2, &b), instance(2, 1, &a)];
        let assignment = Assignment {
            instances: instances.into_iter().map(|i| (i.id.clone(), i)).collect(),
            ..Assignment::default()
        };
        let text = serde_json::to_string(&assignment).unwrap();
        assert_eq!(text.matches("a:1").count(), 1, "{text}");
        let read: Assignment = serde_json::from_str(&text).unwrap();
        assert_eq!(read, assignment);
        let templates: Vec<_> = read.instances.values().map(|i| &i.template).collect();
        assert!(Arc::ptr_eq(templates[0], templates[2]));
    }

    #[test]
    fn two_templates_under_one_number_are_kept_apart() {
        let instances = [
            instance(0, 1, &template("a:1")),
            instance(1, 1, &template("b:1")),
        ];
        let assignment = Assignment {
            instances: instances.into_iter().map(|i| (i.id.clone(), i)).collect(),
            ..Assignment::default()
        };
        let text = serde_json::to_string(&assignment).unwrap();
        let read: Assignment = serde_json::from_str(&text).unwrap();
        assert_eq!(read, assignment);
    }

    #[test]
    fn an_instance_without_its_template_is_refused() {
        let text = r#"{ "generation": 1, "instances": { "templates": [], "items": [
            { "id": "web-0-1", "workload": "default/web", "slot": 0, "revision": 1, "goal": "Run",
              "template": 0 }] } }"#;
        let error = serde_json::from_str::<Assignment>(text).unwrap_err();
        assert!(error.to_string().contains("web-0-1"), "{error}");
    }
}

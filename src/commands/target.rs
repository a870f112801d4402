//! The one instance that a command reaches into.

use windlass_api::{
    client::Selection,
    ids::{InstanceId, Namespace, WorkloadKey, WorkloadName},
    problem::Code,
    resource::{Goal, Instance},
};

use super::Context;
use crate::{
    cli::Named,
    error::{Exit, Failure},
    output,
};

/// The instance that a command reaches into.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) namespace: Namespace,
    pub(super) id: InstanceId,
}

impl Target {
    /// The instance of that name, or the first running one of the workload of that name, which is
    /// then said.
    pub(super) async fn find(
        context: &Context,
        named: &Named<InstanceId>,
    ) -> Result<Self, Failure> {
        let namespace = named.namespace(&context.namespace);
        if let Ok(name) = named.name.as_str().parse::<WorkloadName>() {
            let key = WorkloadKey::new(namespace.clone(), name);
            match context.client.workload(&key).await {
                Ok(_) => return Self::first_of(context, &key).await,
                Err(error) if error.code() == Some(Code::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match context.client.instance(&namespace, &named.name).await {
            Ok(instance) => Ok(Self {
                namespace,
                id: instance.name,
            }),
            Err(error) if error.code() == Some(Code::NotFound) => {
                let name = &named.name;
                let detail = format!("no workload or instance {name} in namespace {namespace}");
                Err(Failure::new(Exit::NotFound, detail)
                    .hint("see what there is with `windlass get instances -A`"))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn first_of(context: &Context, key: &WorkloadKey) -> Result<Self, Failure> {
        let selection = Selection::of(&key.namespace).field("workload", &key.name);
        let mut list = context.client.list::<Instance>(&selection).await?.items;
        list.sort_by_key(|instance| (instance.slot, instance.revision));
        let runs = |instance: &&Instance| {
            instance.status.phase.is_running() && instance.goal == Goal::Run && !instance.node_lost
        };
        let Some(first) = list.iter().find(runs) else {
            let detail = format!("no instance of {key} runs");
            let hint = format!(
                "see why with `windlass describe workload {} -n {}`",
                key.name, key.namespace
            );
            return Err(Failure::new(Exit::Failed, detail).hint(hint));
        };
        output::say(&format!("using instance {}", first.name));
        Ok(Self {
            namespace: key.namespace.clone(),
            id: first.name.clone(),
        })
    }
}

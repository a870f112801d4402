//! Writes down what is worth keeping over a restart, but not worth waiting for.

use std::{sync::Arc, time::Duration};

use tokio::{task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    board::Board,
    data_dir::{DataDir, Identity},
    history::Histories,
    probe::Memory,
    state_file,
};

/// How long to gather changes: a burst of starts is one write, and what a crash of the agent
/// loses is at most a second's restarts that were counted.
pub(crate) const GATHER: Duration = Duration::from_secs(1);

/// Writes changes down until `shutdown`, and once more then.
pub(crate) async fn keep(
    data: Arc<DataDir>,
    mut identity: Identity,
    board: Arc<Board>,
    shutdown: CancellationToken,
) {
    let mut machine = board.machine.subscribe();
    let mut histories = board.histories.subscribe();
    let mut health = board.health_memory.subscribe();
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => {}
            Ok(()) = machine.changed() => {}
            Ok(()) = histories.changed() => {}
            Ok(()) = health.changed() => {}
        }
        // A shutdown that comes meanwhile does not wait.
        let _ = shutdown.run_until_cancelled(sleep(GATHER)).await;
        identity.machine.clone_from(&machine.borrow_and_update());
        let now = Memories {
            identity: identity.clone(),
            histories: histories.borrow_and_update().clone(),
            health: health.borrow_and_update().clone(),
        };
        let data = Arc::clone(&data);
        let written = spawn_blocking(move || write(&data, now)).await;
        match written.expect("writing does not panic") {
            Ok(()) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    error,
                    "the agent's memory of its instances cannot be written down"
                );
            }
        }
    }
}

/// What is written down.
struct Memories {
    identity: Identity,
    histories: Histories,
    health: Memory,
}

fn write(data: &DataDir, memories: Memories) -> Result<(), state_file::Error> {
    data.write_identity(&memories.identity)?;
    data.write_histories(&memories.histories)?;
    data.write_health_memory(&memories.health)
}

//! Shows how all workloads are, without an end.

use std::time::Duration;

use tokio::time::{self, MissedTickBehavior};
use windlass_api::{
    client::{Change, Client, Mirror, Selection},
    resource::{Instance, Workload},
};

use super::{Display, Scene, Target, Until, clock::ServerClock, scene};
use crate::error::Failure;

/// How often a live area is drawn again although nothing happened: its spinner may turn slowly
/// when somebody looks at it all day.
const DRAW_EVERY: Duration = Duration::from_secs(1);

/// Shows how all workloads are, until it is dropped.
///
/// # Errors
/// If the server is away for too long.
pub(crate) async fn follow(client: &Client, display: &mut Display) -> Result<(), Failure> {
    let mut workloads = Mirror::<Workload>::open(client, Selection::all()).await?;
    let mut instances = Mirror::<Instance>::open(client, Selection::all()).await?;
    let clock = ServerClock::read(client).await?;
    let mut draw = time::interval(DRAW_EVERY);
    draw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    begin(display, &scene(&workloads, &instances, &clock))?;
    loop {
        // Both mirrors lose nothing when they are dropped here, nor does a tick.
        tokio::select! {
            change = workloads.changed() => {
                change?;
                begin(display, &scene(&workloads, &instances, &clock))?;
            }
            change = instances.changed() => match change? {
                Change::Put(name) | Change::Delete(name) => {
                    display.instance_changed(&name, &scene(&workloads, &instances, &clock))?;
                }
                Change::Relisted => display.relisted(&scene(&workloads, &instances, &clock))?,
            },
            _ = draw.tick() => {}
        }
        display.draw(&scene(&workloads, &instances, &clock))?;
    }
}

/// Shows every workload that there is now.
fn begin(display: &mut Display, scene: &Scene<'_>) -> Result<(), Failure> {
    let targets: Vec<Target> = scene.workloads.values().map(Target::of).collect();
    Ok(display.begin(&targets, Until::Settled, scene)?)
}

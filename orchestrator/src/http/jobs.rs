//! Jobs that are run by hand.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use windlass_api::resource::RunJob;

use super::{
    Api,
    parameters::PathParameters,
    workloads::{after, made_at},
    write::WriteRequest,
};
use crate::{controller::Write, error::Error};

/// Runs the template of a job or of a schedule once more, as a job of its own.
pub(super) async fn run(
    State(api): State<Arc<Api>>,
    path: PathParameters,
    request: WriteRequest,
) -> Result<Response, Error> {
    let key = path.workload()?;
    let run: RunJob = request.json()?;
    let write = Write::RunJob(key, Box::new(run));
    let written = api.handle.write(write, request.idempotency).await?;
    let [made] = written.results.as_slice() else {
        unreachable!("a run makes one job, and its repetition remembers it");
    };
    let job = after(&written.cluster, &made.key)?;
    Ok(made_at(&made.key, &job))
}

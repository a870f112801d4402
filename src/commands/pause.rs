//! `windlass pause`: holds the network that the containers of an instance share.
//!
//! As the first process of its container it would not be ended by a signal that it does not wait
//! for. It has no children, and adopts none: the others have process namespaces of their own.

use tokio::runtime::Builder;

use super::{block_on, process};
use crate::error::Failure;

pub(crate) fn run() -> Result<(), Failure> {
    block_on(Builder::new_current_thread(), async {
        process::asked_to_stop()?.await;
        Ok(())
    })
}

//! Agents are let in one after the other, for each node: only so does everybody who comes know whether
//! another one speaks for it.

use std::sync::Arc;

use windlass_api::ids::NodeName;

use super::{Registration, Sessions};

/// The way in for one agent. The next one of its node waits until this is dropped.
#[derive(Debug)]
pub(crate) struct Door {
    sessions: Arc<Sessions>,
    node: NodeName,
}

impl Sessions {
    /// Waits until no other agent is being let in for a node.
    pub(crate) async fn enter(self: &Arc<Self>, node: &NodeName) -> Door {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            // Before it is looked, so that nobody leaves unnoticed.
            left.as_mut().enable();
            if self.lock().entering.insert(node.clone()) {
                return Door {
                    sessions: Arc::clone(self),
                    node: node.clone(),
                };
            }
            left.await;
        }
    }
}

impl Door {
    /// Whether an agent is connected that speaks for the node.
    pub(crate) fn is_taken(&self) -> bool {
        self.sessions.is_connected(&self.node)
    }

    /// Lets the agent in.
    pub(crate) fn register(self) -> Registration {
        self.sessions.register(&self.node)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.sessions.lock().entering.remove(&self.node);
        self.sessions.left.notify_waiters();
    }
}

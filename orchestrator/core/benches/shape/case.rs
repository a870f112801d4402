//! How large a cluster is measured, as the benchmarks name it.

use std::fmt;

/// A number of nodes, and of instances that are there or come.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) nodes: usize,
    pub(crate) instances: usize,
}

impl Case {
    pub(crate) const fn new(nodes: usize, instances: usize) -> Self {
        Self { nodes, instances }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!(
            "{} instances on {} nodes",
            self.instances, self.nodes
        ))
    }
}

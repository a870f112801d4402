//! Why no node fits.

use std::{collections::BTreeMap, fmt};

use super::filter::{Filter, Offer, Rejection};

/// Why no node can take an instance: how many nodes failed which filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// How many nodes there are.
    pub nodes: usize,
    /// Those that failed each filter. A node counts for the first that it failed.
    pub failed: BTreeMap<Filter, Failure>,
}

/// The nodes that failed one filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How many they are.
    pub nodes: usize,
    /// What is wrong with them; it reads on from the number.
    pub detail: String,
}

impl Explanation {
    /// Asks all filters about all nodes.
    pub(super) fn of<'a>(offers: impl Iterator<Item = Offer<'a>>) -> Self {
        let mut nodes = 0;
        let mut failed: BTreeMap<Filter, (usize, Rejection<'_>)> = BTreeMap::new();
        for offer in offers {
            nodes += 1;
            if let Some((filter, rejection)) = offer.rejection() {
                failed
                    .entry(filter)
                    .and_modify(|(count, all)| (*count, *all) = (*count + 1, rejection.and(*all)))
                    .or_insert((1, rejection));
            }
        }
        let failed = failed.into_iter().map(|(filter, (nodes, rejection))| {
            let detail = rejection.to_string();
            (filter, Failure { nodes, detail })
        });
        Self {
            nodes,
            failed: failed.collect(),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no node has joined the cluster yet");
        }
        let failed: usize = self.failed.values().map(|failure| failure.nodes).sum();
        write!(f, "{} of {} nodes fit", self.nodes - failed, self.nodes)?;
        for (i, failure) in self.failed.values().enumerate() {
            let separator = if i == 0 { ": " } else { ", " };
            write!(f, "{separator}{} {}", failure.nodes, failure.detail)?;
        }
        Ok(())
    }
}

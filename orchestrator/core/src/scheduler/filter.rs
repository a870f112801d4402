//! Filters: what a node must meet to take an instance.
//!
//! To add one: a variant of [`Filter`] at its place in the order, its question in
//! [`Filter::rejects`], and what there is to say about it as a variant of [`Rejection`].

use std::fmt;

use windlass_api::{
    expression::{Requirement, Taint},
    quantity::{CpuMillis, MemoryBytes},
    resource::Scheduling,
    spec::Placement,
    status::NodeState,
};

use super::{
    standing::Standing,
    table::{Demand, Holder, HostPort, HostPorts, Node},
};

/// The filters, in the order in which a node is asked: first what rules it out for all, then for
/// this workload for good, then for the moment. A node counts for the first that it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// Its agent is heard from.
    Lost,
    /// Its Docker engine answers.
    RuntimeUnhealthy,
    /// No operator has cordoned it.
    Cordon,
    /// It does not drain.
    Drain,
    /// Every taint of the node is tolerated.
    Taints,
    /// It meets the required expressions.
    Require,
    /// It has enough cpu that is not set aside.
    Cpu,
    /// It has enough memory that is not set aside.
    Memory,
    /// The host ports are free on its Docker engine, which it may share with other nodes.
    HostPorts,
    /// It has fewer instances of the workload than are allowed on one node.
    MaxPerNode,
}

/// Why a filter rejects a node, or several: a detail that is not the same for all is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection<'a> {
    Lost,
    RuntimeUnhealthy,
    Cordoned,
    Draining,
    Tainted(Option<&'a Taint>),
    Unmet(Option<&'a Requirement>),
    /// Too little cpu, on the node that has most.
    Cpu {
        wanted: CpuMillis,
        free: CpuMillis,
    },
    /// Too little memory, on the node that has most.
    Memory {
        wanted: MemoryBytes,
        free: MemoryBytes,
    },
    PortTaken {
        port: Option<HostPort>,
        holder: Option<&'a Holder>,
    },
    MaxPerNode(u32),
}

/// What filters look at: a node, and what is to go there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer<'a> {
    pub(super) node: &'a Node,
    /// The occupied host ports of the node's engine.
    pub(super) ports: &'a HostPorts,
    /// How the workload stands on the node.
    pub(super) standing: Standing,
    pub(super) demand: &'a Demand,
    pub(super) placement: &'a Placement,
}

impl Filter {
    /// All filters, in their order.
    pub const ALL: [Self; 10] = [
        Self::Lost,
        Self::RuntimeUnhealthy,
        Self::Cordon,
        Self::Drain,
        Self::Taints,
        Self::Require,
        Self::Cpu,
        Self::Memory,
        Self::HostPorts,
        Self::MaxPerNode,
    ];

    /// Why the node fails the filter, if it does.
    pub(super) fn rejects<'a>(self, offer: &Offer<'a>) -> Option<Rejection<'a>> {
        let Offer {
            node,
            ports,
            standing,
            demand,
            placement,
        } = *offer;
        let record = &node.record;
        #[cfg(feature = "mutants")]
        match self {
            Self::Cordon if windlass_api::mutants::Mutant::IgnoredCordon.is_on() => return None,
            Self::Cpu | Self::Memory if windlass_api::mutants::Mutant::EndlessRoom.is_on() => {
                return None;
            }
            _ => {}
        }
        match self {
            Self::Lost => record.is_out_of_sight().then_some(Rejection::Lost),
            Self::RuntimeUnhealthy => matches!(record.state, NodeState::RuntimeUnhealthy { .. })
                .then_some(Rejection::RuntimeUnhealthy),
            Self::Cordon => {
                (record.scheduling == Scheduling::Cordoned).then_some(Rejection::Cordoned)
            }
            Self::Drain => matches!(record.scheduling, Scheduling::Draining { .. })
                .then_some(Rejection::Draining),
            Self::Taints => {
                let tolerated = |taint: &Taint| placement.tolerate.iter().any(|t| t.covers(taint));
                let taint = record.taints.iter().find(|taint| !tolerated(taint))?;
                Some(Rejection::Tainted(Some(taint)))
            }
            Self::Require => {
                let facts = record.facts();
                let unmet = placement.require.iter().find(|r| !r.is_met_by(facts))?;
                Some(Rejection::Unmet(Some(unmet)))
            }
            Self::Cpu => {
                let (wanted, free) = (demand.requests.cpu, node.free().cpu);
                (wanted > free).then_some(Rejection::Cpu { wanted, free })
            }
            Self::Memory => {
                let (wanted, free) = (demand.requests.memory, node.free().memory);
                (wanted > free).then_some(Rejection::Memory { wanted, free })
            }
            Self::HostPorts => {
                let taken = |port: &HostPort| Some((*port, ports.get(port)?));
                let (port, holders) = demand.ports.iter().find_map(taken)?;
                let holder = if let [only] = holders.as_slice() {
                    Some(only)
                } else {
                    None
                };
                Some(Rejection::PortTaken {
                    port: Some(port),
                    holder,
                })
            }
            Self::MaxPerNode => {
                let max = placement.max_per_node?;
                (standing.instances >= max).then_some(Rejection::MaxPerNode(max))
            }
        }
    }
}

impl Offer<'_> {
    /// Whether the node passes every filter.
    pub(super) fn fits(&self) -> bool {
        self.rejection().is_none()
    }
}

impl<'a> Offer<'a> {
    /// The first filter that the node fails, and why.
    pub(super) fn rejection(&self) -> Option<(Filter, Rejection<'a>)> {
        Filter::ALL
            .iter()
            .find_map(|filter| Some((*filter, filter.rejects(self)?)))
    }
}

impl Rejection<'_> {
    /// What can be said of the nodes of both, which the same filter rejected.
    #[must_use]
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Tainted(a), Self::Tainted(b)) => Self::Tainted(same(a, b)),
            (Self::Unmet(a), Self::Unmet(b)) => Self::Unmet(same(a, b)),
            (Self::Cpu { wanted, free: a }, Self::Cpu { free: b, .. }) => Self::Cpu {
                wanted,
                free: a.max(b),
            },
            (Self::Memory { wanted, free: a }, Self::Memory { free: b, .. }) => Self::Memory {
                wanted,
                free: a.max(b),
            },
            (
                Self::PortTaken {
                    port: a,
                    holder: by_a,
                },
                Self::PortTaken {
                    port: b,
                    holder: by_b,
                },
            ) => Self::PortTaken {
                port: same(a, b),
                holder: same(by_a, by_b),
            },
            (this, _) => this,
        }
    }
}

fn same<T: PartialEq>(a: Option<T>, b: Option<T>) -> Option<T> {
    if a == b { a } else { None }
}

/// Reads on from a number of nodes.
impl fmt::Display for Rejection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("lost"),
            Self::RuntimeUnhealthy => f.write_str("whose Docker engine does not answer"),
            Self::Cordoned => f.write_str("cordoned"),
            Self::Draining => f.write_str("draining"),
            Self::Tainted(Some(taint)) => write!(f, "with the taint `{taint}`"),
            Self::Tainted(None) => f.write_str("with taints that are not tolerated"),
            Self::Unmet(Some(requirement)) => write!(f, "not meeting `{requirement}`"),
            Self::Unmet(None) => f.write_str("not meeting the required expressions"),
            Self::Cpu { wanted, free } => {
                write!(
                    f,
                    "without enough cpu ({wanted} wanted, at most {free} free)"
                )
            }
            Self::Memory { wanted, free } => {
                let (wanted, free) = (rounded_up(*wanted), rounded_down(*free));
                write!(
                    f,
                    "without enough memory ({wanted} wanted, at most {free} free)"
                )
            }
            Self::PortTaken {
                port: Some(port),
                holder: Some(holder),
            } => {
                write!(f, "with host port {port} taken by {holder}")
            }
            Self::PortTaken {
                port: Some(port),
                holder: None,
            } => {
                write!(f, "with host port {port} taken")
            }
            Self::PortTaken { port: None, .. } => f.write_str("with a host port taken"),
            Self::MaxPerNode(max) => write!(f, "at the limit of {max} per node"),
        }
    }
}

/// The amount with one decimal, not less than it is: what is wanted never looks like what is free.
fn rounded_up(amount: MemoryBytes) -> String {
    in_tenths(amount.0, |scaled, unit| scaled.div_ceil(unit))
}

/// The amount with one decimal, not more than it is.
fn rounded_down(amount: MemoryBytes) -> String {
    in_tenths(amount.0, |scaled, unit| scaled / unit)
}

fn in_tenths(bytes: u64, divide: fn(u128, u128) -> u128) -> String {
    let units = [
        ("Ti", 1_u64 << 40),
        ("Gi", 1 << 30),
        ("Mi", 1 << 20),
        ("Ki", 1 << 10),
    ];
    let Some((name, unit)) = units.into_iter().find(|(_, unit)| bytes >= *unit) else {
        return bytes.to_string();
    };
    let tenths = divide(u128::from(bytes) * 10, u128::from(unit));
    match tenths % 10 {
        0 => format!("{}{name}", tenths / 10),
        tenth => format!("{}.{tenth}{name}", tenths / 10),
    }
}

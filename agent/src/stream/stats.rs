//! What the node and its instances use: two readings, and what lies between them. Nothing is kept,
//! so nothing is spent while nobody looks.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep},
};
use windlass_api::{
    ids::{ClusterId, InstanceId, Namespace, NodeName},
    quantity::{CpuMillis, MemoryBytes},
    resource::Capacity,
    socket::{Incoming, Outgoing},
    stats::{InstanceUsage, NodeUsage, Traffic, Usage},
};

use super::Trouble;
use crate::{
    board::Machine,
    reach::{Consumption, Reach},
    runtime::{ContainerId, Owner},
};

/// The time between the two readings: long enough for the kernel's own clock for CPU time, which
/// has 100 ticks a second, to tell a percent; short enough for a person to wait.
const BETWEEN: Duration = Duration::from_millis(1_000);

/// One reading.
struct Reading {
    at: Instant,
    machine: machine::Reading,
    containers: BTreeMap<ContainerId, Consumption>,
}

/// Measures what the node and its instances use.
pub(super) async fn measure<R: Reach>(
    runtime: &R,
    cluster: Option<ClusterId>,
    node: &NodeName,
    machine: Option<Machine>,
) -> Result<NodeUsage, String> {
    let (Some(cluster), Some(machine)) = (cluster, machine) else {
        return Err("the agent has not seen its container engine yet".to_owned());
    };
    let owner = Owner {
        cluster,
        node: node.clone(),
    };
    let before = read(runtime, &owner).await?;
    sleep(BETWEEN).await;
    let after = read(runtime, &owner).await?;
    Ok(usage(&before, &after, machine.capacity))
}

/// Sends the answer.
pub(super) async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    usage: &NodeUsage,
    (mut outgoing, incoming): (Outgoing<S>, Incoming<S>),
) -> Result<(), Trouble> {
    let json = serde_json::to_vec(usage).expect("statistics are valid JSON");
    outgoing.whole(Bytes::from(json)).await?;
    Ok(outgoing.close(incoming).await?)
}

async fn read<R: Reach>(runtime: &R, owner: &Owner) -> Result<Reading, String> {
    let containers = runtime.consumption(owner).await;
    let containers = containers.map_err(|error| error.to_string())?;
    Ok(Reading {
        at: Instant::now(),
        machine: machine::Reading::take(),
        containers: containers.into_iter().map(|c| (c.id.clone(), c)).collect(),
    })
}

fn usage(before: &Reading, after: &Reading, capacity: Capacity) -> NodeUsage {
    let elapsed = after.at - before.at;
    let mut instances: BTreeMap<(Namespace, InstanceId), Usage> = BTreeMap::new();
    for (id, now) in &after.containers {
        // One that was started in between is measured from its start, which is about as long.
        let earlier = before.containers.get(id);
        let used = of_container(earlier, now, elapsed);
        let key = (now.namespace.clone(), now.instance.clone());
        let sum = instances.entry(key).or_default();
        *sum = sum.plus(used);
    }
    let all = instances.values().fold(Usage::default(), |a, b| a.plus(*b));
    NodeUsage {
        machine: Usage {
            cpu: CpuMillis(after.machine.busy_millis_since(&before.machine, elapsed)),
            memory: MemoryBytes(after.machine.memory_bytes),
            ..all
        },
        capacity,
        instances: instances
            .into_iter()
            .map(|((namespace, name), usage)| InstanceUsage {
                name,
                namespace,
                usage,
            })
            .collect(),
    }
}

fn of_container(earlier: Option<&Consumption>, now: &Consumption, elapsed: Duration) -> Usage {
    let grown =
        |now: u64, before: fn(&Consumption) -> u64| now.saturating_sub(earlier.map_or(0, before));
    let traffic = |bytes: u64, before: fn(&Consumption) -> u64| Traffic {
        bytes,
        bytes_per_second: per_second(grown(bytes, before), elapsed),
    };
    // Nanoseconds of CPU in a second, as thousandths of a core.
    let cpu = per_second(grown(now.cpu_ns, |c| c.cpu_ns), elapsed) / 1_000_000;
    Usage {
        cpu: CpuMillis(cpu),
        memory: MemoryBytes(now.memory_bytes),
        received: traffic(now.received_bytes, |c| c.received_bytes),
        sent: traffic(now.sent_bytes, |c| c.sent_bytes),
    }
}

fn per_second(amount: u64, elapsed: Duration) -> u64 {
    let millis = elapsed.as_millis().max(1);
    u64::try_from(u128::from(amount) * 1_000 / millis).unwrap_or(u64::MAX)
}

mod machine {
    //! The machine as its kernel tells of it, in a container, too.

    use std::{fs, time::Duration};

    /// How long a tick of the kernel's accounts is for programs, in milliseconds: 100 in a second
    /// on every system that Docker runs on.
    const TICK_MILLIS: u64 = 10;

    /// What the kernel tells. What it does not tell is zero.
    #[derive(Debug, Default, PartialEq, Eq)]
    pub(super) struct Reading {
        busy_ticks: u64,
        pub(super) memory_bytes: u64,
    }

    impl Reading {
        pub(super) fn take() -> Self {
            let text = |path| fs::read_to_string(path).unwrap_or_default();
            Self::of(&text("/proc/stat"), &text("/proc/meminfo"))
        }

        pub(super) fn of(stat: &str, meminfo: &str) -> Self {
            Self {
                busy_ticks: busy_ticks(stat).unwrap_or_default(),
                memory_bytes: memory_bytes(meminfo).unwrap_or_default(),
            }
        }

        /// The thousandths of a core that were busy since an earlier reading.
        pub(super) fn busy_millis_since(&self, earlier: &Self, elapsed: Duration) -> u64 {
            let ticks = self.busy_ticks.saturating_sub(earlier.busy_ticks);
            super::per_second(ticks * TICK_MILLIS, elapsed)
        }
    }

    /// `cpu  user nice system idle iowait irq softirq steal ...`: all but the two in which nothing
    /// is done. Guests are counted as users already.
    fn busy_ticks(stat: &str) -> Option<u64> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line
            .split_whitespace()
            .take(8)
            .map_while(|word| word.parse().ok())
            .collect();
        let idle = ticks.get(3)? + ticks.get(4)?;
        Some(ticks.iter().sum::<u64>().saturating_sub(idle))
    }

    fn memory_bytes(meminfo: &str) -> Option<u64> {
        let kilobytes = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        };
        let used = kilobytes("MemTotal:")?.checked_sub(kilobytes("MemAvailable:")?)?;
        Some(used * 1024)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_machine_is_as_busy_as_its_kernel_says() {
            let meminfo = "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   400 kB\n";
            let before = Reading::of("cpu  10 0 10 500 5 0 0 0 0 0\ncpu0 1\n", meminfo);
            let after = Reading::of("cpu  60 0 50 610 5 0 10 0 0 0\ncpu0 1\n", meminfo);
            assert_eq!(after.memory_bytes, 600 * 1024);
            let busy = after.busy_millis_since(&before, Duration::from_secs(1));
            assert_eq!(busy, 1_000);
            assert_eq!(Reading::of("", "nothing"), Reading::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::id;

    fn consumption(container: &str, instance: &str, cpu_ns: u64, bytes: u64) -> Consumption {
        Consumption {
            id: ContainerId(container.to_owned()),
            instance: id(instance),
            namespace: Namespace::default(),
            cpu_ns,
            memory_bytes: 100,
            received_bytes: bytes,
            sent_bytes: 0,
        }
    }

    fn reading(at: Instant, containers: Vec<Consumption>) -> Reading {
        Reading {
            at,
            machine: machine::Reading::default(),
            containers: containers.into_iter().map(|c| (c.id.clone(), c)).collect(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_uses_what_its_containers_use() {
        let at = Instant::now();
        let before = reading(
            at,
            vec![
                consumption("a", "web-0-1", 1_000_000_000, 50),
                consumption("b", "web-0-1", 0, 0),
                consumption("gone", "web-1-2", 7, 7),
            ],
        );
        let after = reading(
            at + Duration::from_secs(2),
            vec![
                consumption("a", "web-0-1", 2_000_000_000, 250),
                consumption("b", "web-0-1", 1_000_000_000, 0),
                // The counters of a container that was restarted begin anew.
                consumption("new", "web-2-3", 0, 10),
            ],
        );
        let used = usage(&before, &after, Capacity::default());
        let [first, second] = &used.instances[..] else {
            panic!("{used:?}")
        };
        assert_eq!(first.usage.cpu, CpuMillis(1_000));
        assert_eq!(first.usage.memory, MemoryBytes(200));
        assert_eq!(first.usage.received.bytes, 250);
        assert_eq!(first.usage.received.bytes_per_second, 100);
        assert_eq!(second.name, id("web-2-3"));
        assert_eq!(used.machine.received.bytes, 260);
    }
}

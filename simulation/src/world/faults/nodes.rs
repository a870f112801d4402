//! Agents that die, engines that hang, machines that lose their power.

use std::time::Duration;

use windlass_api::{
    ids::NodeName,
    resource::Goal,
    status::{Exit, InstanceStatus, Phase},
    wire::{Observed, ObservedInstance, Scope},
};
use windlass_orchestrator::controller::AgentReport;

use super::{
    super::{Event, World},
    Wound,
};
use crate::{checker::FORGED_EXIT, coverage::Fault, engine::Health};

impl World {
    pub(super) fn break_agent(&mut self, node: &NodeName) {
        match self.random.below(10) {
            0 => {
                self.coverage.fired(Fault::AgentDiskFull);
                if let Some(machine) = self.machines.get(node) {
                    machine.disk.fill();
                }
                let time = self.random.millis(1_000, 20_000);
                self.after(time, Event::Mend(Wound::AgentDisk(node.clone())));
            }
            1 => {
                self.coverage.fired(Fault::AgentDiskLost);
                let time = self.random.millis(100, 15_000);
                self.lose_agent_disk(node, time);
            }
            _ => {
                self.coverage.fired(Fault::AgentCrash);
                self.agent_dies(node);
                let time = match self.random.below(3) {
                    0 => self.random.millis(10_000, 40_000),
                    _ => self.random.millis(10, 3_000),
                };
                self.after(time, Event::AgentStart(node.clone()));
            }
        }
    }

    /// An agent's data directory is emptied, and it is started again after a time.
    pub(crate) fn lose_agent_disk(&mut self, node: &NodeName, time: Duration) {
        self.agent_dies(node);
        if let Some(machine) = self.machines.get_mut(node) {
            machine.disk.wipe();
            machine.held = None;
        }
        self.after(time, Event::AgentStart(node.clone()));
    }

    pub(super) fn break_engine(&mut self, node: &NodeName) {
        self.hurt(node);
        let time = self.random.millis(1_000, 30_000);
        let health = match self.random.below(4) {
            0 => {
                self.coverage.fired(Fault::EngineHangs);
                Health::Hangs
            }
            1 => {
                self.coverage.fired(Fault::EngineSlow);
                Health::Slow
            }
            2 => {
                self.coverage.fired(Fault::EngineRestart);
                self.end_all(node);
                Health::Down
            }
            _ => {
                self.coverage.fired(Fault::EventsLost);
                let engine = self.engines.get_mut(node).expect("every node has one");
                engine.loses_events = true;
                self.after(time, Event::Mend(Wound::Events(node.clone())));
                return;
            }
        };
        self.note(format_args!("the engine of {node}: {health:?}"));
        let engine = self.engines.get_mut(node).expect("every node has one");
        engine.health = health;
        self.after(time, Event::Mend(Wound::Engine(node.clone())));
    }

    /// A machine loses its power, and with it all that ran on it.
    pub(super) fn break_power(&mut self, node: &NodeName) {
        self.coverage.fired(Fault::PowerLost);
        self.note(format_args!("{node} loses its power"));
        self.agent_dies(node);
        self.calls.retain(|_, call| call.node != *node);
        self.end_all(node);
        let now = self.now;
        if let Some(machine) = self.machines.get_mut(node) {
            machine.boot += 1;
            machine.clock.since = now;
        }
        let time = self.random.millis(1_000, 30_000);
        self.after(time, Event::AgentStart(node.clone()));
    }

    /// Every container of a node ends.
    fn end_all(&mut self, node: &NodeName) {
        let wall = self.wall_of(node);
        let engine = self.engines.get_mut(node).expect("every node has one");
        let running: Vec<_> = engine.running().map(|c| c.id.clone()).collect();
        for id in running {
            engine.end(&id, 137, wall);
        }
    }

    pub(super) fn end_a_container(&mut self, node: &NodeName) {
        let engine = self.engines.get(node).expect("every node has one");
        let running: Vec<_> = engine
            .running()
            .filter_map(|c| Some((c.id.clone(), c.run()?)))
            .collect();
        if running.is_empty() {
            return;
        }
        let (id, run) = self.random.pick(&running).clone();
        let seen = self.machines.get(node).is_some_and(|m| m.agent.is_some());
        self.coverage.fired(if seen {
            Fault::ContainerDies
        } else {
            Fault::ContainerDiesUnseen
        });
        self.container_ends(node, &id, run, 137);
    }

    /// An agent says of another node's instances that they failed, and are gone.
    pub(super) fn forge_report(&mut self, node: &NodeName) {
        let Some(state) = self.server.as_ref().map(|p| p.server.state()) else {
            return;
        };
        let foreign = state
            .instances
            .values()
            .filter(|i| i.node.as_ref() != Some(node));
        let foreign: Vec<_> = foreign.filter(|i| i.node.is_some()).collect();
        if foreign.is_empty() {
            return;
        }
        self.coverage.fired(Fault::ForeignReport);
        let instance = self.random.pick(&foreign);
        let mut status = InstanceStatus::new(Phase::Failed {
            reason: "forged".to_owned(),
        });
        status.last_exit = Some(Exit {
            code: FORGED_EXIT,
            oom_killed: false,
            reason: None,
            finished_at: self.server_wall(),
        });
        let gone = foreign
            .iter()
            .filter(|i| i.goal == Goal::Stop)
            .map(|i| i.id.clone());
        let observed = Observed {
            scope: Scope::Delta,
            instances: vec![ObservedInstance {
                id: instance.id.clone(),
                status,
            }],
            gone: gone.filter(|id| *id != instance.id).collect(),
            generation: state.generation(instance.node.as_ref().unwrap_or(node)),
        };
        self.forge(node.clone(), AgentReport::Observed(observed));
    }
}

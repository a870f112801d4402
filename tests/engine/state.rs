//! What a pretended engine has, and what calls do to it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    answer::{Answer, done, json, listed, refused, said, told},
    call::{ApiVersion, Call, Request},
    events::{Event, Telling, Wanted},
};

/// The version of the API that is spoken, and the oldest that is understood: those of the engine
/// that the fake is compared with.
pub(crate) const API: (ApiVersion, ApiVersion) = ((1, 41), (1, 12));

/// Who made something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    /// Whoever calls over the socket: an agent.
    Agent,
    /// Somebody else. No agent may touch it.
    Somebody,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Life {
    Created,
    Running {
        started: Timestamp,
    },
    Exited {
        started: Timestamp,
        finished: Timestamp,
        code: i64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) maker: Maker,
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) network: String,
    pub(crate) address: String,
    pub(crate) life: Life,
}

impl Container {
    pub(crate) fn runs(&self) -> bool {
        matches!(self.life, Life::Running { .. })
    }

    /// What tests call it: the instance that it belongs to, or its name if it is nobody's.
    pub(crate) fn called(&self) -> &str {
        self.labels.get("windlass.instance").unwrap_or(&self.name)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) id: String,
    pub(crate) version: String,
    /// The version of the API that it speaks, and the oldest that it understands.
    pub(crate) api: (ApiVersion, ApiVersion),
    pub(crate) containers: BTreeMap<String, Container>,
    pub(crate) networks: BTreeMap<String, Network>,
    /// The images' ids by their names.
    pub(crate) images: BTreeMap<String, String>,
    pub(crate) events: Vec<Event>,
    /// The changes that were made over the socket, in their order.
    pub(crate) deeds: Vec<String>,
    /// What no agent may do, and one did.
    pub(crate) offences: Vec<String>,
    /// With which code containers end as soon as they are started, if they do.
    pub(crate) ends: Option<i64>,
    serial: u64,
}

impl State {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            version: "20.10.24".to_owned(),
            api: API,
            containers: BTreeMap::new(),
            networks: BTreeMap::new(),
            images: BTreeMap::new(),
            events: Vec::new(),
            deeds: Vec::new(),
            offences: Vec::new(),
            ends: None,
            serial: 0,
        }
    }

    /// Carries out a call.
    pub(crate) fn answer(&mut self, request: &Request, now: Timestamp) -> Answer {
        if let Some(refusal) = request.version.and_then(|version| self.refuse(version)) {
            return refusal;
        }
        let target = request.target.as_str();
        match request.call {
            Call::Version => json(200, self.told_version()),
            Call::Info => json(200, self.info()),
            Call::Containers => self.list(request),
            Call::Inspect => self.with(target, |container| json(200, told(container))),
            Call::Create => self.create(request),
            Call::Start => self.start(target, now),
            Call::Stop => self.stop(target, now),
            Call::Remove => self.remove(target, now),
            Call::Logs => self.with(target, said),
            Call::Events => self.events(request),
            Call::Images => json(200, self.listed_images()),
            Call::Image => self.image(target),
            Call::Networks => json(200, self.listed_networks(request)),
            Call::CreateNetwork => self.create_network(request),
            Call::RemoveNetwork => self.remove_network(target),
            Call::Volumes => json(200, json!({ "Volumes": [], "Warnings": null })),
        }
    }

    fn refuse(&self, version: ApiVersion) -> Option<Answer> {
        let (newest, oldest) = self.api;
        let text = |(major, minor): ApiVersion| format!("{major}.{minor}");
        let (spoken, newest_text, oldest_text) = (text(version), text(newest), text(oldest));
        if version > newest {
            let message = format!(
                "client version {spoken} is too new. Maximum supported API version is {newest_text}"
            );
            return Some(refused(400, &message));
        }
        (version < oldest).then(|| {
            let message = format!(
                "client version {spoken} is too old. Minimum supported API version is \
                 {oldest_text}, please upgrade your client to a newer version"
            );
            refused(400, &message)
        })
    }

    fn told_version(&self) -> Value {
        let text = |(major, minor): ApiVersion| format!("{major}.{minor}");
        json!({
            "Version": self.version, "ApiVersion": text(self.api.0),
            "MinAPIVersion": text(self.api.1), "Os": "linux", "Arch": "amd64",
        })
    }

    /// What happens from now on, or what happened until a moment.
    fn events(&self, request: &Request) -> Answer {
        let wanted = Wanted::read(request);
        match request.query.get("until") {
            Some(_) => {
                let told = wanted.tell(Telling::Faithful, &self.events, 0);
                Answer::bytes(200, told.into_bytes())
            }
            None => Answer::events(wanted),
        }
    }

    fn info(&self) -> Value {
        json!({
            "ID": self.id, "ServerVersion": self.version, "OSType": "linux",
            "Architecture": "x86_64", "NCPU": 4, "MemTotal": 8_u64 << 30,
        })
    }

    fn list(&self, request: &Request) -> Answer {
        let all = matches!(
            request.query.get("all").map(String::as_str),
            Some("true" | "1")
        );
        let labels = request.filter("label");
        let networks = request.filter("network");
        let wanted = |c: &&Container| {
            (all || c.runs())
                && has_labels(&c.labels, &labels)
                && (networks.is_empty() || networks.contains(&c.network))
        };
        let found = self.containers.values().filter(wanted).map(listed);
        json(200, found.collect())
    }

    fn create(&mut self, request: &Request) -> Answer {
        let name = request.query.get("name").cloned().unwrap_or_default();
        let image = request.body["Image"].as_str().unwrap_or_default();
        let Some(image_id) = self.images.get(image).cloned() else {
            return refused(404, &format!("No such image: {image}"));
        };
        if let Some(holder) = self.containers.values().find(|c| c.name == name) {
            let message = format!(
                "Conflict. The container name \"/{name}\" is already in use by container \
                 \"{}\". You have to remove (or rename) that container to be able to reuse that \
                 name.",
                holder.id
            );
            return refused(409, &message);
        }
        let labels: BTreeMap<String, String> =
            serde_json::from_value(request.body["Labels"].clone()).unwrap_or_default();
        if !labels.contains_key("windlass.cluster") || !labels.contains_key("windlass.node") {
            self.offences.push(format!("made {name} without labels"));
        }
        let network = request.body["HostConfig"]["NetworkMode"].as_str();
        let network = network.unwrap_or("default").to_owned();
        let id = self.add(Maker::Agent, &name, (image, &image_id), labels, &network);
        self.did("create", &id);
        json(201, json!({ "Id": id, "Warnings": [] }))
    }

    /// Adds a container that was not started yet.
    pub(crate) fn add(
        &mut self,
        maker: Maker,
        name: &str,
        (image, image_id): (&str, &str),
        labels: BTreeMap<String, String>,
        network: &str,
    ) -> String {
        self.serial += 1;
        let id = format!("{:064x}", 0xfa4e_0000_u64 + self.serial);
        let container = Container {
            id: id.clone(),
            name: name.to_owned(),
            maker,
            image: image.to_owned(),
            image_id: image_id.to_owned(),
            labels,
            network: network.to_owned(),
            address: format!("172.30.{}.{}", self.serial / 250, self.serial % 250 + 2),
            life: Life::Created,
        };
        self.containers.insert(id.clone(), container);
        self.tell("create", &id, Timestamp::now());
        id
    }

    fn start(&mut self, target: &str, now: Timestamp) -> Answer {
        let Some(id) = self.find(target) else {
            return no_container(target);
        };
        if self.containers[&id].runs() {
            return done(304);
        }
        self.did("start", &id);
        self.begin(&id, now);
        done(204)
    }

    /// A container begins to run.
    pub(crate) fn begin(&mut self, id: &str, now: Timestamp) {
        let container = self.containers.get_mut(id).expect("it is there");
        container.life = Life::Running { started: now };
        self.tell("start", id, now);
        if let Some(code) = self.ends {
            self.end(id, code, now);
        }
    }

    fn stop(&mut self, target: &str, now: Timestamp) -> Answer {
        let Some(id) = self.find(target) else {
            return no_container(target);
        };
        if !self.containers[&id].runs() {
            return done(304);
        }
        self.did("stop", &id);
        self.end(&id, 143, now);
        done(204)
    }

    /// A container ends.
    pub(crate) fn end(&mut self, id: &str, code: i64, now: Timestamp) {
        let container = self.containers.get_mut(id).expect("it is there");
        if let Life::Running { started } = container.life {
            container.life = Life::Exited {
                started,
                finished: now,
                code,
            };
            self.tell("die", id, now);
        }
    }

    fn remove(&mut self, target: &str, now: Timestamp) -> Answer {
        let Some(id) = self.find(target) else {
            return no_container(target);
        };
        if self.containers[&id].runs() {
            let message = format!(
                "You cannot remove a running container {id}. Stop the container before attempting \
                 removal or force remove"
            );
            return refused(409, &message);
        }
        self.did("remove", &id);
        self.forget(&id, now);
        done(204)
    }

    /// A container is gone.
    pub(crate) fn forget(&mut self, id: &str, now: Timestamp) {
        self.tell("destroy", id, now);
        self.containers.remove(id);
    }

    fn image(&self, target: &str) -> Answer {
        let found = self
            .images
            .iter()
            .find(|(name, id)| *name == target || *id == target);
        let Some((name, id)) = found else {
            let message = format!("no such image: {target}: No such image: {target}");
            return refused(404, &message);
        };
        let image = json!({
            "Id": id, "RepoTags": [name], "RepoDigests": [], "Config": { "Labels": {} },
        });
        json(200, image)
    }

    fn listed_images(&self) -> Value {
        let image = |(name, id): (&String, &String)| {
            json!({
                "Id": id, "ParentId": "", "RepoTags": [name], "RepoDigests": null, "Created": 0,
                "Size": 0, "SharedSize": -1, "Labels": {}, "Containers": -1,
            })
        };
        self.images.iter().map(image).collect()
    }

    fn listed_networks(&self, request: &Request) -> Value {
        let (names, labels) = (request.filter("name"), request.filter("label"));
        let wanted = |(_, network): &(&String, &Network)| {
            let named = names.iter().any(|name| network.name.contains(name));
            (names.is_empty() || named) && has_labels(&network.labels, &labels)
        };
        let network = |(id, network): (&String, &Network)| {
            json!({
                "Name": network.name, "Id": id, "Labels": network.labels, "Driver": "bridge",
            })
        };
        self.networks.iter().filter(wanted).map(network).collect()
    }

    fn create_network(&mut self, request: &Request) -> Answer {
        self.serial += 1;
        let id = format!("{:064x}", 0xfa4e_0000_u64 + self.serial);
        let name = request.body["Name"].as_str().unwrap_or_default();
        let labels = serde_json::from_value(request.body["Labels"].clone());
        let network = Network {
            name: name.to_owned(),
            labels: labels.unwrap_or_default(),
        };
        self.networks.insert(id.clone(), network);
        json(201, json!({ "Id": id, "Warning": "" }))
    }

    fn remove_network(&mut self, target: &str) -> Answer {
        let id = match self
            .networks
            .iter()
            .find(|(id, n)| *id == target || n.name == target)
        {
            Some((id, _)) => id.clone(),
            None => return refused(404, &format!("network {target} not found")),
        };
        let name = &self.networks[&id].name;
        if self
            .containers
            .values()
            .any(|c| c.runs() && c.network == *name)
        {
            let message = format!(
                "error while removing network: network {name} id {id} has active endpoints"
            );
            return refused(403, &message);
        }
        let network = self.networks.remove(&id).expect("it was found");
        if !network.labels.contains_key("windlass.cluster") {
            let name = network.name;
            self.offences
                .push(format!("removed the network {name}, which is not ours"));
        }
        done(204)
    }

    /// The id of the container that is meant by its id or name.
    pub(crate) fn find(&self, target: &str) -> Option<String> {
        let meant = |c: &&Container| c.id == target || c.name == target;
        let found = self.containers.values().find(meant)?;
        Some(found.id.clone())
    }

    fn with(&self, target: &str, tell: impl FnOnce(&Container) -> Answer) -> Answer {
        match self.find(target) {
            Some(id) => tell(&self.containers[&id]),
            None => no_container(target),
        }
    }

    /// Notes what was done over the socket. Only what came over it may be changed over it.
    fn did(&mut self, what: &str, id: &str) {
        let container = &self.containers[id];
        let deed = format!("{what} {}", container.called());
        if container.maker == Maker::Somebody {
            self.offences
                .push(format!("{deed}, which is somebody else's"));
        }
        self.deeds.push(deed);
        self.check_doubles(id, what);
    }

    /// No two containers of one instance may run at the same time.
    fn check_doubles(&mut self, id: &str, what: &str) {
        let key = |c: &Container| {
            let label = |name: &str| c.labels.get(name).cloned();
            (
                label("windlass.cluster"),
                label("windlass.instance"),
                label("windlass.container"),
            )
        };
        let started = &self.containers[id];
        let twin = |c: &&Container| c.id != id && c.runs() && key(c) == key(started);
        if what == "start" && self.containers.values().any(|c| twin(&c)) {
            let instance = started.called().to_owned();
            self.offences
                .push(format!("started a second container of {instance}"));
        }
    }

    /// Tells those who listen that something happened to a container.
    pub(crate) fn tell(&mut self, action: &str, id: &str, now: Timestamp) {
        let event = Event::new(action, &self.containers[id], now);
        self.events.push(event);
    }
}

fn has_labels(labels: &BTreeMap<String, String>, wanted: &[String]) -> bool {
    wanted.iter().all(|wanted| match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    })
}

fn no_container(target: &str) -> Answer {
    refused(404, &format!("No such container: {target}"))
}
